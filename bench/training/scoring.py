"""Scores a network on a whole split, with as many examples at once as fit into a fixed amount of memory."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tasks.core.base import Network, Outputs, Task, TaskSet

MEMORY = 1 << 30
"""Bytes that the tensors of one forward pass may take while a split is scored."""
MOST = 1024
"""The most examples that are scored at once. More would not be faster."""

Scores = dict[str, dict[str, float | None]]
"""Values by task and metric; None stands for a value that is not finite."""
Columns = Mapping[str, Tensor]
Autocast = Callable[[], AbstractContextManager[Any]]


def score(
    network: Network,
    task_set: TaskSet,
    tasks: Sequence[Task],
    split: str,
    *,
    at_once: int,
    device: torch.device,
    autocast: Autocast,
) -> tuple[Scores, Tensor]:
    """Return every metric on the whole split, by task, and the tasks' mean losses `[K]`.

    The network is in eval mode while it is scored, and in train mode afterwards. The number of examples that are scored
    `at_once` changes the scores by rounding only.
    """
    columns = task_set.splits[split]
    examples = len(next(iter(columns.values())))
    metrics = {t.name: {n: m.factory().to(device) for n, m in t.metrics.items()} for t in tasks}
    total = count = torch.zeros(len(tasks), dtype=torch.float64, device=device)
    network.eval()
    with torch.no_grad():
        for start in range(0, examples, at_once):
            batch = {name: column[start : start + at_once].to(device) for name, column in columns.items()}
            with autocast():
                outputs = network({name: batch[name] for name in task_set.inputs})
            totals, counts = losses(tasks, outputs, batch)
            total, count = total + torch.stack(totals), count + stacked(counts, device)
            for task in tasks:
                inputs = task.metric_inputs(outputs.predictions[task.name].float(), batch[task.target])
                for metric in metrics[task.name].values():
                    metric.update(*inputs)
        computed = {task: {name: metric.compute() for name, metric in own.items()} for task, own in metrics.items()}
    network.train()
    return _numbers(computed, device), (total / count.clamp(min=1)).float()


def examples_at_once(
    network: Network, task_set: TaskSet, device: torch.device, autocast: Autocast, memory: int = MEMORY
) -> int:
    """Return how many examples may be scored at once, so that the tensors of their forward pass fit into `memory`.

    One example is passed through the network, and the bytes of all tensors that its operations return are added up. The
    tensors that exist at the same time take less.
    """
    example = {name: task_set.splits["test"][name][:1].to(device) for name in task_set.inputs}
    network.eval()
    made = _Bytes()
    with torch.no_grad(), autocast(), made:
        network(example)
    network.train()
    return max(1, min(MOST, memory // max(1, made.total)))


def losses(tasks: Sequence[Task], outputs: Outputs, batch: Columns) -> tuple[list[Tensor], list[Tensor | float]]:
    """Return each task's total loss on a batch, in float32, and the number of its labels."""
    pairs = [task.loss(outputs.predictions[task.name].float(), batch[task.target]) for task in tasks]
    return [total for total, _ in pairs], [count for _, count in pairs]


def stacked(counts: Sequence[Tensor | float], device: torch.device) -> Tensor:
    """Return the counts `[K]` in float64."""
    return torch.stack([torch.as_tensor(count, dtype=torch.float64, device=device) for count in counts])


def on_host(counts: Sequence[Tensor | float]) -> list[float]:
    """Return the counts as numbers. Those that are tensors come from their device in one copy."""
    tensors = [count for count in counts if isinstance(count, Tensor)]
    copied = iter(torch.stack(tensors).tolist() if tensors else ())
    return [next(copied) if isinstance(count, Tensor) else count for count in counts]


def number(value: Tensor) -> float | None:
    """Return a tensor's one value, or None if it is not finite."""
    return finite(value.item())


def _numbers(computed: Mapping[str, Mapping[str, Tensor]], device: torch.device) -> Scores:
    """Return the values of single-valued tensors, copied from the device together."""
    values = [value.reshape(()).to(device, torch.float64) for own in computed.values() for value in own.values()]
    numbers = iter(torch.stack(values).tolist() if values else ())
    return {task: {name: finite(next(numbers)) for name in own} for task, own in computed.items()}


def mean(scores: Sequence[Scores]) -> Scores:
    """Return the mean of each metric; None where one of its values is not finite."""
    return {
        task: {name: _mean([one[task][name] for one in scores]) for name in own} for task, own in scores[-1].items()
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(values) if len(known) == len(values) else None


def finite(value: float) -> float | None:
    """Return the value, or None if it is NaN or infinite: JSON knows neither."""
    return value if math.isfinite(value) else None


class _Bytes(TorchDispatchMode):
    """Adds up the bytes of all tensors that operations return."""

    def __init__(self) -> None:
        super().__init__()
        self.total: int = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, list | tuple) else [result]:
            if isinstance(tensor, Tensor):
                self.total += tensor.numel() * tensor.element_size()
        return result
