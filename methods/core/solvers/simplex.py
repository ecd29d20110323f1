"""The nearest point of the simplex, exactly."""

import numpy as np
import torch
from torch import Tensor


def project_to_simplex(values: Tensor) -> Tensor:
    """Return the point `[K]` (≥ 0, sum 1) that is nearest to `values` `[K]`, which are in float64, on the CPU.

    It is max(values − τ, 0) for the one τ with which it sums to 1. If the support has n values, τ is (their sum − 1)/n,
    and the support is the longest run of the largest values that all exceed the τ of their run. Values are counted from
    the largest, so that their size costs no digits; what is 1 below it cannot be in the support.
    """
    below = np.maximum(values.numpy() - float(values.max()), -1)
    falling = np.sort(below)[::-1]
    thresholds = (np.cumsum(falling) - 1) / np.arange(1, len(falling) + 1)
    support = np.flatnonzero(falling > thresholds)[-1]
    return torch.from_numpy(np.maximum(below - thresholds[support], 0))
