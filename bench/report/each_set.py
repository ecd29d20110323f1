"""The verdicts against equal weights on each task set, side by side: a table of the HTML page."""

from collections.abc import Iterable

from bench.report.board import Board, Comparison
from bench.report.columns import Cell, verdict_cell
from bench.report.findings import signed

TITLE = "On each task set"
CAPTION = (
    "The difference from equal weights on each task set, in percentage points of Δ task, with the sign of the verdict "
    "there. Positive is better than equal weights. Tests are adjusted for all methods of a task set."
)


def each_set(board: Board, boards: Iterable[Board]) -> list[tuple[str, list[Cell]]]:
    """Return, for each method of a board over task sets, its cells on the members of that board, in their order.

    Args:
        board: over task sets; of one task set there are no rows.
        boards: all boards of the report, the members among them.
    """
    single = {own.label: {row.method: row.vs_equal for row in own.rows} for own in boards if not own.suite}
    members = [single[label] for label in board.members if label in single]
    return [
        (row.method, [_cell(member.get(row.method)) for member in members])
        for row in board.rows
        if members and row.vs_equal is not None
    ]


def _cell(comparison: Comparison | None) -> Cell:
    if comparison is None:
        return Cell()
    verdict, difference = verdict_cell(comparison), comparison.difference.mean
    # The sign is a part of the text: no word beside it says the same.
    return Cell(f"{verdict.mark} {signed(difference, 1)}", sort=difference, style=verdict.style)
