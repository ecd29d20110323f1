"""Metrics of classifications."""

from functools import partial

from torch import Tensor
from torch.nn import functional
from torchmetrics.classification import MulticlassAccuracy, MulticlassRecall

from tasks.core.base import Metric
from tasks.core.losses import IGNORE, require_logits, require_same_shape
from tasks.core.metrics.constant import against_constant


def classes(prediction: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    """The likeliest classes `[N, …]` of logits `[N, C, …]`, and the target `[N, …]`.

    Raises:
        ValueError: the shapes do not belong together.
    """
    require_logits(prediction, target)
    return prediction.max(1).indices, target  # argmax over axis 1 takes three times as long on the CPU


class Accuracy(MulticlassAccuracy):
    """torchmetrics' accuracy, which checks shapes even where other arguments are not validated (for speed)."""

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add logits `[N, C, …]` or classes `[N, …]`, and true classes `[N, …]`. Raises ValueError for other shapes."""
        _require_shapes(preds, target)
        super().update(preds, target)


class Recall(MulticlassRecall):
    """torchmetrics' recall, with the same check of shapes."""

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add logits `[N, C, …]` or classes `[N, …]`, and true classes `[N, …]`. Raises ValueError for other shapes."""
        _require_shapes(preds, target)
        super().update(preds, target)


def _require_shapes(prediction: Tensor, target: Tensor) -> None:
    require = require_logits if prediction.is_floating_point() else require_same_shape
    require(prediction, target)


def accuracy(classes: int, train: Tensor, test: Tensor) -> Metric:
    """Share of labelled elements whose class is right. A constant predictor names the commonest class in `train`.

    Example:
        >>> import torch
        >>> metric = accuracy(3, train=torch.tensor([0, 0, 1]), test=torch.tensor([0, 1, 2, 2]))
        >>> metric.constant_score, metric.higher_is_better
        (0.25, True)
    """
    commonest = train[train != IGNORE].bincount(minlength=classes).argmax()
    constant_score = (test[test != IGNORE] == commonest).double().mean().item()
    build = partial(Accuracy, num_classes=classes, average="micro", ignore_index=IGNORE, validate_args=False)
    return Metric(build, higher_is_better=True, constant_score=constant_score)


def macro_recall(classes: int, train: Tensor, test: Tensor) -> Metric:
    """Mean over classes of the share that is recognised. A constant predictor names the commonest class in `train`."""
    commonest = train[train != IGNORE].bincount(minlength=classes).argmax()
    build = partial(Recall, num_classes=classes, average="macro", ignore_index=IGNORE, validate_args=False)
    return against_constant(build, True, functional.one_hot(commonest, classes).float(), test)
