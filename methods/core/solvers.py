"""The K×K problems behind the gradient rules, solved exactly, in float64, on the host.

Each takes the Gramian `[K, K]` of the task gradients and returns weights `[K]`. Rows of very different lengths are
the normal case, so every problem is solved for unit rows and the weights are scaled back: no absolute epsilon
meets a problem that has no scale.
"""

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
    lengths = gramian.diagonal().sqrt()
    shortest = lengths.min()
    if shortest == 0:
        zero = (lengths == 0).to(gramian)
        return zero / zero.sum()
    cosines = gramian / torch.outer(lengths, lengths)
    if len(lengths) == 2:
        return _two(cosines[0, 1], lengths)
    values, vectors = torch.linalg.eigh(cosines)
    unit = values.clamp(min=0).sqrt().unsqueeze(1) * vectors.T  # [K, K]: columns with the same inner products
    problem = torch.vstack([unit, shortest / lengths])
    target = torch.zeros(len(problem), dtype=torch.float64)
    target[-1] = 1
    solution, _ = nnls(problem.numpy(), target.numpy(), maxiter=100 * len(lengths))
    weights = torch.from_numpy(solution) / lengths
    return weights / weights.sum()


def _two(cosine: Tensor, lengths: Tensor) -> Tensor:
    """The closed form for K = 2, from the cosine and the two lengths `[2]`."""
    ratio = lengths.min() / lengths.max()
    # With the longer gradient's length as unit: |a − b|² and (a − b)·a for the shorter one, a.
    distance = 1 + ratio**2 - 2 * cosine * ratio
    if distance <= 0:
        return torch.full((2,), 0.5, dtype=torch.float64)
    longer = ((ratio**2 - cosine * ratio) / distance).clamp(0, 1)
    weights = torch.stack([1 - longer, longer])
    return weights if lengths[0] <= lengths[1] else weights.flip(0)
