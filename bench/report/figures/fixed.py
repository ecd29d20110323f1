"""Figure: does a method lie beyond what fixed weights reach?"""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from bench.evidence.front import front
from bench.records import REFERENCE
from bench.report.board import Board
from bench.report.figures.axes import Floats, Panel, dots, frames, joined, limits, paper
from bench.report.figures.costs import LABELLED, name_points
from bench.report.figures.look import COLOURS, LETTER, WIDTH, short
from bench.report.figures.rows import best
from bench.report.figures.svg import Plot
from bench.report.findings import signed
from bench.report.fixed import beaten_by, front_points, method_points, tasks_with_gains

ACROSS = 3
"""So many panels stand side by side."""
HIGH = 3.2
"""The height of a panel with its title and scale, in inches."""


def fixed(board: Board) -> Plot | None:
    """Draw a panel for each task, its gain against the mean gain of the others; of two tasks one panel."""
    points, everyone, tasks = front_points(board), method_points(board), tasks_with_gains(board)
    if not points or not everyone or len(tasks) < 2:
        return None
    chosen, left = best(list(everyone))
    methods = {method: everyone[method] for method in chosen}
    shown = tasks[1:] if len(tasks) == 2 else tasks
    across = min(len(shown), ACROSS)
    down = math.ceil(len(shown) / across)
    wide = (WIDTH if across == 1 else 2 * WIDTH) / across
    figure, axes = paper(wide * across, HIGH * down)
    small, large = np.array(list(points.values())), np.array(list(methods.values()))
    drawn = [method for method in methods if len(methods) <= LABELLED or method == REFERENCE]
    panels = []
    for place, task in enumerate(shown):
        x, y = wide * (place % across), HIGH * (down - 1 - place // across)
        edges = (x + 0.6, y + 0.5, x + wide - 0.1, y + HIGH - 0.3)
        own, others = _against(small, tasks.index(task)), _against(large, tasks.index(task))
        (low, high), ends = (limits(np.concatenate([own[:, axis], others[:, axis]])) for axis in (0, 1))
        room = LETTER * max((len(short(method)) for method in drawn), default=0) / (wide - 0.7)
        panels.append((f"gain on {short(task)}, %", Panel(*edges, (low, high + (high - low) * room), ends)))
    frames(axes, panels, "mean gain on the other tasks, %" if len(tasks) > 2 else f"gain on {short(tasks[0])}, %")
    for task, (_, panel) in zip(shown, panels, strict=True):
        own, others = (_against(values, tasks.index(task)) for values in (small, large))
        _draw(axes, panel, own, others, [list(methods).index(method) for method in drawn], list(methods))
    told = {**everyone, **points}
    beaten = beaten_by(points, told)
    rows = [[name, *(signed(g, 1) for g in own), str(beaten[name])] for name, own in told.items()]
    note = " ".join(filter(None, [left, "Only equal weights are named." if len(drawn) < len(methods) else ""]))
    heads = ["Method or fixed weights", *(f"{task}, %" for task in tasks), "Fixed weights better on every task"]
    return Plot(figure, heads, rows, note, wide=across > 1)


def _against(values: Floats, task: int) -> Floats:
    """Return `[N, 2]`, the mean over the other tasks and the task, of values `[N, K]`."""
    return np.stack([np.delete(values, task, 1).mean(1), values[:, task]], 1)


def _draw(axes: Axes, panel: Panel, small: Floats, large: Floats, named: Sequence[int], methods: Sequence[str]) -> None:
    """Draw the points of one panel, the border of what the small ones reach, and the names of large ones."""
    on = small[front(small)]
    on = on[np.argsort(on[:, 0])]
    xs, ys = np.repeat(on[:, 0], 2), np.repeat(on[:, 1], 2)
    left, bottom = panel.x_limits[0], panel.y_limits[0]
    border = np.concatenate([[left], xs]), np.concatenate([ys, [bottom]])
    zeros: list[tuple[ArrayLike, ArrayLike]] = []
    if panel.x_limits[0] < 0 < panel.x_limits[1]:
        zeros.append((panel.x([0, 0]), [panel.bottom, panel.top]))
    if panel.y_limits[0] < 0 < panel.y_limits[1]:
        zeros.append(([panel.left, panel.right], panel.y([0, 0])))
    axes.plot(*joined(zeros), color=COLOURS["fg"], linewidth=0.8)
    axes.plot(panel.x(border[0]), panel.y(border[1]), color=COLOURS["muted"], linewidth=1, dashes=(4, 2))
    dots(axes, panel.x(small[:, 0]), panel.y(small[:, 1]), 4, "muted")
    x, y = panel.x(large[:, 0]), panel.y(large[:, 1])
    dots(axes, x, y, 7, "c1")
    name_points(axes, {methods[i]: (float(x[i]), float(y[i])) for i in named})
