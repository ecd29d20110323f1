"""Statistics that the package does not use, which the simulation shows beside those that it uses."""

from math import factorial

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import fdtrc
from scipy.stats import rankdata

from bench.evidence.significance import _flips, _present


def sign_flip_interval(d: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Return the values that `sign_flip_test` does not reject as the mean of `[S]`, at 1 − level.

    Order statistics of the means of subsets (Hartigan 1969). Infinite where so few seeds can reject nothing: at 95 %
    below six.
    """
    values = _present(d)
    flips = _flips(len(values))
    # Flipping a subset A makes the sum of d − θ no smaller exactly if mean(A) <= θ; the empty one always does so.
    subsets = np.concatenate([flips, -flips], axis=1) < 0
    sizes = subsets.sum(0)
    means = (values @ subsets)[sizes > 0] / sizes[sizes > 0]
    rank = int((1 - level) / 2 * len(sizes)) - int((sizes == 0).sum())
    if rank < 0:
        return -np.inf, np.inf
    ordered = np.partition(means, [rank, len(means) - 1 - rank])
    return float(ordered[rank]), float(ordered[len(means) - 1 - rank])


def friedman(values: ArrayLike) -> tuple[float, float]:
    """Return F and p: whether the methods' mean ranks differ, from values `[blocks, methods]`, a block a seed or a set.

    Iman & Davenport's F (1980) of Friedman's tie-corrected statistic, whose own χ² is poor for few blocks; F itself is
    a little liberal there (5.3 to 6 % at nominal 5). p is never smaller than that of all blocks in one order,
    1 / (methods!)^(blocks − 1). Blocks with a nan are left out.

    Raises:
        ValueError: fewer than two whole blocks, or than two methods.
    """
    scores = np.asarray(values, np.float64)
    scores = scores[~np.isnan(scores).any(1)]
    blocks, methods = scores.shape
    if blocks < 2 or methods < 2:
        raise ValueError(f"ranks of {methods} methods in {blocks} whole blocks: there should be two of each at least")
    ranks = rankdata(scores, axis=1) - (methods + 1) / 2
    between, total = (ranks.sum(0) ** 2).sum() / blocks, (ranks**2).sum()
    smallest = factorial(methods) ** (1.0 - blocks)
    if total == 0:
        return 0.0, 1.0
    if np.isclose(between, total):
        return np.inf, smallest
    f = (blocks - 1) * between / (total - between)
    return float(f), max(float(fdtrc(methods - 1, (blocks - 1) * (methods - 1), f)), smallest)
