"""Figure: what each learning rate gains on validation, with the one that was chosen."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from bench.records import REFERENCE
from bench.report.board import Board
from bench.report.figures.axes import Panel, dots, frames, joined, limits, paper
from bench.report.figures.look import COLOURS, WIDTH, short
from bench.report.figures.rows import best
from bench.report.figures.svg import Plot
from bench.report.findings import signed
from bench.report.trials import Trial, contestants, trials_of
from bench.spec import STL
from bench.tuning.choose import Choice

PANELS = 7
"""So many methods, beside the reference, and so many single-task networks have a panel."""
TOLD = 500
"""Of more trials the table has those that were chosen alone."""
ACROSS = 4
FAR = 1.6
"""A panel reaches so many times as far below the best gain as the lower quartile does: one setting at which nothing is
learnt would press all others together."""


@dataclass(frozen=True)
class _Tried:
    """What was tried for one contestant."""

    name: str
    choice: Choice
    trials: Sequence[Trial]

    @property
    def grid(self) -> list[Trial]:
        """The trials at the contestant's own options, by their rate."""
        return sorted((trial for trial in self.trials if not trial.options), key=lambda trial: trial.factor)


def rates(board: Board) -> Plot | None:
    """Draw a panel for each method, and for the single-task network of each task."""
    if board.suite:
        return None
    single, rules = [], {}
    for method, choice in contestants(board):
        if method == STL:
            single.append(_Tried(f"{STL} {choice.tasks[0]}", choice, trials_of(choice)))
        else:
            rules[method] = _Tried(method, choice, trials_of(choice))
    if not rules and not single:
        return None
    chosen, note = best(list(rules), PANELS)
    if len(single) > PANELS:
        note = f"{note} Of {len(single)} single-task networks, {PANELS} are drawn.".strip()
    shown = [[rules[method] for method in chosen], single[:PANELS]]
    places = dict(enumerate(own for some in shown for own in some))
    wide, high = 2 * WIDTH / ACROSS, 1.9
    down = math.ceil(len(places) / ACROSS)
    figure, axes = paper(2 * WIDTH, high * down)
    x_limits = limits([math.log2(trial.factor) for own in places.values() for trial in own.trials])
    y_limits = [near_the_best([trial.gain for own in some for trial in own.trials]) for some in shown]
    panels = []
    for place, own in places.items():
        x, y = wide * (place % ACROSS), high * (down - 1 - place // ACROSS)
        edges = (x + 0.6, y + 0.5, x + wide - 0.1, y + high - 0.3)
        panels.append((own, Panel(*edges, x_limits, y_limits[own.choice.method == STL])))
    ticks = {float(exponent): _times(2.0**exponent) for exponent in range(-10, 11)}
    frames(axes, [(short(own.name), panel) for own, panel in panels], "learning rate × the protocol's", ticks)
    _draw(axes, panels, rules.get(REFERENCE))
    told = [(own, trial) for own in (*rules.values(), *single) for trial in own.trials]
    if len(told) > TOLD:
        note = f"{note} The table has the chosen settings, and not all {len(told)} trials.".strip()
        told = [(own, trial) for own, trial in told if trial.chosen]
    table = [_told(own, trial) for own, trial in told]
    return Plot(figure, ["Contestant", "Rate ×", "Options", "Gain, %", "Failed", "Chosen"], table, note, wide=True)


def near_the_best(gains: Sequence[float]) -> tuple[float, float]:
    """Return the limits of an axis that shows the best gains, and others that are not far below."""
    known = np.array([gain for gain in gains if not math.isnan(gain)])
    if not len(known):
        return 0.0, 1.0
    top = known.max()
    return limits(np.maximum(known, top - FAR * (top - np.quantile(known, 0.25, method="higher"))))


def _draw(axes: Axes, panels: Sequence[tuple[_Tried, Panel]], reference: _Tried | None) -> None:
    """Draw what is alike in all panels as one path each."""
    zeros, behind, lines, seeds = [], [], [], []
    marks: dict[str, list[tuple[float, float]]] = {}
    for own, panel in panels:
        if panel.y_limits[0] < 0 < panel.y_limits[1]:
            zeros.append(([panel.left, panel.right], [float(panel.y(0))] * 2))
        if reference is not None and own is not reference and own.choice.method != STL:
            behind.append(_line(reference, panel))
        lines.append(_line(own, panel))
        for factor in own.choice.by_seed.values():
            at = float(panel.x(math.log2(factor)))
            seeds.append(([at, at], [panel.bottom, panel.bottom + 0.1]))
        for trial in own.trials:
            marks.setdefault(_mark(own, trial, panel), []).append(_point(trial, panel))
    muted, ink = COLOURS["muted"], COLOURS["c1"]
    axes.plot(*joined(zeros), color=COLOURS["fg"], linewidth=0.8)
    axes.plot(*joined(behind), color=muted, linewidth=1, dashes=(4, 2))
    axes.plot(*joined(lines), color=ink)
    axes.plot(*joined(seeds), color=COLOURS["c2"], linewidth=2)
    for mark, size, colour, alpha in (("drawn", 4, "c1", 0.45), ("grid", 4.5, "c1", 1.0)):
        if own_marks := marks.pop(mark, []):
            dots(axes, [x for x, _ in own_marks], [y for _, y in own_marks], size, colour, alpha)
    colours = {"D": "c2", "<": "c2", ">": "c2", "X": "bad", "v": "muted"}
    for shape, points in sorted(marks.items()):
        size = 8 if colours[shape] == "c2" else 6
        axes.plot(*zip(*points, strict=True), shape, color=COLOURS[colours[shape]], markersize=size, markeredgewidth=0)


def _line(own: _Tried, panel: Panel) -> tuple[list[float], list[float]]:
    points = [_point(trial, panel) for trial in own.grid]
    return [x for x, _ in points], [y for _, y in points]


def _point(trial: Trial, panel: Panel) -> tuple[float, float]:
    """Where a trial lies; below the panel it is put on its lower edge, as is one whose gain is not known."""
    low = panel.y_limits[0]
    gain = low if math.isnan(trial.gain) else max(trial.gain, low)
    return float(panel.x(math.log2(trial.factor))), float(panel.y(gain))


def _mark(own: _Tried, trial: Trial, panel: Panel) -> str:
    if trial.chosen:
        edge = own.choice.edge
        return "D" if not edge else "<" if trial.factor == own.grid[0].factor else ">"
    if trial.failed or math.isnan(trial.gain):
        return "X"
    if trial.gain < panel.y_limits[0]:
        return "v"
    return "drawn" if trial.options else "grid"


def _told(own: _Tried, trial: Trial) -> list[str]:
    options = ", ".join(f"{name}={text}" for name, text in trial.options.items())
    doubts = " (edge)" if own.choice.edge else ""
    failed = f"{trial.failed} of {len(own.choice.seeds)}" if trial.failed else ""
    return [
        *(own.name, f"{trial.factor:.3g}", options, signed(trial.gain), failed),
        f"yes{doubts}" if trial.chosen else "",
    ]


def _times(factor: float) -> str:
    return f"{factor:g}" if factor >= 1 else f"1/{1 / factor:g}"
