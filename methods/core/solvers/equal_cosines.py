"""The vector that has the same inner product with all K unit gradients, exactly, in float64, on the host."""

import numpy as np
import torch
from torch import Tensor


def equal_cosines(gramian: Tensor) -> Tensor:
    """Return the weights `[K]` of the vector U⁺1, where the rows of U are the unit gradients, none of them zero.

    It is the shortest vector whose inner product with each unit gradient is 1. If there is none, it is the shortest of
    those that come nearest to that, by least squares; of its weights those with the least norm (of unit rows) are
    taken. From C = U Uᵀ alone: U⁺ = Uᵀ C⁺. An eigenvalue of C counts as zero up to K times the rounding of the largest.
    """
    products = gramian.numpy()
    lengths = np.sqrt(products.diagonal())
    values, vectors = np.linalg.eigh(products / lengths / lengths[:, np.newaxis])
    kept = values > len(values) * np.finfo(np.float64).eps * values[-1]
    vectors = vectors[:, kept]
    return torch.from_numpy(vectors @ (vectors.sum(0) / values[kept]) / lengths)


def are_equal(gramian: Tensor, weights: Tensor) -> bool:
    """Whether the vector of `equal_cosines` has the inner product 1 with all unit gradients, to 1e-6."""
    found = gramian @ weights / gramian.diagonal().sqrt()
    return bool((found - 1).abs().max() <= 1e-6)


def impartial(gramian: Tensor) -> tuple[Tensor, bool]:
    """Return these weights over their sum (zeros if it is zero), and whether all cosines are positive and the same."""
    weights = equal_cosines(gramian)
    total = weights.sum()
    if total.abs() <= len(weights) * 2**-52 * weights.abs().sum():
        return weights.new_zeros(len(weights)), False
    return weights / total, bool(total > 0) and are_equal(gramian, weights)
