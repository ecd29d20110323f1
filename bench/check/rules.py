"""What is tried on a balancing rule: on a toy network in float64, to rounding; then it trains for a few steps."""

import copy
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import methods
from bench.catalogue import build, embedded, parse_task_set, task_set
from bench.check.outcomes import (
    CheckError,
    NotApplicableError,
    generators,
    require_same_generators,
    short_run,
    task_names,
)
from bench.checkpoint import Checkpoint
from bench.spec import STL
from bench.training.loop import train
from bench.training.streams import build_network
from methods.core.base import DoesNotFitError, Method
from methods.core.compose import compose
from methods.core.names import did_you_mean
from methods.core.registry import Variant


class Toy(nn.Module):
    """A trunk and K heads in float64, whose losses differ a hundredfold; a small network with all that a rule may want.

    Its forward pass returns the losses and the features, which is also the only tap.
    """

    def __init__(self, tasks: int) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.trunk = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 8), nn.Tanh())
        self.heads = nn.ModuleList(nn.Linear(8, 2) for _ in range(tasks))
        self.to(torch.float64)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=draw) / parameter.shape[-1] ** 0.5)
        self.inputs = torch.randn(12, 5, generator=draw, dtype=torch.float64)
        self.targets = 1 + torch.randn(tasks, 12, 2, generator=draw, dtype=torch.float64)

    def forward(self) -> tuple[list[Tensor], Tensor]:
        """Return the losses and the features."""
        features = self.trunk(self.inputs)
        pairs = zip(self.heads, self.targets, strict=True)
        return [
            10.0 ** (k % 3 - 1) * (head(features) - t).square().mean() for k, (head, t) in enumerate(pairs)
        ], features

    def trunk_gradient(self) -> Tensor:
        """Return the `.grad` of the trunk `[P]`."""
        return torch.cat([p.grad.flatten() for p in self.trunk.parameters() if p.grad is not None])


Change = Callable[[list[Tensor]], list[Tensor]]


class _Teacher(nn.Module):
    """What distillation learns from: a module that turns the inputs into its taps."""

    def forward(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        return (inputs["x"].tanh(),)


def _create(variant: Variant, tasks: int, seed: int = 0) -> Method:
    teachers = [_Teacher() for _ in range(tasks)]
    return methods.create(variant, num_tasks=tasks, seed=seed, teachers=teachers).to(torch.float64)


def _step(toy: Toy, method: Method, change: Change = lambda losses: losses) -> tuple[Tensor | None, Tensor]:
    """One step of training, with all that a loop tells a rule; return its weights and the trunk's update."""
    losses, features = toy()
    weights = _backward(toy, method, change(losses), features)
    update = toy.trunk_gradient().clone()
    with torch.no_grad():
        for parameter in toy.parameters():
            if parameter.grad is not None:
                parameter.sub_(0.01 * parameter.grad)
    after = torch.stack([loss.detach() for loss in change(toy()[0])])
    method.end_step(after)
    method.end_epoch(losses=after.clone, validation=after.clone)
    return None if weights is None else weights.clone(), update


def _backward(toy: Toy, method: Method, losses: Sequence[Tensor | None], features: Tensor) -> Tensor | None:
    given: dict[str, Any] = {"features": features, "last": toy.trunk[-2].weight}
    given |= {"inputs": {"x": toy.inputs}, "taps": [(features,)] * method.num_tasks}
    return method.backward(losses, shared=toy.trunk.named_parameters(), **given)


def _has_backward(variant: Variant, tasks: int) -> Method:
    """Create a rule for checks of `backward`, which a whole training rule does not have."""
    method = _create(variant, tasks)
    if method.rule == "step":
        raise NotApplicableError("it is a whole training rule")
    return method


def _fitting(variant: Variant, sizes: Sequence[int]) -> list[int]:
    """Those of some numbers of tasks that a rule takes."""
    found = []
    for tasks in sizes:
        try:
            _create(variant, tasks)
        except DoesNotFitError:
            continue
        found.append(tasks)
    if not found:
        raise NotApplicableError(f"it does not take {' or '.join(map(str, sizes))} tasks")
    return found


def _near(one: Tensor, other: Tensor, what: str, tolerance: float = 1e-6) -> None:
    error = float((one - other).norm() / other.norm().clamp(min=torch.finfo(torch.float64).tiny))
    if not error <= tolerance:
        raise CheckError(f"{what}: off by {error:.1e} of its length")


def builds(variant: Variant) -> None:
    """It can be built for 1, 2, 3 or 40 tasks."""
    _fitting(variant, [1, 2, 3, 40])


def one_task(variant: Variant) -> None:
    """With one task it follows that task's gradient: a positive multiple, step after step."""
    [tasks] = _fitting(variant, [1])
    toy, method = Toy(1), _create(variant, tasks)
    if method.overrides("extra"):
        raise NotApplicableError("it adds terms of its own")
    for _ in range(5):
        plain = torch.cat([g.flatten() for g in torch.autograd.grad(toy()[0][0], list(toy.trunk.parameters()))])
        _, update = _step(toy, method)
        scale = (update @ plain) / (plain @ plain)
        if not scale > 0:
            raise CheckError(f"the update is {float(scale):.3g} times the gradient")
        _near(update, scale * plain, "the update is no multiple of the gradient")


def many_tasks(variant: Variant) -> None:
    """With 40 tasks weights and updates are finite, and not zero."""
    [tasks] = _fitting(variant, [40])
    toy, method = Toy(tasks), _create(variant, tasks)
    for _ in range(3):
        weights, update = _step(toy, method)
        _finite(toy, weights)
        if not update.any():
            raise CheckError("the update is zero")


AWKWARD: dict[str, Change] = {
    "a zero gradient": lambda losses: [losses[0] * 0 + 1, *losses[1:]],
    "two zero gradients": lambda losses: [losses[0] * 0 + 1, losses[1] * 0 + 2, *losses[2:]],
    "zero gradients only": lambda losses: [loss * 0 + 1 for loss in losses],
    "a task without a label": lambda losses: [torch.zeros_like(losses[0]).detach(), *losses[1:]],
    "the same loss twice": lambda losses: [losses[0], losses[0], *losses[2:]],
    "the same loss throughout": lambda losses: [losses[0] for _ in losses],
    "a multiple of a loss": lambda losses: [losses[0], losses[0] * 1e6, *losses[2:]],
    "opposites": lambda losses: [losses[0], 100 - losses[0], *losses[2:]],
    "very unlike scales": lambda losses: [losses[0] * 1e-9, losses[1], *[loss * 1e9 for loss in losses[2:]]],
}
"""What a rule must survive. Each change is of two losses or more."""


def awkward(variant: Variant) -> None:
    """Zero, equal, opposite and badly scaled gradients leave weights and updates finite."""
    for tasks in _fitting(variant, [2, 3]):
        for name, change in AWKWARD.items():
            toy, method = Toy(tasks), _create(variant, tasks)
            start = {key: value.clone() for key, value in toy.state_dict().items()}
            for _ in range(3):
                try:
                    weights, _ = _step(toy, method, change)
                    _finite(toy, weights)
                except Exception as problem:
                    raise CheckError(f"{name}, {tasks} tasks: {problem}") from problem
                toy.load_state_dict(start)  # a step of any length would diverge on such losses


def _finite(toy: Toy, weights: Tensor | None) -> None:
    if weights is not None and not weights.isfinite().all():
        raise CheckError(f"the weights are {[float(f'{w:.3g}') for w in weights]}")
    for name, parameter in toy.named_parameters():
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            raise CheckError(f"the gradient of {name} is not finite")


def deterministic(variant: Variant) -> None:
    """The same seed gives the same updates, whatever the global generators."""
    tasks = _fitting(variant, [3, 2])[0]
    ends = []
    for seed in (0, 1):
        toy = Toy(tasks)
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - the global one is meant
        random.seed(seed)
        method = _create(variant, tasks)
        ends.append(torch.stack([_step(toy, method)[1] for _ in range(4)]))
    if (ends[0] - ends[1]).norm() > 1e-9 * ends[0].norm():
        raise CheckError("two runs of one seed differ: draw from self.generator alone")


def others_streams(variant: Variant) -> None:
    """It leaves the global generators of torch, numpy and Python alone."""
    tasks = _fitting(variant, [3, 2])[0]
    toy = Toy(tasks)
    before = generators()
    method = _create(variant, tasks)
    for _ in range(3):
        _step(toy, method)
    require_same_generators(before, "draw from self.generator, which `create` seeds")


def goes_on(variant: Variant) -> None:
    """Saved and loaded, it goes on as before: what it learns and remembers travels in its state_dict."""
    tasks = _fitting(variant, [3, 2])[0]
    toy, method = Toy(tasks), _create(variant, tasks, seed=1)
    for _ in range(4):
        _step(toy, method)
    network = {name: value.clone() for name, value in toy.state_dict().items()}
    saved = _copied(method.state_dict())
    expected = torch.stack([_step(toy, method)[1] for _ in range(4)])
    other, restored = Toy(tasks), _create(variant, tasks, seed=2)
    other.load_state_dict(network)
    restored.load_state_dict(saved)
    found = torch.stack([_step(other, restored)[1] for _ in range(4)])
    if torch.equal(found, expected):
        return
    # Some libraries round differently from call to call. Is the rule itself repeatable, without saving?
    slack = _unsaved_difference(variant, tasks)
    remedy = "keep what it remembers in parameters, buffers or get_extra_state"
    if (found - expected).abs().max() > 10 * slack + 1e-12 * expected.abs().max():
        raise CheckError(f"it goes on differently: {remedy}")


def _unsaved_difference(variant: Variant, tasks: int) -> Tensor:
    """The largest difference between the updates of two rules of one seed that were never saved."""
    ends = []
    for _ in range(2):
        toy, method = Toy(tasks), _create(variant, tasks, seed=1)
        ends.append(torch.stack([_step(toy, method)[1] for _ in range(8)]))
    return (ends[0] - ends[1]).abs().max()


def repeats(variant: Variant) -> None:
    """Two runs of one seed are the same bit for bit."""
    tasks = _fitting(variant, [3, 2])[0]
    for _ in range(5):
        difference = float(_unsaved_difference(variant, tasks))
        if difference > 0:
            raise CheckError(
                f"not bit for bit: two runs of one seed differ by {difference:.0e}. It may call a routine whose "
                "rounding depends on where its numbers lie in memory (lstsq, for one): solve the problem otherwise"
            )


def _copied(state: object) -> dict[str, object]:
    """A state as it is after it was on disk: plain values and tensors, nothing shared with the living."""
    with TemporaryDirectory() as folder:
        checkpoint = Checkpoint(Path(folder, "state"), "", every=1)
        checkpoint.save({"state": state})
        loaded = checkpoint.load()
    assert loaded is not None
    found: dict[str, object] = loaded["state"]
    return found


def leaves_the_network(variant: Variant) -> None:
    """`backward` gives every parameter a gradient and changes none."""
    tasks = _fitting(variant, [3, 2])[0]
    toy, method = Toy(tasks), _create(variant, tasks)
    before = {name: value.clone() for name, value in toy.state_dict().items()}
    _backward(toy, method, *toy())
    for name, parameter in toy.named_parameters():
        if not torch.equal(parameter, before[name]):
            raise CheckError(f"it changes {name}: leave that to the optimiser")
        if parameter.grad is None:
            raise CheckError(f"{name} has no gradient")


def freezing(variant: Variant) -> None:
    """A head that is frozen, unfrozen or replaced between steps has this step's gradient, once, or none."""
    tasks = _fitting(variant, [3, 2])[0]
    toy, method = Toy(tasks), _has_backward(variant, tasks)
    for change in ("nothing", "freeze", "unfreeze", "replace"):
        head = toy.heads[0]
        head.requires_grad_(change != "freeze")
        if change == "replace":
            toy.heads[0] = copy.deepcopy(head)
        losses, features = toy()
        plain = torch.autograd.grad(losses[0], features, retain_graph=True)[0]
        own = None
        if change != "freeze":
            own = torch.autograd.grad(losses[0], [_weight(toy)], retain_graph=True)[0]
        weights = _backward(toy, method, losses, features)
        got = _weight(toy).grad
        if (got is None) != (own is None):
            raise CheckError(f"{change} a head, and its gradient is {'missing' if got is None else 'still there'}")
        if got is None or own is None or not plain.any():
            continue
        whole = not method.measures or method.at == "last" or method.heads == "weighted"
        scale = weights[0] if whole and weights is not None else torch.ones(())
        _near(got, scale * own, f"{change} a head, and its gradient is not that of this step")


def _weight(toy: Toy) -> Tensor:
    weight = toy.heads[0].weight
    assert isinstance(weight, Tensor)
    return weight


def copies(variant: Variant) -> None:
    """A deep copy goes on by itself, and leaves the original's network alone."""
    tasks = _fitting(variant, [3, 2])[0]
    toy, method = Toy(tasks), _has_backward(variant, tasks)
    for _ in range(2):
        _step(toy, method)
    other, twin = copy.deepcopy(toy), copy.deepcopy(method)
    before = {name: parameter.grad.clone() for name, parameter in toy.named_parameters() if parameter.grad is not None}
    found = [_step(other, twin)[1] for _ in range(3)]
    for name, parameter in toy.named_parameters():
        if name in before and (parameter.grad is None or not torch.equal(parameter.grad, before[name])):
            raise CheckError(f"a deep copy changed the gradient of {name} of the network that the original serves")
    expected = [_step(toy, method)[1] for _ in range(3)]
    _near(torch.stack(found), torch.stack(expected), "a deep copy goes on differently", 1e-9)


def absent(variant: Variant) -> None:
    """A task without a label weighs 0, the others are balanced as if it were not there, and it is remembered."""
    tasks = max(_fitting(variant, [3, 2]))
    if tasks < 3 or 2 not in _fitting(variant, [3, 2]):
        raise NotApplicableError("it does not take 3 tasks and 2")
    toy, method = Toy(tasks), _has_backward(variant, tasks)
    alone, fewer = Toy(tasks), _create(variant, tasks - 1)
    if method.overrides("extra"):
        raise NotApplicableError("it adds terms of its own, which need no label")
    for _ in range(4):
        losses, features = toy()
        weights = _backward(toy, method, [losses[0], None, losses[2]], features)
        again, features = alone()
        expected = _backward(alone, fewer, [again[0], again[2]], features)
        if weights is not None and expected is not None:
            if weights[1] != 0:
                raise CheckError(f"a task without a label weighs {float(weights[1]):.3g}, and should weigh 0")
            _near(weights[[0, 2]], expected, "with a task absent the weights are not those of the others alone")
        one, other = toy.trunk_gradient(), alone.trunk_gradient()
        _near(one, other, "with a task absent the update is not that of the others alone: name what it keeps of each "
              "task in per_task")  # fmt: skip
    if method.absent != 4:
        raise CheckError(f"of 4 steps with an absent task {method.absent} are counted")


def types(variant: Variant) -> None:
    """It works on a network in float32 and in bfloat16, with losses in float32."""
    tasks = _fitting(variant, [3, 2])[0]
    _has_backward(variant, tasks)
    for dtype in (torch.float32, torch.bfloat16):
        toy = Toy(tasks).to(dtype)
        toy.inputs, toy.targets = toy.inputs.to(dtype), toy.targets.to(dtype)
        method = _create(variant, tasks).to(torch.float32)
        losses, features = toy()
        weights = _backward(toy, method, [loss.float() for loss in losses], features)
        _finite(toy, weights)
        for name, parameter in toy.named_parameters():
            if parameter.grad is not None and parameter.grad.dtype != dtype:
                raise CheckError(f"on a network in {dtype} the gradient of {name} is in {parameter.grad.dtype}")


def wrong_features(variant: Variant) -> None:
    """If it measures at the features it refuses a tensor through which not everything shared reaches the heads."""
    tasks = _fitting(variant, [3, 2])[0]
    method = _has_backward(variant, tasks)
    if not method.measures or method.at != "features":
        raise NotApplicableError("it does not measure at the features")
    toy = Toy(tasks)
    losses, features = toy()
    try:
        _backward(toy, method, losses, features.clone())
    except DoesNotFitError:
        return
    raise CheckError("it takes a copy of the features, through which no loss passes")


def claims(variant: Variant) -> None:
    """What it claims in `invariant` holds."""
    tasks = _fitting(variant, [5, 3, 2])[0]
    claimed = _create(variant, tasks).invariant
    if not claimed:
        raise NotApplicableError("it claims nothing")
    for claim in sorted(claimed):
        if claim not in CLAIMS:
            raise CheckError(f"there is no claim '{claim}'{did_you_mean(claim, CLAIMS)}")
        CLAIMS[claim](variant, tasks)


def _permutation(variant: Variant, tasks: int) -> None:
    """The order of the tasks permutes the weights and leaves the trunk's update alone, step after step."""
    order = torch.randperm(tasks, generator=torch.Generator().manual_seed(3)).tolist()
    toy, method = Toy(tasks), _create(variant, tasks)
    other, permuted = Toy(tasks), _create(variant, tasks)
    for _ in range(4):
        weights, update = _step(toy, method)
        again, same = _step(other, permuted, lambda losses: [losses[k] for k in order])
        _near(same, update, "invariant to permutation, it says; with the tasks in another order the update is another")
        if weights is not None and again is not None:
            _near(again, weights[order], "invariant to permutation, it says; the weights do not follow the tasks", 1e-5)


CLAIMS: dict[str, Callable[[Variant, int], None]] = {"permutation": _permutation}


def trains(variant: Variant) -> None:
    """It trains a few steps on a built-in task set, twice alike."""
    reasons = []
    for name, tasks in _places_to_train():
        chosen, rule = parse_task_set(name), partial(compose, variant.parts)
        spec = short_run(chosen, build(name), tasks, variant.stable)
        singles = [spec.model_copy(update={"tasks": (task,), "method": STL}) for task in tasks]
        states = [build_network(single, build(name)).state_dict() for single in singles]
        teachers = states if methods.reads_teachers(variant) else []
        result, _, _ = train(spec, partial(task_set, chosen), rule, teachers)
        if result.status == "skipped":
            reasons.append(result.reason)
            continue
        if result.status != "ok":
            raise CheckError(f"{name}: {result.status}: {result.reason}")
        if train(spec, partial(task_set, chosen), rule, teachers)[0] != result:
            raise CheckError(f"{name}: a second training ended elsewhere")
        return
    raise NotApplicableError("; ".join(reasons))


def _places_to_train() -> list[tuple[str, tuple[str, ...]]]:
    """The first embedded task set with all its tasks, and with two of them."""
    name = embedded()[0]
    tasks = task_names(build(name))
    return [(name, tasks), (name, tasks[:2])]


CHECKS: tuple[Callable[[Variant], None], ...] = (
    *(builds, one_task, many_tasks, awkward, deterministic, repeats, others_streams, goes_on, leaves_the_network),
    *(freezing, copies, absent, types, wrong_features, claims, trains),
)
