"""Losses and metric inputs for depth and surface normals of pixels. Invalid pixels have a target of zero.

All functions raise ValueError if prediction and target have different shapes.
"""

import torch
import torchmetrics
from torch import Tensor

from tasks.core.losses import require_same_shape


def depth_error(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Absolute error of depths `[N, 1, H, W]`, over the pixels whose target is above 0 (valid). Unit: the target's."""
    require_same_shape(prediction, target)
    valid = target > 0
    return ((prediction - target).abs() * valid).sum(), valid.sum()


def normal_error(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """1 − cosine of directions `[N, 3, H, W]` with unit normals, over the pixels whose target is not zero (valid)."""
    require_same_shape(prediction, target)
    valid = (target != 0).any(1)
    return ((1 - cosine(prediction, target)) * valid).sum(), valid.sum()


def cosine(prediction: Tensor, target: Tensor) -> Tensor:
    """Cosine `[N, …]` of vectors along axis 1 with unit vectors."""
    # functional.cosine_similarity over axis 1 takes a sixth of a small network's step on the CPU.
    return (prediction * target).sum(1) / (prediction.square().sum(1) + 1e-12).sqrt()


def valid_depths(prediction: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    """Predicted and true depths `[n]` where the target is above 0."""
    require_same_shape(prediction, target)
    valid = target > 0
    return prediction[valid], target[valid]


def angles(prediction: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    """Degrees `[n]` between directions `[N, 3, …]` and unit normals, where the target is not zero."""
    require_same_shape(prediction, target)
    valid = (target != 0).any(1)
    return (torch.rad2deg(torch.acos(cosine(prediction, target)[valid].clamp(-1, 1))),)


class Within(torchmetrics.MeanMetric):
    """The share of elements below `limit`."""

    def __init__(self, limit: float) -> None:
        super().__init__(nan_strategy="disable")
        self.limit = limit

    def update(self, values: Tensor) -> None:  # type: ignore[override]
        """Add elements `[n]`."""
        super().update((values < self.limit).float())


class Median(torchmetrics.CatMetric):
    """The median over all elements of the split."""

    def compute(self) -> Tensor:
        """Return the median."""
        return torch.as_tensor(super().compute()).median()
