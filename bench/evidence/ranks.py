"""Rank ranges of methods, and the groups and letters of those that are not shown to differ.

`different` is `[methods, methods]`, symmetric: which pairs are shown to differ, by `pairwise_max_t` for one. Not to be
shown to differ is no equality, and is not transitive: A may differ from C, and B from neither.
"""

from collections.abc import Sequence
from string import ascii_letters

import numpy as np
from numpy.typing import ArrayLike, NDArray

Integers = NDArray[np.int64]


def rank_bands(means: ArrayLike, different: ArrayLike) -> tuple[Integers, Integers]:
    """Return each method's best and worst possible rank `[methods]`, from means where higher is better.

    Best is 1 + the number of methods shown better, worst the number of methods − those shown worse. One without a mean
    (nan) is shown to be nothing.
    """
    average, apart = np.asarray(means, np.float64), np.asarray(different, bool)
    better = apart & (average > average[:, None])
    worse = apart & (average < average[:, None])
    return 1 + better.sum(1), len(average) - worse.sum(1)


def cliques(different: ArrayLike, order: Sequence[int]) -> list[list[int]]:
    """Return groups of methods of which no two differ; every pair not shown to differ is in one.

    Groups and their members come in `order`, best first. Each is a maximal clique, but a clique whose pairs are all in
    groups before it is left out: there may be exponentially many.
    """
    alike = ~np.asarray(different, bool)
    groups: list[list[int]] = []
    for first in order:
        for second in order:
            joined = first == second or alike[first, second]
            if not joined or any(first in group and second in group for group in groups):
                continue
            group = {first, second}
            for other in order:
                if all(alike[other, member] for member in group):
                    group.add(other)
            groups.append([method for method in order if method in group])
    return groups


def letters(different: ArrayLike, order: Sequence[int]) -> list[str]:
    """Return each method's letters: two share one exactly if they are not shown to differ (Piepho 2004).

    The best group is a. Beyond Z come a1, b1 and so on. A method that is not in `order` has none.

    Example:
        Method 0 is shown to differ from method 2, and method 1 from neither.

        >>> letters([[0, 0, 1], [0, 0, 0], [1, 0, 0]], order=[0, 1, 2])
        ['a', 'ab', 'b']
    """
    names = [""] * len(np.asarray(different))
    for number, group in enumerate(cliques(different, order)):
        round_, letter = divmod(number, len(ascii_letters))
        for method in group:
            names[method] += ascii_letters[letter] + (str(round_) if round_ else "")
    return names
