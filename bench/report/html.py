"""Tables → one self-contained HTML page, complete without JavaScript."""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any as Ratios

import pandas as pd
from jinja2 import Environment, StrictUndefined

SUITE = "all"


def page(
    board: pd.DataFrame, costs: Mapping[tuple[str, str], Ratios], recipes: dict[str, str], notes: list[str]
) -> bytes:
    """Render the leaderboard. `recipes` says of each task set how its runs were trained."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"signed": signed, "number": number}
    template = environment.from_string(files("bench.report").joinpath("template.html.j2").read_text("utf-8"))
    sections = []
    for task_set, rows in board.groupby("task_set", sort=False):
        metrics = [c for c in board.columns if "." in c and not c.endswith(".gain") and rows[c].notna().any()]
        records = rows.to_dict("records")
        for row in records:
            row["cost"] = costs.get((row["task_set"], row["method"]))
            row["passes"] = passes(row)
        suite = str(task_set).partition("@")[0] == SUITE
        recipe = recipes.get(str(task_set), "")
        sections.append({"name": task_set, "suite": suite, "rows": records, "metrics": metrics, "recipe": recipe})
    sections.sort(key=lambda section: not section["suite"])
    return template.render(sections=sections, notes=notes).encode()


def signed(value: float | None, digits: int = 2) -> str:
    """A number with its sign, with a true minus; empty if there is none."""
    return "" if value is None or pd.isna(value) else f"{value:+.{digits}f}".replace("-", "−")


def number(value: float | None, digits: int = 3) -> str:
    """A number to so many significant digits; empty if there is none."""
    return "" if value is None or pd.isna(value) else f"{value:.{digits}g}"


def passes(counts: Mapping[str, float]) -> str:
    """Forward, head and trunk passes a step, and those of teachers if there are any; empty if not known."""
    if not counts:
        return ""
    own = "/".join(number(counts[what]) for what in ("forward", "heads", "trunk"))
    return own + (f" +{number(counts['teacher'])}" if counts.get("teacher") else "")
