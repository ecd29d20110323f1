"""Figure: what the best of so many trials can be expected to be worth."""

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.report.board import Board
from bench.report.figures.axes import panel
from bench.report.figures.costs import name_points
from bench.report.figures.look import WIDTH, line_style, room_for
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
    most = max(map(len, found.values()))
    figure = Figure(figsize=(WIDTH, 3.6))
    axes = panel(figure, 0.7, 0.5, WIDTH - 0.1, 3.5)
    for place, method in enumerate(chosen):
        values = found[method]
        axes.plot(range(1, len(values) + 1), values, **line_style(place))
    free = WIDTH - 0.9 - room_for(chosen) - 0.2
    axes.set_xlim(1, 1 + (most - 1) * (WIDTH - 0.8) / free)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.set_xticks([tick for tick in axes.get_xticks() if 1 <= tick <= most] + [1])
    axes.grid()
    axes.set_xlabel("trials")
    axes.set_ylabel("expected Δ task on test, pp")
    name_points(axes, {method: (len(found[method]), float(found[method][-1])) for method in chosen})
    told = [count for count in TOLD if count < most] + [most]
    table = [
        [method, *(signed(float(values[count - 1])) if count <= len(values) else "" for count in told)]
        for method, values in found.items()
    ]
    return Plot(figure, ["Method", *("1 trial" if count == 1 else f"{count} trials" for count in told)], table, note)
