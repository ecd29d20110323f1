"""Metrics of classifications."""

from functools import partial

from torch import Tensor
from torch.nn import functional
from torchmetrics.classification import MulticlassAccuracy, MulticlassRecall

from tasks.core.base import Metric
from tasks.core.losses import IGNORE
from tasks.core.metrics.constant import against_constant


def classes(prediction: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    """The likeliest classes `[N, …]` of logits `[N, C, …]`, and the target."""
    return prediction.max(1).indices, target  # argmax over axis 1 takes three times as long on the CPU


def accuracy(classes: int, train: Tensor, test: Tensor) -> Metric:
    """Share of right classes among the labelled; untrained: the share in `test` of the commonest class in `train`."""
    commonest = train[train != IGNORE].bincount(minlength=classes).argmax()
    constant_score = (test[test != IGNORE] == commonest).double().mean().item()
    build = partial(MulticlassAccuracy, num_classes=classes, average="micro", ignore_index=IGNORE, validate_args=False)
    return Metric(build, higher_is_better=True, constant_score=constant_score)


def macro_recall(classes: int, train: Tensor, test: Tensor) -> Metric:
    """Mean over classes of the share of each that is found; untrained: only the commonest in `train` is."""
    commonest = train.bincount(minlength=classes).argmax()
    build = partial(MulticlassRecall, num_classes=classes, average="macro", validate_args=False)
    return against_constant(build, True, functional.one_hot(commonest, classes).float(), test)
