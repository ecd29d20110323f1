"""Two overlaid MNIST digits on one canvas."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from tasks.core.base import Card, Network, Task, TaskSet
from tasks.core.hub import Copy, Source, prepared
from tasks.core.losses import cross_entropy
from tasks.core.metrics.classification import accuracy
from tasks.core.protocol import Protocol
from tasks.networks.lenet import LeNet

CLASSES, SIDE, CANVAS, SHIFT = 10, 28, 36, 6
VALIDATION = 0.1
"""The share of the training images that goes into the validation split."""
DATA_SEED = 0
PREPROCESSING = (
    "Canvases of 36×36 bytes: the left image at rows and columns 0 to 27, the right one at 6 to 33, blended by the "
    "maximum. Each image is the left one once, and the right one is drawn at random from the same split; a tenth of "
    "the training images, drawn before composing, makes the validation split. The same pairs for every seed"
)
TRAPS = (
    "There is no canonical file: these pairs are drawn here, and papers draw others, often resize to 28×28 and have no "
    "validation split, so numbers are not comparable image for image. The split is fixed, so every conclusion is "
    "conditional on it. A local folder may hold fewer images than the hub: that is another data set, of the same name."
)


class MultiMNIST(TaskSet):
    """Two overlaid handwritten digits, from the hub or a folder (path): left digit, right digit.

    The field's oldest multi-task image set (Sabour et al. 2017; Sener & Koltun 2018). Two alike tasks of the same size
    that compete for one small trunk: there is little to balance.
    """

    embedded = False
    inputs = ("image",)
    hub = "ylecun/mnist@77f3279092a1c1579b2250db8eafed0ad422088c"
    source = Source(
        hub,
        rows={"train": 60_000, "test": 10_000},
        columns={"image": "Image", "label": f"ClassLabel({CLASSES})"},
    )
    protocols = {
        "smoke": Protocol(name="smoke", steps=20, batch_size=64, lr=4e-3, steps_per_epoch=5, points=2),
        "quick": Protocol(name="quick", steps=500, batch_size=64, lr=4e-3, steps_per_epoch=50),
        "standard": Protocol(name="standard", steps=6000, batch_size=64, lr=2e-3, steps_per_epoch=150),
    }
    card = Card(
        origin="MNIST (LeCun et al. 1998), hub id ylecun/mnist",
        licence="CC BY-SA 3.0, as is usually said; the hub's card says MIT",
        preprocessing=PREPROCESSING,
        traps=TRAPS,
    )

    def __init__(self, path: str = "") -> None:
        self.path = path

    def load(self) -> dict[str, dict[str, Tensor]]:
        """Compose the canvases, or read them from the cache."""
        return prepared(self.source, self.path, self._compose)

    def _compose(self, copy: Copy) -> dict[str, dict[str, Tensor]]:
        read = copy.read()
        images = {split: copy.pixels(own["image"], SIDE, SIDE) for split, own in read.items()}
        labels = {split: torch.tensor(own["label"][:]) for split, own in read.items()}
        generator = np.random.default_rng(DATA_SEED)
        order = generator.permutation(len(labels["train"]))
        held = round(VALIDATION * len(order))
        every = np.arange(len(labels["test"]))
        parts = {"train": ("train", order[held:]), "validation": ("train", order[:held]), "test": ("test", every)}
        return {
            split: _overlay(images[origin][chosen], labels[origin][chosen], generator)
            for split, (origin, chosen) in parts.items()
        }

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """Left and right."""
        train, test = self.splits["train"], self.splits["test"]
        return tuple(
            Task(side, side, cross_entropy, {"accuracy": accuracy(CLASSES, train[side], test[side])})
            for side in ("left", "right")
        )

    def network(self, tasks: Sequence[str]) -> Network:
        """Return the LeNet."""
        return LeNet("image", CANVAS, dict.fromkeys(tasks, CLASSES))


def _overlay(images: Tensor, labels: Tensor, generator: np.random.Generator) -> dict[str, Tensor]:
    """Lay on each of the images `[N, 28, 28]` another one, drawn at random."""
    drawn = generator.integers(len(images), size=len(images))
    canvas = torch.zeros(len(images), 1, CANVAS, CANVAS, dtype=torch.uint8)
    canvas[:, 0, :SIDE, :SIDE] = images
    window = canvas[:, 0, SHIFT : SHIFT + SIDE, SHIFT : SHIFT + SIDE]
    window[:] = torch.maximum(window, images[drawn])
    return {"image": canvas, "left": labels, "right": labels[drawn]}
