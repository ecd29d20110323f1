"""Figure: the methods on an axis, with a bar over those that are not shown to differ."""

from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.report.board import Board
from bench.report.figures.axes import dots, joined, panel
from bench.report.figures.look import COLOURS, LETTER, WIDTH, room_for, short
from bench.report.figures.rows import best, ranked
from bench.report.figures.svg import Plot
from bench.report.findings import number, signed

CROWDED = 15
"""With more methods the diagram takes the width of the page."""
GROUPS = 16
"""So many groups are drawn."""


def ranks(board: Board) -> Plot | None:
    """Draw each method at its mean Δ, its name at the side, and the groups as bars."""
    rows = {row.method: row for row in ranked(board)}
    if board.pairs is None or len(rows) < 2:
        return None
    paired = set(board.pairs.methods)
    known = [method for method in rows if method in paired]
    chosen, note = best(known)
    value = {method: rows[method].delta_task.mean for method in known}  # type: ignore[union-attr]
    order = sorted(chosen, key=value.__getitem__)
    place = {method: i for i, method in enumerate(order)}
    groups = _groups(board, place)
    drawn = groups[:GROUPS]
    half = (len(order) + 1) // 2
    crowded = len(order) > CROWDED
    width = 2 * WIDTH if crowded else WIDTH
    top = 0.6 * len(drawn) + 0.7
    figure = Figure(figsize=(width, 0.75 + 0.21 * (half + 0.6 * len(drawn) + 0.7)))
    axes = panel(figure, 0.05, 0.05, width - 0.05, figure.get_size_inches()[1] - 0.5)
    low, high = value[order[0]], value[order[-1]]
    span = (high - low) or 1.0
    left, right = low - 0.06 * span, high + 0.06 * span
    leads = []
    for i, method in enumerate(order):
        first = i < half
        y = top + (i if first else len(order) - 1 - i)
        side = left if first else right
        leads.append(([value[method], value[method], side], [0, y, y]))
        beside = side - 0.01 * span if first else side + 0.01 * span
        label = f"{short(method)}  {signed(value[method], 1)}"
        axes.text(beside, y, label, ha="right" if first else "left", va="center")
    axes.plot(*joined(leads), color=COLOURS["muted"], linewidth=0.7)
    dots(axes, [value[m] for m in order], [0] * len(order), 4.5, "fg")
    bars, dotted = [], []
    for level, group in enumerate(drawn):
        y = 0.6 * level + 0.7
        at = [value[method] for method in group]
        if place[group[-1]] - place[group[0]] == len(group) - 1:
            bars.append(([at[0] - 0.01 * span, at[-1] + 0.01 * span], [y, y]))
        else:
            dotted.append((at, [y] * len(at)))
    axes.plot(*joined(bars), color=COLOURS["c1"], linewidth=4, solid_capstyle="round")
    axes.plot(*joined(dotted), ":", color=COLOURS["c1"], linewidth=1)
    members = [point for line in dotted for point in zip(*line, strict=True)]
    dots(axes, [x for x, _ in members], [y for _, y in members], 4, "c1")
    axes.set_ylim(half + top - 0.4, -0.4)
    longest = room_for(order) + 8 * LETTER
    room = (right - left) * longest / (width - 0.1 - 2 * longest)
    axes.set_xlim(left - room, right + room)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("mean Δ task vs single-task, pp")
    ticks = [tick for tick in MaxNLocator(9 if crowded else 5).tick_values(low, high) if left <= tick <= right]
    axes.set_xticks(ticks)
    axes.yaxis.set_visible(False)
    shown: Any = axes.spines
    shown[["left", "bottom"]].set_visible(False)
    shown["top"].set_visible(True)
    shown["top"].set_bounds(min([low, *ticks]), max([high, *ticks]))
    if len(groups) > GROUPS:
        note = f"Of {len(groups)} groups, the first {GROUPS} are drawn. {note}"
    table = [
        [method, signed(value[method]), rows[method].letters, number(rows[method].mean_rank)]
        for method in sorted(known, key=value.__getitem__, reverse=True)
    ]
    return Plot(figure, ["Method", "Mean Δ", "Groups", "Mean rank"], table, note, crowded)


def _groups(board: Board, place: dict[str, int]) -> list[list[str]]:
    """Return the groups among the methods that are drawn, without those that lie inside another."""
    assert board.pairs is not None
    cliques = [[board.pairs.methods[i] for i in clique] for clique in board.pairs.cliques]
    groups = list(dict.fromkeys(frozenset(clique).intersection(place) for clique in cliques))
    largest = [group for group in groups if len(group) > 1 and not any(group < other for other in groups)]
    return [sorted(group, key=place.__getitem__) for group in largest]
