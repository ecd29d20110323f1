"""Metrics of pixels as older papers compute them: by image or by batch of two, and then averaged.

Numbers of these metrics and of those that are accumulated over the split are not comparable: the mean IoU of images is
far lower, and the mean of batches' medians is no median. Sources: the code of Li & Bilen 2020, which is that of Liu,
Johns & Davison 2019 (MTAN) before it was changed in 2020.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
import torchmetrics
from torch import Tensor

from tasks.core import dense
from tasks.core.base import Factory, MetricInputs
from tasks.core.dense import LIMITS, Builders, Scoring

How = Literal["pooled", "legacy", "both"]
"""Whether metrics are accumulated over the split, or by image and batch (names that begin with `legacy_`), or both."""
BATCH = 2
"""Images in a batch of those papers' test loaders."""


def segmentation(classes: int, how: How) -> Scoring:
    """Return how segmentation is scored."""
    pooled, inputs = dense.segmentation_scoring(classes)
    by_image: Builders = {"legacy_miou": (partial(ImageIoU, classes), True), "legacy_accuracy": (ImageAccuracy, True)}
    return Scoring({"pooled": pooled, "legacy": by_image, "both": {**pooled, **by_image}}[how], inputs)


def depth(how: How) -> Scoring:
    """Return how depth is scored."""
    by_batch = {
        "legacy_absolute": (partial(BatchMean, absolute), False),
        "legacy_relative": (partial(BatchMean, relative), False),
    }
    return _counted(how, dense.DEPTHS, by_batch, dense.has_depth)


def normals(how: How) -> Scoring:
    """Return how normals are scored."""
    by_batch = {
        "legacy_mean_angle": (partial(BatchMean, torch.mean), False),
        "legacy_median_angle": (partial(BatchMean, torch.median), False),
        **{f"legacy_within_{n:g}": (partial(BatchMean, partial(share_below, n)), True) for n in LIMITS},
    }
    return _counted(how, dense.NORMALS, by_batch, dense.has_normal)


def _counted(how: How, pooled: Scoring, by_batch: Builders, valid: Callable[[Tensor], Tensor]) -> Scoring:
    """The pooled metrics, those by batch, or both. Those by batch also take how many pixels of each image are valid."""
    if how == "pooled":
        return pooled
    beside = {name: (partial(_beside, build), higher) for name, (build, higher) in pooled.builders.items()}
    return Scoring({**beside, **by_batch} if how == "both" else by_batch, partial(_and_counts, pooled.inputs, valid))


def _beside(build: Factory) -> "Without":
    return Without(build())


def _and_counts(
    inputs: MetricInputs, valid: Callable[[Tensor], Tensor], prediction: Tensor, target: Tensor
) -> tuple[Tensor, ...]:
    return *inputs(prediction, target), valid(target).flatten(1).sum(1)


class _Mean(torchmetrics.Metric):
    """The mean of numbers, of which NaN are left out."""

    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        for state in ("total", "count"):
            self.add_state(state, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def add(self, values: Tensor) -> None:
        """Add numbers `[n]`."""
        known = ~values.isnan()
        self.total += values[known].sum()
        self.count += known.sum()

    def compute(self) -> Tensor:
        """Return the mean."""
        return self.total / self.count


class ImageIoU(_Mean):
    """The mean over images of the mean IoU over the classes that are in an image or predicted there.

    A class that is predicted on unlabelled pixels counts as predicted, as in the papers' code.

    Example:
        >>> metric = ImageIoU(3)
        >>> metric.update(torch.tensor([[0, 1, 2]]), torch.tensor([[0, 0, -1]]))  # IoU 1/2, 0 and 0
        >>> round(float(metric.compute()), 4)
        0.1667
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def update(self, predicted: Tensor, target: Tensor) -> None:
        """Add images: predicted and true classes `[N, …]`, −1 for unlabelled pixels."""
        images, classes = len(target), self.classes
        cell = (target.reshape(images, -1).long() + 1) * classes + predicted.reshape(images, -1)
        cell += torch.arange(images, device=cell.device)[:, None] * (classes + 1) * classes
        counts = cell.flatten().bincount(minlength=images * (classes + 1) * classes).view(images, classes + 1, classes)
        labelled = counts[:, 1:]
        both = labelled.diagonal(dim1=1, dim2=2).double()
        either = counts.sum(1) + labelled.sum(2) - both
        self.add(torch.where(either > 0, both / either, torch.nan).nanmean(1))


class ImageAccuracy(_Mean):
    """The mean over images of the share of labelled pixels whose class is right."""

    def update(self, predicted: Tensor, target: Tensor) -> None:
        """Add images: predicted and true classes `[N, …]`, −1 for unlabelled pixels."""
        images = len(target)
        labelled = (target != -1).reshape(images, -1)
        right = (predicted == target).reshape(images, -1) & labelled
        self.add(right.sum(1).double() / labelled.sum(1))


class BatchMean(_Mean):
    """The mean over batches of two successive images of a statistic of the valid pixels of each batch.

    Which images make a batch does not depend on how many are added at once. A batch without a valid pixel is left out.
    """

    waiting: list[Tensor]

    def __init__(self, statistic: Callable[..., Tensor]) -> None:
        super().__init__()
        self.statistic = statistic
        self.add_state("waiting", [], dist_reduce_fx=None)

    def update(self, *values: Tensor) -> None:
        """Add images: one or more columns of their valid pixels `[n]`, and how many each image has `[N]`."""
        *columns, counts = values
        pixels = torch.stack(columns).split(counts.tolist(), 1)
        whole = [*self.waiting, *pixels]
        full = len(whole) - len(whole) % BATCH
        for start in range(0, full, BATCH):
            self.add(self._of(whole[start : start + BATCH]))
        self.waiting = whole[full:]

    def compute(self) -> Tensor:
        """Return the mean, with the last batch, which may have one image."""
        if not self.waiting:
            return super().compute()
        last = self._of(self.waiting)
        known = ~last.isnan()
        return (self.total + last[known].sum()) / (self.count + known.sum())

    def _of(self, images: list[Tensor]) -> Tensor:
        columns = torch.cat(images, 1)
        value = self.statistic(*columns) if columns.shape[1] else columns.new_full((), torch.nan)
        return value.double().reshape(1)


class Without(torchmetrics.Metric):
    """A metric that is accumulated over the split, beside those above: it does not see the last input."""

    def __init__(self, metric: torchmetrics.Metric) -> None:
        super().__init__()
        self.metric = metric

    def update(self, *inputs: Tensor) -> None:
        """Add all inputs but the last."""
        self.metric.update(*inputs[:-1])

    def compute(self) -> Tensor:
        """Return the metric's value."""
        value: Tensor = self.metric.compute()
        return value

    def reset(self) -> None:
        """Forget what was added."""
        super().reset()
        self.metric.reset()


def absolute(prediction: Tensor, target: Tensor) -> Tensor:
    """The mean absolute error of `[n]`."""
    return (prediction - target).abs().mean()


def relative(prediction: Tensor, target: Tensor) -> Tensor:
    """The mean error of `[n]` relative to the target."""
    return ((prediction - target).abs() / target).mean()


def share_below(limit: float, values: Tensor) -> Tensor:
    """The share of `[n]` that is below a limit."""
    return (values < limit).double().mean()
