"""Figure: the weights that methods gave to tasks over training."""

from collections.abc import Iterable

from bench.report.board import Board
from bench.report.figures.svg import Plot
from bench.report.figures.training import lines, multiples, note, table
from bench.spec import Point


def weights(board: Board) -> Plot | None:
    """Draw a panel for each method whose weights change, with a line for each task."""
    found, left = lines(board, _read, "median")
    moving = {
        method: own for method, own in found.items() if any(line.high.max() > line.low.min() for line in own.values())
    }
    if not moving:
        return None
    tasks = list(dict.fromkeys(task for own in moving.values() for task in own))
    figure = multiples(moving, tasks, band=True)
    return Plot(figure, *table(moving, "median"), note(left, moving), wide=True)


def _read(point: Point) -> Iterable[tuple[str, float | None]]:
    return (point.weights or {}).items()
