"""A board → its figures: inline SVG in the page's colours, each with a description and its numbers as a table."""

import hashlib
import io
import math
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from bench.evidence.significance import Verdict
from bench.plain import one_line
from bench.records import REFERENCE
from bench.report.board import ALPHA, Board, Interval, Row, metric_name
from bench.report.findings import number, signed
from bench.spec import STL

Statistic = Literal["mean", "median"]
STEPS = 9
"""Shades of a heat map, the middle one for 0."""
CURVES = 8
"""So many methods have curves, beside the reference."""
LABELLED = 12
"""With more points than this, a scatter names only those on its frontier."""
CROWDED = 15
"""With more methods a rank diagram takes the width of the page."""
GROUPS = 16
"""So many groups are drawn in a rank diagram."""
TIMES = (0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 100)
"""Ticks of the axis of costs."""
LETTER = 0.078
"""The width of a letter in a figure, in inches, about."""
LONGEST = 26
"""Characters of a name in a figure; the tables have all of it."""
SHAPES: dict[Verdict, str] = {
    **{"better": "^", "equivalent": "s", "identical": "s", "undecided": "o", "not enough seeds": "D", "worse": "v"},
}
DASHES = ["", (4, 1.5), (1, 1), (6, 1.5, 1, 1.5), (3, 1), (1, 2), (5, 1, 1, 1, 1, 1), (8, 2), (2, 2)]
INK = [
    "fg",
    "muted",
    "line",
    "good",
    "bad",
    "band",
    "bg",
    *(f"c{i}" for i in range(9)),
    *(f"d{i}" for i in range(STEPS)),
]
COLOURS = {name: f"#fe01{i:02x}" for i, name in enumerate(INK)}
"""Stand-ins: in the page each becomes the style sheet's variable of that name, which differs by light and dark."""
LOOK: Any = {
    **{"svg.fonttype": "none", "svg.hashsalt": "mtl-bench", "text.parse_math": False, "font.family": "DejaVu Sans"},
    **{"font.size": 9, "axes.titlesize": 9, "axes.labelsize": 9, "legend.fontsize": 8.5, "legend.frameon": False},
    **{"text.color": COLOURS["fg"], "axes.labelcolor": COLOURS["fg"], "axes.titlecolor": COLOURS["fg"]},
    **{"xtick.color": COLOURS["muted"], "ytick.color": COLOURS["muted"], "axes.edgecolor": COLOURS["muted"]},
    **{"xtick.labelcolor": COLOURS["fg"], "ytick.labelcolor": COLOURS["fg"], "grid.color": COLOURS["line"]},
    **{"figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none", "grid.linewidth": 0.6},
    **{"axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "lines.linewidth": 1.4},
}
WIDTH = 6.6
"""Of a figure, in inches: half a page, so that its letters come out as large as those of the text."""
SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"


@dataclass(frozen=True)
class Plot:
    """What one figure shows."""

    title: str
    caption: str
    figure: Figure
    heads: Sequence[str]
    rows: list[list[str]]
    """Of the table of its numbers; the first cell names the row."""
    wide: bool = False


@dataclass(frozen=True)
class Drawing:
    """A figure as a page shows it."""

    title: str
    caption: str
    svg: Markup
    styles: tuple[tuple[str, str], ...]
    """(class, declarations): the page's policy lets no style stand on an element."""
    heads: Sequence[str]
    rows: list[list[str]]
    wide: bool


def drawings(board: Board, prefix: str) -> list[Drawing]:
    """Draw what a board has the data for; `prefix` makes ids unique on a page."""
    makers: list[Callable[[Board], Plot | None]] = [intervals, ranks, costs, gains, curves, weights, gradients]
    return draw([partial(make, board) for make in makers], prefix)


def draw(makers: Iterable[Callable[[], Plot | None]], prefix: str) -> list[Drawing]:
    """Draw, in the page's look, what these make; `prefix` makes ids unique on a page."""
    with matplotlib.rc_context(LOOK), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        plots = [plot for make in makers if (plot := make()) is not None]
        return [_drawing(plot, f"{prefix}f{place}") for place, plot in enumerate(plots)]


def shade(value: float, largest: float) -> int:
    """Return which of the shades a value has, 0 the worst; the middle one for nan."""
    middle = STEPS // 2
    if math.isnan(value) or largest == 0:
        return middle
    return int(np.clip(round(value / largest * middle), -middle, middle)) + middle


def largest_shown(values: Any) -> float:
    """Return the limit of a shading: that of most values, so that one outlier does not pale all others."""
    sizes = np.abs(np.asarray(values, np.float64))
    sizes = sizes[np.isfinite(sizes)]
    return float(np.quantile(sizes, 0.95)) if len(sizes) else 0.0


def intervals(board: Board) -> Plot | None:
    """Δ task against single-task learning and against equal weights, with intervals and seeds."""
    rows = _ranked(board)
    if not rows:
        return None
    figure = Figure(figsize=(WIDTH, 0.9 + 0.24 * len(rows)))
    start, top = room_for([row.method for row in rows]) + 0.1, figure.get_size_inches()[1] - 0.1
    middle = (start + WIDTH) / 2
    left = panel(figure, start, 0.5, middle - 0.1, top)
    right = panel(figure, middle + 0.1, 0.5, WIDTH - 0.1, top)
    for y, row in enumerate(rows):
        assert row.delta_task is not None
        _interval(left, y, row.delta_task, row.per_seed, "c1", "o")
        if row.vs_equal is not None:
            verdict = row.vs_equal.verdict
            colour = {"better": "good", "worse": "bad"}.get(verdict, "fg")
            dots = [np.nanmean(d) for d in row.vs_equal.per_seed if np.isfinite(d).any()]
            seeds = row.vs_equal.per_seed[0] if not board.suite and row.vs_equal.per_seed else np.array(dots)
            _interval(right, y, row.vs_equal.difference, seeds, colour, SHAPES[verdict])
    right.axvspan(-board.rules.margin, board.rules.margin, color=COLOURS["band"], alpha=0.18, linewidth=0)
    left.set_xlabel("Δ task vs single-task, pp")
    right.set_xlabel("Δ task vs equal weights, pp")
    for axes in (left, right):
        axes.axvline(0, color=COLOURS["fg"], linewidth=0.8)
        axes.grid(axis="x")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.tick_params(axis="y", length=0)
    left.set_yticks(range(len(rows)), [short(row.method) for row in rows])
    right.set_yticks(range(len(rows)), [""] * len(rows))
    for axes in (left, right):
        axes.set_ylim(len(rows) - 0.4, -0.6)
    what = "task sets" if board.suite else "seeds"
    table = [
        [
            row.method,
            *_ends(row.delta_task),
            *_ends(row.vs_equal.difference if row.vs_equal else None),
            row.vs_equal.verdict if row.vs_equal else "",
            " ".join(signed(float(v), 1) for v in row.per_seed),
        ]
        for row in rows
    ]
    heads = ["Method", "Δ vs single-task", "95 % interval", "Δ vs equal", "95 % interval", "Verdict", "By seed"]
    caption = (
        f"Large marks are means with 95 % intervals, small dots {what}. Right: triangles where a method is shown "
        f"better (▲) or worse (▼), squares where equivalent, circles where undecided, diamonds where seeds are too "
        f"few; the band is ±{board.rules.margin:g} pp."
    )
    return Plot("Gains with their intervals", caption, figure, heads, table)


def panel(figure: Figure, left: float, bottom: float, right: float, top: float) -> Axes:
    """Axes between these edges, in inches from the lower left. A layout engine takes as long as all the drawing."""
    wide, high = figure.get_size_inches()
    return figure.add_axes((left / wide, bottom / high, (right - left) / wide, (top - bottom) / high))


def times_axis(axis: Axis, low: float, high: float) -> None:
    """Ticks for an axis of costs, on a log scale."""
    axis.set_major_locator(FixedLocator([time for time in TIMES if low <= time <= high]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda time, _: f"{time:g}"))


def room_for(names: Sequence[str]) -> float:
    """The width that names take, in inches."""
    return LETTER * max(len(short(name)) for name in names)


def _interval(axes: Axes, y: float, interval: Interval, dots: np.ndarray, colour: str, marker: str) -> None:
    ink = COLOURS[colour]
    axes.plot(dots, np.full(len(dots), y), "o", color=COLOURS["muted"], markersize=2.6, alpha=0.55, markeredgewidth=0)
    if not math.isnan(interval.low):
        axes.plot([interval.low, interval.high], [y, y], color=ink, linewidth=2)
    axes.plot([interval.mean], [y], marker, color=ink, markersize=6.5, markeredgewidth=0)


def ranks(board: Board) -> Plot | None:
    """The methods on an axis, with a bar over those that are not shown to differ."""
    rows = {row.method: row for row in _ranked(board)}
    if board.pairs is None or len(rows) < 2:
        return None
    known = [method for method in board.pairs.methods if method in rows]
    value = {method: rows[method].delta_task.mean for method in known}  # type: ignore[union-attr]
    order = sorted(known, key=lambda method: value[method])
    place = {method: i for i, method in enumerate(order)}
    cliques = [[board.pairs.methods[i] for i in clique] for clique in board.pairs.cliques]
    groups = [[m for m in clique if m in place] for clique in cliques]
    groups = [sorted(group, key=place.__getitem__) for group in groups if len(group) > 1]
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
    line: Any = {"color": COLOURS["muted"], "linewidth": 0.7}
    for i, method in enumerate(order):
        first = i < half
        y = top + (i if first else len(order) - 1 - i)
        side = left if first else right
        axes.plot([value[method], value[method], side], [0, y, y], **line)
        label = f"{short(method)}  {signed(value[method], 1)}"
        axes.text(side, y, f"{label} " if first else f" {label}", ha="right" if first else "left", va="center")
    axes.plot([value[m] for m in order], np.zeros(len(order)), "o", color=COLOURS["fg"], markersize=4.5)
    for level, group in enumerate(drawn):
        y = 0.6 * level + 0.7
        at = [value[method] for method in group]
        contiguous = place[group[-1]] - place[group[0]] == len(group) - 1
        if contiguous:
            axes.plot(
                [at[0] - 0.01 * span, at[-1] + 0.01 * span],
                [y, y],
                color=COLOURS["c1"],
                linewidth=4,
                solid_capstyle="round",
            )
        else:
            axes.plot(at, [y] * len(at), "o:", color=COLOURS["c1"], linewidth=1, markersize=4)
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
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_visible(False)
    axes.spines["top"].set_visible(True)
    axes.spines["top"].set_bounds(min([low, *ticks]), max([high, *ticks]))
    table = [
        [method, signed(value[method]), rows[method].letters, number(rows[method].mean_rank)] for method in order[::-1]
    ]
    caption = (
        "A bar joins methods of which no two are shown to differ; where such a group is not contiguous, dots on a "
        "dotted line mark its members. To be joined is no proof of being equal."
        + (f" Of {len(groups)} groups, the first {GROUPS} are drawn." if len(groups) > GROUPS else "")
    )
    return Plot(
        "Who is shown to differ from whom", caption, figure, ["Method", "Mean Δ", "Groups", "Mean rank"], table, crowded
    )


def costs(board: Board) -> Plot | None:
    """Quality against the time of a step."""
    rows = [row for row in _ranked(board) if row.cost is not None and row.cost.step > 0]
    if len(rows) < 2:
        return None
    at = {row.method: (row.cost.step, row.delta_task.mean) for row in rows}  # type: ignore[union-attr]
    frontier: list[str] = []
    for method in sorted(at, key=lambda method: (at[method][0], -at[method][1])):
        if not frontier or at[method][1] > at[frontier[-1]][1]:
            frontier.append(method)
    figure = Figure(figsize=(WIDTH, 4.4))
    axes = panel(figure, 0.7, 0.5, WIDTH - 0.1, 4.3)
    axes.set_xscale("log")
    axes.step(
        *zip(*(at[m] for m in frontier), strict=True), where="post", color=COLOURS["muted"], linewidth=1, dashes=(4, 2)
    )
    for row in rows:
        x, y = at[row.method]
        assert row.delta_task is not None
        if not math.isnan(row.delta_task.low):
            ends = [row.delta_task.low, row.delta_task.high]
            axes.plot([x, x], ends, color=COLOURS["c1"], linewidth=1.2, alpha=0.7)
        on = row.method in frontier
        axes.plot([x], [y], "D" if on else "o", color=COLOURS["c1" if on else "muted"], markersize=6, markeredgewidth=0)
    axes.axhline(0, color=COLOURS["fg"], linewidth=0.8)
    low, high = min(x for x, _ in at.values()), max(x for x, _ in at.values())
    axes.set_xlim(low / 1.12, high * (high / low) ** 0.2 * 1.12)
    times_axis(axes.xaxis, low / 1.12, high * 1.2)
    axes.grid()
    axes.set_xlabel("step time, × equal weights (log scale)")
    axes.set_ylabel("Δ task vs single-task, pp")
    named = [m for m in at if len(at) <= LABELLED or m in frontier or m == REFERENCE]
    _name_points(axes, {method: at[method] for method in named})
    table = [
        [row.method, number(at[row.method][0]), *_ends(row.delta_task), "yes" if row.method in frontier else "no"]
        for row in rows
    ]
    caption = (
        "Towards the upper left is better and cheaper. The dashed line joins the methods (diamonds) that nothing "
        "cheaper beats in its mean; whether that is more than chance, the verdicts say. Bars: 95 % intervals."
        + (" Only these and equal weights are named." if len(named) < len(at) else "")
    )
    heads = ["Method", "Step ×", "Δ task", "95 % interval", "On the line"]
    return Plot("Quality against cost", caption, figure, heads, table)


def _name_points(axes: Axes, at: Mapping[str, tuple[float, float]]) -> None:
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


def gains(board: Board) -> Plot | None:
    """Gains of every metric as a heat map."""
    rows = [row for row in board.rows if row.method != STL and np.isfinite(row.gains).any()]
    if not rows or not board.metrics:
        return None
    values = np.array([row.gains for row in rows], np.float64)
    stars = np.array([row.gain_p for row in rows], np.float64) <= ALPHA
    largest = largest_shown(values)
    shades = np.vectorize(shade, otypes=[np.int64])(values, largest)
    texts = [
        [f"{signed(v, 1)}{'*' if star else ''}" for v, star in zip(*own, strict=True)]
        for own in zip(values, stars, strict=True)
    ]
    arrows = ["↑" if up else "↓" for up in board.higher_is_better]
    heads = [f"{metric_name(metric)} {arrow}" for metric, arrow in zip(board.metrics, arrows, strict=True)]
    figure = Figure(figsize=(WIDTH, 1.25 + 0.26 * len(rows)))
    start = max(room_for([row.method for row in rows]), room_for(heads) - 0.4) + 0.1
    axes = panel(figure, start, 1.2, WIDTH - 0.05, 1.2 + 0.26 * len(rows))
    sns.heatmap(
        pd.DataFrame(shades, [str(i) for i in range(len(rows))], [str(i) for i in range(len(heads))]),
        cmap=ListedColormap([COLOURS[f"d{i}"] for i in range(STEPS)]),
        norm=BoundaryNorm(np.arange(STEPS + 1) - 0.5, STEPS),
        mask=np.isnan(values),
        annot=np.array(texts),
        fmt="",
        annot_kws={"color": COLOURS["fg"], "size": 8 if len(heads) < 12 else 6.5},
        cbar=False,
        linewidths=1,
        linecolor=COLOURS["bg"],
        ax=axes,
    )
    axes.set_yticks(np.arange(len(rows)) + 0.5, [short(row.method) for row in rows], rotation=0)
    axes.set_xticks(np.arange(len(heads)) + 0.5, [short(head) for head in heads], rotation=25, ha="right")
    axes.tick_params(length=0)
    caption = (
        f"Gain of each test metric over single-task networks, in %, blue where better and orange where worse, darkest "
        f"from ±{number(largest, 2)} %. * differs from 0 at a false discovery rate of {ALPHA:g} over the table: for "
        "exploring."
    )
    table = [[row.method, *own] for row, own in zip(rows, texts, strict=True)]
    return Plot("Gains by metric", caption, figure, ["Method", *heads], table)


def curves(board: Board) -> Plot | None:
    """Validation metrics and losses over training."""
    frame, chosen, limited = _written(board)
    frame = frame[frame["kind"].isin(["validation", "loss"])]
    panels = list(dict.fromkeys(frame["what"]))
    caption = f"Means over seeds, on the validation split; losses on training batches.{limited}"
    return _lines(frame, panels, chosen, "Learning curves", caption, {})


def gradients(board: Board) -> Plot | None:
    """How task gradients agree over training, and how long the updates are."""
    frame, chosen, limited = _written(board)
    frame = frame[frame["kind"] == "gradient"]
    panels = list(dict.fromkeys(frame["what"]))
    caption = (
        "Means over seeds, of the gradients with respect to the shared parameters: the mean cosine between tasks, the "
        "share of pairs of tasks in conflict (cosine below 0), and the length of the update relative to that of the "
        f"sum of the gradients (log scale).{limited}"
    )
    return _lines(frame, panels, chosen, "Agreement of gradients, scale of updates", caption, {RATIO: "log"})


def weights(board: Board) -> Plot | None:
    """The weights that methods gave to tasks over training."""
    frame, chosen, limited = _written(board)
    frame = frame[frame["kind"] == "weight"]
    spread = frame.groupby("method")["value"].agg(np.ptp)
    chosen = [method for method in chosen if spread.get(method, 0.0) > 0]
    if not chosen:
        return None
    tasks = list(dict.fromkeys(frame["what"]))
    figure, panels = _grid(len(chosen), tasks)
    for axes, method in zip(panels, chosen, strict=True):
        own = frame[frame["method"] == method]
        _line(axes, own, "what", tasks, "median")
        axes.set_title(short(method), loc="left")
        axes.set_xlabel("step")
    table = _by_step(frame[frame["method"].isin(chosen)], "median")
    caption = (
        "The median over seeds, and from the smallest to the largest; each panel has its own scale. Methods whose "
        f"weights never change, or that have none, are left out.{limited}"
    )
    return Plot("Weights of tasks", caption, figure, *table, wide=True)


def _lines(
    frame: pd.DataFrame, names: list[str], chosen: list[str], title: str, caption: str, scales: Mapping[str, Any]
) -> Plot | None:
    """One panel for each quantity, one line for each method."""
    if frame.empty:
        return None
    figure, panels = _grid(len(names), chosen)
    for axes, name in zip(panels, names, strict=True):
        _line(axes, frame[frame["what"] == name], "method", chosen, "mean")
        axes.set_title(short(name), loc="left")
        axes.set_xlabel("step")
        if name in scales:
            axes.set_yscale(scales[name])
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=6))
            axes.yaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    return Plot(title, caption, figure, *_by_step(frame, "mean"), wide=True)


def _line(axes: Axes, frame: pd.DataFrame, hue: str, order: list[str], how: Statistic) -> None:
    """A line for each name, of the mean or the median over seeds; the median with a band from smallest to largest."""
    over = frame.groupby([hue, "step"], sort=True)["value"].agg([how, "min", "max"])
    for i, name in enumerate(order):
        if name not in over.index:
            continue
        own, ink = over.loc[name], COLOURS[f"c{i % len(DASHES)}"]
        axes.plot(own.index, own[how], color=ink, linestyle=_dashes(i))
        if how == "median":
            axes.fill_between(own.index, own["min"], own["max"], color=ink, alpha=0.18, linewidth=0)
    axes.grid()


def _dashes(place: int) -> Any:
    dashes = DASHES[place % len(DASHES)]
    return (0, dashes) if dashes else "-"


def _grid(count: int, names: list[str]) -> tuple[Figure, list[Axes]]:
    """So many panels below a legend of the lines in them."""
    labels = [short(name) for name in names]
    columns = max(1, min(len(names), 140 // (max(map(len, labels)) + 8)))
    legend = 0.2 * math.ceil(len(names) / columns) + 0.1
    across = min(count, 4)
    wide, high = 2 * WIDTH / across, 2.1
    down = math.ceil(count / across)
    figure = Figure(figsize=(2 * WIDTH, high * down + legend))
    inks = [COLOURS[f"c{i % len(DASHES)}"] for i in range(len(names))]
    lines = [Line2D([], [], color=ink, linestyle=_dashes(i)) for i, ink in enumerate(inks)]
    figure.legend(lines, labels, loc="upper left", ncols=columns, handlelength=3, borderaxespad=0)
    corners = [(wide * (i % across), high * (down - 1 - i // across)) for i in range(count)]
    return figure, [panel(figure, x + 0.6, y + 0.5, x + wide - 0.1, y + high - 0.3) for x, y in corners]


def _by_step(frame: pd.DataFrame, how: Statistic) -> tuple[list[str], list[list[str]]]:
    means = frame.pivot_table("value", ["method", "what"], "step", aggfunc=how, sort=False)
    means = means.sort_index(axis=1)
    heads = ["Method", f"{how.capitalize()} of", *(f"step {step}" for step in means.columns)]
    rows = [
        [*map(str, key), *(number(v, 3) for v in own)] for key, own in zip(means.index, means.to_numpy(), strict=True)
    ]
    return heads, rows


COSINE, CONFLICT, RATIO = "mean cosine", "share of conflicts", "update ÷ sum of gradients"


def _written(board: Board) -> tuple[pd.DataFrame, list[str], str]:
    """What was written down while training, in long form; of which methods; and a remark if these are not all."""
    there = [row.method for row in board.rows if row.method in board.points]
    best = [method for method in there if method not in (REFERENCE, STL)][:CURVES]
    chosen = [method for method in there if method == REFERENCE] + best
    lines = [
        (method, seed, *line)
        for method in chosen
        for seed, points in sorted(board.points[method].items())
        for point in points
        for line in _quantities(point)
    ]
    frame = pd.DataFrame(lines, columns=["method", "seed", "step", "kind", "what", "value"])
    left = len([method for method in there if method != STL]) - len(chosen)
    limited = f" Only the best {CURVES} methods and equal weights are drawn, {left} are not." if left else ""
    return frame[np.isfinite(frame["value"].astype(float))], chosen, limited


def _quantities(point: Any) -> Iterator[tuple[int, str, str, float]]:
    at = point.step
    for task, metrics in point.validation.items():
        yield from ((at, "validation", f"{task}.{m}", v) for m, v in metrics.items() if v is not None)
    yield from ((at, "loss", f"{task}, training loss", v) for task, v in point.losses.items() if v is not None)
    yield from ((at, "weight", task, v) for task, v in (point.weights or {}).items() if v is not None)
    if point.cosines is not None:
        pairs = [v for i, row in enumerate(point.cosines) for v in row[:i] if v is not None]
        if pairs:
            yield at, "gradient", COSINE, sum(pairs) / len(pairs)
            yield at, "gradient", CONFLICT, sum(v < 0 for v in pairs) / len(pairs)
    if point.update_ratio is not None and point.update_ratio > 0:
        yield at, "gradient", RATIO, point.update_ratio


def _ranked(board: Board) -> list[Row]:
    known = [row for row in board.rows if row.delta_task is not None and not math.isnan(row.delta_task.mean)]
    return [row for row in known if row.method != STL]


def _ends(interval: Interval | None) -> tuple[str, str]:
    if interval is None:
        return "", ""
    low, high = signed(interval.low), signed(interval.high)
    return signed(interval.mean), f"{low} to {high}" if low else ""


def short(text: str) -> str:
    """A name that a figure has room for, without what could not be drawn or would turn the text around."""
    return one_line(text, LONGEST)


def _drawing(plot: Plot, prefix: str) -> Drawing:
    svg, styles = _svg(plot, prefix)
    return Drawing(plot.title, plot.caption, svg, styles, plot.heads, plot.rows, plot.wide)


def _svg(plot: Plot, prefix: str) -> tuple[Markup, tuple[tuple[str, str], ...]]:
    """Write a figure down: small, in the page's colours, without ids that another figure could have."""
    written = io.BytesIO()
    FigureCanvasSVG(plot.figure).print_svg(
        written, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    root = ElementTree.fromstring(written.getvalue())
    text = ElementTree.tostring(root, "unicode")
    wanted = re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', text)
    ids = {name: f"{prefix}-{i}" for i, name in enumerate(dict.fromkeys(first or second for first, second in wanted))}
    styles: dict[str, str] = {}
    box = root.get("viewBox") or ""
    kept = _clean(root, ids, styles)
    kept.attrib = {"viewBox": box, "role": "img", "aria-labelledby": f"{prefix}t", "aria-describedby": f"{prefix}d"}
    heading, description = ElementTree.Element("title", id=f"{prefix}t"), ElementTree.Element("desc", id=f"{prefix}d")
    heading.text, description.text = plot.title, f"{plot.caption} The numbers are in the table below."
    kept[:0] = [heading, description]
    return Markup(ElementTree.tostring(kept, "unicode")), tuple(sorted(styles.items()))


def _clean(element: ElementTree.Element, ids: Mapping[str, str], styles: dict[str, str]) -> ElementTree.Element:
    made = ElementTree.Element(element.tag.removeprefix(SVG))
    made.text = element.text if made.tag == "text" else None
    for name, value in element.attrib.items():
        match name.removeprefix(XLINK):
            case "id":
                if value in ids:
                    made.set("id", ids[value])
            case "href":
                made.set("href", f"#{ids[value[1:]]}")
            case "clip-path":
                made.set(name, f"url(#{ids[value[5:-1]]})")
            case "style":
                made.set("class", _style(value, styles))
            case "d" | "x" | "y" | "width" | "height" | "points":
                made.set(name, _rounded(value))
            case "transform" if not value.startswith("rotate(-0 "):
                made.set(name, _rounded(value))
    for child in element:
        tag = child.tag.removeprefix(SVG)
        if tag in ("metadata", "style") or "metadata" in child.tag:
            continue
        clean = _clean(child, ids, styles)
        if clean.tag == "g" and not clean.attrib:
            made.extend(clean)
        else:
            made.append(clean)
    return made


def _style(value: str, styles: dict[str, str]) -> str:
    """Return the class that stands for an element's style."""
    for name, colour in COLOURS.items():
        value = value.replace(colour, f"var(--{name})")
    value = re.sub(r"font: ([^;]*?)([\d.]+px)[^;]*", r"font: \1\2 system-ui, sans-serif", value)
    value = re.sub(r":\s+", ":", re.sub(r";\s*", ";", value)).strip("; ")
    name = f"f{hashlib.sha256(value.encode()).hexdigest()[:6]}"
    styles[name] = value
    return name


def _rounded(numbers: str) -> str:
    rounded = re.sub(r"-?\d+\.\d+", lambda found: f"{float(found[0]):.1f}".removesuffix(".0"), numbers)
    return re.sub(r"\s*\n\s*", "", rounded).strip()
