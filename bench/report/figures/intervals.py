"""Figure: Δ task against single-task learning and against equal weights, with intervals and seeds."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.report.board import Board, Comparison, Interval, Row
from bench.report.figures.axes import dots, joined, panel
from bench.report.figures.look import COLOURS, SHAPES, WIDTH, room_for, short
from bench.report.figures.rows import best, ends, ranked
from bench.report.figures.svg import Plot
from bench.report.findings import signed

DOTS = 600
"""With more seeds in all, a line from the lowest to the highest replaces the dots."""


def intervals(board: Board) -> Plot | None:
    """Draw a row for each method: on the left against single-task learning, on the right against equal weights."""
    rows = ranked(board)
    if not rows:
        return None
    chosen, note = best([row.method for row in rows])
    drawn = [row for row in rows if row.method in set(chosen)]
    figure = Figure(figsize=(WIDTH, 0.9 + 0.24 * len(drawn)))
    start, top = room_for(chosen) + 0.1, figure.get_size_inches()[1] - 0.1
    middle = (start + WIDTH) / 2
    left = panel(figure, start, 0.5, middle - 0.1, top)
    right = panel(figure, middle + 0.1, 0.5, WIDTH - 0.1, top)
    gains = [(y, row.delta_task) for y, row in enumerate(drawn) if row.delta_task is not None]
    against = [(y, row.vs_equal) for y, row in enumerate(drawn) if row.vs_equal is not None]
    smeared = sum(len(row.per_seed) for row in drawn) > DOTS
    _seeds(left, [(y, row.per_seed) for y, row in enumerate(drawn)], smeared)
    _seeds(right, [(y, _differences(found, board.suite)) for y, found in against], smeared)
    _intervals(left, gains, "c1", "o")
    for look in dict.fromkeys(map(_look, (found for _, found in against))):
        _intervals(right, [(y, found.difference) for y, found in against if _look(found) == look], *look)
    right.axvspan(-board.rules.margin, board.rules.margin, color=COLOURS["band"], alpha=0.18, linewidth=0)
    left.set_xlabel("Δ task vs single-task, pp")
    right.set_xlabel("Δ task vs equal weights, pp")
    for axes in (left, right):
        axes.axvline(0, color=COLOURS["fg"], linewidth=0.8)
        axes.grid(axis="x")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_yticks([])
        axes.set_ylim(len(drawn) - 0.4, -0.6)
    for y, row in enumerate(drawn):
        left.text(-0.03, y, short(row.method), ha="right", va="center", transform=left.get_yaxis_transform())
    what = "task sets" if board.suite else "seeds"
    seeds = f"Thin lines go from the lowest to the highest of the {what}" if smeared else f"Small dots are {what}"
    note = f"{seeds}; the band is ±{board.rules.margin:g} pp. {note}"
    heads = ["Method", "Δ vs single-task", "95 % interval", "Δ vs equal", "95 % interval", "Verdict", "By seed"]
    return Plot(figure, heads, list(map(_told, rows)), note)


def _look(found: Comparison) -> tuple[str, str]:
    """Return the colour and the marker of a verdict."""
    return {"better": "good", "worse": "bad"}.get(found.verdict, "fg"), SHAPES[found.verdict]


def _differences(found: Comparison, suite: bool) -> np.ndarray:
    """Return the differences by seed, or over several task sets their means by task set."""
    if suite or not found.per_seed:
        return np.array([np.nanmean(d) for d in found.per_seed if np.isfinite(d).any()])
    return found.per_seed[0]


def _seeds(axes: Axes, rows: Sequence[tuple[int, np.ndarray]], smeared: bool) -> None:
    finite = [(y, values[np.isfinite(values)]) for y, values in rows]
    finite = [(y, values) for y, values in finite if len(values)]
    if smeared:
        axes.plot(*joined([([v.min(), v.max()], [y, y]) for y, v in finite]), linewidth=0.7, color=COLOURS["muted"])
    else:
        found = [(value, y) for y, own in finite for value in np.sort(own)]
        dots(axes, [x for x, _ in found], [y for _, y in found], 2.6, "muted", 0.55)


def _intervals(axes: Axes, rows: Sequence[tuple[int, Interval]], colour: str, marker: str) -> None:
    ink = COLOURS[colour]
    known = [([found.low, found.high], [y, y]) for y, found in rows if not math.isnan(found.low)]
    axes.plot(*joined(known), color=ink, linewidth=2)
    means, ys = [found.mean for _, found in rows], [y for y, _ in rows]
    if marker == "o":
        dots(axes, means, ys, 6.5, colour)
    else:
        axes.plot(means, ys, marker, color=ink, markersize=6.5, markeredgewidth=0)


def _told(row: Row) -> list[str]:
    against = row.vs_equal
    return [
        row.method,
        *ends(row.delta_task),
        *ends(against.difference if against else None),
        against.verdict if against else "",
        " ".join(signed(float(value), 1) for value in row.per_seed),
    ]
