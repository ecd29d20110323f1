"""Metrics of regressions."""

from functools import partial

import torch
import torchmetrics
from torch import Tensor

from tasks.core.base import Metric
from tasks.core.losses import require_same_shape


class NormalizedRMSE(torchmetrics.Metric):
    """RMSE divided by that of the constant predictor `constant` (`[…]`, an example's shape): 1 is no better."""

    higher_is_better = False
    constant: Tensor
    squared_error: Tensor
    constant_error: Tensor

    def __init__(self, constant: Tensor) -> None:
        super().__init__()
        self.register_buffer("constant", constant)
        for state in ("squared_error", "constant_error"):
            self.add_state(state, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add examples: prediction and target `[N, …]`.

        Raises:
            ValueError: prediction and target have unlike shapes, or the training targets had another one.
        """
        require_same_shape(prediction, target)
        if self.constant.shape != target.shape[1:]:
            shapes = f"{list(target.shape[1:])}, and in training {list(self.constant.shape)}"
            raise ValueError(f"an example's target has the shape {shapes}: they should be the same")
        self.squared_error += (prediction - target).square().sum()
        self.constant_error += (self.constant - target).square().sum()

    def compute(self) -> Tensor:
        """Return the ratio."""
        return (self.squared_error / self.constant_error).sqrt()


def normalized_rmse(train: Tensor) -> Metric:
    """RMSE ÷ RMSE of the training targets' mean (`train`: `[N, …]`). Lower is better; a constant predictor has 1.

    A target of NaN in `train` has no label, and is left out of the mean.

    Example:
        >>> metric = normalized_rmse(train=torch.tensor([[1.0], [3.0]]))
        >>> accumulator = metric.factory()
        >>> accumulator.update(torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [4.0]]))
        >>> accumulator.compute()
        tensor(0.5000, dtype=torch.float64)
    """
    return Metric(partial(NormalizedRMSE, train.nanmean(0)), higher_is_better=False, constant_score=1.0)


def labelled(prediction: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    """The elements `[n, 1]` of prediction and target `[N, …]` that have a label: a target of NaN has none.

    It is for tasks of one number, as the `metric_inputs` of a task with missing labels.

    Raises:
        ValueError: prediction and target have unlike shapes.
    """
    require_same_shape(prediction, target)
    has_label = ~target.isnan()
    return prediction[has_label].unsqueeze(-1), target[has_label].unsqueeze(-1)
