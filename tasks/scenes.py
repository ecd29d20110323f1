"""Ray-cast rooms: segmentation, depth and surface normals, as in NYUv2."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from tasks.core import dense
from tasks.core.base import Card, Network, Task, TaskSet
from tasks.core.cache import cached
from tasks.core.draw import require_draw
from tasks.core.losses import IGNORE
from tasks.core.protocol import Protocol
from tasks.networks import by_name
from tasks.rendering import raycast

CLASSES = len(raycast.CLASSES)
OUTPUTS = {"segmentation": CLASSES, "depth": 1, "normals": 3}
"""By task, how many numbers a network predicts for a pixel."""
COUNTS = {"train": 1_300, "validation": 200, "test": 500}
UNLABELLED = {"segmentation": IGNORE, "depth": 0, "normal": 0}
"""How each task's column marks a pixel that has no label."""
MOST_PIXELS = 288 * 384
"""The size at which papers use NYUv2. At this size the rooms take 8 GB of memory."""


class Scenes(TaskSet):
    """Rendered rooms with NYUv2's three tasks, losses, masks and metrics: segmentation, depth, normals.

    Cross-entropy over 13 classes, absolute depth error in metres, 1 − cosine of normals: at their natural sizes the
    normals starve.

    With `labels=one` a training image has the labels of one of its tasks only, as in Li, Liu & Bilen, CVPR 2022; which
    one is the same for every seed. At batches of 8, each task is absent from 3 to 5 % of the steps, and 12 % of
    the steps lack a task. Another `draw` gives other rooms. `network=segnet` is the papers' network, for heights and
    widths that are multiples of 32; `channels` is the multiple of a network's own numbers of channels.
    """

    inputs = ("image",)
    protocols = {
        "smoke": Protocol(name="smoke", steps=20, batch_size=8, lr=1e-2, steps_per_epoch=5, points=2),
        "quick": Protocol(name="quick", steps=300, batch_size=8, lr=1e-2, steps_per_epoch=30),
        "standard": Protocol(name="standard", steps=6_000, batch_size=8, lr=1e-2, steps_per_epoch=163),
    }
    card = Card(
        origin="Rendered by tasks/rendering/raycast.py from seeds; no photograph",
        licence="MIT, as this project",
        preprocessing=(
            "1,300 / 200 / 500 rooms at 16×24, the same for every seed; colours with noise of 0.03; 4 % of the pixels "
            "unlabelled (−1), depth and normals invalid (0) on windows and at 3 % of the pixels. Depth is metres along "
            "the optical axis, normals are unit vectors in camera coordinates. Metrics are accumulated over the split."
        ),
        traps=(
            "Walls are axis-aligned and surfaces flat, so normals are easier than in photographs. Edges are blocks of "
            "pixels, and the smallest objects are two or three pixels wide. `quick` is 300 steps, less than two "
            "passes over the rooms, so its single-task networks are not converged. The share of normals within 11.25° "
            "starts near zero, so its relative change carries much of that task's noise: read the metrics, too."
        ),
        regime=(
            "Sharing costs; the imbalance is one of kind and size of the losses. At `quick`, with tuned rates, on "
            "seeds 1002–1007, equal weights are 6.3 points below single-task networks (95 % interval 5.1 to 7.6): "
            "segmentation loses (mean IoU 0.30 against 0.34), normals lose most (the share within 11.25° is 0.16 "
            "against 0.21), depth gains 1.5 %."
        ),
    )

    def __init__(
        self,
        height: int = 16,
        width: int = 24,
        labels: Literal["all", "one"] = "all",
        draw: int = 0,
        network: by_name.Name = "encoder_decoder",
        channels: float = 1.0,
    ) -> None:
        multiple = by_name.MULTIPLES[network]
        for name, size in (("height", height), ("width", width)):
            if size < multiple or size % multiple:
                raise ValueError(f"{name}={size}: scenes needs a multiple of {multiple} for network={network}")
        if height * width > MOST_PIXELS:
            raise ValueError(f"height={height}, width={width}: scenes takes at most {MOST_PIXELS:,} pixels (288×384)")
        by_name.require(network, channels)
        self.height, self.width, self.labels, self.draw = height, width, labels, require_draw(draw)
        self.kind, self.channels = network, channels

    def load(self) -> dict[str, dict[str, Tensor]]:
        """Render the rooms, or read them from the cache."""
        code = hashlib.sha256(Path(raycast.__file__).read_bytes()).hexdigest()
        rooms = f"scenes {self.height}x{self.width} {COUNTS} {self.draw} {code}"
        whole = cached(rooms, self._render)
        if self.labels == "all":
            return whole
        return cached(f"{rooms} one label", lambda: {**whole, "train": one_label(whole["train"], self.draw)})

    def _render(self) -> dict[str, dict[str, Tensor]]:
        rooms = raycast.render(sum(COUNTS.values()), height=self.height, width=self.width, seed=self.draw)
        columns = {name: torch.from_numpy(values).split(list(COUNTS.values())) for name, values in rooms.items()}
        return {split: {name: c[i] for name, c in columns.items()} for i, split in enumerate(COUNTS)}

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """NYUv2's three."""
        train, test = self.splits["train"], self.splits["test"]
        return (
            dense.segmentation(train["segmentation"], test["segmentation"], CLASSES),
            dense.depth(train["depth"], test["depth"]),
            dense.normals(train["normal"], test["normal"]),
        )

    def network(self, tasks: Sequence[str]) -> Network:
        """Return the encoder-decoder, or the network that is asked for."""
        return by_name.build(self.kind, {task: OUTPUTS[task] for task in tasks}, self.channels)


def one_label(columns: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Leave each image the labels of one task, drawn with equal chances; the other labels are marked as missing.

    Source: Li, Liu & Bilen, Learning Multiple Dense Prediction Tasks from Partially Annotated Data, CVPR 2022.
    """
    images = len(columns["image"])
    kept = torch.randint(len(UNLABELLED), (images,), generator=torch.Generator().manual_seed(seed))
    found = dict(columns)
    for number, (name, mark) in enumerate(UNLABELLED.items()):
        found[name] = columns[name].clone()
        found[name][kept != number] = mark
    return found
