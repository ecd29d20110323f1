"""Axes for figures: one plot with edges in inches, or many small panels on one sheet of paper.

Matplotlib's own axes take 20 ms each. A figure of many panels therefore has a single one, the paper, whose unit is an
inch; a `Panel` places data on it, and what is drawn alike in all panels becomes one path.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import ArrayLike, NDArray

from bench.report.figures.look import COLOURS

Floats = NDArray[np.float64]
TIMES = (0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 100)
"""Ticks of the axis of costs."""


def panel(figure: Figure, left: float, bottom: float, right: float, top: float) -> Axes:
    """Return axes between these edges, in inches from the lower left. A layout engine takes as long as all the rest."""
    wide, high = figure.get_size_inches()
    return figure.add_axes((left / wide, bottom / high, (right - left) / wide, (top - bottom) / high))


def times_axis(axis: Axis, low: float, high: float) -> None:
    """Set the ticks of an axis of costs, on a log scale."""
    axis.set_major_locator(FixedLocator([time for time in TIMES if low <= time <= high]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda time, _: f"{time:g}"))


def paper(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure and the one axes that covers it, in inches from the lower left."""
    figure = Figure(figsize=(width, height))
    axes = panel(figure, 0, 0, width, height)
    axes.set_axis_off()
    axes.set(xlim=(0, width), ylim=(0, height), autoscale_on=False)
    return figure, axes


def joined(lines: Iterable[tuple[ArrayLike, ArrayLike]]) -> tuple[Floats, Floats]:
    """Return many lines (xs, ys) as one with gaps: drawn once, they are one path."""
    gap = np.array([math.nan])
    xs, ys = [gap], [gap]
    for x, y in lines:
        xs += [np.asarray(x, np.float64), gap]
        ys += [np.asarray(y, np.float64), gap]
    return np.concatenate(xs), np.concatenate(ys)


def dots(axes: Axes, xs: ArrayLike, ys: ArrayLike, size: float, colour: str, alpha: float = 1) -> None:
    """Draw points as lines that have no length and a round cap: all are one path, which markers are not."""
    ends = joined(([x, x], [y, y]) for x, y in zip(np.asarray(xs), np.asarray(ys), strict=True))
    axes.plot(*ends, color=COLOURS[colour], linewidth=size, solid_capstyle="round", alpha=alpha)


@dataclass(frozen=True)
class Panel:
    """A small plot on paper: its edges in inches, and the data's limits at these edges."""

    left: float
    bottom: float
    right: float
    top: float
    x_limits: tuple[float, float]
    y_limits: tuple[float, float]
    log: bool = False
    """Whether y has a log scale; its limits are positive then."""

    def x(self, values: ArrayLike) -> Floats:
        """Return where values lie from left to right, in inches."""
        return _placed(np.asarray(values, np.float64), *self.x_limits, self.left, self.right)

    def y(self, values: ArrayLike) -> Floats:
        """Return where values lie from bottom to top, in inches."""
        scale = np.log if self.log else np.asarray
        low, high = scale(self.y_limits)
        return _placed(scale(np.asarray(values, np.float64)), low, high, self.bottom, self.top)


def _placed(values: Floats, low: float, high: float, start: float, end: float) -> Floats:
    return start + (values - low) / (high - low) * (end - start)


def limits(values: ArrayLike, *, log: bool = False) -> tuple[float, float]:
    """Return the limits of an axis that shows these values with a little room around them."""
    shown = np.asarray(values, np.float64)
    shown = np.log(shown) if log else shown
    low, high = float(shown.min()), float(shown.max())
    room = 0.05 * (high - low) or 0.05 * abs(low) or 0.05
    low, high = low - room, high + room
    return (math.exp(low), math.exp(high)) if log else (low, high)


def frames(
    axes: Axes, panels: Sequence[tuple[str, Panel]], x_label: str, x_ticks: Mapping[float, str] | None = None
) -> None:
    """Draw, on paper, the title, grid and scales of each panel; `x_ticks` says what is written where, if given."""
    grid, edges = [], []
    for title, own in panels:
        edges.append(([own.left, own.left, own.right], [own.top, own.bottom, own.bottom]))
        axes.text(own.left, own.top + 0.08, title, va="bottom")
        axes.text((own.left + own.right) / 2, own.bottom - 0.24, x_label, ha="center", va="top")
        known = {tick: _written(tick) for tick in _ticks(own.x_limits, 4, log=False)} if x_ticks is None else x_ticks
        for tick, text in known.items():
            if own.x_limits[0] <= tick <= own.x_limits[1]:
                at = float(own.x(tick))
                grid.append(([at, at], [own.bottom, own.top]))
                axes.text(at, own.bottom - 0.06, text, ha="center", va="top")
        for tick in _ticks(own.y_limits, 5, log=own.log):
            at = float(own.y(tick))
            grid.append(([own.left, own.right], [at, at]))
            axes.text(own.left - 0.06, at - 0.045, _written(tick), ha="right")
    axes.plot(*joined(grid), color=COLOURS["line"], linewidth=0.6)
    axes.plot(*joined(edges), color=COLOURS["muted"], linewidth=0.8)


def _ticks(ends: tuple[float, float], most: int, *, log: bool) -> list[float]:
    locator = LogLocator(subs=(1, 2, 5), numticks=6) if log else MaxNLocator(most, steps=[1, 2, 2.5, 5, 10])
    return [float(tick) for tick in locator.tick_values(*ends) if ends[0] <= tick <= ends[1]]


def _written(tick: float) -> str:
    return f"{tick:.6g}".replace("-", "−")
