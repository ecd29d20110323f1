"""The tasks of rooms and streets: segmentation, depth and surface normals of every pixel.

Pixels without a label have the class −1, the depth 0 or the normal 0. Targets may be stored small, classes in int8 and
numbers in float16: they are turned into the predictions' type first. All functions raise ValueError if prediction and
target have shapes that do not belong together.
"""

import hashlib
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
import torchmetrics
from torch import Tensor
from torch.nn import functional
from torchmetrics import MeanAbsoluteError, MeanAbsolutePercentageError, MeanMetric
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from tasks.core.base import Factory, Metric, MetricInputs, Task
from tasks.core.cache import cached
from tasks.core.losses import IGNORE, cross_entropy, require_same_shape
from tasks.core.metrics.classification import classes as likeliest

LIMITS = (11.25, 22.5, 30)
"""Degrees within which a normal is counted."""
PIXELS = 16 * 288 * 384
"""Pixels that are looked at together, so that a large column is never in memory as a whole."""


Builders = Mapping[str, tuple[Factory, bool]]
"""By name: what makes an accumulator, and whether higher is better."""


class Scoring(NamedTuple):
    """How a task is scored."""

    builders: Builders
    inputs: MetricInputs
    """What all of them accumulate."""


def segmentation(train: Tensor, test: Tensor, classes: int, scoring: Scoring | None = None, key: str = "") -> Task:
    """Classes of pixels `[N, H, W]`, by cross-entropy.

    Args:
        train: the training targets, from which the constant predictor is made.
        test: the test targets, on which it is scored.
        classes: how many.
        scoring: which metrics; by default those of `segmentation_scoring`.
        key: of the data, if it is so large that the scores of the constant predictor are worth keeping.
    """

    def commonest() -> Tensor:
        counts = torch.stack([part[part != IGNORE].bincount(minlength=classes) for part in _parts(train)]).sum(0)
        return functional.one_hot(counts.argmax(), classes).float().view(-1, 1, 1).expand(-1, *train.shape[1:])

    own = scoring or segmentation_scoring(classes)
    metrics = _metrics(own, commonest, test, key and f"{key} segmentation")
    return Task("segmentation", "segmentation", class_error, metrics, own.inputs)


def depth(train: Tensor, test: Tensor, scoring: Scoring | None = None, key: str = "") -> Task:
    """Depths of pixels `[N, 1, H, W]`, by absolute error. Arguments as in `segmentation`; by default `DEPTHS`."""

    def mean() -> Tensor:
        parts = [part[has_depth(part)].float() for part in _parts(train)]
        total = torch.stack([part.sum() for part in parts]).double().sum()
        one: Tensor = (total / sum(part.numel() for part in parts)).float()
        return one.expand(train.shape[1:])

    own = scoring or DEPTHS
    return Task("depth", "depth", depth_error, _metrics(own, mean, test, key and f"{key} depth"), own.inputs)


def normals(train: Tensor, test: Tensor, scoring: Scoring | None = None, key: str = "") -> Task:
    """Unit normals of pixels `[N, 3, H, W]`, by 1 − cosine. Arguments as in `segmentation`; by default `NORMALS`."""

    def mean() -> Tensor:
        total = torch.stack([part.float().sum((0, 2, 3)) for part in _parts(train)]).double().sum(0).float()
        return functional.normalize(total, dim=0).view(3, 1, 1).expand(train.shape[1:])

    own = scoring or NORMALS
    return Task("normals", "normal", normal_error, _metrics(own, mean, test, key and f"{key} normals"), own.inputs)


def class_error(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of logits `[N, C, H, W]` with classes `[N, H, W]`, over the pixels with a class. Unit: nats."""
    return cross_entropy(prediction, target.long())


def depth_error(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Absolute error of depths `[N, 1, H, W]`, over the pixels with a depth. Unit: the target's."""
    require_same_shape(prediction, target)
    valid = has_depth(target)
    return ((prediction - target.to(prediction.dtype)).abs() * valid).sum(), valid.sum()


def normal_error(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """1 − cosine of directions `[N, 3, H, W]` with unit normals, over the pixels with a normal."""
    require_same_shape(prediction, target)
    valid = has_normal(target)
    return ((1 - cosine(prediction, target.to(prediction.dtype))) * valid).sum(), valid.sum()


def has_depth(target: Tensor) -> Tensor:
    """Which depths of `[N, 1, H, W]` are valid: those above 0."""
    return target > 0


def has_normal(target: Tensor) -> Tensor:
    """Which pixels `[N, …]` have a normal in `[N, 3, …]`: one that is not zero."""
    return (target != 0).any(1)


def cosine(prediction: Tensor, target: Tensor) -> Tensor:
    """Cosine `[N, …]` of vectors along axis 1 with unit vectors."""
    # functional.cosine_similarity over axis 1 takes a sixth of a small network's step on the CPU.
    return (prediction * target).sum(1) / (prediction.square().sum(1) + 1e-12).sqrt()


def likeliest_classes(prediction: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    """The likeliest classes `[N, H, W]` of logits `[N, C, H, W]`, and the target `[N, H, W]`."""
    return likeliest(prediction, target.long())


def valid_depths(prediction: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    """Predicted and true depths `[n]` of the pixels with a depth."""
    require_same_shape(prediction, target)
    valid = has_depth(target)
    return prediction[valid], target[valid].to(prediction.dtype)


def angles(prediction: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    """Degrees `[n]` between directions `[N, 3, …]` and unit normals, where there is a normal."""
    require_same_shape(prediction, target)
    valid = has_normal(target)
    return (torch.rad2deg(torch.acos(cosine(prediction, target.to(prediction.dtype))[valid].clamp(-1, 1))),)


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


def segmentation_scoring(classes: int) -> Scoring:
    """Return the mean IoU and the accuracy of pixels, from one confusion matrix of the split."""
    iou = partial(MulticlassJaccardIndex, classes, average="macro", ignore_index=IGNORE, validate_args=False)
    accuracy = partial(MulticlassAccuracy, classes, average="micro", ignore_index=IGNORE, validate_args=False)
    return Scoring({"miou": (iou, True), "pixel_accuracy": (accuracy, True)}, likeliest_classes)


DEPTHS = Scoring(
    {"absolute": (MeanAbsoluteError, False), "relative": (MeanAbsolutePercentageError, False)}, valid_depths
)
"""Errors of depths over all valid pixels of the split."""
NORMALS = Scoring(
    {
        "mean_angle": (MeanMetric, False),
        "median_angle": (Median, False),
        **{f"within_{limit:g}": (partial(Within, limit), True) for limit in LIMITS},
    },
    angles,
)
"""Angles of normals over all valid pixels of the split."""


def _metrics(scoring: Scoring, constant: Callable[[], Tensor], test: Tensor, key: str) -> dict[str, Metric]:
    """The metrics with the scores of a constant predictor: kept on disk under the key, if there is one."""
    builders = scoring.builders

    def scores() -> dict[str, dict[str, Tensor]]:
        predicted = constant()
        accumulators = {name: build() for name, (build, _) in builders.items()}
        for part in _parts(test):
            elements = scoring.inputs(predicted.expand(len(part), *predicted.shape), part)
            for accumulator in accumulators.values():
                accumulator.update(*elements)
        return {"constant": {name: a.compute().double().reshape(()) for name, a in accumulators.items()}}

    found = cached(f"constant {key} {sorted(builders)} {_code(scoring)}", scores) if key else scores()
    return {name: Metric(build, higher, float(found["constant"][name])) for name, (build, higher) in builders.items()}


def _parts(column: Tensor) -> tuple[Tensor, ...]:
    """A column `[N, …, H, W]` in parts of at most `PIXELS` pixels, but of one image or more."""
    parts: tuple[Tensor, ...] = column.split(max(1, PIXELS // column[0].shape[-2:].numel()))
    return parts


def _code(scoring: Scoring) -> str:
    """Stands for the code that scores the constant predictor."""
    files = {__file__, *(inspect.getfile(type(build())) for build, _ in scoring.builders.values())}
    return hashlib.sha256(b"".join(Path(file).read_bytes() for file in sorted(files))).hexdigest()
