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
    total = length_of(products, lengths)
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
    single = (cosines + c) / scale
    first = int(single.argmin())
    best, least = np.zeros_like(scale), float(single[first])
    best[first] = 1 / scale[first]
    problem = target = None
    while True:
        if (length := length_of(products, best)) > 0:
            slack = cosines + c / length * (products @ best) - least * scale
            if slack.min() >= -4 * len(scale) * EPS * (1 + c / length * best.sum()):
                return best, least
        if problem is None or target is None:
            problem = np.vstack([c * columns_of(products), cosines])
            target = np.zeros(len(problem))
            target[-1] = 1
        problem[-1] = least * scale - cosines
        solution, _ = nnls(problem, target, maxiter=100 * len(scale))
        before = least
        for x in (solution, _with_support(solution > 0, products, cosines, scale, c)):
            if x is not None and (total := scale @ x) > 0:
                x = x / total
                value = float(cosines @ x + c * length_of(products, x))
                if value < least:
                    best, least = x, value
        if least == before:
            return best, least


def _with_support(support: NDArray[np.bool_], products: Array, cosines: Array, scale: Array, c: float) -> Array | None:
    """Return the x up to scale that minimises F among those that are zero elsewhere, or None if it is not positive.

    There c u_k · e = t scale_k − cosine_k on the support, with e = Σ x_k u_k and |e| = 1: x is linear in t, and |e|
    is quadratic.
    """
    try:
        both = np.stack([scale[support], cosines[support]], axis=1)
        along, across = np.linalg.solve(products[np.ix_(support, support)], both).T
    except np.linalg.LinAlgError:
        return None
    a, b, d = along @ both[:, 0], along @ both[:, 1], across @ both[:, 1]
    root = b * b - a * (d - c * c)
    if not (a > 0 and root >= 0):
        return None
    found = along * ((b + np.sqrt(root)) / a) - across
    if not (found > 0).all():
        return None
    x = np.zeros_like(scale)
    x[support] = found
    return x
