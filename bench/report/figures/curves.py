"""Figure: validation metrics and losses over training."""

from collections.abc import Iterator

from bench.report.board import Board
from bench.report.figures.svg import Plot
from bench.report.figures.training import by_quantity, lines, multiples, note, table
from bench.spec import Point


def curves(board: Board) -> Plot | None:
    """Draw a panel for each metric and each loss, with a line for each method."""
    found, left = lines(board, _read, "mean")
    if not found:
        return None
    figure = multiples(by_quantity(found), list(found))
    return Plot(figure, *table(found, "mean"), note(left, found), wide=True)


def _read(point: Point) -> Iterator[tuple[str, float | None]]:
    for task, metrics in point.validation.items():
        yield from ((f"{task}.{metric}", value) for metric, value in metrics.items())
    yield from ((f"{task}, training loss", value) for task, value in point.losses.items())
