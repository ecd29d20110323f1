"""Metrics of yes-or-no outcomes, some of whose labels may be missing."""

from functools import partial

from torch import Tensor
from torchmetrics.classification import BinaryAUROC

from tasks.core.base import Metric
from tasks.core.losses import require_same_shape


def probabilities_and_labels(prediction: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    """The probabilities `[n]` and outcomes `[n]` (0 or 1) of the elements of `[N, …]` with a label; NaN is none.

    Raises:
        ValueError: prediction and target have unlike shapes.
    """
    require_same_shape(prediction, target)
    has_label = ~target.isnan()
    return prediction[has_label].sigmoid(), target[has_label].long()


def auroc() -> Metric:
    """The area under the ROC curve: how often a case with the outcome gets the higher value. A constant has 0.5.

    Its inputs are those of `probabilities_and_labels`, which is to be the `metric_inputs` of the task.

    Example:
        >>> import torch
        >>> accumulator = auroc().factory()
        >>> logits, outcomes = torch.tensor([[2.0], [-1.0], [0.5]]), torch.tensor([[1.0], [0.0], [torch.nan]])
        >>> accumulator.update(*probabilities_and_labels(logits, outcomes))
        >>> accumulator.compute()
        tensor(1.)
    """
    return Metric(partial(BinaryAUROC, validate_args=False), higher_is_better=True, constant_score=0.5)
