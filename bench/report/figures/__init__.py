"""The figures of a board: inline SVG in the page's colours, each with a description and its numbers as a table.

To add a figure, write a file with a function that takes a board and returns a `Plot`, or None where there is nothing to
show, and add an entry to `FIGURES`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from bench.report.board import Board
from bench.report.figures.costs import costs
from bench.report.figures.curves import curves
from bench.report.figures.fixed import fixed
from bench.report.figures.gains import gains
from bench.report.figures.gradients import gradients
from bench.report.figures.intervals import intervals
from bench.report.figures.look import STEPS, largest_shown, shade
from bench.report.figures.ranks import ranks
from bench.report.figures.rates import rates
from bench.report.figures.search import search
from bench.report.figures.stability import stability
from bench.report.figures.svg import Drawing, Plot, draw
from bench.report.figures.weights import weights

__all__ = ["FIGURES", "STEPS", "Drawing", "Entry", "drawings", "largest_shown", "shade"]


@dataclass(frozen=True)
class Entry:
    """A figure of a page."""

    name: str
    heading: str
    caption: str
    """How to read it on any board; a `Plot` adds what is particular to one."""
    plot: Callable[[Board], Plot | None]


FIGURES = (
    Entry(
        "intervals",
        "Gains with their intervals",
        "Large marks are means with 95 % intervals. Right: triangles where a method is shown better (▲) or worse (▼), "
        "squares where equivalent, circles where undecided, diamonds where seeds are too few.",
        intervals,
    ),
    Entry(
        "stability",
        "When one task set is left out",
        "A small dot is the mean difference from equal weights without one task set. The large mark is that over all "
        "sets, in the shape of its verdict, as in the figure of gains. Orange dots, and the names on the right, are "
        "sets without which the verdict is another one. A method whose dots lie far apart hangs on single sets.",
        stability,
    ),
    Entry(
        "ranks",
        "Who is shown to differ from whom",
        "A bar joins methods of which no two are shown to differ; where such a group is not contiguous, dots on a "
        "dotted line mark its members. To be joined is no proof of being equal.",
        ranks,
    ),
    Entry(
        "costs",
        "Quality against cost",
        "Towards the upper left is better and cheaper. The dashed line joins the methods (diamonds) that nothing "
        "cheaper beats in its mean; whether that is more than chance, the verdicts say. Bars: 95 % intervals.",
        costs,
    ),
    Entry(
        "fixed",
        "What fixed weights reach",
        "Gain over single-task networks in %, of each task against the mean of the others. Small marks are fixed "
        "weights at the rate of equal weights: means over at most two seeds, tested against nobody. Large marks are "
        "methods, over all their seeds. A method above or to the right of the stepped line lies beyond these fixed "
        "weights: none is better on both axes. Whether that is more than chance is not tested.",
        fixed,
    ),
    Entry(
        "gains",
        "Gains by metric",
        "Gain of each test metric over single-task networks, in %, blue where better and orange where worse.",
        gains,
    ),
    Entry(
        "rates",
        "Gain against learning rate",
        "Each panel is a contestant; higher is better. The line joins the trials at the contestant's own options: the "
        "mean relative gain on validation over single-task learning, in %, against the multiple of the protocol's "
        "learning rate; that of single-task learning is over its own score at the protocol's rate. The large mark is "
        "the chosen rate: a diamond, or a triangle that points to where a better one may lie, beyond those that were "
        "tried. Short lines at the bottom: what each tuning seed alone would choose. Pale dots: trials with other "
        "options. Crosses: trials that failed. Small triangles: below the panel. Dashed: equal weights.",
        rates,
    ),
    Entry(
        "search",
        "What more trials bring",
        "Does a method win, or does it just need less tuning? Each line is Δ task on test, at the tuning seeds, to be "
        "expected of the setting that is best on validation among so many trials, taken at random from all that were "
        "made; single-task networks have their chosen rates everywhere. A method that is ahead from the left to the "
        "right wins. One that is ahead on the left alone just needs less tuning.",
        search,
    ),
    Entry(
        "curves",
        "Learning curves",
        "Means over seeds, on the validation split; losses on training batches.",
        curves,
    ),
    Entry(
        "weights",
        "Weights of tasks",
        "The median over seeds, and from the smallest to the largest; each panel has its own scale. Methods whose "
        "weights never change, or that have none, are left out.",
        weights,
    ),
    Entry(
        "gradients",
        "Agreement of gradients, scale of updates",
        "Means over seeds, of the gradients with respect to the shared parameters: the mean cosine between tasks, the "
        "share of pairs of tasks in conflict (cosine below 0), and the length of the update relative to that of the "
        "sum of the gradients (log scale).",
        gradients,
    ),
)
"""All figures of a page, in their order."""


def drawings(board: Board, prefix: str) -> list[Drawing]:
    """Draw what a board has the data for; `prefix` makes ids unique on a page."""
    return draw([(entry.heading, entry.caption, partial(entry.plot, board)) for entry in FIGURES], prefix)
