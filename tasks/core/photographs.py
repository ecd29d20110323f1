"""Task sets of photographs with labels of every pixel, from Parquet files that are too large for memory."""

import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from tasks.core.augment import Kind, scale_crop_flip
from tasks.core.base import Network, Task, TaskSet
from tasks.core.hub import Source
from tasks.core.losses import IGNORE
from tasks.core.mapped import Column, Mapped, mapped
from tasks.core.metrics import legacy
from tasks.core.protocol import Protocol
from tasks.networks import by_name

BLOCKS = 80
"""Into about so many blocks of successive images the training images are cut. Every tenth block validates."""
LARGEST = float(np.finfo(np.float16).max)


def image(height: int, width: int) -> Column:
    """Colours from 0 to 1, or a little beyond where somebody interpolated."""
    return Column("float16", (3, height, width), -0.1, 1.1, "colours from 0 to 1")


def classes(count: int, height: int, width: int) -> Column:
    """Classes of pixels, −1 for none."""
    return Column("int8", (height, width), IGNORE, count - 1, f"classes from 0 to {count - 1}, or {IGNORE} for none")


def depth(height: int, width: int) -> Column:
    """Depths or inverse depths, 0 for none. What is below 0 is stored, and counts as none."""
    return Column("float16", (1, height, width), -LARGEST, LARGEST, "finite depths")


def normals(height: int, width: int) -> Column:
    """Unit normals, 0 for none."""
    return Column("float16", (3, height, width), -1.01, 1.01, "unit normals")


class Photographs(TaskSet):
    """What such sets have in common. The hub's split `val` is the test split, as in papers."""

    embedded = False
    inputs = ("image",)
    source: Source
    stored: Mapping[str, Column]
    """How each column is stored."""
    kinds: Mapping[str, Kind]
    """What each column is to the augmentation."""
    outputs: Mapping[str, int]
    """By task, how many numbers a network predicts for a pixel."""

    def __init__(
        self,
        path: str = "",
        metrics: legacy.How = "pooled",
        network: by_name.Name = "segnet",
        channels: float = 1.0,
    ) -> None:
        by_name.require(network, channels)
        self.path, self.metrics = path, metrics
        self.kind, self.channels = network, channels

    @cached_property
    def mapped(self) -> Mapped:
        """The columns as they are stored: of `train` those that validate come last."""
        return mapped(self.source, self.path, self.stored, places)

    def load(self) -> dict[str, dict[str, Tensor]]:
        """Map the stored arrays into memory: the last images of `train` validate."""
        whole = self.mapped.splits
        count = len(next(iter(whole["train"].values())))
        last = count - int(validates(count).sum())
        return {
            "train": {name: column[:last] for name, column in whole["train"].items()},
            "validation": {name: column[last:] for name, column in whole["train"].items()},
            "test": whole["val"],
        }

    @cached_property
    def train_and_validation(self) -> dict[str, Tensor]:
        """All images of `train`, as they are mapped: no copies."""
        return self.mapped.splits["train"]

    def check(self) -> None:
        """Raise DataError unless every task finds its target. All values were checked when they were stored."""
        for split, columns in self.splits.items():
            self._need(split, columns, [*self.inputs, *(task.target for task in self.tasks)])

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 of the stored columns and of the sizes of the splits: the bytes were read when they were made."""
        sizes = {split: len(next(iter(columns.values()))) for split, columns in self.splits.items()}
        return hashlib.sha256(f"{sorted(self.mapped.digests.items())} {sizes}".encode()).hexdigest()

    @cached_property
    @abstractmethod
    def tasks(self) -> tuple[Task, ...]:
        """The tasks."""

    def target(self, name: str) -> tuple[Tensor, Tensor]:
        """Return a column of the training and of the test split."""
        return self.splits["train"][name], self.splits["test"][name]

    def network(self, tasks: Sequence[str]) -> Network:
        """Return SegNet, or the network that is asked for."""
        outputs = {task: self.outputs[task] for task in tasks}
        return reads_halves(by_name.build(self.kind, outputs, self.channels))

    def augment(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return a training batch zoomed and mirrored at random, as papers do. `generator` is of the CPU."""
        return scale_crop_flip(batch, self.kinds, generator)


def published(steps_per_epoch: int, batch_size: int) -> dict[str, Protocol]:
    """The protocols of Li & Bilen (ECCV workshops 2020) and Navon et al. (ICML 2022), by name.

    Both train for 200 epochs on all images with Adam at a rate of 1e-4, which is halved after 100. The latter augments,
    and reports the mean over the last ten epochs.
    """
    common = Protocol(
        name="li2020",
        steps=200 * steps_per_epoch,
        batch_size=batch_size,
        lr=1e-4,
        steps_per_epoch=steps_per_epoch,
        points=20,
        schedule="halving",
        halve_every=100,
        validation=False,
    )
    later = common.model_copy(update={"name": "navon2022", "augment": True, "average_last": 10})
    return {protocol.name: protocol for protocol in (common, later)}


def validates(count: int) -> np.ndarray:
    """Which of `count` training images validate `[count]`: every tenth block of successive ones, from the sixth on.

    Successive images often show one room or one street, so that images drawn one by one would have near twins among
    those that are trained on.
    """
    block = max(1, count // BLOCKS)
    chosen: np.ndarray = (np.arange(count) // block) % 10 == 5
    return chosen


def places(split: str, rows: int) -> np.ndarray:
    """Where each row is stored: in its order, but of `train` those that validate last."""
    if split != "train":
        return np.arange(rows)
    place = np.empty(rows, dtype=np.int64)
    place[np.argsort(validates(rows), kind="stable")] = np.arange(rows)
    return place


def reads_halves(network: Network) -> Network:
    """Let a network read inputs of any type: they are turned into that of its parameters first."""
    network.register_forward_pre_hook(_as_parameters)
    return network


def _as_parameters(network: nn.Module, arguments: tuple[Mapping[str, Tensor]]) -> tuple[dict[str, Tensor]]:
    kind = next(network.parameters()).dtype
    return ({name: column.to(kind) for name, column in arguments[0].items()},)
