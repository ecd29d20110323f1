"""The table of verdicts on fresh draws: which of them hold on other data of the same task set."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from bench.report.board import Board, Comparison
from bench.report.columns import Cell, gain_cell, verdict_cell
from bench.report.findings import Name, Sentence


@dataclass(frozen=True)
class Replication:
    """A method against equal weights on a task set, and on another draw of its data."""

    task_set: str
    draw: str
    """The label of the other draw."""
    method: str
    first: Comparison
    again: Comparison

    @property
    def holds(self) -> bool | None:
        """Whether the verdict is the same; None if there was nothing to hold, or there are not enough seeds."""
        if self.first.verdict in ("undecided", "not enough seeds") or self.again.verdict == "not enough seeds":
            return None
        return self.first.verdict == self.again.verdict


def replications(boards: Sequence[Board]) -> list[Replication]:
    """Return every verdict that two draws of a task set have, in the order of the boards and of the first's rows."""
    by_label = {board.label: board for board in boards}
    found = []
    for board in boards:
        if not board.draw_of:
            continue
        again = {row.method: row.vs_equal for row in board.rows}
        for row in by_label[board.draw_of].rows:
            other = again.get(row.method)
            if row.vs_equal is not None and other is not None:
                found.append(Replication(board.draw_of, board.label, row.method, row.vs_equal, other))
    return found


def summary(boards: Sequence[Board]) -> list[Sentence]:
    """Say of each fresh draw how many verdicts hold there, and in what it was tested in another way."""
    by_label = {board.label: board for board in boards}
    verdicts = replications(boards)
    found = []
    for board in boards:
        if not board.draw_of:
            continue
        own = [one.holds for one in verdicts if one.draw == board.label and one.holds is not None]
        first = by_label[board.draw_of]
        said: Sentence = [Name(board.label), f": {sum(own)} of {len(own)} verdicts of ", Name(first.label), " hold"]
        found.append([*said, *_otherwise(first, board), "."])
    return found


def _otherwise(first: Board, again: Board) -> Sentence:
    """Say what, beside the data, is not the same on two draws."""
    said: Sentence = []
    if bool(first.choices) != bool(again.choices):
        tuned, other = (first, again) if first.choices else (again, first)
        said += ["; trials chose the learning rates of ", Name(tuned.label), ", and not those of ", Name(other.label)]
    for what, here, there in (
        ("methods are compared with equal weights", first.family, again.family),
        ("seeds are there", first.seeds, again.seeds),
    ):
        if here != there:
            said += [f"; {here} {what} on ", Name(first.label), f", and {there} on ", Name(again.label)]
    return said


def fresh(boards: Sequence[Board]) -> pd.DataFrame:
    """Return the table of `draws.csv`: one row per fresh draw and method."""
    rows = [[column.value(one) for column in COLUMNS] for one in replications(boards)]
    return pd.DataFrame(rows, columns=[column.name for column in COLUMNS])


@dataclass(frozen=True)
class DrawColumn:
    """A column of the table."""

    name: str
    """Its name in `draws.csv`."""
    meaning: str
    value: Callable[[Replication], object]
    heading: str
    cell: Callable[[Replication], Cell]
    align: Literal["left", "right"] = "right"


def _holds(one: Replication) -> Cell:
    return Cell({True: "yes", False: "no", None: ""}[one.holds], sort={True: 1, False: 0, None: None}[one.holds])


COLUMNS: tuple[DrawColumn, ...] = (
    DrawColumn(
        "method",
        "A rule for balancing tasks.",
        lambda one: one.method,
        "Method",
        lambda one: Cell(one.method),
        "left",
    ),
    DrawColumn(
        "task_set",
        "The task set as it is drawn first.",
        lambda one: one.task_set,
        "Task set",
        lambda one: Cell(one.task_set, style="text"),
        "left",
    ),
    DrawColumn(
        "draw",
        "The same task set with other data, drawn in the same way.",
        lambda one: one.draw,
        "Fresh draw",
        lambda one: Cell(one.draw, style="text"),
        "left",
    ),
    DrawColumn(
        "verdict",
        "What the test against equal weights shows on the first draw.",
        lambda one: one.first.verdict,
        "Verdict",
        lambda one: verdict_cell(one.first),
    ),
    DrawColumn(
        "verdict_fresh",
        "What it shows on the fresh draw.",
        lambda one: one.again.verdict,
        "On the fresh draw",
        lambda one: verdict_cell(one.again),
    ),
    DrawColumn(
        "holds",
        "Whether the two verdicts are the same: yes or no. It is empty if the first one is undecided, and if there are "
        "not enough seeds.",
        lambda one: {True: "yes", False: "no", None: None}[one.holds],
        "Holds",
        _holds,
    ),
    DrawColumn(
        "vs_equal",
        "Δ task minus the Δ task of equal weights on the first draw.",
        lambda one: one.first.difference.mean,
        "vs equal, pp",
        lambda one: gain_cell(one.first.difference),
    ),
    DrawColumn(
        "vs_equal_fresh",
        "The same on the fresh draw.",
        lambda one: one.again.difference.mean,
        "vs equal on the fresh draw, pp",
        lambda one: gain_cell(one.again.difference),
    ),
)
"""In the order of `draws.csv`."""
TITLE = "On a fresh draw of the data"
CAPTION = (
    "A fresh draw has other data, drawn in the same way. Where trials choose learning rates, they choose them there "
    "anew, so that the choice is repeated, too. A verdict holds if it is the same on both. If it is “undecided” on the "
    "fresh draw, it is not contradicted: it is just not shown a second time."
)
