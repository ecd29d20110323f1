"""Figure: the difference from equal weights over all task sets, with one set left out at a time."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.report.board import Board, Row
from bench.report.figures.axes import dots, joined, panel
from bench.report.figures.look import COLOURS, SHAPES, WIDTH, room_for, short
from bench.report.figures.rows import best, ranked
from bench.report.figures.svg import Plot
from bench.report.findings import signed

BESIDE = "verdict changes without"


def stability(board: Board) -> Plot | None:
    """Draw a row for each method: a small mark for each set that is left out, and the names of those that matter."""
    rows = [row for row in ranked(board) if row.left_out]
    if not rows:
        return None
    chosen, note = best([row.method for row in rows])
    drawn = [row for row in rows if row.method in set(chosen)]
    named = [_named(row) for row in drawn]
    figure = Figure(figsize=(WIDTH, 1.1 + 0.24 * len(drawn)))
    start, end = room_for(chosen) + 0.1, WIDTH - room_for([*named, BESIDE]) - 0.15
    axes = panel(figure, start, 0.5, end, figure.get_size_inches()[1] - 0.3)
    axes.axvspan(-board.rules.margin, board.rules.margin, color=COLOURS["band"], alpha=0.18, linewidth=0)
    axes.axvline(0, color=COLOURS["fg"], linewidth=0.8)
    lines, same, other, found = [], [], [], []
    for y, row in enumerate(drawn):
        changing = {one.label for one in row.changes_without}
        at = [one.difference for one in row.left_out]
        lines.append(([min(at), max(at)], [y, y]))
        same += [(one.difference, y) for one in row.left_out if one.label not in changing]
        other += [(one.difference, y) for one in row.left_out if one.label in changing]
        if row.vs_equal is not None:
            found.append((row.vs_equal.difference.mean, y, SHAPES[row.vs_equal.verdict]))
    axes.plot(*joined(lines), color=COLOURS["muted"], linewidth=0.7)
    dots(axes, [x for x, _ in same], [y for _, y in same], 3.2, "muted")
    for shape in dict.fromkeys(shape for *_, shape in found):
        own = np.array([(x, y) for x, y, its in found if its == shape])
        axes.plot(*own.T, shape, color=COLOURS["c1"], markersize=6.5, markeredgewidth=0)
    dots(axes, [x for x, _ in other], [y for _, y in other], 4.2, "c2")
    axes.set_xlabel("Δ task vs equal weights, pp")
    axes.grid(axis="x")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_yticks([])
    axes.set_ylim(len(drawn) - 0.4, -0.6)
    beside = axes.get_yaxis_transform()
    axes.text(1.03, -0.75, BESIDE, transform=beside, va="bottom", color=COLOURS["muted"])
    for y, (row, names) in enumerate(zip(drawn, named, strict=True)):
        axes.text(-0.03, y, short(row.method), ha="right", va="center", transform=beside)
        axes.text(1.03, y, names, va="center", transform=beside)
    heads = ["Method", "All sets", "Verdict", *(f"without {label}" for label in board.members)]
    return Plot(figure, heads, list(map(_told, rows)), f"The band is ±{board.rules.margin:g} pp. {note}")


def _named(row: Row) -> str:
    return short(", ".join(one.label for one in row.changes_without))


def _told(row: Row) -> list[str]:
    verdict = row.vs_equal.verdict if row.vs_equal is not None else ""
    mean = signed(row.vs_equal.difference.mean if row.vs_equal is not None else None)
    changing = row.changes_without
    others = [signed(one.difference) + f" {one.verdict}" * (one in changing) for one in row.left_out]
    return [row.method, mean, verdict, *others]
