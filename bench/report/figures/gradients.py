"""Figure: how task gradients agree over training, and how long the updates are."""

from collections.abc import Iterator

from bench.report.board import Board
from bench.report.figures.svg import Plot
from bench.report.figures.training import by_quantity, lines, multiples, note, table
from bench.spec import Point

COSINE, CONFLICT, RATIO = "mean cosine", "share of conflicts", "update ÷ sum of gradients"


def gradients(board: Board) -> Plot | None:
    """Draw a panel for each of the quantities, with a line for each method."""
    found, left = lines(board, _read, "mean")
    if not found:
        return None
    figure = multiples(by_quantity(found), list(found), log=[RATIO])
    return Plot(figure, *table(found, "mean"), note(left, found), wide=True)


def _read(point: Point) -> Iterator[tuple[str, float | None]]:
    if point.cosines is not None:
        pairs = [v for i, row in enumerate(point.cosines) for v in row[:i] if v is not None]
        if pairs:
            yield COSINE, sum(pairs) / len(pairs)
            yield CONFLICT, sum(v < 0 for v in pairs) / len(pairs)
    if point.update_ratio is not None and point.update_ratio > 0:
        yield RATIO, point.update_ratio
