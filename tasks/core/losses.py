"""Losses, `(prediction, target) -> (total, count)`, so that means are exact over ranks and micro-batches."""

import torch
from torch import Tensor
from torch.nn import functional

IGNORE = -1
"""The class of elements without a label."""


def cross_entropy(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of logits `[N, C, …]` with classes `[N, …]`; class −1 is unlabelled. Unit: nats.

    Raises:
        ValueError: the shapes do not belong together.
        IndexError: a class is neither −1 nor one of the C.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
        >>> cross_entropy(logits, torch.tensor([0, 1, -1]))  # the third example has no label
        (tensor(0.2539), tensor(2))
    """
    require_logits(prediction, target)
    count = (target != IGNORE).sum()
    if prediction.is_cuda:  # its sum over locations adds in an order that changes from call to call
        return functional.cross_entropy(prediction, target, ignore_index=IGNORE, reduction="none").sum(), count
    return functional.cross_entropy(prediction, target, ignore_index=IGNORE, reduction="sum"), count


def squared_error(prediction: Tensor, target: Tensor) -> tuple[Tensor, int]:
    """Squared error of `[N, …]`, summed over all axes but the first; counted per example.

    Raises:
        ValueError: prediction and target have unlike shapes.

    Example:
        >>> import torch
        >>> squared_error(torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [1.0]]))
        (tensor(5.), 2)
    """
    require_same_shape(prediction, target)
    total = functional.mse_loss(prediction, target, reduction="sum")
    return total, len(target)  # a plain number: on a GPU a tensor of it would be a copy from the host


def labelled_squared_error(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Squared error of `[N, …]` over the elements with a label: a target of NaN has none. Counted per element.

    Raises:
        ValueError: prediction and target have unlike shapes.

    Example:
        >>> import torch
        >>> labelled_squared_error(torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [torch.nan]]))
        (tensor(1.), tensor(1))
    """
    require_same_shape(prediction, target)
    has_label = ~target.isnan()
    difference = torch.where(has_label, prediction - target, 0)  # neither the value nor its gradient sees a NaN
    return difference.square().sum(), has_label.sum()


def binary_cross_entropy(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of logits `[N, …]` with 0 or 1 `[N, …]`; a target of NaN has no label. Unit: nats.

    Raises:
        ValueError: prediction and target have unlike shapes.

    Example:
        >>> import torch
        >>> binary_cross_entropy(torch.tensor([[0.0], [2.0], [9.0]]), torch.tensor([[1.0], [1.0], [torch.nan]]))
        (tensor(0.8201), tensor(2))
    """
    require_same_shape(prediction, target)
    has_label = ~target.isnan()
    known = torch.where(has_label, target, 0)
    each = functional.binary_cross_entropy_with_logits(prediction, known, reduction="none")
    return torch.where(has_label, each, 0).sum(), has_label.sum()


def require_same_shape(prediction: Tensor, target: Tensor) -> None:
    """Raise ValueError if prediction and target have unlike shapes: torch would broadcast some of them."""
    if prediction.shape != target.shape:
        shapes = f"prediction {list(prediction.shape)} and target {list(target.shape)}"
        raise ValueError(f"{shapes} should have the same shape")


def require_logits(prediction: Tensor, target: Tensor) -> None:
    """Raise ValueError unless prediction and target are logits `[N, C, …]` and classes `[N, …]`."""
    if prediction.dim() < 2 or (prediction.shape[0], *prediction.shape[2:]) != target.shape:
        shapes = f"logits {list(prediction.shape)} and classes {list(target.shape)}"
        raise ValueError(f"{shapes} should have the shapes [N, C, …] and [N, …]")
