"""The projection of a combination of K gradients onto the cone of directions that make no loss worse.

A direction d is in that cone if g_k · d ≥ 0 for every gradient. The projection of Σ least_k g_k is Σ v_k g_k with the
smallest vᵀMv among all v ≥ least. It is always there, and it is unique, even where v is not.
"""

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from methods.core.solvers.unit import EPS, columns_of, unit_diagonal


def project_onto_cone(gramian: Tensor, least: Tensor) -> Tensor:
    """Return argmin vᵀMv subject to v ≥ least, for least ≥ 0 of shape `[K]`, or `[N, K]` for N such problems.

    With v = least + x it is a non-negative least-squares problem for x, in which columns may be scaled freely. They
    are made unit vectors. Where nothing conflicts, v is `least`. A zero gradient constrains nothing: it keeps `least`.
    """
    products, lengths = unit_diagonal(gramian)
    bounds = np.atleast_2d(least.numpy() * lengths)
    slopes = bounds @ products
    rounding = 2 * len(lengths) * EPS * np.abs(bounds).sum(axis=1)
    added = np.zeros_like(bounds)
    conflicting = np.flatnonzero(slopes.min(axis=1) < -rounding)
    # The projection of g_i is never against g_i itself: of three tasks two are left.
    given = bounds.tolist() if len(lengths) == 3 else []
    alone = bool(given) and all(min(row) == 0 and row.count(0) == 2 for row in given)
    if alone or len(lengths) == 2:
        cosines, values, limits = products.tolist(), slopes.tolist(), rounding.tolist()
        for n in conflicting.tolist():
            one, other = (k for k in range(3) if given[n][k] == 0) if alone else (0, 1)
            found = _two(cosines[one][other], values[n][one], values[n][other], limits[n])
            added[n, one], added[n, other] = found
    elif len(conflicting):
        columns = columns_of(products)
        targets = -bounds @ columns.T
        for n in conflicting.tolist():
            added[n] = nnls(columns, targets[n], maxiter=100 * len(lengths))[0]
    return least + torch.from_numpy(added / lengths).view_as(least)


def _two(cosine: float, one: float, other: float, rounding: float) -> tuple[float, float]:
    """The closed form for K = 2: x ≥ 0 of two unit vectors, from their products with the vector that is projected."""
    raised = max(-one, 0.0)
    if other + cosine * raised >= -rounding:
        return raised, 0.0
    raised = max(-other, 0.0)
    if one + cosine * raised >= -rounding:
        return 0.0, raised
    second = (cosine * one - other) / ((1 - cosine) * (1 + cosine))
    return -one - cosine * second, second
