"""What fixed weights reach: the gains by task of the points of a reference front, beside those of the methods."""

from collections.abc import Mapping

import numpy as np

from bench.report.board import Board, Floats
from bench.spec import STL


def tasks_with_gains(board: Board) -> list[str]:
    """Return the tasks that have a gain over single-task learning, in their order."""
    known = [any(np.isfinite(row.gains[m]) for row in board.rows) for m in range(len(board.metrics))]
    return list(dict.fromkeys(task for (task, _), is_known in zip(board.metrics, known, strict=True) if is_known))


def by_task(board: Board, gains: Floats) -> Floats:
    """Return the mean gain of each task's metrics, in per cent: of tasks that have a gain."""
    own = [
        [gain for (task, _), gain in zip(board.metrics, gains, strict=True) if task == name and np.isfinite(gain)]
        for name in tasks_with_gains(board)
    ]
    return np.array([np.mean(some) if some else np.nan for some in own])


def front_points(board: Board) -> dict[str, Floats]:
    """Return the gains by task of each point of a reference curve that has all of them."""
    found = {p.label: by_task(board, p.gains) for c in board.curves if c.role == "reference" for p in c.points}
    return {label: gains for label, gains in found.items() if np.isfinite(gains).all()}


def method_points(board: Board) -> dict[str, Floats]:
    """Return the gains by task of each method that has all of them, in the order of the board."""
    found = {row.method: by_task(board, row.gains) for row in board.rows if row.method != STL}
    return {method: gains for method, gains in found.items() if np.isfinite(gains).all()}


def better_on_every_task(board: Board) -> dict[str, int]:
    """Return how many points of the front are better than each method on every task; nothing without a front."""
    points = front_points(board)
    return beaten_by(points, method_points(board)) if points else {}


def beaten_by(points: Mapping[str, Floats], others: Mapping[str, Floats]) -> dict[str, int]:
    """Return how many of the points are better in everything than each of the others."""
    return {name: sum(bool((point > gains).all()) for point in points.values()) for name, gains in others.items()}
