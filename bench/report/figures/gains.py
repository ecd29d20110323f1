"""Figure: gains of every metric over single-task networks, as a heat map."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from bench.report.board import ALPHA, Board, metric_name
from bench.report.figures.axes import dots, paper
from bench.report.figures.look import COLOURS, STEPS, WIDTH, largest_shown, room_for, shade, short
from bench.report.figures.rows import best
from bench.report.figures.svg import Plot
from bench.report.findings import number, signed
from bench.spec import STL

CROWDED = 20
"""With more methods, the cells have no numbers: these are in the table."""
GAP = 0.008
"""Half the line between two cells, in inches."""


def gains(board: Board) -> Plot | None:
    """Draw a row for each method and a column for each metric."""
    rows = [row for row in board.rows if row.method != STL and np.isfinite(row.gains).any()]
    if not rows or not board.metrics:
        return None
    chosen, left = best([row.method for row in rows])
    drawn = [i for i, row in enumerate(rows) if row.method in set(chosen)]
    values = np.array([row.gains for row in rows], np.float64)
    stars = np.array([row.gain_p for row in rows], np.float64) <= ALPHA
    texts = [
        [f"{signed(v, 1)}{'*' if star else ''}" for v, star in zip(*own, strict=True)]
        for own in zip(values, stars, strict=True)
    ]
    arrows = ["↑" if up else "↓" for up in board.higher_is_better]
    heads = [f"{metric_name(metric)} {arrow}" for metric, arrow in zip(board.metrics, arrows, strict=True)]
    largest = largest_shown(values)
    crowded = len(drawn) > CROWDED
    high = 0.18 if crowded else 0.26
    figure, axes = paper(WIDTH, 1.25 + high * len(drawn))
    start = max(room_for(chosen), room_for(heads) - 0.4) + 0.1
    wide = (WIDTH - 0.05 - start) / len(heads)
    xs = start + wide * (np.arange(len(heads)) + 0.5)
    ys = 1.2 + high * (len(drawn) - np.arange(len(drawn)) - 0.5)
    _cells(axes, values[drawn], largest, xs, ys, wide / 2 - GAP, high / 2 - GAP)
    for y, i in zip(ys, drawn, strict=True):
        axes.text(start - 0.05, y, short(rows[i].method), ha="right", va="center")
        for x, text in zip(xs, texts[i], strict=True) if not crowded else ():
            axes.text(x, y, text, ha="center", va="center", fontsize=8 if len(heads) < 12 else 6.5)
    if crowded:  # a line without length and with a round cap is a dot
        starred_rows, starred_columns = np.nonzero(stars[drawn])
        dots(axes, xs[starred_columns], ys[starred_rows], 3, "fg")
    for x, head in zip(xs, heads, strict=True):
        axes.text(x, 1.15, short(head), rotation=25, ha="right", va="top")
    note = (
        f"Darkest from ±{number(largest, 2)} %. {'Dots' if crowded else 'Stars'} mark gains that differ from 0 at a "
        f"false discovery rate of {ALPHA:g} over the table: they are for exploring, not for conclusions. {left}"
    )
    table = [[row.method, *own] for row, own in zip(rows, texts, strict=True)]
    return Plot(figure, ["Method", *heads], table, note)


def _cells(
    axes: Axes, values: np.ndarray, largest: float, xs: np.ndarray, ys: np.ndarray, wide: float, high: float
) -> None:
    """Draw the cells of each shade as one path."""
    cells: dict[int, list[Path]] = {}
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            x, y = xs[j], ys[i]
            corners = [(x - wide, y - high), (x + wide, y - high), (x + wide, y + high), (x - wide, y + high)]
            cells.setdefault(shade(float(value), largest), []).append(Path([*corners, corners[0]], closed=True))
    for own in range(STEPS):
        if own in cells and own != STEPS // 2:  # the middle one is the page itself
            path = Path.make_compound_path(*cells[own])
            axes.add_artist(PathPatch(path, facecolor=COLOURS[f"d{own}"], edgecolor="none"))
