"""Reads and checks what a training loop passes at one step: the losses, the parameters they reach, absent tasks."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from . import gradients
from .errors import DivergedError, DoesNotFitError
from .gradients import Reduce

if TYPE_CHECKING:
    from .base import Method

Parameters = Iterable[Tensor | tuple[str, Tensor]]
"""Parameters, or pairs of their names and them, as `named_parameters()` gives."""


@dataclass
class Accumulated:
    """Sums over the micro-batches of a batch, kept until the last one."""

    values: Tensor
    """The losses `[K]`, zero where a task was absent."""
    labelled: list[bool]
    """Whether each task was present in one of them."""
    trunk: list[Tensor]
    matrix: Tensor
    """The Jacobian `[K, P]` at the trunk's parameters."""
    private: list[dict[Tensor, Tensor]]
    """The gradients of each task's own parameters, K of them."""
    leaves: dict[Tensor, int]
    """All parameters that were reached, as keys."""


@dataclass
class Kept:
    """Weights that serve for some steps after the one at which they were measured. They are of the rule's state."""

    tasks: list[int]
    """The tasks that were present."""
    weights: Tensor
    """`[K′]` of these tasks."""
    heads: Tensor | None
    """`[K′]` what the gradients of their heads are multiplied by; None if they stay plain."""
    left: int
    """For how many steps they still serve."""
    left_out: list[int] = field(default_factory=list)
    """The positions of the tasks without a gradient, as in `Step`."""


@dataclass
class Step:
    """The checked input of a route. K′ is the number of present tasks; all lists are in the order of these tasks."""

    of: int
    """K, the number of all tasks."""
    tasks: list[int]
    """The numbers of the present tasks."""
    losses: list[Tensor]
    """Their losses, K′ scalars, with their graphs."""
    values: Tensor
    """Their losses `[K′]`, detached and reduced over ranks, at least in float32."""
    told: Tensor
    """The same losses as the rule gets them: in float64 on the CPU if gradients are measured."""
    trunk: list[Tensor]
    """The shared parameters that get a gradient at this step."""
    names: dict[Tensor, str]
    """The names of all shared parameters that learn."""
    private: list[list[Tensor]]
    """The other parameters that each loss reaches; empty if the rule needs no gradient of each task."""
    stacked: Tensor
    """Their losses `[K′]`, with their graphs."""
    reached: dict[Tensor, int]
    """All parameters that the losses or the added terms reach, as keys."""
    given: list[Tensor]
    """Private parameters that the loop named: those that nothing reaches get a gradient of zero."""
    everything: bool
    """Whether shared parameters that nothing reaches get a gradient of zero, too."""
    features: Tensor | None
    last: Tensor | None
    reduce: Reduce | None
    accumulated: Accumulated | None = None
    extra: Tensor | None = None
    """The sum of the added terms, where it joins the last pass through the trunk."""
    left_out: list[int] = field(default_factory=list)
    """The positions in `tasks` of those whose measured gradient is zero, where the rule is balanced without them."""

    def added(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return the added terms as roots of a backward, with their gradients."""
        return ([], []) if self.extra is None else ([self.extra], [torch.ones_like(self.extra)])

    def heads(self) -> list[Tensor]:
        """Return all private parameters, each once."""
        return list(dict.fromkeys([*self.given, *(leaf for leaf in self.reached if leaf not in self.names)]))


def read(
    rule: "Method",
    losses: Iterable[Tensor | None],
    *,
    shared: Parameters,
    private: Sequence[Parameters] | None = None,
    present: Sequence[bool] | Tensor | None = None,
    features: Tensor | None = None,
    last: Tensor | None = None,
    reduce: Reduce | None = None,
    accumulated: Accumulated | None = None,
    place: bool = True,
) -> Step:
    """Check what a loop passes, and find the parameters that the losses reach. Raises the errors of `Method.backward`.

    With `place=False` the features and the last layer are not checked.
    """
    given = scalars(losses, rule.num_tasks)
    for name, tensor in (("features", features), ("last", last)):
        if tensor is not None and not isinstance(tensor, Tensor):
            raise DoesNotFitError(f"{name} should be one tensor, not a {type(tensor).__name__}")
    named = pairs(shared, "shared")
    names = {parameter: name for name, parameter in named if parameter.requires_grad}
    if not named:
        raise DoesNotFitError("no shared parameter was passed: pass shared=trunk.parameters() anew at each step")
    if not names and rule.measures:
        raise DoesNotFitError(
            f"every shared parameter is frozen, so that {type(rule).__name__} has no gradient to measure: "
            "let one learn, or train the heads with a rule of losses such as `equal`"
        )
    if private is not None and not hasattr(private, "__iter__"):
        raise ValueError(f"private should be a list of parameters for each task, not a {type(private).__name__}")
    lists = None if private is None else [_learning(own) for own in private]
    if lists is not None and len(lists) != rule.num_tasks:
        raise ValueError(f"{len(lists)} lists of private parameters were passed for {rule.num_tasks} tasks")
    labelled = _presence(given, present, rule.num_tasks, on_ranks=reduce is not None)
    stacked = _stacked(given, labelled, named[0][1].device)
    values, labelled = _over_ranks(
        given, stacked, labelled, present is not None, lists is not None, reduce, accumulated
    )
    tasks = [k for k, is_there in enumerate(labelled) if is_there]
    if len(tasks) < rule.num_tasks:
        values, stacked = values[tasks], stacked[tasks]
    # K×K problems are solved on the CPU, in float64. One copy from the device serves them and the check.
    told = values.to("cpu", torch.float64) if rule.measures else values
    require_finite(rule, "loss", told, tasks)
    own = [stacked.new_zeros(()) if (loss := given[k]) is None else loss for k in tasks]
    at = rule.at if rule.measures and place else "shared"
    per_task = rule.measures or accumulated is not None or not place
    if per_task:
        leaves, met = gradients.reached(own, features if at == "features" else None)
    else:
        leaves, met = gradients.leaves(own), 0
    step = Step(
        of=rule.num_tasks,
        tasks=tasks,
        losses=own,
        values=values,
        told=told,
        trunk=list(names),
        names=names,
        private=[[] for _ in tasks] if per_task else [],
        stacked=stacked,
        reached=leaves,
        given=[] if lists is None else list(dict.fromkeys(p for own in lists for p in own if p not in names)),
        everything=lists is not None or reduce is not None,
        features=features,
        last=last,
        reduce=reduce,
        accumulated=accumulated,
    )
    for leaf, bits in leaves.items():
        if leaf not in names:
            while bits:
                step.private[bits.bit_length() - 1].append(leaf)
                bits ^= 1 << bits.bit_length() - 1
    with_graph = [position for position, loss in enumerate(own) if loss.requires_grad]
    if at == "features":
        _check_features(rule, step, leaves, met, with_graph)
    elif at == "last":
        _check_last(rule, step, leaves, with_graph)
    if names and tasks and len(with_graph) == len(tasks) and leaves.keys().isdisjoint(names):
        raise DoesNotFitError(f"no loss reaches a shared parameter ({next(iter(names.values()))}, for one)")
    return step


def scalars(losses: Iterable[Tensor | None], tasks: int) -> list[Tensor | None]:
    """Return the losses as a list of K scalars or None, or raise ValueError."""
    if isinstance(losses, Mapping | str) or not isinstance(losses, Iterable) or getattr(losses, "shape", None) == ():
        raise ValueError(f"losses should be a list of {tasks} scalars, not a {type(losses).__name__}")
    found = list(losses)
    if len(found) != tasks:
        raise ValueError(f"{len(found)} losses were passed to a method for {tasks} tasks")
    for k, loss in enumerate(found):
        if loss is None:
            continue
        if not isinstance(loss, Tensor):
            raise ValueError(f"losses should be scalars (tensors without axes), and losses[{k}] is a {_kind(loss)}")
        if loss.dim():
            shape = list(loss.shape)
            raise ValueError(f"losses should be scalars (tensors without axes), and losses[{k}] has the shape {shape}")
        if not loss.is_floating_point():
            raise ValueError(f"losses should be scalars of a floating type, and losses[{k}] is of {loss.dtype}")
    return found


def pairs(parameters: Parameters, what: str) -> list[tuple[str, Tensor]]:
    """Return parameters with their names, each once, or raise ValueError."""
    if isinstance(parameters, Tensor | nn.Module) or not hasattr(parameters, "__iter__"):
        raise ValueError(f"{what} should be a list of parameters, not a {type(parameters).__name__}")
    found: dict[Tensor, str] = {}
    for i, item in enumerate(parameters):
        name, parameter = item if isinstance(item, tuple) else (f"{what}[{i}]", item)
        if not isinstance(parameter, Tensor) or not parameter.is_leaf:
            raise ValueError(f"{name} should be a parameter, and is a {_kind(parameter)}")
        found.setdefault(parameter, name)
    return [(name, parameter) for parameter, name in found.items()]


def _learning(parameters: Parameters) -> list[Tensor]:
    """Return those parameters of one task that learn, or raise ValueError."""
    if isinstance(parameters, Tensor | nn.Module) or not hasattr(parameters, "__iter__"):
        raise ValueError(f"private should be a list of parameters for each task, not a {type(parameters).__name__}")
    found = [item[1] if isinstance(item, tuple) else item for item in parameters]
    for parameter in found:
        if not isinstance(parameter, Tensor) or not parameter.is_leaf:
            raise ValueError(f"private should list parameters, and has a {_kind(parameter)}")
    return [parameter for parameter in found if parameter.requires_grad]


def require_finite(rule: "Method", what: str, values: Tensor, tasks: Sequence[int], hint: str = "") -> None:
    """Raise DivergedError if one of `values [K′]` of these tasks is not finite."""
    numbers = values.tolist()  # one copy from the device
    if not all(map(math.isfinite, numbers)):
        position = next(i for i, number in enumerate(numbers) if not math.isfinite(number))
        lost = what == "loss" and math.isnan(numbers[position])
        hint = " (where a batch has no label of a task, pass None as its loss)" if lost else hint
        raise DivergedError(what, tasks[position], rule.steps, hint)


def _kind(value: object) -> str:
    return "tensor that was computed" if isinstance(value, Tensor) else type(value).__name__


def _presence(
    losses: Sequence[Tensor | None], present: Sequence[bool] | Tensor | None, tasks: int, *, on_ranks: bool
) -> list[bool]:
    """Return whether each task is present on this rank: as the loop says or, if it does not say, as the losses show."""
    if present is None:
        return [loss is not None and (loss.requires_grad or bool(loss.detach() != 0)) for loss in losses]
    if isinstance(present, Tensor) and present.dim() == 1:
        present = present.tolist()  # one copy from the device
    if not isinstance(present, Sequence):
        raise ValueError(f"present should be a list of {tasks} booleans, and is {present!r}")
    found = [bool(value) for value in present]
    if len(found) != tasks:
        raise ValueError(f"present has {len(found)} values for {tasks} tasks")
    for k, loss in enumerate(losses):
        if found[k] and loss is None and not on_ranks:
            raise ValueError(f"task {k} is present, but its loss is None")
    return found


def _stacked(losses: Sequence[Tensor | None], labelled: Sequence[bool], device: torch.device) -> Tensor:
    """The losses `[K]` with their graphs, zero for absent tasks; on `device` if there is no loss at all."""
    if all(labelled) and all(loss is not None for loss in losses):
        return torch.stack(losses)  # type: ignore[arg-type]
    there = next((loss for loss in losses if loss is not None), torch.zeros((), device=device))
    zero = torch.zeros((), dtype=there.dtype, device=there.device)
    return torch.stack([loss if on and loss is not None else zero for loss, on in zip(losses, labelled, strict=True)])


def _over_ranks(
    losses: Sequence[Tensor | None],
    stacked: Tensor,
    labelled: list[bool],
    said: bool,
    private_known: bool,
    reduce: Reduce | None,
    accumulated: Accumulated | None,
) -> tuple[Tensor, list[bool]]:
    """Return the losses `[K]`, zero for absent tasks, and which tasks are present, over all ranks and micro-batches.

    Raises:
        DoesNotFitError: a loss has a value and no gradient, or a rank cannot know which parameters a task's loss
            reaches. All ranks raise it together: if one raised it alone, the others would wait forever.
    """
    constant = [
        k
        for k, loss in enumerate(losses)
        if labelled[k] and loss is not None and not loss.requires_grad and bool(loss != 0) and bool(loss.isfinite())
    ]
    values = stacked.detach()
    if values.dtype != torch.float32:
        values = values.to(torch.promote_types(values.dtype, torch.float32))
    if accumulated is not None:
        values = values + accumulated.values.to(values.device)
        labelled = [now or before for now, before in zip(labelled, accumulated.labelled, strict=True)]
    if reduce is None:
        if constant:
            raise DoesNotFitError(
                f"the loss of task {constant[0]} has a value but needs no gradient, so that the task would never be "
                "trained: do not detach it, or pass None where a batch has no label of the task"
            )
        return values, labelled
    graphs = [float(loss is not None and loss.requires_grad) for loss in losses]
    flags = values.new_tensor([*(float(is_there) for is_there in labelled), *graphs, float(bool(constant))])
    together = reduce(torch.cat([values, flags]), reduce_op="mean")
    tasks = len(losses)
    values, there, graph = together[:tasks], together[tasks : 2 * tasks], together[2 * tasks : 3 * tasks]
    if together[-1] > 0:
        raise DoesNotFitError("on one of the ranks a loss has a value but needs no gradient: do not detach it")
    if not said:
        labelled = [bool(share > 0) for share in there]
    parted = [k for k in range(tasks) if labelled[k] and 0 < graph[k] < 1]
    if parted and not private_known:
        raise DoesNotFitError(
            f"a rank cannot know the head of task {parted[0]} without a graph of its loss: pass private=, the lists of "
            "each task's own parameters, or let its loss be total / count.clamp(min=1) where a batch has no label"
        )
    return values, labelled


def _check_features(
    rule: "Method", step: Step, leaves: Mapping[Tensor, int], met: int, with_graph: Sequence[int]
) -> None:
    """Refuse features that some shared parameter bypasses, and note the parameters behind the features."""
    features, otherwise = step.features, "or measure at=shared"
    if features is None:
        raise DoesNotFitError(f"{type(rule).__name__} needs the features: pass features=…, {otherwise}")
    for parameter, bits in leaves.items():
        if parameter in step.names:
            task = next(k for position, k in enumerate(step.tasks) if bits >> position & 1)
            raise DoesNotFitError(
                f"the loss of task {task} reaches the shared parameter {step.names[parameter]} past the features: "
                f"pass as features the very tensor that all heads read (no copy of it), {otherwise}"
            )
    for position in with_graph:
        if not met >> position & 1:
            raise DoesNotFitError(
                f"the loss of task {step.tasks[position]} does not depend on the features: "
                f"pass as features the very tensor that all heads read, {otherwise}"
            )
    behind, _ = gradients.reached([features])
    if with_graph and step.names.keys().isdisjoint(behind):
        raise DoesNotFitError(
            f"the features depend on no shared parameter ({next(iter(step.names.values()))}, for one): "
            f"pass as features what the trunk returned, {otherwise}"
        )
    for leaf in leaves.keys() & behind.keys():
        raise DoesNotFitError(
            f"the losses reach a tensor of shape {list(leaf.shape)} through the features and past them, so that it has "
            "no one gradient there: measure at=shared, or let it not need a gradient"
        )
    if with_graph:
        step.reached.update(behind)


def _check_last(rule: "Method", step: Step, leaves: Mapping[Tensor, int], with_graph: Sequence[int]) -> None:
    """Refuse a last layer that is missing, frozen or computed, or that some loss does not reach."""
    last = step.last
    if last is None:
        raise DoesNotFitError(
            f"{type(rule).__name__} measures gradients at the last shared layer: pass last=, its weight"
        )
    if not last.requires_grad:
        raise DoesNotFitError("last, the weight of the last shared layer, is frozen: pass one that learns")
    if not last.is_leaf:
        raise DoesNotFitError(
            f"last, of shape {list(last.shape)}, is a tensor that was computed: pass a parameter of the last shared "
            "layer (of a parametrized one, its original)"
        )
    for position in with_graph:
        if not leaves.get(last, 0) >> position & 1:
            raise DoesNotFitError(
                f"the loss of task {step.tasks[position]} does not reach last, of shape {list(last.shape)}: "
                "pass the weight of a layer through which all losses pass"
            )
