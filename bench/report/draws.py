"""Which task sets are draws of the same data.

A generated task set may have an option `draw`: another seed of its data, and nothing else. `scales[draw=1]` is a
replication of `scales`, and no further task set that a mean could count.
"""

import re
from collections import defaultdict
from collections.abc import Iterable

from methods.core import names

OPTION = "draw"
"""The option of a task set that draws its data anew."""
DRAW = re.compile("[0-9]{1,18}")
"""Its values: whole numbers. An option of that name with other values means something else."""


def draws(labels: Iterable[str]) -> dict[str, str]:
    """Return, of the labels of task sets, those that are further draws of another: each with the label of the first.

    Two are draws of the same task set if their labels differ in the option `draw` alone, a whole number. The first is
    the one with the smallest; without the option it is 0.

    Example:
        >>> draws(["scales", "scales[draw=1]", "digits[draw=1]", "scales[draw=1]@standard"])
        {'scales[draw=1]': 'scales'}
    """
    found: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for label in labels:
        draw, without = _drawn(label)
        found[without].append((draw, label))
    return {label: sorted(own)[0][1] for own in found.values() for _, label in sorted(own)[1:]}


def _drawn(label: str) -> tuple[int, str]:
    """Return which draw a label names, and the label without that."""
    try:
        head, *rest = names.split(label, "]")  # the options end with the first bracket; protocol and so on follow
        written = names.read(f"{head}]" if rest else head)
    except names.UsageError:  # in somebody's file a task set may be called anything
        return 0, label
    draw = written.options.pop(OPTION, "")
    if not DRAW.fullmatch(draw):
        return 0, label
    same = names.written(names.quoted(written.name, names.IN_NAMES), written.options)
    return int(draw), same + "]".join(rest)
