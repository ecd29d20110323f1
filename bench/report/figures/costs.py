"""Figure: quality against the time of a step, with the front of what nothing cheaper beats."""

import math
from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.evidence.front import front
from bench.records import REFERENCE
from bench.report.board import Board
from bench.report.figures.axes import dots, joined, panel, times_axis
from bench.report.figures.look import COLOURS, LETTER, WIDTH, short
from bench.report.figures.rows import ends, ranked
from bench.report.figures.svg import Plot
from bench.report.findings import number

LABELLED = 12
"""With more points than this, only those on the front and the reference are named."""
MOST_NAMED = 20
"""Of those on the front, so many are named, the best first: more names do not fit one above the other."""


def costs(board: Board) -> Plot | None:
    """Draw each method at its step time and its Δ, with its interval."""
    rows = [row for row in ranked(board) if row.cost is not None and row.cost.step > 0]
    if len(rows) < 2:
        return None
    at = {row.method: (row.cost.step, row.delta_task.mean) for row in rows}  # type: ignore[union-attr]
    best = front([(-time, gain) for time, gain in at.values()])
    on = {method: point for (method, point), unbeaten in zip(at.items(), best, strict=True) if unbeaten}
    off = [point for method, point in at.items() if method not in on]
    figure = Figure(figsize=(WIDTH, 4.4))
    axes = panel(figure, 0.7, 0.5, WIDTH - 0.1, 4.3)
    axes.set_xscale("log")
    line = zip(*sorted(on.values()), strict=True)
    axes.step(*line, where="post", color=COLOURS["muted"], linewidth=1, dashes=(4, 2))
    found = [(at[row.method][0], row.delta_task) for row in rows if row.delta_task is not None]
    bars = [([x, x], [own.low, own.high]) for x, own in found if not math.isnan(own.low)]
    axes.plot(*joined(bars), color=COLOURS["c1"], linewidth=1.2, alpha=0.7)
    dots(axes, [x for x, _ in off], [y for _, y in off], 6, "muted")
    axes.plot(*zip(*on.values(), strict=True), "D", color=COLOURS["c1"], markersize=6, markeredgewidth=0)
    axes.axhline(0, color=COLOURS["fg"], linewidth=0.8)
    low, high = min(x for x, _ in at.values()), max(x for x, _ in at.values())
    axes.set_xlim(low / 1.12, high * (high / low) ** 0.2 * 1.12)
    times_axis(axes.xaxis, low / 1.12, high * 1.2)
    axes.grid()
    axes.set_xlabel("step time, × equal weights (log scale)")
    axes.set_ylabel("Δ task vs single-task, pp")
    first = list(on)[:MOST_NAMED]
    named = [m for m in at if len(at) <= LABELLED or m in first or m == REFERENCE]
    name_points(axes, {method: at[method] for method in named})
    table = [
        [row.method, number(at[row.method][0]), *ends(row.delta_task), "yes" if row.method in on else "no"]
        for row in rows
    ]
    these = "these" if len(first) == len(on) else f"the best {MOST_NAMED} of these"
    note = f"Only {these} and equal weights are named." if len(named) < len(at) else ""
    return Plot(figure, ["Method", "Step ×", "Δ task", "95 % interval", "On the line"], table, note)


def name_points(axes: Axes, at: Mapping[str, tuple[float, float]]) -> None:
    """Write names beside points, pushed apart where they would overlap."""
    dpi = axes.get_figure().dpi  # type: ignore[union-attr]
    high = dpi / 6
    taken: list[tuple[float, float, float]] = []
    for method, point in sorted(at.items(), key=lambda item: -item[1][1]):
        x, y = axes.transData.transform(point)
        label = short(method)
        wide = LETTER * dpi * len(label) + 10
        level = y
        # A hair less than `high`: what was put exactly so far away must not clash again by rounding.
        while clash := [t for t in taken if t[0] < x + wide and x < t[0] + t[1] and abs(t[2] - level) < 0.99 * high]:
            level = min(t[2] for t in clash) - high
        taken.append((x, wide, level))
        shift = (level - y) * 72 / dpi
        arrow = {"arrowstyle": "-", "color": COLOURS["muted"], "linewidth": 0.6} if level != y else None
        axes.annotate(label, point, (6, shift + 3), textcoords="offset points", arrowprops=arrow)
