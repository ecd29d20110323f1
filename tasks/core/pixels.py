"""The tasks of photographs and rooms: segmentation, depth and surface normals of every pixel.

Targets may be stored small: classes in int8, numbers in float16. Losses and metrics are computed in float32.
"""

import hashlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics import MeanAbsoluteError, MeanAbsolutePercentageError, MeanMetric
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from tasks.core import dense
from tasks.core.base import Factory, Loss, Metric, MetricInputs, Task
from tasks.core.cache import cached
from tasks.core.dense import Median, Within, depth_error, normal_error
from tasks.core.losses import IGNORE, cross_entropy
from tasks.core.metrics import legacy
from tasks.core.metrics.classification import classes as likeliest
from tasks.core.metrics.legacy import BatchMean, ImageAccuracy, ImageIoU, Without

How = Literal["pooled", "legacy", "both"]
"""Whether metrics are accumulated over the split, or by image and batch as older papers did (names that begin with
`legacy_`), or both."""
LIMITS = (11.25, 22.5, 30)
"""Degrees within which a normal is counted."""
CHUNK = 16
"""Images that are looked at together, so that a large column is never in memory as a whole."""

Builders = Mapping[str, tuple[Factory, bool]]
"""By name: what makes a metric, and whether higher is better."""


def segmentation(train: Tensor, test: Tensor, classes: int, how: How = "pooled", key: str = "") -> Task:
    """Classes of pixels `[N, H, W]`, −1 where there is none, by cross-entropy.

    Args:
        train: the training targets, from which the constant predictor is made.
        test: the test targets, on which it is scored.
        classes: how many.
        how: which metrics.
        key: of the data, if it is so large that the scores of the constant predictor are worth keeping.
    """
    options: dict[str, Any] = {"ignore_index": IGNORE, "validate_args": False}
    pooled: Builders = {
        "miou": (partial(MulticlassJaccardIndex, classes, average="macro", **options), True),
        "pixel_accuracy": (partial(MulticlassAccuracy, classes, average="micro", **options), True),
    }
    by_image: Builders = {"legacy_miou": (partial(ImageIoU, classes), True), "legacy_accuracy": (ImageAccuracy, True)}

    def commonest() -> Tensor:
        counts = torch.stack([part[part != IGNORE].bincount(minlength=classes) for part in train.split(CHUNK)]).sum(0)
        return functional.one_hot(counts.argmax(), classes).float().view(-1, 1, 1).expand(-1, *train.shape[1:])

    builders = {"pooled": pooled, "legacy": by_image, "both": {**pooled, **by_image}}[how]
    metrics = _metrics(builders, _classes, commonest, test, f"{key} segmentation" if key else "")
    return Task("segmentation", "segmentation", _cross_entropy, metrics, _classes)


def depth(train: Tensor, test: Tensor, how: How = "pooled", key: str = "") -> Task:
    """Depths of pixels `[N, 1, H, W]`, 0 where there is none, by absolute error. Arguments as in `segmentation`."""
    pooled: Builders = {"absolute": (MeanAbsoluteError, False), "relative": (MeanAbsolutePercentageError, False)}
    by_batch: Builders = {
        "legacy_absolute": (partial(BatchMean, legacy.absolute), False),
        "legacy_relative": (partial(BatchMean, legacy.relative), False),
    }

    def mean() -> Tensor:
        parts = [part[part > 0] for part in train.split(CHUNK)]
        total = torch.stack([part.sum(dtype=torch.float64) for part in parts]).sum()
        one: Tensor = (total / sum(part.numel() for part in parts)).float()
        return one.expand(train.shape[1:])

    inputs, builders = _chosen(how, pooled, by_batch, _depths, _depths_and_counts)
    metrics = _metrics(builders, inputs, mean, test, f"{key} depth" if key else "")
    return Task("depth", "depth", _in_float(depth_error), metrics, inputs)


def normals(train: Tensor, test: Tensor, how: How = "pooled", key: str = "") -> Task:
    """Unit normals of pixels `[N, 3, H, W]`, 0 where there is none, by 1 − cosine. Arguments as in `segmentation`."""
    pooled: Builders = {
        "mean_angle": (MeanMetric, False),
        "median_angle": (Median, False),
        **{f"within_{limit:g}": (partial(Within, limit), True) for limit in LIMITS},
    }
    by_batch: Builders = {
        "legacy_mean_angle": (partial(BatchMean, torch.mean), False),
        "legacy_median_angle": (partial(BatchMean, torch.median), False),
        **{f"legacy_within_{n:g}": (partial(BatchMean, partial(legacy.share_below, n)), True) for n in LIMITS},
    }

    def mean() -> Tensor:
        total = torch.stack([part.sum((0, 2, 3), dtype=torch.float64) for part in train.split(CHUNK)]).sum(0)
        return functional.normalize(total, dim=0).float().view(3, 1, 1).expand(train.shape[1:])

    inputs, builders = _chosen(how, pooled, by_batch, _angles, _angles_and_counts)
    metrics = _metrics(builders, inputs, mean, test, f"{key} normals" if key else "")
    return Task("normals", "normal", _in_float(normal_error), metrics, inputs)


def _chosen(
    how: How, pooled: Builders, by_batch: Builders, flat: MetricInputs, counted: MetricInputs
) -> tuple[MetricInputs, Builders]:
    """The metrics that are asked for, and their common inputs."""
    if how == "pooled":
        return flat, pooled
    if how == "legacy":
        return counted, by_batch
    beside = {name: (partial(_beside, build), higher) for name, (build, higher) in pooled.items()}
    return counted, {**beside, **by_batch}


def _beside(build: Factory) -> Without:
    return Without(build())


def _metrics(
    builders: Builders, inputs: MetricInputs, constant: Callable[[], Tensor], test: Tensor, key: str
) -> dict[str, Metric]:
    """The metrics with the scores of a constant predictor: kept on disk under the key, if there is one."""

    def scores() -> dict[str, dict[str, Tensor]]:
        predicted = constant()
        accumulators = {name: build() for name, (build, _) in builders.items()}
        for part in test.split(CHUNK):
            elements = inputs(predicted.expand(len(part), *predicted.shape), part)
            for accumulator in accumulators.values():
                accumulator.update(*elements)
        return {"constant": {name: a.compute().double().reshape(()) for name, a in accumulators.items()}}

    found = cached(f"constant {key} {sorted(builders)} {_code()}", scores) if key else scores()
    return {name: Metric(build, higher, float(found["constant"][name])) for name, (build, higher) in builders.items()}


def _code() -> str:
    """Stands for the code that scores the constant predictor."""
    files: Iterable[str] = (__file__, *(inspect.getfile(module) for module in (dense, legacy)))
    return hashlib.sha256(b"".join(Path(file).read_bytes() for file in files)).hexdigest()


def _cross_entropy(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor | float]:
    return cross_entropy(prediction, target.long())


def _in_float(loss: Loss) -> Loss:
    """A loss that takes targets of float16."""
    return partial(_of_float, loss)


def _of_float(loss: Loss, prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor | float]:
    return loss(prediction, target.to(prediction.dtype))


def _classes(prediction: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    return likeliest(prediction, target.long())


def _depths(prediction: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    return dense.valid_depths(prediction, target.to(prediction.dtype))


def _depths_and_counts(prediction: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    return *_depths(prediction, target), (target > 0).flatten(1).sum(1)


def _angles(prediction: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    return dense.angles(prediction, target.to(prediction.dtype))


def _angles_and_counts(prediction: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    return *_angles(prediction, target), (target != 0).any(1).flatten(1).sum(1)
