"""The contract of a task set: its tasks, data, network and protocols."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
import torchmetrics
from torch import Tensor, nn

from tasks.core.errors import DataError
from tasks.core.protocol import Protocol

SPLITS = ("train", "validation", "test")


MetricInputs = Callable[[Tensor, Tensor], tuple[Tensor, ...]]
"""`(prediction, target)` -> what a task's metrics accumulate. It is computed once for all of them."""

Factory = Callable[[], torchmetrics.Metric]
"""Makes an accumulator with `update(*metric_inputs)` and `compute()`."""


def as_they_are(prediction: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    """Prediction and target themselves."""
    return prediction, target


@dataclass(frozen=True)
class Metric:
    """How a task is scored on a whole split."""

    factory: Factory
    higher_is_better: bool
    constant_score: float
    """The test score of a constant predictor, fitted to the training targets without looking at the inputs."""


@dataclass(frozen=True)
class Task:
    """One thing to predict."""

    name: str
    target: str
    """The column of the data that the loss and the metrics compare the prediction with."""
    loss: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    """`(prediction, target) -> (total, count)` over the valid elements; (0, 0) where there is none."""
    metrics: Mapping[str, Metric]
    metric_inputs: MetricInputs = as_they_are


class Outputs(NamedTuple):
    """What a network returns."""

    predictions: dict[str, Tensor]
    features: Tensor | None
    """The tensor through which everything shared reaches the heads, if there is one."""
    taps: dict[str, tuple[Tensor, ...]]
    """Per task, the feature maps that distillation reads."""


class Network(nn.Module, ABC):
    """A trunk with a head per task. Every module with parameters has `reset_parameters`, by which it is initialised."""

    @property
    @abstractmethod
    def shared(self) -> list[tuple[str, nn.Parameter]]:
        """The trunk's parameters with their names."""

    @property
    @abstractmethod
    def last(self) -> nn.Parameter:
        """The weight of the last shared layer."""

    @abstractmethod
    def forward(self, inputs: Mapping[str, Tensor]) -> Outputs:
        """Predict every task from columns with one first axis."""


@dataclass(frozen=True)
class Card:
    """What a reader must know of a task set. Sizes, metrics and untrained scores are read from the set itself."""

    origin: str
    licence: str
    preprocessing: str
    traps: str


class TaskSet(ABC):
    """Tasks learnt together, with their data and network. Arguments of `__init__` are the set's options."""

    inputs: tuple[str, ...]
    """The columns that a network may see."""
    embedded: bool = True
    """Whether the install brings the data. A set of which it does not says `embedded = False`, literally, as a plan
    reads it without importing the set; and is not in `--tasks all`."""
    hub: str | None = None
    """The data's `id@commit` on the Hugging Face hub, literally; such a set has an option `path` for a local folder."""
    card: Card
    protocols: Mapping[str, Protocol]

    @abstractmethod
    def load(self) -> dict[str, dict[str, Tensor]]:
        """Return the columns of each split: `{split: {column: [N, …]}}`. The same data whatever a run's seed.

        Raises:
            DataError: it cannot be had.
        """

    @property
    @abstractmethod
    def tasks(self) -> tuple[Task, ...]:
        """The tasks, in the order in which their losses are given to a method."""

    @abstractmethod
    def network(self, tasks: Sequence[str]) -> Network:
        """Return the network for these tasks; with one, that of a single-task run."""

    @cached_property
    def splits(self) -> dict[str, dict[str, Tensor]]:
        """The loaded data, checked: three splits, each with the inputs, all columns of one length above 0."""
        splits = self.load()
        for split in SPLITS:
            self._need(split, splits.get(split, {}), self.inputs)
            lengths = {name: len(column) for name, column in splits[split].items()}
            if len(set(lengths.values())) != 1 or 0 in lengths.values():
                raise DataError(f"the {split} split's columns should have one length above 0: {lengths}")
        return {split: {n: c.contiguous() for n, c in splits[split].items()} for split in SPLITS}

    def check(self) -> None:
        """Raise DataError unless every task finds its target in every split."""
        for split, columns in self.splits.items():
            self._need(split, columns, [task.target for task in self.tasks])

    @staticmethod
    def _need(split: str, columns: Mapping[str, Tensor], names: Sequence[str]) -> None:
        missing = [name for name in names if name not in columns]
        if missing:
            raise DataError(f"the {split} split lacks the column {missing[0]}: it has {', '.join(columns) or 'none'}")

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 of every column's name, shape, type and bytes."""
        digest = hashlib.sha256()
        for split, columns in self.splits.items():
            for name, column in sorted(columns.items()):
                digest.update(f"{split} {name} {tuple(column.shape)} {column.dtype}".encode())
                digest.update(column.view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def task(self, name: str) -> Task:
        """Return the task of this name."""
        return {task.name: task for task in self.tasks}[name]
