"""Records → files in their folder, and the table on a terminal."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.records import CostRecord, RunRecord
from bench.report import table
from bench.report.csv import csv_bytes
from bench.report.html import number, page, passes, signed
from bench.store import write

FILES = ("leaderboard.csv", "leaderboard.html", "runs.csv", "costs.csv", "timings.csv")


def write_pages(records: Iterable[RunRecord], folder: Path, measured: Sequence[CostRecord] = ()) -> pd.DataFrame:
    """Write all pages of a folder's records, and of what steps were measured to cost. Returns the leaderboard."""
    ordered = sorted(records, key=lambda record: record.name)
    board = table.leaderboard(ordered)
    html = page(board, table.relative_costs(ordered, measured), _recipes(ordered), table.mixtures(ordered))
    tables = table.tidy(ordered), table.costs(ordered, measured), table.timings(ordered)
    contents = (csv_bytes(board), html, *map(csv_bytes, tables))
    for name, content in zip(FILES, contents, strict=True):
        write(folder / name, content)
    return board


def print_board(
    records: Iterable[RunRecord], board: pd.DataFrame, console: Console, measured: Sequence[CostRecord] = ()
) -> None:
    """Print, per task set and over all of them, gains, cost and every metric."""
    ordered = list(records)
    ratios = table.relative_costs(ordered, measured)
    for task_set, rows in board.groupby("task_set", sort=False):
        metrics = [c for c in board.columns if "." in c and not c.endswith(".gain") and rows[c].notna().any()]
        gains = _table(f"{task_set}: gain over single-task learning, pp (95 % interval)")
        for name in (
            "delta_task",
            "delta_metric",
            "rank",
            "step ×",
            "total ×",
            "memory ×",
            "passes",
            "seeds",
            "failed",
        ):
            gains.add_column(name, justify="right")
        values = _table(f"{task_set}: test metrics, means over seeds")
        for name in metrics:
            values.add_column(name, justify="right")
        for row in rows.to_dict("records"):
            gains.add_row(
                Text(row["method"]),
                *(_interval(row, name) for name in ("delta_task", "delta_metric")),
                number(row["mean_rank"]),
                *(number(ratio) for ratio in ratios.get((row["task_set"], row["method"]), (None, None, None))),
                passes(row),
                number(row["seeds"]),
                number(row["failed"]),
            )
            values.add_row(Text(row["method"]), *(number(row[name]) for name in metrics))
        console.print(gains)
        if metrics:
            console.print(values)
    for note in table.mixtures(ordered):
        console.print(f"note: {note}", markup=False)
    for row in board[board["note"].fillna("") != ""].to_dict("records"):
        console.print(f"note: {row['method']} on {row['task_set']}: {row['note']}", markup=False)


def _recipes(records: list[RunRecord]) -> dict[str, str]:
    recipes = {}
    for group in table.groups(records):
        run = next((r for runs in group.runs.values() for r in runs.values()), None)
        if run is not None:
            p = run.spec.protocol
            recipes[group.label] = (
                f"Protocol {p.name}: {p.steps} steps of {p.batch_size} examples, {p.optimizer}, learning rate {p.lr:g}"
                f" ({p.schedule}), weight decay {p.weight_decay:g}; the test split after the last step."
            )
    return recipes


def _table(title: str) -> Table:
    made = Table(title=Text(title), title_justify="left", box=None, pad_edge=False, header_style="bold")
    made.add_column("method", no_wrap=True)
    return made


def _interval(row: Mapping[Hashable, Any], name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    inside = "" if pd.isna(low) else f" ({signed(low, 1)}, {signed(high, 1)})"
    return signed(row[name]) + inside
