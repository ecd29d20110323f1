"""Figure: what the best of so many trials can be expected to be worth."""

import math

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.report.board import Board
from bench.report.figures.axes import panel
from bench.report.figures.look import WIDTH, line_style, room_for, short
from bench.report.figures.rows import best
from bench.report.figures.svg import Plot
from bench.report.findings import signed

LINES = 8
"""So many methods have lines, beside the reference."""
TOLD = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 200, 500)
"""The numbers of trials that the table has, and the largest."""


def search(board: Board) -> Plot | None:
    """Draw a line for each method, over the number of trials."""
    found = {row.method: row.expected_best for row in board.rows if len(row.expected_best) > 1}
    if not found:
        return None
    chosen, note = best(list(found), LINES)
    columns = max(1, min(len(chosen), int((WIDTH - 0.8) / (room_for(chosen) + 0.6))))
    top = 3.2
    figure = Figure(figsize=(WIDTH, top + 0.2 * math.ceil(len(chosen) / columns) + 0.15))
    axes = panel(figure, 0.7, 0.5, WIDTH - 0.1, top)
    for place, method in enumerate(chosen):
        values = found[method]
        axes.plot(range(1, len(values) + 1), values, label=short(method), **line_style(place))
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, handlelength=3)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.grid()
    axes.set_xlabel("trials")
    axes.set_ylabel("expected Δ task on test, pp")
    most = max(map(len, found.values()))
    told = [count for count in TOLD if count < most] + [most]
    table = [
        [method, *(signed(float(values[count - 1])) if count <= len(values) else "" for count in told)]
        for method, values in found.items()
    ]
    return Plot(figure, ["Method", *("1 trial" if count == 1 else f"{count} trials" for count in told)], table, note)
