"""Metrics that torchmetrics lacks, and the constant predictors' scores."""

from functools import partial

import torch
import torchmetrics
from torch import Tensor
from torch.nn import functional
from torchmetrics.classification import MulticlassAccuracy, MulticlassRecall

from tasks.core.base import Builder, Elements, Metric, as_they_are
from tasks.core.losses import IGNORE, cosine


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
        """Add examples: prediction and target `[N, …]`."""
        self.squared_error += (prediction - target).square().sum()
        self.constant_error += (self.constant - target).square().sum()

    def compute(self) -> Tensor:
        """Return the ratio."""
        return (self.squared_error / self.constant_error).sqrt()


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


def classes(prediction: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    """The likeliest classes `[N, …]` of logits `[N, C, …]`, and the target."""
    return prediction.max(1).indices, target  # argmax over axis 1 takes three times as long on the CPU


def valid_depths(prediction: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    """Predicted and true depths `[n]` where the target is above 0."""
    valid = target > 0
    return prediction[valid], target[valid]


def angles(prediction: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    """Degrees `[n]` between directions `[N, 3, …]` and unit normals, where the target is not zero."""
    valid = (target != 0).any(1)
    return (torch.rad2deg(torch.acos(cosine(prediction, target)[valid].clamp(-1, 1))),)


def against_constant(
    build: Builder, higher_is_better: bool, constant: Tensor, target: Tensor, elements: Elements = as_they_are
) -> Metric:
    """A metric whose untrained score is that of predicting `constant` for every example of `target` `[N, …]`."""
    accumulator = build()
    accumulator.update(*elements(constant.expand(len(target), *constant.shape), target))
    return Metric(build, higher_is_better, untrained=float(accumulator.compute()))


def normalized_rmse(train: Tensor) -> Metric:
    """RMSE ÷ RMSE of the training targets' mean (`train`: `[N, …]`). Lower is better; untrained: 1."""
    return Metric(partial(NormalizedRMSE, train.mean(0)), higher_is_better=False, untrained=1.0)


def accuracy(classes: int, train: Tensor, test: Tensor) -> Metric:
    """Share of right classes among the labelled; untrained: the share in `test` of the commonest class in `train`."""
    commonest = train[train != IGNORE].bincount(minlength=classes).argmax()
    untrained = (test[test != IGNORE] == commonest).double().mean().item()
    build = partial(MulticlassAccuracy, num_classes=classes, average="micro", ignore_index=IGNORE, validate_args=False)
    return Metric(build, higher_is_better=True, untrained=untrained)


def macro_recall(classes: int, train: Tensor, test: Tensor) -> Metric:
    """Mean over classes of the share of each that is found; untrained: only the commonest in `train` is."""
    commonest = train.bincount(minlength=classes).argmax()
    build = partial(MulticlassRecall, num_classes=classes, average="macro", validate_args=False)
    return against_constant(build, True, functional.one_hot(commonest, classes).float(), test)
