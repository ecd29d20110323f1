"""A report → one self-contained HTML page, complete without JavaScript."""

import base64
import hashlib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal

import pandas as pd
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from bench.evidence.significance import DRAWS, EXACT_SEEDS
from bench.literature import FACTS
from bench.report.board import ALPHA, Board, Comparison, Interval, Pairs, Report, Row, metric_name
from bench.report.figures import STEPS, Drawing, drawings, largest_shown, shade
from bench.report.findings import (
    MARKS,
    Name,
    Sentence,
    between,
    conditions,
    findings,
    number,
    p_value,
    passes,
    signed,
    title,
)

FORBIDDEN = re.compile("[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f\\ud800-\\udfff]")


@dataclass(frozen=True)
class Cell:
    """What stands in a cell of a table, and what it is sorted by: None, the last, if there is nothing."""

    text: str
    small: str = ""
    sort: float | None = None
    mark: str = ""
    """A sign before the text, for the eye alone."""
    style: str = ""
    """A class of the page's style sheet."""


@dataclass(frozen=True)
class Column:
    """A column of a leaderboard."""

    head: str
    means: str
    cell: Callable[[Row], Cell]
    first: Literal["ascending", "descending"] = "descending"
    """The order in which the best is on top."""
    group: str = ""
    """Those of a group are shown and hidden together."""
    sorted: bool = False
    """Whether Python has put the rows in its order."""


def page(report: Report, published: Mapping[str, pd.DataFrame] = {}, *, figures: bool = True) -> bytes:
    """Render a report, and what papers printed about its task sets (rows of `bench.literature.published`).

    Figures take a third of a second each: a page that is about to be written again can do without.
    """
    boards = [_section(place, board, figures) for place, board in enumerate(report.boards)]
    return render(
        _resource("template.html.j2"),
        [figure for section in boards for figure in section["figures"]],
        _resource("page.js"),
        boards=boards,
        columns=COLUMNS,
        marks=MARKS,
        alpha=ALPHA,
        margin=report.rules.margin,
        correction=report.rules.correction,
        exact=EXACT_SEEDS,
        draws=DRAWS,
        published=[(name, _printed(frame)) for name, frame in sorted(published.items())],
        facts=FACTS,
        provenance=dict(sorted(report.provenance.items())),
    )


def render(template: str, drawn: Iterable[Drawing], script: str = "", **shown: Any) -> bytes:
    """Fill a page's template, which may import `parts.html.j2`. Everything shown is escaped.

    It gets the `style` of the page and of what is `drawn`, the `script`, and the `policy` that lets in these alone.
    """
    environment = Environment(
        loader=FunctionLoader(_resource),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: _allowed(value) if type(value) is str else value,  # Markup is ours
    )
    environment.filters |= {"prose": _prose, "gain": lambda value: signed(value, 1), "p": p_value, "shown": number}
    styles = {name: rules for drawing in drawn for name, rules in drawing.styles}
    style = _resource("page.css") + "".join(f".{name}{{{rules}}}\n" for name, rules in sorted(styles.items()))
    rendered = environment.from_string(template).render(
        style=Markup(style),
        script=Markup(script),
        policy=f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'",
        **shown,
    )
    return rendered.encode()


def _place(row: Row) -> Cell:
    if row.band is None:
        return Cell("")
    best, worst = row.band
    return Cell(str(best) if best == worst else f"{best}–{worst}", sort=best + worst / 1e4)


def _gain(interval: Interval | None) -> Cell:
    if interval is None or math.isnan(interval.mean):
        return Cell("")
    return Cell(signed(interval.mean), between(interval), interval.mean)


def _difference(comparison: Comparison | None) -> Cell:
    return _gain(comparison.difference if comparison else None)


def _verdict(comparison: Comparison | None) -> Cell:
    if comparison is None:
        return Cell("")
    p = "" if comparison.verdict == "not enough seeds" else f"p {p_value(comparison.p)}"
    order = -list(MARKS).index(comparison.verdict)
    return Cell(comparison.verdict, p, order, MARKS[comparison.verdict], f"v{-order}")


def _wins(comparison: Comparison | None) -> Cell:
    if comparison is None or not comparison.pairs:
        return Cell("")
    return Cell(f"{comparison.wins}/{comparison.pairs}", sort=comparison.wins / comparison.pairs)


def _plain(value: float) -> Cell:
    return Cell("") if math.isnan(value) else Cell(number(value), sort=value)


def _ratio(what: str) -> Callable[[Row], Cell]:
    return lambda row: Cell("") if row.cost is None else _plain(getattr(row.cost, what))


def _failed(row: Row) -> Cell:
    return Cell(str(row.failed), sort=row.failed, mark="!" if row.failed else "", style="failed" if row.failed else "")


def _counted(row: Row) -> Cell:
    return Cell(passes(row.passes), sort=sum(row.passes.values()) if row.passes else None)


COLUMNS = (
    Column(
        "Place",
        "The best and the worst place that the tests of all pairs leave open: 1 + the methods shown better, to all − "
        "the methods shown worse. Within it, the order of rows means nothing.",
        _place,
        "ascending",
    ),
    Column(
        "Groups",
        "Two methods share a letter unless they are shown to differ (all pairs tested jointly). To share one is no "
        "proof of being equal.",
        lambda row: Cell(row.letters, style="wrap"),
        "ascending",
        "more",
    ),
    Column(
        "Δ task, pp",
        "The headline: mean relative gain over single-task networks of the same seeds, in percentage points, first "
        "over the metrics of a task, then over tasks; positive is better. Below it, the 95 % t interval over seeds, "
        "which carries the spread of the single-task networks too; none below three seeds.",
        lambda row: _gain(row.delta_task),
        sorted=True,
    ),
    Column(
        "vs equal, pp",
        "Δ task minus that of equal weights, paired by seed, with its 95 % interval; positive is better.",
        lambda row: _difference(row.vs_equal),
    ),
    Column(
        "Verdict",
        "What the test against equal weights shows, with p adjusted for all methods of the table.",
        lambda row: _verdict(row.vs_equal),
    ),
    Column(
        "Wins",
        "In how many of the pairs of runs with the same seed (and task set) it was better than equal weights.",
        lambda row: _wins(row.vs_equal),
    ),
    Column(
        "Δ metric, pp",
        "As Δ task, but all metrics weigh the same, so that a task with many metrics weighs more.",
        lambda row: _gain(row.delta_metric),
        group="more",
    ),
    Column(
        "vs single-task",
        "What the test against single-task networks shows, with p adjusted for all methods of the table.",
        lambda row: _verdict(row.vs_stl),
        group="more",
    ),
    Column(
        "Mean rank",
        "Mean over metrics of the rank among the methods, 1 the best; it changes with the methods that are compared, "
        "and is not tested.",
        lambda row: _plain(row.mean_rank),
        "ascending",
        "more",
    ),
    Column(
        "Failed",
        "Runs that failed. They count with the scores of an untrained predictor; where these are not known, or no run "
        "succeeded, the method has no Δ and no verdict.",
        _failed,
        "ascending",
    ),
    Column("Step ×", "Time of a step, relative to equal weights.", _ratio("step"), "ascending", "cost"),
    Column(
        "Training ×",
        "Time of a training with that of its teachers, relative to equal weights.",
        _ratio("training"),
        "ascending",
        "cost",
    ),
    Column(
        "Memory ×",
        "The most that a step needs at once beyond parameters and data, relative to equal weights.",
        _ratio("memory"),
        "ascending",
        "cost",
    ),
    Column(
        "Passes",
        "A step's passes: forward / backward through heads / backward through the trunk, + forward of teachers.",
        _counted,
        "ascending",
        "cost",
    ),
    Column("Seeds", "Seeds with which it is compared.", lambda row: Cell(str(row.seeds), sort=row.seeds)),
)


def _section(place: int, board: Board, figures: bool) -> dict[str, Any]:
    shown = {row.method: [column.cell(row) for column in COLUMNS] for row in board.rows}
    return {
        "id": f"s{place}",
        "title": title(board),
        "board": board,
        "findings": findings(board),
        "rows": shown,
        "conditions": conditions(board),
        "noted": [(row.method, remarks) for row in board.rows if (remarks := _remarks(row))],
        "metrics": [metric_name(metric) for metric in board.metrics],
        "scores": [(row.method, _scores(board, row)) for row in board.rows] if board.metrics else [],
        "pairs": _matrix(board.pairs) if board.pairs is not None and len(board.pairs.methods) > 1 else [],
        "figures": drawings(board, f"s{place}") if figures else [],
    }


def _remarks(row: Row) -> str:
    failed = f"{row.failed} failed" if row.failed else ""
    degenerate = f"no solution by its definition at {row.degenerate} steps" if row.degenerate else ""
    return "; ".join(filter(None, (failed, degenerate, row.note)))


def _scores(board: Board, row: Row) -> list[Cell]:
    largest = largest_shown([gain for own in board.rows for gain in own.gains])
    cells = []
    for value, gain, p in zip(row.values, row.gains, row.gain_p, strict=True):
        star = "*" if p <= ALPHA else ""
        small = f"{signed(gain, 1)} %{star}" if not math.isnan(gain) else ""
        sort = None if math.isnan(value) else float(value)
        cells.append(Cell(number(value), small, sort, style=_shaded(gain, largest)))
    return cells


def _matrix(pairs: Pairs) -> list[tuple[str, list[Cell]]]:
    largest = largest_shown(pairs.difference)
    rows = []
    for i, method in enumerate(pairs.methods):
        cells = []
        for j in range(len(pairs.methods)):
            difference = float(pairs.difference[i, j])
            if i == j or math.isnan(difference):
                cells.append(Cell(""))
                continue
            star = "*" if pairs.p[i, j] <= ALPHA else ""
            small = f"{pairs.wins[i, j]}/{pairs.count[i, j]}, p {p_value(float(pairs.p[i, j]))}"
            cells.append(Cell(signed(difference, 1) + star, small, style=_shaded(difference, largest)))
        rows.append((method, cells))
    return rows


def _shaded(value: float, largest: float) -> str:
    step = shade(value, largest)
    return "" if step == STEPS // 2 else f"d{step}"


def _printed(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """What each table of a paper printed about one task set: heads, and rows of text."""
    tables = []
    for name, rows in frame.groupby("table", sort=True):
        keys = list(rows[["task", "metric", "higher_is_better"]].drop_duplicates().itertuples(index=False, name=None))
        found = {
            (line["method"], line["task"], line["metric"]): f"{line['value']}"
            + (f" ± {line['spread']}" if line["spread"] else "")
            for line in rows.to_dict("records")
        }
        heads = [f"{metric_name((task, name))} {'↑' if up else '↓'}" if task else name for task, name, up in keys]
        methods = dict(zip(rows["method"], rows["printed_method"], strict=True))
        body = [
            (method, printed, [found.get((method, task, metric), "") for task, metric, _ in keys])
            for method, printed in methods.items()
        ]
        tables.append({"name": name, "heads": heads, "rows": body})
    return tables


def _prose(sentence: Sentence) -> Markup:
    pieces = (Markup("<bdi>{}</bdi>").format(p) if isinstance(p, Name) else Markup.escape(p) for p in sentence)
    return Markup(_allowed(Markup("").join(pieces)))


def _allowed(text: str) -> str:
    """The text without the characters that HTML forbids: controls such as ESC, and halves of surrogate pairs."""
    return FORBIDDEN.sub(" ", text)


def _resource(name: str) -> str:
    return files("bench.report").joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
