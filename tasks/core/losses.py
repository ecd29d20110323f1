"""Losses as `(prediction, target) -> (total, count)`, so that a mean is exact over ranks and micro-batches."""

from torch import Tensor
from torch.nn import functional

IGNORE = -1
"""The class of what is unlabelled."""


def cross_entropy(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of logits `[N, C, …]` with classes `[N, …]`; class −1 is unlabelled. Unit: nats."""
    count = (target != IGNORE).sum()
    if prediction.is_cuda:  # its sum over locations adds in an order that changes from call to call
        return functional.cross_entropy(prediction, target, ignore_index=IGNORE, reduction="none").sum(), count
    return functional.cross_entropy(prediction, target, ignore_index=IGNORE, reduction="sum"), count


def squared_error(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Squared error of `[N, …]`, summed over all axes but the first; counted per example."""
    total = functional.mse_loss(prediction, target, reduction="sum")
    return total, total.new_full((), len(target))  # made on the device: new_tensor would be a copy that waits for it
