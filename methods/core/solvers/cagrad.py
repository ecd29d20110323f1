"""The weights of conflict-averse gradient descent, solved exactly.

With g_0 the mean of K gradients and g_w = Σ w_k g_k, they are the w on the simplex that minimise
F(w) = g_w · g_0 + c |g_0| |g_w|. The minimum is the largest t for which some d with |d − g_0| ≤ c |g_0| has
g_k · d ≥ t for every k. Write d = g_0 + c |g_0| e. For a given t the shortest such e is a non-negative least-squares
problem, and its multipliers are weights whose F is a new t, not below the minimum: Newton's method for |e|(t) = 1,
which comes down to the minimum from above. Which weights are zero is soon right. The others then follow from a
quadratic equation, which ends the search.

The problem is solved for rows of unit length and |g_0| = 1, in x_k = w_k |g_k|. The sum of the weights is then that of
x_k / |g_k|.
"""

import math
from collections.abc import Iterator
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import Tensor

from methods.core.solvers.unit import EPS, Array, columns_of, length_of, unit_diagonal


def conflict_averse(gramian: Tensor, c: float) -> Tensor:
    """Return the weights `[K]` (≥ 0, sum 1) that minimise g_w · g_0 + c |g_0| |g_w|, where g_0 is the mean gradient.

    A zero gradient has F = 0. So the weight is shared among the zero rows if the others alone would make F positive.
    If the mean gradient is zero, F is zero everywhere: the weights are equal.
    """
    products, lengths = unit_diagonal(gramian)
    count = len(lengths)
    present = products.diagonal() > 0
    slopes = products @ lengths
    total = length_of(products, lengths, float(lengths @ present))
    if total == 0:
        return torch.full((count,), 1 / count, dtype=torch.float64)
    weights = np.zeros(count)
    shortest = lengths[present].min()
    unit = products if present.all() else products[np.ix_(present, present)]
    solution, value = _minimise(unit, slopes[present] / total, shortest / lengths[present], c)
    if value > 0 and not present.all():
        weights[~present] = 1
    else:
        weights[present] = solution / lengths[present]
    return torch.from_numpy(weights / weights.sum())


def _minimise(products: Array, cosines: Array, scale: Array, c: float) -> tuple[Array, float]:
    """Return the x ≥ 0 with scale · x = 1 that minimises F = cosines · x + c |Σ x_k u_k|, u_k unit vectors, and F."""
    sides = np.stack([scale, cosines], axis=1)
    columns = cache(lambda: c * columns_of(products))

    def candidates() -> Iterator[Array | None]:
        """What may be better than `best`: with one weight more, with those that Newton's step has, Newton's step."""
        yield _with_support(support, products, sides, c)
        problem = np.vstack([columns(), least * scale - cosines])
        step, _ = nnls(problem, np.eye(1, len(problem), len(problem) - 1)[0], maxiter=100 * len(scale))
        yield _with_support(step > 0, products, sides, c)
        yield step

    single = (cosines + c) / scale
    first = int(single.argmin())
    best, least, length = np.zeros_like(scale), float(single[first]), 1 / float(scale[first])
    best[first] = length
    while True:
        support = best > 0
        if length > 0:
            slack = cosines + c / length * (products @ best) - least * scale
            worst = slack.argmin()
            if slack[worst] >= -4 * len(scale) * EPS * (1 + c / length * float(best.sum())):
                return best, least
            support[worst] = True
        for x in candidates():
            if x is not None and (total := float(scale @ x)) > 0:
                x = x / total
                size = length_of(products, x, float(x.sum()))
                if (value := float(cosines @ x) + c * size) < least:
                    best, least, length = x, value, size
                    break
        else:
            return best, least


def _with_support(support: NDArray[np.bool_], products: Array, sides: Array, c: float) -> Array | None:
    """Return the x up to scale that minimises F among those that are zero elsewhere, or None if it is not positive.

    There c u_k · e = t scale_k − cosine_k on the support, with e = Σ x_k u_k and |e| = 1: x is linear in t, and |e|
    is quadratic.
    """
    both = sides[support]
    try:
        parts = np.linalg.solve(products[support][:, support], both)
    except np.linalg.LinAlgError:
        return None
    (a, b), (_, d) = (both.T @ parts).tolist()
    root = b * b - a * (d - c * c)
    if not (a > 0 and root >= 0):
        return None
    found = parts @ np.array([(b + math.sqrt(root)) / a, -1])
    if found.min() <= 0:
        return None
    x = np.zeros(len(sides))
    x[support] = found
    return x
