"""The columns of the table of what remains of methods when their weights are frozen."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from bench.report.board import Board, Remainder
from bench.report.columns import Cell, gain_cell, verdict_cell


@dataclass(frozen=True)
class RemainderColumn:
    """A column of the table."""

    name: str
    """Its name in `frozen.csv`."""
    meaning: str
    value: Callable[[Board, Remainder], object]
    heading: str = ""
    """Its name on pages; those do not show a column without one."""
    cell: Callable[[Remainder], Cell] = lambda row: Cell()
    align: Literal["left", "right"] = "right"


def _fact(which: str) -> Callable[[Board, Remainder], object]:
    return lambda board, row: getattr(row.vs_own, which, None)


def _end(which: str) -> Callable[[Board, Remainder], object]:
    return lambda board, row: getattr(getattr(row.vs_own, "difference", None), which, None)


COLUMNS: tuple[RemainderColumn, ...] = (
    RemainderColumn(
        "task_set",
        "The task set, with its protocol and precision if they are not the default; `all` is the mean over task sets.",
        lambda board, row: board.label,
    ),
    RemainderColumn(
        "method",
        "Fixed weights: those that another method had on average over its run of the same seed.",
        lambda board, row: row.method,
        "Method",
        lambda row: Cell(row.method),
        "left",
    ),
    RemainderColumn(
        "of",
        "That other method.",
        lambda board, row: row.of,
        "Its own method",
        lambda row: Cell(row.of, style="text"),
        "left",
    ),
    RemainderColumn(
        "delta_task",
        "The mean relative gain of the fixed weights over single-task networks, in percentage points.",
        lambda board, row: row.delta_task.mean if row.delta_task is not None else None,
        "Δ task, pp",
        lambda row: gain_cell(row.delta_task),
    ),
    RemainderColumn(
        "difference",
        "Δ task of the fixed weights minus that of their own method, paired by seed. Positive is better.",
        _end("mean"),
        "vs its own, pp",
        lambda row: gain_cell(row.vs_own.difference if row.vs_own is not None else None),
    ),
    RemainderColumn("low", "The lower end of the 95 % interval of `difference`.", _end("low")),
    RemainderColumn("high", "The upper end of the 95 % interval of `difference`.", _end("high")),
    RemainderColumn(
        "p",
        "The p-value of the test against its own method, adjusted for all methods with fixed weights of the task set.",
        _fact("p"),
    ),
    RemainderColumn(
        "verdict",
        "What that test shows of the fixed weights.",
        _fact("verdict"),
        "Verdict",
        lambda row: verdict_cell(row.vs_own),
    ),
    RemainderColumn(
        "seeds",
        "The number of seeds with which the fixed weights are compared.",
        lambda board, row: row.seeds,
        "Seeds",
        lambda row: Cell(str(row.seeds), sort=row.seeds),
    ),
)
"""In the order of `frozen.csv`."""
TITLE = "What remains when weights are frozen"
CAPTION = (
    "Each row has the weights that a method had on average, fixed from the start, and is compared seed by seed with "
    "that method. These rows are a family of their own, and have no part in the table above."
)


def remainders_shown() -> list[RemainderColumn]:
    """Return the columns that pages show."""
    return [column for column in COLUMNS if column.heading]
