"""Computes how many fresh seeds would decide the comparisons that are still open."""

import numpy as np
import pandas as pd

from bench.evidence.power import seeds_needed
from bench.evidence.significance import equivalent
from bench.records import REFERENCE
from bench.report.board import ALPHA, Board, Report

OPEN = ("undecided", "not enough seeds")


def settling(report: Report, target: float = 1.0, *, pairs: bool = False) -> pd.DataFrame:
    """Return how many seeds each open comparison needs to find a difference of `target`.

    The power is 80 %, and the family keeps its present size.

    Args:
        report: what was compared. Boards over several task sets are left out, because each set needs its own seeds.
        target: the difference to find, in points of Δ task.
        pairs: whether to take every pair of methods, single-task learning included, instead of each method with equal
            weights.

    Returns:
        a row per open comparison. Its columns: task_set, method, other, difference, sd (the standard deviation of the
        differences over seeds), seeds (so far), needed (if differences spread as they did so far) and needed_at_worst
        (if they spread as much as the upper end of the 95 % range of sd).
    """
    rows = []
    for board in report.boards:
        if not board.suite:
            rows += _open_pairs(board, target) if pairs else _open(board, target)
    return pd.DataFrame(
        rows, columns=["task_set", "method", "other", "difference", "sd", "seeds", "needed", "needed_at_worst"]
    )


def _open(board: Board, target: float) -> list[dict[str, object]]:
    compared = [(row.method, row.vs_equal) for row in board.rows if row.vs_equal is not None]
    found = []
    for method, comparison in compared:
        if comparison.verdict in OPEN:
            d = comparison.per_seed[0]
            found.append(_line(board, method, REFERENCE, d[~np.isnan(d)], target, board.family))
    return found


def _open_pairs(board: Board, target: float) -> list[dict[str, object]]:
    if board.pairs is None:
        return []
    methods, values = board.pairs.methods, board.pairs.values
    size = len(methods)
    found = []
    for i in range(size):
        for j in range(i + 1, size):
            d = values[:, i] - values[:, j]
            d = d[~np.isnan(d)]
            if board.pairs.p[i, j] > ALPHA and not equivalent(d, margin=board.rules.margin, alpha=ALPHA):
                found.append(_line(board, methods[i], methods[j], d, target, size * (size - 1) // 2))
    return found


def _line(board: Board, method: str, other: str, d: np.ndarray, target: float, family: int) -> dict[str, object]:
    line: dict[str, object] = {"task_set": board.label, "method": method, "other": other, "seeds": len(d)}
    if len(d):
        line["difference"] = float(d.mean())
    if len(d) > 1:
        line["sd"] = sd = float(d.std(ddof=1))
        line["needed"], line["needed_at_worst"] = seeds_needed(sd, target, len(d), family, ALPHA)
    return line
