"""The contract of a task set: its tasks, data, network and protocols."""

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from typing import NamedTuple

import torch
import torchmetrics
from torch import Tensor, nn

from tasks.core.errors import DataError
from tasks.core.protocol import Protocol

SPLITS = ("train", "validation", "test")

Loss = Callable[[Tensor, Tensor], tuple[Tensor, Tensor | float]]
"""`(prediction, target)` -> `(total, count)`: the sum of the loss over the elements that have a label, and their
number, which is a tensor or a plain number."""

MetricInputs = Callable[[Tensor, Tensor], tuple[Tensor, ...]]
"""`(prediction, target)` -> the tensors that a task's metrics accumulate, computed once for all its metrics."""

Factory = Callable[[], torchmetrics.Metric]
"""Makes an accumulator with `update(*metric_inputs)` and `compute()`."""


def as_they_are(prediction: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    """Prediction and target themselves."""
    return prediction, target


@dataclass(frozen=True)
class Metric:
    """How a task is scored on a whole split.

    Raises:
        TypeError: a field has the wrong type.
        ValueError: the constant predictor's score is infinite.
    """

    factory: Factory
    higher_is_better: bool
    constant_score: float
    """The test score of a constant predictor, fitted to the training targets without looking at the inputs. NaN where
    no test target has a label; such a task set is refused when it is built."""

    def __post_init__(self) -> None:
        _require(callable(self.factory), "a metric's factory", "a function without arguments", self.factory)
        _require(isinstance(self.higher_is_better, bool), "higher_is_better", "True or False", self.higher_is_better)
        number = isinstance(self.constant_score, Real) and not isinstance(self.constant_score, bool)
        _require(number, "constant_score", "a number", self.constant_score)
        if math.isinf(self.constant_score):
            raise ValueError(f"constant_score should be a finite number, not {self.constant_score}")


@dataclass(frozen=True)
class Task:
    """One thing to predict.

    Raises:
        TypeError: a field has the wrong type; the message names the task and the metric.
        ValueError: the name is empty, or there is no metric.
    """

    name: str
    target: str
    """The column of the data that the loss and the metrics compare the prediction with."""
    loss: Loss
    """`(prediction, target) -> (total, count)` over the elements with a label; (0, 0) where there is none. A NaN in a
    target means "no label" if the loss leaves it out, so that its total stays finite; else the data is refused."""
    metrics: Mapping[str, Metric]
    metric_inputs: MetricInputs = as_they_are

    def __post_init__(self) -> None:
        _require(isinstance(self.name, str), "a task's name", "text", self.name)
        if not self.name.strip():
            raise ValueError("a task's name should not be empty")
        of = f"task '{self.name}': "
        _require(isinstance(self.target, str), f"{of}target", "the name of a column", self.target)
        _require(callable(self.loss), f"{of}loss", "a function of prediction and target", self.loss)
        _require(callable(self.metric_inputs), f"{of}metric_inputs", "a function", self.metric_inputs)
        _require(isinstance(self.metrics, Mapping), f"{of}metrics", "a dictionary of Metrics by name", self.metrics)
        if not self.metrics:
            raise ValueError(f"{of}metrics should have at least one entry")
        for name, metric in self.metrics.items():
            _require(isinstance(name, str), f"{of}a metric's name", "text", name)
            _require(isinstance(metric, Metric), f"{of}metric '{name}'", "a Metric", metric)

    def total_and_count(self, prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Call the loss on a prediction `[N, …]` and a target `[N, …]`; return its total and its count, both `[]`."""
        total, count = self.loss(prediction, target)
        return total, count if isinstance(count, Tensor) else total.new_tensor(count)


class Outputs(NamedTuple):
    """What a network returns."""

    predictions: dict[str, Tensor]
    features: Tensor | None
    """The tensor through which everything shared reaches the heads, if there is one."""
    taps: dict[str, tuple[Tensor, ...]]
    """Per task, the feature maps that distillation reads."""


class Network(nn.Module, ABC):
    """A trunk with a head per task: `self.trunk`, and `self.heads`, a ModuleDict with the tasks' names.

    A network of another structure (each task with its own attention, say) overrides `shared`, `last` and `private`.
    Every module with parameters has `reset_parameters`, by which it is initialised.
    """

    @property
    def shared(self) -> list[tuple[str, nn.Parameter]]:
        """The trunk's parameters with their names, including frozen ones."""
        return list(self._part("trunk").named_parameters(prefix="trunk"))

    @property
    def last(self) -> nn.Parameter:
        """The weight of the last shared layer: the trunk's last parameter that learns and has two axes or more."""
        learning = [parameter for _, parameter in self.shared if parameter.requires_grad]
        if not learning:
            raise ValueError("every parameter of the network's trunk is frozen, so there is nothing to balance")
        return next((parameter for parameter in reversed(learning) if parameter.dim() > 1), learning[-1])

    def private(self, task: str) -> list[nn.Parameter]:
        """Return the parameters that belong to this task's head alone, including frozen ones."""
        heads = dict(self._part("heads").named_children())
        if task not in heads:
            raise TypeError(f"{type(self).__name__}.heads should have a head '{task}', or override private")
        others = {parameter for _, parameter in self.shared}
        others |= {parameter for name, head in heads.items() if name != task for parameter in head.parameters()}
        return [parameter for parameter in heads[task].parameters() if parameter not in others]

    def _part(self, name: str) -> nn.Module:
        if name not in self._modules:
            raise TypeError(f"{type(self).__name__} should have self.{name}, or override shared, last and private")
        return self.get_submodule(name)

    @abstractmethod
    def forward(self, inputs: Mapping[str, Tensor]) -> Outputs:
        """Predict every task from columns with one first axis."""


def modules_with_parameters(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the modules of a network that have parameters of their own, with their names.

    Raises:
        TypeError: one has no `reset_parameters`, so that its initial weights cannot be drawn.
    """
    found = [(n, m) for n, m in network.named_modules() if next(m.parameters(recurse=False), None) is not None]
    for name, module in found:
        if not hasattr(module, "reset_parameters"):
            what = f"{type(module).__name__} ({name or 'the network itself'})"
            raise TypeError(f"{what} has parameters but no reset_parameters(), which draws its initial weights")
    return found


@dataclass(frozen=True)
class Card:
    """What a reader must know about a task set. Its sizes and metrics are read from the set itself."""

    origin: str
    licence: str
    preprocessing: str
    traps: str
    regime: str = "not measured"
    """What sharing one network does here, and why the tasks are out of balance: what the set was made for, and what was
    measured for it by single-task learning and equal weights alone."""


class TaskSet(ABC):
    """Tasks learnt together, with their data and network. Arguments of `__init__` are the set's options."""

    inputs: tuple[str, ...]
    """The columns that a network may see."""
    embedded: bool = True
    """Whether the data comes with the package. A set whose data must be downloaded sets this to False. It is then left
    out of `--tasks all`."""
    hub: str | None = None
    """The `id@commit` of the data on the Hugging Face hub. Such a set has an option `path` for a local folder."""
    local: str | None = None
    """Of data that is on no hub: which files a folder must contain, and where they are from. Such a set has an option
    `path`, too."""
    card: Card
    protocols: Mapping[str, Protocol]

    @abstractmethod
    def load(self) -> dict[str, dict[str, Tensor]]:
        """Return the columns of each split: `{split: {column: [N, …]}}`. The data is the same for every seed.

        Raises:
            DataError: the data cannot be read or fetched.
        """

    @property
    @abstractmethod
    def tasks(self) -> tuple[Task, ...]:
        """The tasks, in the order in which their losses are given to a method."""

    @abstractmethod
    def network(self, tasks: Sequence[str]) -> Network:
        """Return a network for these tasks. It is called with one task for single-task runs."""

    @cached_property
    def splits(self) -> dict[str, dict[str, Tensor]]:
        """The loaded and checked data: three splits, each with the inputs, and with columns of the same length."""
        named = isinstance(self.inputs, tuple | list) and all(isinstance(name, str) for name in self.inputs)
        _require(named, "inputs", "a tuple of the names of columns", self.inputs)
        splits = self.load()
        _require(isinstance(splits, Mapping), "what load() returns", "a dictionary of splits", splits)
        for split in SPLITS:
            columns = splits.get(split, {})
            _require(isinstance(columns, Mapping), f"the {split} split", "a dictionary of columns", columns)
            self._need(split, columns, self.inputs)
            for name, column in columns.items():
                _require(isinstance(column, Tensor), f"the {split} split's column {name}", "a tensor", column)
                if not column.dim():
                    raise DataError(f"the {split} split's column {name} is a single number, not one per example")
            lengths = {name: len(column) for name, column in columns.items()}
            if len(set(lengths.values())) != 1 or 0 in lengths.values():
                raise DataError(f"the {split} split's columns should have one length above 0: {lengths}")
        return {split: {n: c.contiguous() for n, c in splits[split].items()} for split in SPLITS}

    @cached_property
    def train_and_validation(self) -> dict[str, Tensor]:
        """The columns of both splits together: what is trained on where a protocol has no validation split."""
        held_out = self.splits["validation"]
        return {n: torch.cat([column, held_out[n]]) for n, column in self.splits["train"].items() if n in held_out}

    def augment(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> Mapping[str, Tensor]:
        """Return a training batch, changed at random. A set whose protocols ask for this overrides it.

        Args:
            batch: the columns of some examples `{column: [N, …]}`, on the run's device. It must not be changed.
            generator: what to draw from, of the CPU. It depends on the run's seed and the step alone.
        """
        raise NotImplementedError(f"{type(self).__name__} declares no augmentation")

    def check(self) -> None:
        """Raise DataError unless every task finds its target in every split, and every input is finite.

        Whether the targets fit the losses needs a network: `tasks.core.trial` tests that.
        """
        for split, columns in self.splits.items():
            self._need(split, columns, [task.target for task in self.tasks])
            for name in self.inputs:
                require_finite(split, name, columns[name])

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
                digest.update(column.reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def task(self, name: str) -> Task:
        """Return the task of this name."""
        return {task.name: task for task in self.tasks}[name]


def rows_not_finite(column: Tensor) -> Tensor:
    """Return the numbers `[n]` of those rows of a column `[N, …]` that have a NaN or an infinity."""
    if column.sum().isfinite():  # the usual case, at a tenth of the time
        return torch.empty(0, dtype=torch.long)
    return (~column.isfinite()).reshape(len(column), -1).any(1).nonzero()[:, 0]


def require_finite(split: str, name: str, column: Tensor) -> None:
    """Raise DataError if a column `[N, …]` has a NaN or an infinity; the message says where the first one is."""
    rows = rows_not_finite(column)
    if len(rows):
        row = column[rows[0]].flatten()
        value = row[~row.isfinite()][0].item()
        raise DataError(f"the {split} split's column {name} should be finite: it is {value} in row {int(rows[0])}")


def _require(holds: bool, what: str, right: str, given: object) -> None:
    """Raise TypeError unless `holds`. The message says what should be `right`, and what was `given`."""
    if holds:
        return
    if given is None:
        found = "None"
    elif isinstance(given, type):
        found = f"the class {given.__name__}"
    else:
        kind = type(given).__name__
        found = f"{'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}"
    raise TypeError(f"{what} should be {right}, not {found}")
