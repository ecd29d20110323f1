"""Reads, checks and prints the published tables: numbers that papers printed. None of them is measured here.

The data is in `results/published`. The README of that folder explains each column. Numbers of one's own runs can be
shown beside those of papers that trained by the same protocol; nothing is tested there.
"""

import io
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text
from scipy.stats import rankdata

from bench.evidence.delta import Floats, delta_mtl, mean_rank
from bench.spec import STL
from methods.core.names import UsageError, did_you_mean, split
from tasks.core.errors import DataError

FOLDER = Path(__file__).resolve().parent.parent / "results" / "published"
"""Where the data is. It is not looked for as a package, which a `results.py` of somebody's would hide."""
COLUMNS = {
    "tables": "table paper reference arxiv number setting protocol baseline ties rank_digits spread incomplete source",
    "results": "table task_set method printed_method task metric value spread higher_is_better",
    "errata": "table task_set method metric printed follows kind reason",
}
DELTAS = ("delta_task", "delta_metric")
"""As `delta_mtl` returns them."""
TIES = ("min", "max", "average", "first")
"""Equal values share the best rank, the worst, their mean, or the row above is ranked before."""
CELL = ["table", "task_set", "method", "task", "metric"]
AGGREGATE = ["table", "task_set", "method", "metric"]
FLOAT_ERROR = 1e-9
SHARES = re.compile(r"(legacy_)?(miou|pixel_accuracy|accuracy|within_[0-9.]+)")
"""Metrics that are shares here, and that papers print in per cent."""
MEASURED = "own"
"""Stands in the place of a method's printed name where the row is one's own."""
FACTS = "Copied from papers, not measured here; numbers of different papers are not paired and rarely comparable."


Values = Mapping[tuple[str, str], float]
"""The means of one method's test metrics, by task and metric."""


@dataclass(frozen=True)
class Literature:
    """The three files. Every cell is text, as the paper printed it."""

    tables: pd.DataFrame
    results: pd.DataFrame
    errata: pd.DataFrame


@cache
def literature() -> Literature:
    """Return the published tables that come with the package.

    Raises:
        DataError: the files are missing or wrong.
    """
    return read(FOLDER)


def read(folder: Traversable) -> Literature:
    """Read the three files of a folder and check them.

    Raises:
        DataError: a file is missing or wrong. The message names the line.
    """
    frames = {}
    for name, columns in COLUMNS.items():
        try:
            text = (folder / f"{name}.csv").read_text("utf-8")
            frames[name] = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
        except (OSError, ValueError) as problem:
            raise DataError(f"{name}.csv of the published tables cannot be read: {problem}") from problem
        if list(frames[name].columns) != columns.split():
            raise DataError(f"{name}.csv of the published tables should have the columns {columns}")
    found = Literature(**frames)
    for name, wrong, why in _faults(found):
        if wrong.any():
            line = int(np.argmax(wrong)) + 2
            raise DataError(f"{name}.csv of the published tables, line {line}: {why}")
    return found


def published(task_set: str | None = None) -> pd.DataFrame:
    """Return what papers printed about one task set, or about all. There is one row for each number.

    The columns of `results.csv`, `higher_is_better` as bool, and `number`: the printed `value` as a float. Aggregates
    (`delta_task`, `delta_metric`, `mean_rank`, …) have an empty `task`; their sign is the paper's.

    Raises:
        UsageError: there are no tables about this task set.
        DataError: the files are missing or wrong.
    """
    rows = literature().results
    rows = rows.assign(number=rows["value"].astype(float), higher_is_better=rows["higher_is_better"] == "True")
    if task_set is None:
        return rows
    known = sorted(set(rows["task_set"]))
    if task_set not in known:
        raise UsageError(f"nothing is published here about '{task_set}'{did_you_mean(task_set, known)}")
    return rows[rows["task_set"] == task_set].reset_index(drop=True)


def checks(found: Literature) -> pd.DataFrame:
    """Recompute every Δ, mean rank and average that is printed beside the numbers it is made of.

    Returns the columns table, task_set, method, metric, printed (text), recomputed, lowest, highest and agrees.
    `lowest` and `highest` are what the printed numbers allow, each of which may be off by half a unit of its last
    digit. Signs are the paper's. Ranks are computed from the printed digits, by the table's rule for ties.
    """
    rows = []
    for info in found.tables.to_dict("records"):
        if info["incomplete"]:
            continue
        own = found.results[found.results["table"] == info["table"]]
        for task_set, part in own.groupby("task_set", sort=False):
            if (part["task"] == "").all():
                continue
            of_stl = found.results[
                (found.results["table"] == info["baseline"])
                & (found.results["task_set"] == task_set)
                & (found.results["method"] == STL)
            ]
            rows += [{"table": info["table"], "task_set": task_set, **row} for row in _recomputed(info, part, of_stl)]
    return pd.DataFrame(rows)


def half_unit(printed: str) -> float:
    """Return half a unit of the last digit of a printed number: how far rounding can have moved it."""
    return 0.5 * 10.0 ** -len(printed.partition(".")[2])


def show(task_sets: str, console: Console, beside: Path | None = None) -> None:
    """Print the published tables about some task sets (names with commas between), or the list of all tables.

    Args:
        task_sets: their names.
        console: where to.
        beside: a folder of one's own runs, whose means are shown in tables of the same protocol.

    Raises:
        UsageError: there are no tables about one of them, or the folder has no results.
    """
    if beside is not None and not task_sets:
        raise UsageError("--beside needs --tasks: the task sets whose tables are to be shown")
    own = measured(beside) if beside is not None else {}
    if not task_sets:
        _show_tables(console)
        return
    for rows in [published(name.strip()) for name in task_sets.split(",")]:  # a wrong name before anything is printed
        _show_task_set(rows, console, own)


def measured(folder: Path) -> dict[str, dict[str, Values]]:
    """Return the means over seeds in a folder of runs, by the label of the task set and by method.

    Raises:
        UsageError: the folder has no results.
    """
    file = folder / "runs.csv"
    try:
        runs = pd.read_csv(file)
        runs = runs[(runs["status"] == "ok") & runs["value"].notna()]
        means = runs.groupby(["task_set", "method", "task", "metric"], sort=False)["value"].mean()
    except (OSError, ValueError, KeyError):
        raise UsageError(f"{file} holds no results: name the folder of `run --out`") from None
    found: dict[str, dict[str, Values]] = defaultdict(lambda: defaultdict(dict))
    for label, method, task, metric, value in means.reset_index().itertuples(index=False, name=None):
        found[label][method] = {**found[label][method], (task, metric): float(value)}
    return found


def benchmark(label: str) -> tuple[str, str]:
    """Return the task set and the protocol of a board's label: of `nyuv2[metrics=both]@li2020` these two names."""
    head, *rest = split(label, "@")
    return head.partition("[")[0], rest[0] if rest else ""


def own_rows(values: Values, cells: Sequence[tuple[str, str]]) -> list[str] | None:
    """Write one's own numbers in a paper's columns and units; None if there is none of them."""
    found = [values.get(cell) for cell in cells]
    if not any(value is not None for value in found):
        return None
    return ["" if v is None else _in_its_unit(metric, v) for (_, metric), v in zip(cells, found, strict=True)]


def _in_its_unit(metric: str, value: float) -> str:
    return f"{100 * value:.2f}" if SHARES.fullmatch(metric) else f"{value:.4g}"


def _faults(found: Literature) -> Iterator[tuple[str, "pd.Series[bool]", str]]:
    """Yield each possible fault: the file, which of its lines have the fault `[lines]`, and the message."""
    tables, results, errata = found.tables, found.results, found.errata
    yield "tables", tables["table"].duplicated(), "this table is there twice"
    yield "tables", (tables["reference"] == "") | (tables["source"] == ""), "it has no source"
    yield "tables", ~tables["baseline"].isin(["", *tables["table"]]), "there is no table of its baseline's name"
    yield "tables", ~tables["ties"].isin(["", *TIES]), f"ties: there is {', '.join(TIES)}, or nothing"
    digits = tables["rank_digits"].where(tables["ties"] != "", "rounded")
    yield "tables", ~digits.isin(["rounded", "truncated"]), "rank_digits: there is rounded and truncated"
    yield "results", ~results["table"].isin(tables["table"]), "tables.csv has no such table"
    yield "results", results.duplicated(CELL), "this number is there twice"
    yield "results", ~results["value"].map(_is_number), "the value is not a number"
    yield "results", ~results["spread"].map(lambda text: text == "" or _is_number(text)), "the spread is not a number"
    yield "results", ~results["higher_is_better"].isin(["True", "False"]), "higher_is_better: there is True and False"
    yield "results", (results[["task_set", "method", "metric"]] == "").any(axis=1), "a name is empty"
    measured = results[results["task"] != ""]
    names = measured["task"] + "." + measured["metric"]
    widest = names.groupby([measured["table"], measured["task_set"]]).transform("nunique")
    width = names.groupby([measured["table"], measured["task_set"], measured["method"]]).transform("size")
    yield "results", (width < widest).reindex(results.index, fill_value=False), "a number of this method is missing"
    yield "errata", ~errata["kind"].isin(["exception", "note"]), "kind: there is exception and note"
    yield "errata", errata["reason"] == "", "it has no reason"
    aggregates = results[results["task"] == ""]
    cells = set(zip(*(aggregates[name] for name in AGGREGATE), aggregates["value"], strict=True))
    rows = set(zip(results["table"], results["task_set"], results["method"], strict=True))
    parts = {(table, task_set) for table, task_set, _ in rows}

    def lost(line: Mapping[Any, str]) -> bool:
        where = tuple(line[name] for name in AGGREGATE)
        if line["metric"]:
            return (*where, line["printed"]) not in cells
        return where[:3] not in rows if line["method"] else where[:2] not in parts

    lines = pd.Series([lost(line) for line in errata.to_dict("records")], dtype=bool)
    yield "errata", lines, "results.csv has no such number"


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?\d+(\.\d+)?", text) is not None


def _recomputed(info: Mapping[Any, str], part: pd.DataFrame, of_stl: pd.DataFrame) -> Iterator[dict[str, object]]:
    """Recompute the aggregates of a table's rows on one task set. `of_stl` are the rows of its baseline, if any."""
    columns = part.loc[part["task"] != "", ["task", "metric", "higher_is_better"]].drop_duplicates()
    tasks, higher = list(columns["task"]), [text == "True" for text in columns["higher_is_better"]]
    cells = list(zip(tasks, columns["metric"], strict=True))
    values, halves = _numbers(part, cells)
    stl, stl_halves = _numbers(of_stl, cells)
    others = [method for method in values if method != STL]
    ranks = _ranks(np.array([values[method] for method in others]), higher, info["ties"])
    up = np.where(higher, 1.0, -1.0)
    for line in part[(part["task"] == "") & part["method"].isin(others)].to_dict("records"):
        method, metric, printed = line["method"], line["metric"], line["value"]
        own, half = values[method], halves[method]
        if metric in DELTAS and STL in stl:
            # Δ rises with every gain, and a gain with its own number and against the baseline's: the ends are exact.
            moved = ((own + way * up * half, stl[STL] - way * up * stl_halves[STL]) for way in (0, -1, 1))
            sign = 1 if line["higher_is_better"] == "True" else -1
            value, *ends = (sign * delta_mtl(*pair, higher, tasks)[DELTAS.index(metric)] for pair in moved)
        elif metric == "average":
            value = own.mean()
            ends = [value - half.mean(), value + half.mean()]
        elif metric == "mean_rank" and info["ties"]:
            value = ranks[others.index(method)]
            ends = [value, value]
        else:
            continue
        truncated = metric == "mean_rank" and info["rank_digits"] == "truncated"
        agrees = _agrees(printed, min(ends), max(ends), truncated)
        found = {"recomputed": value, "lowest": min(ends), "highest": max(ends), "agrees": agrees}
        yield {"method": method, "metric": metric, "printed": printed, **found}


def _numbers(part: pd.DataFrame, cells: Sequence[tuple[str, str]]) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Return, by method in printed order, the numbers `[M]` and half a unit of the last digit of each `[M]`."""
    own = part[part["task"] != ""]
    texts = dict(zip(zip(own["method"], own["task"], own["metric"], strict=True), own["value"], strict=True))
    printed = {method: [texts[method, *cell] for cell in cells] for method in own["method"].unique()}
    return (
        {method: np.array(row, np.float64) for method, row in printed.items()},
        {method: np.array([half_unit(text) for text in row]) for method, row in printed.items()},
    )


def _ranks(values: Floats, higher: Sequence[bool], ties: str) -> Floats:
    """Mean ranks `[methods]` of `values` `[methods, M]`, by any rule of `TIES`."""
    if ties == "max":  # the best rank is the worst one when everything is turned round
        return len(values) + 1 - mean_rank(values, [not up for up in higher])
    if ties == "first":
        in_order: Floats = rankdata(values * np.where(higher, -1, 1), method="ordinal", axis=0).mean(1)
        return in_order
    return mean_rank(values, higher, "average" if ties == "average" else "min")


def _agrees(printed: str, lowest: float, highest: float, truncated: bool) -> bool:
    """Say whether a printed number can be what was rounded (or truncated) from between `lowest` and `highest`."""
    number, half = float(printed), half_unit(printed)
    if truncated:
        low, high = (math.floor(end / (2 * half) + FLOAT_ERROR) for end in (lowest, highest))
        return low <= round(number / (2 * half)) <= high
    return lowest - half - FLOAT_ERROR <= number <= highest + half + FLOAT_ERROR


def _show_tables(console: Console) -> None:
    found = literature()
    checked = checks(found)
    shown = Table(box=None, pad_edge=False)
    for column in ("table", "paper", "number", "task sets", "methods", "Δ", "ranks", "averages", "reference"):
        shown.add_column(column, no_wrap=column == "table")
    for info in found.tables.to_dict("records"):
        own = found.results[found.results["table"] == info["table"]]
        parts = checked[checked["table"] == info["table"]]
        counts = [
            f"{parts.loc[of, 'agrees'].sum()}/{of.sum()}" if of.any() else ""
            for of in (parts["metric"].isin(DELTAS), parts["metric"] == "mean_rank", parts["metric"] == "average")
        ]
        arxiv = f" (arXiv {info['arxiv']})" if info["arxiv"] else ""
        size = len(set(own["method"]) - {STL})
        names = (info["table"], info["paper"], info["number"], ", ".join(own["task_set"].unique()), size)
        shown.add_row(*(Text(str(cell)) for cell in (*names, *counts, info["reference"] + arxiv)))
    _say(console, FACTS)
    _say(console, "Δ, ranks, averages: how many follow from their own row, within the rounding of what is printed.")
    console.print(shown)
    _say(console, "python -m bench literature --tasks NAME prints the rows of a task set.")


def _show_task_set(rows: pd.DataFrame, console: Console, measured: Mapping[str, Mapping[str, Values]]) -> None:
    found, name = literature(), rows["task_set"].iloc[0]
    _say(console, f"{name}: {FACTS}")
    for info in found.tables.to_dict("records"):
        part = rows[rows["table"] == info["table"]]
        if not part.empty:
            errata = found.errata[(found.errata["table"] == info["table"]) & (found.errata["task_set"] == name)]
            same = {
                f"{method}, {label}": values
                for label, rows_of in measured.items()
                for method, values in rows_of.items()
                if benchmark(label) == (name, info["protocol"])
            }
            _show_table(info, part, errata, console, same)


def _show_table(
    info: Mapping[Any, str], part: pd.DataFrame, errata: pd.DataFrame, console: Console, same: Mapping[str, Values]
) -> None:
    number = f", table {info['number']}" if info["number"] else ""
    spread = f"; ± {info['spread']}" if info["spread"] else ""
    protocol = f"; protocol {info['protocol']}" if info["protocol"] else ""
    _say(
        console,
        f"\n{info['table']}: {info['paper']}{number} ({info['reference']}): {info['setting']}{protocol}{spread}",
    )
    columns = part[["task", "metric", "higher_is_better"]].drop_duplicates()
    shown = Table(box=None, pad_edge=False)
    shown.add_column("method", no_wrap=True)
    shown.add_column("as printed")
    for task, metric, higher in columns.itertuples(index=False):
        shown.add_column(Text(f"{task}\n{metric} {'↑' if higher else '↓'}"), justify="right")
    keys = list(zip(columns["task"], columns["metric"], strict=True))
    for who, values in same.items():
        if (row := own_rows(values, keys)) is not None:
            shown.add_row(*(Text(cell) for cell in (who, MEASURED, *row)))
    marked = set(zip(errata["method"], errata["metric"], strict=True))
    for method, own in part.groupby("method", sort=False):
        cells = {
            (line["task"], line["metric"]): line["value"]
            + (f" ± {line['spread']}" if line["spread"] else "")
            + ("*" if not line["task"] and (method, line["metric"]) in marked else "")
            for line in own.to_dict("records")
        }
        first = (f"{method}{'*' if (method, '') in marked else ''}", own["printed_method"].iloc[0])
        rest = (cells.get((task, metric), "") for task, metric, _ in columns.itertuples(index=False))
        shown.add_row(*(Text(cell) for cell in (*first, *rest)))
    console.print(shown)
    notes = defaultdict(list)
    for line in errata.to_dict("records"):
        follows = f" {line['printed']} (follows: {line['follows']})" if line["follows"] else ""
        notes[line["reason"]].append(f"{line['method']} {line['metric']}{follows}".strip() or "the table")
    for reason, where in notes.items():
        _say(console, f"* {'; '.join(where)}: {reason}")


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
