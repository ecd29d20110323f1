"""The look of all figures: colours, fonts, sizes, shades, and how long a name may be.

A figure uses a colour by its name, `COLOURS["c1"]`. These are stand-ins: `svg.py` replaces each by the page's CSS
variable of that name, so that a figure follows the light and the dark theme.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.evidence.significance import Verdict
from bench.plain import one_line

STEPS = 9
"""Shades of a heat map, the middle one for 0."""
SERIES = 9
"""Colours for lines, which are told apart by their dashes, too."""
INK = [
    *("fg", "muted", "line", "good", "bad", "band", "bg"),
    *(f"c{i}" for i in range(SERIES)),
    *(f"d{i}" for i in range(STEPS)),
]
COLOURS = {name: f"#fe01{i:02x}" for i, name in enumerate(INK)}
"""The stand-in of each colour of `page.css`."""
DASHES = ["", (4, 1.5), (1, 1), (6, 1.5, 1, 1.5), (3, 1), (1, 2), (5, 1, 1, 1, 1, 1), (8, 2), (2, 2)]
SHAPES: dict[Verdict, str] = {
    **{"better": "^", "equivalent": "s", "identical": "s", "undecided": "o", "not enough seeds": "D", "worse": "v"},
}
WIDTH = 6.6
"""The width of a figure in inches: half a page, so that its letters come out as large as those of the text."""
LETTER = 0.078
"""The width of a letter in a figure, in inches, about."""
LONGEST = 26
"""Characters of a name in a figure; the tables have all of it."""
LOOK: Any = {
    **{"svg.fonttype": "none", "svg.hashsalt": "mtl-bench", "text.parse_math": False, "font.family": "DejaVu Sans"},
    **{"font.size": 9, "axes.titlesize": 9, "axes.labelsize": 9, "legend.fontsize": 8.5, "legend.frameon": False},
    **{"text.color": COLOURS["fg"], "axes.labelcolor": COLOURS["fg"], "axes.titlecolor": COLOURS["fg"]},
    **{"xtick.color": COLOURS["muted"], "ytick.color": COLOURS["muted"], "axes.edgecolor": COLOURS["muted"]},
    **{"xtick.labelcolor": COLOURS["fg"], "ytick.labelcolor": COLOURS["fg"], "grid.color": COLOURS["line"]},
    **{"figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none", "grid.linewidth": 0.6},
    **{"axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "lines.linewidth": 1.4},
    "path.simplify": False,  # it would drop the lines without length that are drawn as dots
}
"""Matplotlib's settings while figures are drawn."""


def short(text: str) -> str:
    """Return a name as a figure has room for it, without characters that cannot be drawn or turn the text around."""
    return one_line(text, LONGEST)


def room_for(names: Sequence[str]) -> float:
    """Return the width that the longest of these names takes, in inches."""
    return LETTER * max(len(short(name)) for name in names)


def line_style(place: int) -> dict[str, Any]:
    """Return the colour and the dashes of the line at a place in a legend."""
    dashes = DASHES[place % len(DASHES)]
    return {"color": COLOURS[f"c{place % SERIES}"], "linestyle": (0, dashes) if dashes else "-"}


def shade(value: float, largest: float) -> int:
    """Return which of the shades a value has: 0 for the worst, the middle one for nan."""
    middle = STEPS // 2
    if math.isnan(value) or largest == 0:
        return middle
    return int(np.clip(round(value / largest * middle), -middle, middle)) + middle


def largest_shown(values: Any) -> float:
    """Return the value that gets the darkest shade: a high quantile, so that one outlier does not pale all others."""
    sizes = np.abs(np.asarray(values, np.float64))
    sizes = sizes[np.isfinite(sizes)]
    return float(np.quantile(sizes, 0.95)) if len(sizes) else 0.0
