"""Lets a rule work on some of its tasks, as if the others did not exist.

At a step where a task takes no part, the rule is given the smaller problem. What it keeps per task (`per_task`) is cut
down to the tasks that take part, with the moments of its optimiser. Afterwards it is put back, and the entries of the
tasks that took no part are what they were before.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .base import Method


def only(rule: "Method", tasks: Sequence[int]) -> AbstractContextManager[None]:
    """Let `rule` work on `tasks` alone inside the block. If these are all of its tasks, nothing changes.

    Raises:
        TypeError: what `per_task` names is not there, or its last axis does not have one entry a task.
    """
    return nullcontext() if len(tasks) == rule.num_tasks else _cut_down(rule, tasks)


@contextmanager
def _cut_down(rule: "Method", tasks: Sequence[int]) -> Iterator[None]:
    count = rule.num_tasks
    whole = {name: _checked(rule, name) for name in rule.per_task}
    # An optimiser knows a parameter by its identity. So the object stays, and its data is exchanged.
    held = {name: value.data for name, value in whole.items()}
    moments = {name: _moments(rule, value) for name, value in whole.items()}
    chosen = torch.tensor(tasks, dtype=torch.int64)
    rule.num_tasks = len(tasks)
    for name, value in whole.items():
        index = chosen.to(value.device)
        value.grad = None
        value.data = held[name].movedim(-1, 0)[index].movedim(0, -1)  # a buffer of `rows_of` keeps its layout
        for key, moment in moments[name].items():
            rule.optimizer.state[value][key] = moment[..., index]  # type: ignore[union-attr]
    try:
        yield
    finally:
        rule.num_tasks = count
        for name, value in whole.items():
            now, gradient = getattr(rule, name).data, value.grad
            index = chosen.to(now.device)
            value.grad = None
            if now.shape[:-1] != held[name].shape[:-1]:  # the rule saw only now how large it is
                held[name] = now.new_zeros(*now.shape[:-1], count)
            held[name] = held[name].to(now.device)  # the rule may have moved a buffer to where its gradients are
            held[name][..., index] = now
            made = {key: _widened(moment, held[name], index) for key, moment in _moments(rule, value).items()}
            if value.device == now.device:
                value.data = held[name]
            else:
                value = held[name]
            if getattr(rule, name) is not value:
                setattr(rule, name, value)
            for key, moment in made.items():
                before = moments[name].get(key)
                if before is not None:
                    before[..., index] = rule.optimizer.state[value][key]  # type: ignore[union-attr]
                rule.optimizer.state[value][key] = moment if before is None else before  # type: ignore[union-attr]
            if gradient is not None:
                value.grad = _widened(gradient, held[name], index)


def _checked(rule: "Method", name: str) -> Tensor:
    value = getattr(rule, name, None)
    if not isinstance(value, Tensor) or not value.dim() or value.shape[-1] != rule.num_tasks:
        raise TypeError(f"{type(rule).__name__}.per_task names {name!r}, which should be a tensor [..., num_tasks]")
    return value


def _moments(rule: "Method", value: Tensor) -> dict[Any, Tensor]:
    """Return the tensors that the rule's optimiser keeps for each entry of a parameter."""
    if rule.optimizer is None or value not in rule.optimizer.state:
        return {}
    state: dict[Any, Any] = rule.optimizer.state[value]
    return {key: kept for key, kept in state.items() if isinstance(kept, Tensor) and kept.shape == value.shape}


def _widened(values: Tensor, like: Tensor, index: Tensor) -> Tensor:
    """Return zeros of the whole shape with `values` at the tasks that took part."""
    whole = torch.zeros_like(like, dtype=values.dtype)
    whole[..., index] = values
    return whole
