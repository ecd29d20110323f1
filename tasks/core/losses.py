"""Losses as `(prediction, target) -> (total, count)`, so that a mean is exact over ranks and micro-batches."""

from torch import Tensor
from torch.nn import functional


def cross_entropy(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of logits `[N, C, …]` with classes `[N, …]`; negative classes are unlabelled. Unit: nats."""
    valid = target >= 0
    total = functional.cross_entropy(prediction, target.where(valid, -100), ignore_index=-100, reduction="sum")
    return total, valid.sum()


def squared_error(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Squared error of `[N, …]`, summed over all axes but the first; counted per example."""
    total = functional.mse_loss(prediction, target, reduction="sum")
    return total, total.new_tensor(len(target))
