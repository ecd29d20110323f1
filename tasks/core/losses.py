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
