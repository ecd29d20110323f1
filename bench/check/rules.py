"""What is tried on a balancing rule: on a toy network in float64, to rounding; then it trains for a few steps."""

import copy
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn, optim
from torch.func import functional_call

import methods
from bench.catalogue import embedded, parse_task_set, task_set
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
from bench.tuning.space import require_sound_spaces
from methods.core.base import DivergedError, DoesNotFitError, Method
from methods.core.compose import compose
from methods.core.names import UsageError, did_you_mean
from methods.core.problem import Batch
from methods.core.registry import Variant


class Toy(nn.Module):
    """A trunk and K heads whose losses differ a hundredfold; a small network with all that a rule may want.

    Its forward pass returns the losses of a batch and the features, which are also the only tap.
    """

    steps: Tensor

    def __init__(self, tasks: int, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.trunk = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 8), nn.Tanh())
        self.heads = nn.ModuleList(nn.Linear(8, 2) for _ in range(tasks))
        self.to(dtype)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=draw) / parameter.shape[-1] ** 0.5)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.dtype, self.batch = dtype, _drawn(draw, tasks, dtype)

    def forward(self, batch: Batch | None = None) -> tuple[list[Tensor], Tensor]:
        """Return the losses, of the toy's own batch if no other is given, and the features."""
        batch = self.batch if batch is None else batch
        features = self.trunk(batch["x"])
        pairs = zip(self.heads, batch["y"].unbind(1), strict=True)
        return [
            10.0 ** (k % 3 - 1) * (head(features) - t).square().mean() for k, (head, t) in enumerate(pairs)
        ], features

    def trunk_gradient(self) -> Tensor:
        """Return the `.grad` of the trunk `[P]`."""
        found = [p.grad.flatten() for p in self.trunk.parameters() if p.grad is not None]
        if not found:
            raise CheckError("no parameter of the trunk has a gradient after its step")
        return torch.cat(found)


def _drawn(draw: torch.Generator, tasks: int, dtype: torch.dtype) -> Batch:
    x = torch.randn(12, 5, generator=draw, dtype=torch.float64)
    y = 1 + torch.randn(tasks, 12, 2, generator=draw, dtype=torch.float64)
    return {"x": x.to(dtype), "y": y.transpose(0, 1).to(dtype)}


Change = Callable[[list[Tensor]], list[Tensor]]


class ToyProblem:
    """One step on a toy: a `methods.core.problem.Problem`, in which `change` is made of all losses."""

    lr = 0.01

    def __init__(self, toy: Toy, change: Change = lambda losses: losses) -> None:
        self.toy, self.change = toy, change
        self.optimizer: optim.Optimizer = optim.SGD(toy.parameters(), lr=self.lr)
        self.losses_of_batch_0, self.features = toy()
        self.direction: Tensor | None = None
        """What `update` was given."""
        self._batches = {"0": toy.batch}

    @property
    def shared(self) -> Sequence[tuple[str, Tensor]]:
        """The trunk's parameters that learn, with their names."""
        return [(name, p) for name, p in self.toy.trunk.named_parameters("trunk") if p.requires_grad]

    @property
    def private(self) -> Sequence[Sequence[tuple[str, Tensor]]]:
        """Each head's parameters that learn, with their names."""
        heads = enumerate(self.toy.heads)
        return [[(n, p) for n, p in head.named_parameters(f"heads.{k}") if p.requires_grad] for k, head in heads]

    def batch(self, i: int = 0) -> Batch:
        """Return batch number `i` of this step; 0 is the toy's own."""
        return self._named(str(i))

    def losses(self, batch: Batch, parameters: Mapping[str, Tensor] | None = None) -> list[Tensor]:
        """Return the losses of a batch. Each reaches its own head, whatever is made of it, as in the harness.

        Raises:
            DivergedError: a loss is NaN or infinite.
        """
        losses = self.losses_of_batch_0
        if batch is not self.toy.batch or parameters is not None:
            losses, _ = functional_call(self.toy, dict(parameters or {}), (batch,))
        changed = zip(self.change(losses), losses, strict=True)
        found = [new if new is own else new + 0 * own for new, own in changed]
        for k, loss in enumerate(found):
            if not loss.isfinite():
                raise DivergedError("loss", k, int(self.toy.steps))
        return found

    def validation_losses(self, parameters: Mapping[str, Tensor] | None = None) -> list[Tensor]:
        """Return the losses of one further batch."""
        return self.losses(self._named("validation"), parameters)

    def update(self, direction: Tensor) -> None:
        """Subtract `lr * direction` `[P]` from the shared parameters."""
        self.direction = direction.detach().clone()
        parameters = [parameter for _, parameter in self.shared]
        with torch.no_grad():
            for parameter, part in zip(parameters, direction.split([p.numel() for p in parameters]), strict=True):
                parameter.sub_(part.view_as(parameter), alpha=self.lr)
                parameter.grad = None

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of `Method.backward`."""
        return {
            "losses": self.change(self.losses_of_batch_0),
            "shared": self.shared,
            "features": self.features,
            "last": self.toy.trunk[-2].weight,
            "inputs": {"x": self.toy.batch["x"]},
            "taps": [(self.features,)] * len(self.toy.heads),
        }

    def _named(self, name: str) -> Batch:
        if name not in self._batches:
            draw = torch.Generator().manual_seed(crc32(f"{int(self.toy.steps)} {name}".encode()))
            self._batches[name] = _drawn(draw, len(self.toy.heads), self.toy.dtype)
        return self._batches[name]


class _Teacher(nn.Module):
    """What distillation learns from: a module that turns the inputs into its taps."""

    def forward(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        return (inputs["x"].tanh(),)


def _create(variant: Variant, tasks: int, seed: int = 0) -> Method:
    teachers = [_Teacher() for _ in range(tasks)]
    method = methods.create(variant, num_tasks=tasks, seed=seed, teachers=teachers)
    return method.to(_dtype(method))


def _dtype(method: Method) -> torch.dtype:
    """Float64, so that errors are told from rounding; a whole training rule is promised float32."""
    return torch.float32 if method.rule == "step" else torch.float64


def _pair(variant: Variant, tasks: int, seed: int = 0) -> tuple[Toy, Method]:
    method = _create(variant, tasks, seed)
    return Toy(tasks, _dtype(method)), method


def _step(toy: Toy, method: Method, change: Change = lambda losses: losses) -> tuple[Tensor | None, Tensor]:
    """One step of training, with all that a loop tells a rule; return its weights and the trunk's update."""
    toy.zero_grad()
    problem = ToyProblem(toy, change)
    weights = method.step(problem)
    update = (toy.trunk_gradient() if problem.direction is None else problem.direction).clone()
    problem.optimizer.step()
    toy.steps += 1
    after = torch.stack([loss.detach() for loss in change(toy()[0])])
    method.end_step(after)
    method.end_epoch(losses=after.clone, validation=after.clone)
    return None if weights is None else weights.clone(), update


def _backward(toy: Toy, method: Method, losses: Sequence[Tensor | None], features: Tensor) -> Tensor | None:
    given = {**ToyProblem(toy).arguments(), "losses": losses, "features": features, "taps": [(features,)] * len(losses)}
    return method.backward(**given)


def _has_backward(variant: Variant, tasks: int) -> tuple[Toy, Method]:
    """Create a toy and a rule for checks of `backward`, which a whole training rule does not have."""
    toy, method = _pair(variant, tasks)
    if method.rule == "step":
        raise NotApplicableError("it is a whole training rule")
    return toy, method


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


def _near(one: Tensor, other: Tensor, what: str, tolerance: float | None = None) -> None:
    if tolerance is None:
        tolerance = 1e-6 if other.dtype == torch.float64 else 1e-4
    error = float((one - other).norm() / other.norm().clamp(min=torch.finfo(other.dtype).tiny))
    if not error <= tolerance:
        raise CheckError(f"{what}: off by {error:.1e} of its length")


def can_be_built(variant: Variant) -> None:
    """It can be built for 1, 2, 3 or 40 tasks, and its options take what `search` names."""
    _fitting(variant, [1, 2, 3, 40])
    try:
        require_sound_spaces(variant)
    except UsageError as problem:
        raise CheckError(str(problem)) from None


def follows_the_only_task(variant: Variant) -> None:
    """With one task the update is a positive multiple of its gradient (the first update, if the rule recalls)."""
    [tasks] = _fitting(variant, [1])
    toy, method = _pair(variant, tasks)
    if method.rule == "step":
        for _ in range(5):
            _finite(toy, _step(toy, method)[0])
        raise NotApplicableError("it is a whole training rule, which may follow other batches, too")
    if method.overrides("extra"):
        raise NotApplicableError("it adds terms of its own")
    for _ in range(1 if method.recalls else 5):
        plain = torch.cat([g.flatten() for g in torch.autograd.grad(toy()[0][0], list(toy.trunk.parameters()))])
        _, update = _step(toy, method)
        scale = (update @ plain) / (plain @ plain)
        if not scale > 0:
            raise CheckError(f"the update is {float(scale):.3g} times the gradient")
        _near(update, scale * plain, "the update is no multiple of the gradient")


def bears_forty_tasks(variant: Variant) -> None:
    """With 40 tasks weights and updates are finite, and not zero."""
    [tasks] = _fitting(variant, [40])
    toy, method = _pair(variant, tasks)
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


def bears_awkward_gradients(variant: Variant) -> None:
    """Zero, equal, opposite and badly scaled gradients leave weights and updates finite."""
    for tasks in _fitting(variant, [2, 3]):
        for name, change in AWKWARD.items():
            toy, method = _pair(variant, tasks)
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


def same_seed_same_updates(variant: Variant) -> None:
    """The same seed gives the same updates, whatever the global generators."""
    tasks = _fitting(variant, [3, 2])[0]
    ends = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - the global one is meant
        random.seed(seed)
        toy, method = _pair(variant, tasks)
        ends.append(torch.stack([_step(toy, method)[1] for _ in range(4)]))
    if (ends[0] - ends[1]).norm() > 1e-9 * ends[0].norm():
        raise CheckError("two runs of one seed differ: draw from self.generator alone")


def leaves_global_generators_alone(variant: Variant) -> None:
    """It leaves the global generators of torch, numpy and Python alone."""
    tasks = _fitting(variant, [3, 2])[0]
    toy, _ = _pair(variant, tasks)
    before = generators()
    method = _create(variant, tasks)
    for _ in range(3):
        _step(toy, method)
    require_same_generators(before, "draw from self.generator, which `create` seeds")


def goes_on_after_loading(variant: Variant) -> None:
    """Saved and loaded, it goes on as before: what it learns and remembers travels in its state_dict."""
    tasks = _fitting(variant, [3, 2])[0]
    toy, method = _pair(variant, tasks, seed=1)
    for _ in range(4):
        _step(toy, method)
    network = {name: value.clone() for name, value in toy.state_dict().items()}
    saved = _copied(method.state_dict())
    expected = torch.stack([_step(toy, method)[1] for _ in range(4)])
    other, restored = _pair(variant, tasks, seed=2)
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
        toy, method = _pair(variant, tasks, seed=1)
        ends.append(torch.stack([_step(toy, method)[1] for _ in range(8)]))
    return (ends[0] - ends[1]).abs().max()


def repeats_bit_for_bit(variant: Variant) -> None:
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


def leaves_parameters_to_the_optimiser(variant: Variant) -> None:
    """It gives every parameter a gradient and changes none."""
    tasks = _fitting(variant, [3, 2])[0]
    toy, method = _pair(variant, tasks)
    before = {name: value.clone() for name, value in toy.state_dict().items()}
    problem = ToyProblem(toy)
    method.step(problem)
    updated = set[str]()
    if problem.direction is not None:
        # What `update` moved is compared with the same movement, made here.
        updated = {name for name, _ in problem.shared}
        again = Toy(tasks, toy.dtype)
        ToyProblem(again).update(problem.direction)
        before = {name: value.clone() for name, value in again.state_dict().items()}
    for name, parameter in toy.named_parameters():
        if not torch.equal(parameter, before[name]):
            raise CheckError(f"it changes {name}: leave that to the optimiser")
        if parameter.grad is None and name not in updated:
            raise CheckError(f"{name} has no gradient")


def bears_frozen_and_replaced_heads(variant: Variant) -> None:
    """A head that is frozen, unfrozen or replaced between steps has this step's gradient, once, or none."""
    tasks = _fitting(variant, [3, 2])[0]
    toy, method = _has_backward(variant, tasks)
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
        scale = torch.ones(())
        if method.heads == "own":
            scale = method.head_weights[0]
        elif method.heads == "weighted" and weights is not None:
            scale = weights[0]
        _near(got, scale * own, f"{change} a head, and its gradient is not that of this step")


def _weight(toy: Toy) -> Tensor:
    weight = toy.heads[0].weight
    assert isinstance(weight, Tensor)
    return weight


def deep_copies_go_on(variant: Variant) -> None:
    """A deep copy goes on by itself, and leaves the original's network alone."""
    tasks = _fitting(variant, [3, 2])[0]
    toy, method = _pair(variant, tasks)
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


def bears_absent_tasks(variant: Variant) -> None:
    """A task without a label weighs 0, the others are balanced as if it were not there, and it is remembered."""
    tasks = max(_fitting(variant, [3, 2]))
    if tasks < 3 or 2 not in _fitting(variant, [3, 2]):
        raise NotApplicableError("it does not take 3 tasks and 2")
    toy, method = _has_backward(variant, tasks)
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


def works_in_float32_and_bfloat16(variant: Variant) -> None:
    """It works on a network in float32 and in bfloat16, with losses in float32."""
    tasks = _fitting(variant, [3, 2])[0]
    for dtype in (torch.float32, torch.bfloat16):
        toy, method = Toy(tasks, dtype), _create(variant, tasks).to(torch.float32)
        weights = method.step(ToyProblem(toy, lambda losses: [loss.float() for loss in losses]))
        _finite(toy, weights)
        for name, parameter in toy.named_parameters():
            if parameter.grad is not None and parameter.grad.dtype != dtype:
                raise CheckError(f"on a network in {dtype} the gradient of {name} is in {parameter.grad.dtype}")


def refuses_wrong_features(variant: Variant) -> None:
    """If it measures at the features it refuses a tensor through which not everything shared reaches the heads."""
    tasks = _fitting(variant, [3, 2])[0]
    toy, method = _has_backward(variant, tasks)
    if not method.measures or method.at != "features":
        raise NotApplicableError("it does not measure at the features")
    losses, features = toy()
    try:
        _backward(toy, method, losses, features.clone())
    except DoesNotFitError:
        return
    raise CheckError("it takes a copy of the features, through which no loss passes")


def keeps_its_claims(variant: Variant) -> None:
    """What it claims in `invariant` and `nonconflicting` holds."""
    tasks = _fitting(variant, [5, 3, 2])[0]
    method = _create(variant, tasks)
    # What conflicts with no gradient of the features may conflict with one of the trunk.
    no_conflict = method.nonconflicting and method.at == "shared"
    if not method.invariant and not no_conflict:
        raise NotApplicableError("it claims nothing")
    for claim in sorted(method.invariant):
        if claim not in CLAIMS:
            raise CheckError(f"there is no claim '{claim}'{did_you_mean(claim, CLAIMS)}")
        CLAIMS[claim](variant, tasks)
    if no_conflict:
        _conflicts_with_nothing(variant, tasks)


def _permutation(variant: Variant, tasks: int) -> None:
    """The order of the tasks permutes the weights and leaves the trunk's update alone, step after step."""
    order = torch.randperm(tasks, generator=torch.Generator().manual_seed(3)).tolist()
    toy, method = _pair(variant, tasks)
    other, permuted = _pair(variant, tasks)
    for _ in range(4):
        weights, update = _step(toy, method)
        again, same = _step(other, permuted, lambda losses: [losses[k] for k in order])
        _near(same, update, "invariant to permutation, it says; with the tasks in another order the update is another")
        if weights is not None and again is not None:
            _near(again, weights[order], "invariant to permutation, it says; the weights do not follow the tasks", 1e-5)


def _scale(variant: Variant, tasks: int) -> None:
    """Multiplying each loss by a constant leaves the trunk's update alone, step after step."""
    factors = [4.0 ** (k % 5 - 2) for k in range(tasks)]
    toy, method = _pair(variant, tasks)
    other, scaled = _pair(variant, tasks)
    for _ in range(4):
        _, update = _step(toy, method)
        _, same = _step(other, scaled, lambda losses: [f * loss for f, loss in zip(factors, losses, strict=True)])
        _near(same, update, "invariant to scale, it says; with losses multiplied by constants the update is another")
        other.load_state_dict(toy.state_dict())  # plain gradients of heads follow the scale


def _conflicts_with_nothing(variant: Variant, tasks: int) -> None:
    """The trunk's update has no negative product with the gradient of any task, step after step."""
    toy, method = _pair(variant, tasks)
    for _ in range(8):
        losses, _ = toy()
        gradients = [torch.autograd.grad(loss, list(toy.trunk.parameters()), retain_graph=True) for loss in losses]
        rows = torch.stack([torch.cat([part.flatten() for part in parts]) for parts in gradients])
        _, update = _step(toy, method)
        cosines = rows @ update / (rows.norm(dim=1) * update.norm()).clamp(min=torch.finfo(rows.dtype).tiny)
        if cosines.min() < -1e-6:
            raise CheckError(
                f"nonconflicting, it says; the update's cosine with a task gradient is {cosines.min():.1e}"
            )


CLAIMS: dict[str, Callable[[Variant, int], None]] = {"permutation": _permutation, "scale": _scale}


def trains_on_a_task_set(variant: Variant) -> None:
    """It trains a few steps on a built-in task set, twice alike."""
    reasons = []
    for name, tasks in _places_to_train():
        chosen, rule = parse_task_set(name), partial(compose, variant.parts)
        built = task_set(chosen)
        spec = short_run(chosen, built, tasks, variant.stable)
        singles = [spec.model_copy(update={"tasks": (task,), "method": STL}) for task in tasks]
        states = [build_network(single, built).state_dict() for single in singles]
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
    tasks = task_names(task_set(name))
    return [(name, tasks), (name, tasks[:2])]


CHECKS: tuple[Callable[[Variant], None], ...] = (
    *(can_be_built, follows_the_only_task, bears_forty_tasks, bears_awkward_gradients, same_seed_same_updates),
    *(repeats_bit_for_bit, leaves_global_generators_alone, goes_on_after_loading, leaves_parameters_to_the_optimiser),
    *(bears_frozen_and_replaced_heads, deep_copies_go_on, bears_absent_tasks, works_in_float32_and_bfloat16),
    *(refuses_wrong_features, keeps_its_claims, trains_on_a_task_set),
)
