"""What several figures share: which methods they draw, and how their tables tell an interval."""

import math
from collections.abc import Sequence

from bench.records import REFERENCE
from bench.report.board import Board, Interval, Row
from bench.report.findings import signed
from bench.spec import STL

MOST = 40
"""So many methods have a row in a figure, beside the reference."""


def ranked(board: Board) -> list[Row]:
    """Return the rows of methods that have a gain, in the order of the board."""
    known = [row for row in board.rows if row.delta_task is not None and not math.isnan(row.delta_task.mean)]
    return [row for row in known if row.method != STL]


def best(methods: Sequence[str], most: int = MOST) -> tuple[list[str], str]:
    """Return the first methods and the reference, in their order, and a note if some are left out."""
    others = [method for method in methods if method != REFERENCE]
    kept = set(others[:most]) | {REFERENCE}
    chosen = [method for method in methods if method in kept]
    left = len(methods) - len(chosen)
    return chosen, f"Only the best {most} methods and equal weights are drawn, {left} are not." if left else ""


def ends(interval: Interval | None) -> tuple[str, str]:
    """Return the cells of a table that tell a mean and its interval."""
    if interval is None:
        return "", ""
    low, high = signed(interval.low), signed(interval.high)
    return signed(interval.mean), f"{low} to {high}" if low else ""
