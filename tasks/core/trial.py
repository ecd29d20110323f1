"""Tries the parts of a task set together on a few examples, so that what does not fit is found before training."""

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Real

import torch
import torchmetrics
from torch import Tensor

from tasks.core.base import (
    SPLITS,
    Card,
    Network,
    Outputs,
    Task,
    TaskSet,
    modules_with_parameters,
    require_finite,
    rows_not_finite,
)
from tasks.core.errors import DataError, in_words
from tasks.core.protocol import Protocol

EXAMPLES = 2
"""How many examples go through each network."""
CHUNK = 16
"""How many examples are given to a loss at once."""
ENOUGH = 16
"""After this many labels the search for labels ends. Metrics need some."""


def try_out(task_set: TaskSet) -> None:
    """Check the declarations, build the networks of all tasks and of one, and try losses and metrics on them.

    The targets that are tried are the likeliest to be wrong: the smallest, the largest, and those that are not finite.
    Each split is searched until some labels are found. The global generator of torch is left as it was.

    Raises:
        DataError: a split has no label of a task, or a target is not finite and its loss does not leave it out.
        TypeError, ValueError: a part has the wrong type or value, or does not fit the others.
        Exception: the set's own code raised it.
    """
    _declared(task_set)
    task_set.check()
    names = tuple(task.name for task in task_set.tasks)
    with torch.random.fork_rng(devices=[]), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # torch's own losses only warn of shapes that broadcast.
        warnings.filterwarnings("error", message="Using a (target|input) size")
        predictions = _predictions(task_set, names)
        if len(names) > 1:
            _predictions(task_set, names[:1])
        for task in task_set.tasks:
            prediction = predictions[task.name]
            with _named(f"task '{task.name}'"):
                for split in SPLITS:
                    with _named(f"the {split} split"):
                        rows = _try_targets(task_set, task, split, prediction)
                _try_metrics(task, prediction, task_set.splits["test"][task.target][:rows])


def _declared(task_set: TaskSet) -> None:
    if not isinstance(task_set.card, Card):
        raise TypeError(f"card should be a Card, not {task_set.card!r}")
    if not isinstance(task_set.protocols, Mapping) or not task_set.protocols:
        raise TypeError(f"protocols should be a dictionary of at least one Protocol, not {task_set.protocols!r}")
    for name, protocol in task_set.protocols.items():
        if not isinstance(protocol, Protocol):
            raise TypeError(f"protocol '{name}' should be a Protocol, not {protocol!r}")
    tasks = task_set.tasks
    if not isinstance(tasks, tuple | list) or not tasks:
        raise TypeError(f"tasks should be a tuple of at least one Task, not {tasks!r}")
    for task in tasks:
        if not isinstance(task, Task):
            raise TypeError(f"tasks should be a tuple of Tasks, but has {task!r}")
    names = [task.name for task in tasks]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two tasks are called '{name}'")


def _predictions(task_set: TaskSet, names: tuple[str, ...]) -> dict[str, Tensor]:
    """What a network of these tasks, in evaluation, predicts for the first training examples, in float32."""
    network = task_set.network(names)
    if not isinstance(network, Network):
        raise TypeError(f"network() should return a Network, not a value of type {type(network).__name__}")
    modules_with_parameters(network)
    if not any(parameter.requires_grad for _, parameter in network.shared):
        raise ValueError("every parameter of the network's trunk is frozen, so there is nothing to balance")
    for name in names:
        network.private(name)
    train = task_set.splits["train"]
    outputs = network.eval()({name: train[name][:EXAMPLES] for name in task_set.inputs})
    if not isinstance(outputs, Outputs):
        raise TypeError(f"its network should return Outputs, not a value of type {type(outputs).__name__}")
    for field in ("predictions", "taps"):
        if not isinstance(found := getattr(outputs, field), Mapping):
            kind = type(found).__name__
            raise TypeError(f"{field} in its network's Outputs should be a dictionary by task, not of type {kind}")
    missing = [name for name in names if name not in outputs.predictions]
    if missing:
        found = ", ".join(outputs.predictions) or "nothing"
        raise ValueError(f"its network, asked for {', '.join(names)}, predicts {found}, so {missing[0]} is missing")
    return {name: outputs.predictions[name].float() for name in names}  # as in training


def _try_targets(task_set: TaskSet, task: Task, split: str, prediction: Tensor) -> int:
    """Try the loss on a split's targets, and count labels until there are enough; return how many rows that took."""
    column = task_set.splits[split][task.target]
    broken = rows_not_finite(column)
    sound = torch.ones(len(column), dtype=torch.bool).index_fill(0, broken, False).nonzero()[:, 0]
    if len(broken):  # beside a sound one: a loss that is a mean would divide by zero
        total, _ = _loss(task, prediction, column[torch.cat([sound[:1], broken[:CHUNK]])])
        if not total.isfinite():
            require_finite(split, task.target, column)
    if len(sound) and column[0].numel():
        values = column[sound].reshape(len(sound), -1)
        extremes = torch.stack([values.amin(1).double().argmin(), values.amax(1).double().argmax()])
        _loss(task, prediction, column[sound[extremes]])
    labels = 0.0
    for start in range(0, len(column), CHUNK):
        total, count = _loss(task, prediction, column[start : start + CHUNK])
        labels += 0.0 if total.isnan() else float(count)  # a mean over no label is nan
        if labels >= ENOUGH:
            return start + CHUNK
    if not labels > 0:
        raise DataError(f"the {split} split has no label of task '{task.name}'")
    return len(column)


def _loss(task: Task, prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The loss of one prediction `[1, …]`, repeated for each of some targets `[n, …]`."""
    returned = task.loss(_repeated(prediction, len(target)), target)
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        raise ValueError(f"its loss should return two numbers, total and count, not {returned}")
    total, count = returned
    if isinstance(count, Real):
        count = torch.tensor(count if isinstance(count, bool) else float(count))
    if not isinstance(total, Tensor) or total.dim() or not isinstance(count, Tensor) or count.dim():
        raise ValueError(f"its loss should return two numbers, total and count, not {total} and {count}")
    if count.dtype == torch.bool:
        raise ValueError("the count that its loss returns should be a number of elements, not True or False")
    return total, count


def _repeated(prediction: Tensor, times: int) -> Tensor:
    return prediction[:1].expand(times, *prediction.shape[1:])


def _try_metrics(task: Task, prediction: Tensor, target: Tensor) -> None:
    """Give test targets to each metric, and see that its score is one number."""
    elements = task.metric_inputs(_repeated(prediction, len(target)), target)
    for name, metric in task.metrics.items():
        with _named(f"metric '{name}'"):
            accumulator = metric.factory()
            if not isinstance(accumulator, torchmetrics.Metric):
                kind = type(accumulator).__name__
                raise TypeError(f"its factory should make a torchmetrics.Metric, not a value of type {kind}")
            if accumulator.higher_is_better not in (None, metric.higher_is_better):
                kind, says = type(accumulator).__name__, accumulator.higher_is_better
                raise ValueError(f"higher_is_better is {metric.higher_is_better}, but {kind} itself says {says}")
            accumulator.update(*elements)
            score = accumulator.compute()
            if not isinstance(score, Tensor) or score.numel() != 1:
                raise ValueError(f"its score should be one number, not {score}")
            if not math.isfinite(metric.constant_score):
                raise ValueError(f"its constant_score should be a finite number, not {metric.constant_score}")


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Add to the message of an error which part of the set it is about."""
    try:
        yield
    except DataError:
        raise
    except Exception as problem:  # whatever the set's own code may raise
        raise ValueError(f"{what}: {in_words(problem)}") from problem
