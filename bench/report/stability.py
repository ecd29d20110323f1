"""What becomes of the verdicts over all task sets when one set is left out, and how far the sets agree."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.report.board import Board, Comparison, LeftOut, Row
from bench.report.columns import Cell, changes_cell, verdict_cell
from bench.report.findings import number, signed
from bench.spec import STL

FEWEST_SETS = 3
"""Of two task sets, leaving one out leaves the other, which has a section of its own."""


def without_each(
    labels: Sequence[str], compare: Callable[[Sequence[int]], Mapping[str, tuple[Comparison, str]]]
) -> dict[str, tuple[LeftOut, ...]]:
    """Return, by method, what its comparison with equal weights is without each task set, in the order of `labels`.

    Args:
        labels: of all task sets.
        compare: works out the comparison of every method, and what is to be said of it, from the sets at some places.
    """
    found: dict[str, list[LeftOut]] = defaultdict(list)
    for place, label in enumerate(labels):
        for method, (comparison, _) in compare([*range(place), *range(place + 1, len(labels))]).items():
            found[method].append(LeftOut(label, comparison.difference.mean, comparison.verdict))
    return {method: tuple(own) for method, own in found.items()}


def agreement(board: Board) -> str:
    """Say how far the task sets of a board agree on the order of its methods; empty where that is not known."""
    if math.isnan(board.agreement):
        return ""
    sets, methods = len(board.members), sum(row.method != STL for row in board.rows)
    return (
        f"Kendall's W is {number(board.agreement, 2)}. It says how far these {sets} task sets agree on the order of "
        f"the {methods} methods: 0 is not at all, 1 is fully. If each set had an order drawn by lot, W would be "
        f"{number(1 / sets, 2)} on average."
    )


@dataclass(frozen=True)
class StabilityColumn:
    """A column of the table, which only the HTML page has."""

    heading: str
    meaning: str
    cell: Callable[[Row], Cell]
    align: Literal["left", "right"] = "right"


def _differences(row: Row) -> Cell:
    if not row.left_out:
        return Cell()
    found = [one.difference for one in row.left_out]
    return Cell(f"{signed(min(found))} to {signed(max(found))}", sort=min(found))


COLUMNS: tuple[StabilityColumn, ...] = (
    StabilityColumn("Method", "A rule for balancing tasks.", lambda row: Cell(row.method), "left"),
    StabilityColumn(
        "Verdict",
        "What the test against equal weights shows over all sets.",
        lambda row: verdict_cell(row.vs_equal),
    ),
    StabilityColumn(
        "vs equal without one set, pp",
        "The smallest and the largest mean difference from equal weights when one task set is left out.",
        _differences,
    ),
    StabilityColumn(
        "Changes",
        "The number of task sets without which the verdict is another one.",
        lambda row: Cell(f"{len(row.changes_without)} of {len(row.left_out)}", sort=len(row.changes_without)),
    ),
    StabilityColumn("Changes without", "These task sets, each with the verdict without it.", changes_cell, "left"),
)
TITLE = "When one task set is left out"
CAPTION = (
    "Each verdict against equal weights on these sets once more, without one task set at a time: of the same methods, "
    "with the same tests. A verdict that changes hangs on that set. Fewer sets also have fewer pairs, and so a verdict "
    "can become “undecided” without any set that speaks against it."
)
