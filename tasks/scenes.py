"""Ray-cast rooms: segmentation, depth and surface normals, as in NYUv2."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics import MeanAbsoluteError, MeanAbsolutePercentageError, MeanMetric
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from tasks.core.base import Card, Factory, Metric, MetricInputs, Network, Task, TaskSet
from tasks.core.cache import cached
from tasks.core.dense import Median, Within, angles, depth_error, normal_error, valid_depths
from tasks.core.losses import IGNORE, cross_entropy
from tasks.core.metrics.classification import classes as likeliest
from tasks.core.metrics.constant import against_constant
from tasks.core.protocol import Protocol
from tasks.networks.encoder_decoder import EncoderDecoder
from tasks.rendering import raycast

COUNTS = {"train": 1_300, "validation": 200, "test": 500}
DATA_SEED = 0
MOST_PIXELS = 288 * 384
"""The size at which papers use NYUv2. At this size the rooms take 8 GB of memory."""


class Scenes(TaskSet):
    """Rendered rooms with NYUv2's three tasks, losses, masks and metrics: segmentation, depth, normals.

    Cross-entropy over 13 classes, absolute depth error in metres, 1 − cosine of normals: at their natural sizes the
    normals starve.
    """

    inputs = ("image",)
    protocols = {
        "smoke": Protocol(name="smoke", steps=20, batch_size=8, lr=1e-2, steps_per_epoch=5, points=2),
        "quick": Protocol(name="quick", steps=500, batch_size=8, lr=1e-2, steps_per_epoch=50),
        "standard": Protocol(name="standard", steps=6_000, batch_size=8, lr=1e-2, steps_per_epoch=163),
    }
    card = Card(
        origin="Rendered by tasks/rendering/raycast.py from seeds; no photograph",
        licence="MIT, as this project",
        preprocessing=(
            "1,300 / 200 / 500 rooms at 24×32, the same for every seed; colours with noise of 0.03; 4 % of the pixels "
            "unlabelled (−1), depth and normals invalid (0) on windows and at 3 % of the pixels. Depth is metres along "
            "the optical axis, normals are unit vectors in camera coordinates. Metrics are accumulated over the split."
        ),
        traps=(
            "Walls are axis-aligned and surfaces flat, so normals are easier than in photographs. At `quick` the "
            "single-task networks are not converged, but have come two thirds of the way or more from the untrained "
            "scores to those of `standard`, so distillation has something to give. The share of normals within 11.25° "
            "starts near zero, so its relative change carries much of that task's noise: read the metrics, too."
        ),
    )

    def __init__(self, height: int = 24, width: int = 32) -> None:
        for name, size in (("height", height), ("width", width)):
            if size < 4 or size % 4:
                raise ValueError(f"{name}={size}: scenes needs a multiple of 4")
        if height * width > MOST_PIXELS:
            raise ValueError(f"height={height}, width={width}: scenes takes at most {MOST_PIXELS:,} pixels (288×384)")
        self.height, self.width = height, width

    def load(self) -> dict[str, dict[str, Tensor]]:
        """Render the rooms, or read them from the cache."""
        code = hashlib.sha256(Path(raycast.__file__).read_bytes()).hexdigest()
        return cached(f"scenes {self.height}x{self.width} {COUNTS} {DATA_SEED} {code}", self._render)

    def _render(self) -> dict[str, dict[str, Tensor]]:
        rooms = raycast.render(sum(COUNTS.values()), height=self.height, width=self.width, seed=DATA_SEED)
        columns = {name: torch.from_numpy(values).split(list(COUNTS.values())) for name, values in rooms.items()}
        return {split: {name: c[i] for name, c in columns.items()} for i, split in enumerate(COUNTS)}

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """NYUv2's three."""
        train, test = self.splits["train"], self.splits["test"]
        classes = len(raycast.CLASSES)

        labels = train["segmentation"]
        commonest = labels[labels != IGNORE].bincount(minlength=classes).argmax()
        logits = functional.one_hot(commonest, classes).float().view(-1, 1, 1).expand(-1, self.height, self.width)
        miou = partial(MulticlassJaccardIndex, classes, average="macro", ignore_index=IGNORE, validate_args=False)
        pixel_accuracy = partial(MulticlassAccuracy, classes, average="micro", ignore_index=IGNORE, validate_args=False)

        depths = train["depth"]
        mean_depth = depths[depths > 0].mean().expand(1, self.height, self.width)
        direction = functional.normalize(train["normal"].sum((0, 2, 3)), dim=0)
        direction = direction.view(3, 1, 1).expand(-1, self.height, self.width)

        def scored(
            column: str, constant: Tensor, elements: MetricInputs, builders: Mapping[str, tuple[Factory, bool]]
        ) -> dict[str, Metric]:
            return {
                name: against_constant(build, higher, constant, test[column], elements)
                for name, (build, higher) in builders.items()
            }

        segmentation = scored(
            *("segmentation", logits, likeliest),
            {"miou": (miou, True), "pixel_accuracy": (pixel_accuracy, True)},
        )
        depth = scored(
            *("depth", mean_depth, valid_depths),
            {"absolute": (MeanAbsoluteError, False), "relative": (MeanAbsolutePercentageError, False)},
        )
        shares = {f"within_{limit:g}": (partial(Within, limit), True) for limit in (11.25, 22.5, 30)}
        normals = scored(
            *("normal", direction, angles),
            {"mean_angle": (MeanMetric, False), "median_angle": (Median, False), **shares},
        )
        return (
            Task("segmentation", "segmentation", cross_entropy, segmentation, likeliest),
            Task("depth", "depth", depth_error, depth, valid_depths),
            Task("normals", "normal", normal_error, normals, angles),
        )

    def network(self, tasks: Sequence[str]) -> Network:
        """Return the encoder-decoder."""
        outputs = {"segmentation": len(raycast.CLASSES), "depth": 1, "normals": 3}
        return EncoderDecoder("image", {task: outputs[task] for task in tasks})
