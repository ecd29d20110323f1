"""Orthogonal gradients of one length that are nearest to K given ones, exactly, in float64, on the host."""

from typing import Literal

import numpy as np
import torch
from scipy.linalg.lapack import dgejsv
from torch import Tensor

Scale = Literal["min", "median", "rmse"]


def align(gramian: Tensor, scale: Scale = "min") -> Tensor:
    """Return B `[K, K]`, symmetric, for which the rows of B G are orthogonal and have one squared length σ.

    With M = V Λ Vᵀ, over the eigenvalues that are not zero, B = √σ V Λ^(−½) Vᵀ and so B M B = σ V Vᵀ; σ is the least of
    these eigenvalues, their median or their mean ("rmse"). The rank is that of the cosines C: an eigenvalue counts as
    zero up to K times the rounding of the largest. With C = R Rᵀ and the lengths ℓ, the λ are the squared singular
    values of diag(ℓ) R. A one-sided Jacobi method gives these to the last digits for rows of any lengths, which the
    eigenvalues of M itself are not.
    """
    products = gramian.numpy()
    lengths = np.sqrt(products.diagonal())
    divisors = np.where(lengths > 0, lengths, 1)
    values, vectors = np.linalg.eigh(products / divisors / divisors[:, np.newaxis])
    kept = values > len(values) * np.finfo(np.float64).eps * values[-1]
    if not kept.any():
        return torch.zeros_like(gramian)
    rows = lengths[:, np.newaxis] * (vectors[:, kept] * np.sqrt(values[kept]))
    singular, left, _, work, *_ = dgejsv(rows, joba=2, jobu=0, jobv=3)
    singular = singular * (work[0] / work[1])
    sigma = {"min": singular.min(), "median": np.median(singular**2) ** 0.5, "rmse": np.mean(singular**2) ** 0.5}[scale]
    return torch.from_numpy((left * (sigma / singular)) @ left.T)
