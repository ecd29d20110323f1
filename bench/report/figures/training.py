"""What runs wrote down while training, over their seeds, and its lines in small panels."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from bench.records import REFERENCE
from bench.report.board import Board
from bench.report.figures.axes import Floats, Panel, frames, joined, limits, paper
from bench.report.figures.look import LETTER, WIDTH, line_style, short
from bench.report.figures.rows import best
from bench.report.findings import number
from bench.spec import STL, Point

CURVES = 8
"""So many methods have lines, beside the reference."""
DRAWN, TOLD = 100, 6
"""So many steps of a line are drawn at most, and so many are in the table."""

Statistic = Literal["mean", "median"]
Lines = Mapping[str, Mapping[str, "Line"]]
"""By method and quantity."""


@dataclass(frozen=True)
class Line:
    """A quantity at each step `[T]`, over seeds."""

    steps: Floats
    middle: Floats
    low: Floats
    high: Floats


def lines(
    board: Board, read: Callable[[Point], Iterable[tuple[str, float | None]]], statistic: Statistic
) -> tuple[Lines, str]:
    """Return what `read` finds in the points of the best methods and of the reference, and a note if some are left out.

    Args:
        read: a point → (quantity, value); a value that is not known or not finite is left out.
        statistic: the middle of the seeds.
    """
    there = [row.method for row in board.rows if row.method in board.points and row.method != STL]
    chosen, note = best(there, CURVES)
    middle = fmean if statistic == "mean" else median
    found = {}
    for method in sorted(chosen, key=lambda method: method != REFERENCE):
        values: dict[str, dict[int, list[float]]] = {}
        for _, points in sorted(board.points[method].items()):
            for point in points:
                for what, value in read(point):
                    if value is not None and math.isfinite(value):
                        values.setdefault(what, {}).setdefault(point.step, []).append(value)
        own = {
            what: [(step, middle(seen), min(seen), max(seen)) for step, seen in sorted(steps.items())]
            for what, steps in values.items()
        }
        found[method] = {what: Line(*np.array(rows, np.float64).T) for what, rows in own.items()}
    return {method: own for method, own in found.items() if own}, note


def multiples(
    panels: Mapping[str, Mapping[str, Line]], names: Sequence[str], *, band: bool = False, log: Sequence[str] = ()
) -> Figure:
    """Draw panels (title → name → line) below a legend of the names; `band` shades from the lowest to the highest."""
    labels = [short(name) for name in names]
    room = LETTER * max(map(len, labels)) + 0.7
    columns = max(1, min(len(names), int(2 * WIDTH / room)))
    legend = 0.2 * math.ceil(len(names) / columns) + 0.1
    across = min(len(panels), 4)
    wide, high = 2 * WIDTH / across, 2.1
    down = math.ceil(len(panels) / across)
    figure, axes = paper(2 * WIDTH, high * down + legend)
    placed = {}
    for place, (title, own) in enumerate(panels.items()):
        x, y = wide * (place % across), high * (down - 1 - place // across)
        edges = (x + 0.6, y + 0.5, x + wide - 0.1, y + high - 0.3)
        shown = [line.middle for line in own.values()]
        if band:
            shown += [end for line in own.values() for end in (line.low, line.high)]
        steps = limits(np.concatenate([line.steps for line in own.values()]))
        ends = limits(np.concatenate(shown), log=title in log)
        placed[title] = Panel(*edges, steps, ends, title in log)
    frames(axes, [(short(title), panel) for title, panel in placed.items()], "step")
    for place, name in enumerate(names):
        at, y = room * (place % columns), high * down + legend - 0.1 - 0.2 * (place // columns)
        axes.text(at + 0.5, y - 0.045, labels[place])
        parts = [(placed[title], _few(panels[title][name])) for title in panels if name in panels[title]]
        drawn = [(panel.x(line.steps), panel.y(line.middle)) for panel, line in parts]
        style = line_style(place)
        axes.plot(*joined([([at + 0.05, at + 0.42], [y, y]), *drawn]), **style)
        if band:
            _band(axes, parts, style["color"])
    return figure


def _band(axes: Axes, own: Sequence[tuple[Panel, Line]], colour: str) -> None:
    """Shade between the lowest and the highest value of one name in all panels, as one path."""
    parts = []
    for panel, line in own:
        x, low, high = panel.x(line.steps), panel.y(line.low), panel.y(line.high)
        around = np.column_stack([np.concatenate([x, x[::-1]]), np.concatenate([low, high[::-1]])])
        parts.append(Path(np.concatenate([around, around[:1]]), closed=True))
    axes.add_artist(PathPatch(Path.make_compound_path(*parts), color=colour, alpha=0.18, linewidth=0))


def table(found: Lines, statistic: Statistic) -> tuple[list[str], list[list[str]]]:
    """Return heads and rows of the table of lines."""
    steps = np.unique(np.concatenate([line.steps for own in found.values() for line in own.values()]))
    steps = steps[_spread(len(steps), TOLD)]
    rows = []
    for method, own in found.items():
        for what, line in own.items():
            at = dict(zip(line.steps, line.middle, strict=True))
            rows.append([method, what, *(number(at.get(step, math.nan), 3) for step in steps)])
    return ["Method", f"{statistic.capitalize()} of", *(f"step {step:.0f}" for step in steps)], rows


def by_quantity(found: Lines) -> dict[str, dict[str, Line]]:
    """Return lines by quantity and method, in the order in which the quantities come."""
    quantities = dict.fromkeys(what for own in found.values() for what in own)
    return {what: {method: own[what] for method, own in found.items() if what in own} for what in quantities}


def note(left: str, found: Lines) -> str:
    """Return what the caption adds: which methods are left out, and how many of the steps are drawn and told."""
    most = max(len(line.steps) for own in found.values() for line in own.values())
    drawn = f"{DRAWN} of {most} steps are drawn." if most > DRAWN else ""
    told = f"The table has {TOLD} of {most} steps." if most > TOLD else ""
    return " ".join(filter(None, (left, drawn, told)))


def _few(line: Line) -> Line:
    few = _spread(len(line.steps), DRAWN)
    return Line(line.steps[few], line.middle[few], line.low[few], line.high[few])


def _spread(count: int, most: int) -> np.ndarray:
    """Return places that are spread evenly from the first to the last, all of them if they are few."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))
