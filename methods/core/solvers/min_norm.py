"""The shortest vector in the convex hull of K gradients, solved exactly, in float64, on the host.

Rows of very different lengths are the normal case. So the problem is solved for rows of unit length, and the weights
are scaled back. It needs no absolute epsilon. The arithmetic is NumPy's and, for two tasks, Python's: with so few
numbers most of the time goes into calling functions.
"""

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor


def min_norm_point(gramian: Tensor) -> Tensor:
    """Return the weights `[K]` (≥ 0, sum 1) of the shortest vector in the convex hull of K gradients.

    With x = t·weights and n = |Σ weights_k g_k|², minimising |Σ x_k g_k|² + (Σ x_k − 1)² over x ≥ 0 gives
    n/(1 + n) at the best t: the same minimiser up to scale, as a non-negative least-squares problem, which an
    active-set method ends exactly. Columns may be scaled freely there; they are made unit vectors.
    A zero gradient is itself the shortest vector: the weight is shared among the zero rows.
    """
    products = gramian.numpy()
    lengths = np.sqrt(products.diagonal())
    shortest = lengths.min()
    if shortest == 0:
        zero = (lengths == 0).astype(np.float64)
        return torch.from_numpy(zero / zero.sum())
    if len(lengths) == 2:
        return _two(products[0, 1] / lengths[0] / lengths[1], *lengths.tolist())
    values, vectors = np.linalg.eigh(products / lengths / lengths[:, np.newaxis])
    # Columns with the same inner products as the unit rows, above the row of the equation Σ x_k = 1.
    problem = np.vstack([np.sqrt(values.clip(min=0))[:, np.newaxis] * vectors.T, shortest / lengths])
    target = np.zeros(len(problem))
    target[-1] = 1
    solution, _ = nnls(problem, target, maxiter=100 * len(lengths))
    weights = solution / lengths
    return torch.from_numpy(weights / weights.sum())


def _two(cosine: float, one: float, other: float) -> Tensor:
    """The closed form for K = 2, from the cosine and the two lengths."""
    ratio = min(one, other) / max(one, other)
    # With the longer gradient's length as unit: |a − b|² and (a − b)·a for the shorter one, a.
    distance = 1 + ratio**2 - 2 * cosine * ratio
    longer = min(max((ratio**2 - cosine * ratio) / distance, 0.0), 1.0) if distance > 0 else 0.5
    return torch.tensor([1 - longer, longer] if one <= other else [longer, 1 - longer], dtype=torch.float64)
