"""Losses as `(prediction, target) -> (total, count)`, so that a mean is exact over ranks and micro-batches."""

from torch import Tensor
from torch.nn import functional

IGNORE = -1
"""The class of what is unlabelled."""


def cross_entropy(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of logits `[N, C, …]` with classes `[N, …]`; class −1 is unlabelled. Unit: nats."""
    total = functional.cross_entropy(prediction, target, ignore_index=IGNORE, reduction="sum")
    return total, (target != IGNORE).sum()


def squared_error(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Squared error of `[N, …]`, summed over all axes but the first; counted per example."""
    total = functional.mse_loss(prediction, target, reduction="sum")
    return total, total.new_tensor(len(target))


def depth_error(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Absolute error of depths `[N, 1, H, W]`, over the pixels whose target is above 0 (valid). Unit: the target's."""
    valid = target > 0
    return ((prediction - target).abs() * valid).sum(), valid.sum()


def normal_error(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """1 − cosine of directions `[N, 3, H, W]` with unit normals, over the pixels whose target is not zero (valid)."""
    valid = (target != 0).any(1)
    return ((1 - cosine(prediction, target)) * valid).sum(), valid.sum()


def cosine(prediction: Tensor, target: Tensor) -> Tensor:
    """Cosine `[N, …]` of vectors along axis 1 with unit vectors."""
    # functional.cosine_similarity over axis 1 takes a sixth of a small network's step on the CPU.
    return (prediction * target).sum(1) / (prediction.square().sum(1) + 1e-12).sqrt()
