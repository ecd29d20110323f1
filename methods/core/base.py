"""The contract of a balancing rule: how K task losses become one update.

A rule never sees the network's graph. It overrides exactly one of `objective`, `weigh` and `combine`, and the names
of its arguments say what it needs, and so what it costs:

==========  ======================================================================================
`losses`    `[K]` this step's losses, on the network's device (with a Gramian: float64, on the CPU)
`gramian`   `[K, K]` inner products of the task gradients, float64, on the CPU
`jacobian`  `[K, P]` the task gradients themselves
`features`  the tensor through which everything shared reaches the heads, with the batch axis
==========  ======================================================================================

All are detached and already reduced over ranks. With the losses alone a step is one backward. A Gramian or Jacobian
costs K backwards to the shared parameters (`at="shared"`, exact), or K cheap ones through the heads and one through
the trunk (`at="features"`), or K short ones and one full (`at="last"`, at the last shared layer).
"""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from . import gradients
from .gradients import Reduce

ARGUMENTS = frozenset({"losses", "gramian", "jacobian", "features"})
EPOCH_ARGUMENTS = frozenset({"losses", "validation"})
RULES = ("objective", "weigh", "combine")

SETTINGS = {"at": ("shared", "features", "last"), "heads": ("plain", "weighted"), "norm": ("own", "sum")}

SEED: ContextVar[int] = ContextVar("SEED", default=0)
"""The seed of the generators of methods that are being built: set by `methods.create`."""


class DivergedError(RuntimeError):
    """A loss, or a task's gradient, is not finite; says at which step, and of which task."""

    def __init__(self, what: str, task: int, step: int) -> None:
        super().__init__(what, task, step)
        self.what, self.task, self.step = what, task, step

    def __str__(self) -> str:
        return f"the {self.what} of task {self.task} is not finite at step {self.step}"


class DoesNotFitError(ValueError):
    """The rule cannot work on this network or number of tasks; says what it would need."""


class Method(nn.Module):
    """A balancing rule for `num_tasks` losses. Subclasses give one of `objective`, `weigh`, `combine`.

    What a rule learns are its own parameters, in an optimiser of its own: assign it to `self.optimizer`, and it is
    stepped inside `backward`. What it draws, it draws from `self.generator`. Parameters, buffers, optimiser,
    generator and counters travel in `state_dict`.
    """

    at = "shared"
    """Where gradients are measured: at the "shared" parameters, the "features", or the "last" shared layer's weight."""
    heads = "plain"
    """What heads get where gradients are measured per task: each its own "plain" gradient, or the "weighted" one.
    A rule of one backward, and one at the last layer, weighs whole losses, the heads included."""
    norm = "own"
    """The update's length at "shared": the rule's "own", or that of the "sum" of the gradients."""
    invariant: frozenset[str] = frozenset()
    """What the update does not depend on, as the rule claims."""

    _rule: str = ""
    _needs: tuple[str, ...] = ()

    def __init__(self, num_tasks: int) -> None:
        super().__init__()
        if num_tasks < 1:
            raise ValueError(f"num_tasks={num_tasks}: a method needs at least one task")
        self.num_tasks = num_tasks
        self.generator = torch.Generator().manual_seed(SEED.get())
        self.optimizer: torch.optim.Optimizer | None = None
        self.added = nn.ModuleList()
        """Methods whose `extra` terms ride on this one (`kd+mgda`)."""
        self.steps = 0
        self.degenerate = 0
        """Steps at which the rule's definition had no solution."""
        self._private: dict[int, list[Tensor]] = {}
        self._extra_is_private: bool | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        given = [name for name in RULES if getattr(cls, name) is not getattr(Method, name)]
        if len(given) > 1:
            raise TypeError(f"{cls.__name__} overrides {' and '.join(given)}: a rule is exactly one of {RULES}")
        if given:
            cls._rule = given[0]
            cls._needs = _arguments(cls, given[0], ARGUMENTS if given[0] != "objective" else {"losses"})
            if given[0] == "combine" and "jacobian" not in cls._needs:
                raise TypeError(f"{cls.__name__}.combine must ask for the jacobian: the update has its columns")
        _arguments(cls, "after_epoch", EPOCH_ARGUMENTS)
        for name, known in SETTINGS.items():
            if getattr(cls, name) not in known:
                raise TypeError(f"{cls.__name__}.{name} = {getattr(cls, name)!r}: there is {', '.join(known)}")

    # What a rule may override ------------------------------------------------------------------------------

    def objective(self, *args: Any, **kwargs: Any) -> Tensor:
        """`losses [K]` -> the scalar to minimise; the weights are its derivatives."""
        raise NotImplementedError

    def weigh(self, *args: Any, **kwargs: Any) -> Tensor:
        """Any of the arguments above -> the weights `[K]`."""
        raise NotImplementedError

    def combine(self, *args: Any, **kwargs: Any) -> Tensor:
        """Any of the arguments above -> the update `[P]` itself."""
        raise NotImplementedError

    def extra(self, inputs: Mapping[str, Tensor], taps: Sequence[Sequence[Tensor]]) -> Tensor:
        """Return differentiable terms `[K]`, added with weight 1 for the trunk and for what the rule learns."""
        raise NotImplementedError

    def after_step(self, losses: Tensor) -> None:
        """Hear the same batch's `losses [K]` after the optimiser's step. Overriding it costs a forward pass."""

    def after_epoch(self, *args: Any, **kwargs: Any) -> None:
        """Hear, of an epoch, any of `losses [K]` (means over its steps) and `validation [K]` (validation losses)."""

    # What a training loop calls ----------------------------------------------------------------------------

    def backward(
        self,
        losses: Sequence[Tensor],
        *,
        shared: Iterable[Tensor | tuple[str, Tensor]],
        features: Tensor | None = None,
        last: Tensor | None = None,
        inputs: Mapping[str, Tensor] | None = None,
        taps: Sequence[Sequence[Tensor]] | None = None,
        reduce: Reduce | None = None,
    ) -> Tensor | None:
        """Turn K losses into `.grad` of every parameter, replacing what was there, and step the rule's own optimiser.

        Args:
            losses: K scalars, one a task, in float32.
            shared: the trunk's parameters, or `named_parameters()` for errors that name them. Parameters private to
                a task are found in its loss's graph.
            features: the tensor through which everything shared reaches the heads, for rules at "features".
            last: the last shared layer's weight, for rules at "last".
            inputs, taps: the batch, and K tuples of feature maps, for rules with `extra` terms.
            reduce: `fabric.all_reduce`, on several ranks. Each rank then passes, for R ranks, the losses
                R · total / Σ count, whose mean over ranks is the loss of the whole batch.

        Returns:
            The weights `[K]` that were used, or None of a rule that gives the update itself.

        Raises:
            DivergedError: a loss is NaN or infinite or, where gradients are measured, a task's gradient is.
            DoesNotFitError: something that the rule needs was not passed.
        """
        losses = list(losses)
        if len(losses) != self.num_tasks:
            raise ValueError(f"{len(losses)} losses were passed to a method for {self.num_tasks} tasks")
        trunk = self._trunk(losses, shared)
        private = [self._private.get(k, []) for k in range(self.num_tasks)]
        heads = list({parameter: None for own in private for parameter in own})
        stacked = torch.stack(losses)
        values = self._values(stacked.detach(), reduce)
        extra = self._extra(inputs, taps)
        learnt = [parameter for parameter in self.parameters() if parameter.requires_grad]  # may be built by extra
        for parameter in [*trunk, *heads, *learnt]:
            parameter.grad = None
        measures = bool({"gramian", "jacobian"} & set(self._needs))
        exact = measures and self.at == "shared"
        # Added terms ride on the last pass through the trunk, unless there is none or they also pass through a head.
        apart = extra is not None and (exact or self._passes_heads(extra, heads))
        if extra is not None and apart:
            term, [adaptors] = gradients.rows([extra], trunk, [learnt], keep_graph=True)
        step = _Step(losses, stacked, values, None if apart else extra, trunk, private, features, last, reduce)

        if not measures:
            weights: Tensor | None = self._by_losses(step)
        elif self.at == "last":
            weights = self._at_last(step)
        elif self.at == "features":
            weights = self._at_features(step)
        else:
            weights = self._at_shared(step)

        for parameter in [*trunk, *heads]:  # no label of its task in this batch: a gradient of zero, on every route
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        if apart:
            _accumulate(learnt, adaptors)
        # The exact route's update of the trunk was made of gradients that were averaged already.
        gradients.average([*heads, *learnt] if exact else [*trunk, *heads, *learnt], reduce)
        if apart:
            added = term[0] if reduce is None else reduce(term[0], reduce_op="mean")
            _accumulate(trunk, gradients.split(added, trunk))
        for part in self.parts():
            if part.optimizer is not None:
                part.optimizer.step()
        self.steps += 1
        return weights

    def parts(self) -> list["Method"]:
        """This method and those whose terms it carries."""
        return [self, *self.added]

    def overrides(self, name: str) -> bool:
        """Whether this method, or one that it carries, overrides `extra`, `after_step` or `after_epoch`."""
        return any(getattr(type(part), name) is not getattr(Method, name) for part in self.parts())

    def end_step(self, losses: Tensor) -> None:
        """Call `after_step` of every part with the same batch's `losses [K]` after the optimiser's step."""
        for part in self.parts():
            part.after_step(losses)

    def end_epoch(self, **available: Callable[[], Tensor]) -> None:
        """Call `after_epoch` of every part with what it names; only that is computed."""
        for part in self.parts():
            names = _arguments(type(part), "after_epoch", EPOCH_ARGUMENTS)
            part.after_epoch(**{name: available[name]() for name in names})

    def get_extra_state(self) -> dict[str, Any]:
        """What travels in `state_dict` beside parameters and buffers."""
        optimizer = None if self.optimizer is None else self.optimizer.state_dict()
        counters = {"steps": self.steps, "degenerate": self.degenerate}
        return {"generator": self.generator.get_state(), "optimizer": optimizer, **counters}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take over what `get_extra_state` gave."""
        self.generator.set_state(state["generator"])
        if self.optimizer is not None:
            self.optimizer.load_state_dict(state["optimizer"])
        self.steps, self.degenerate = state["steps"], state["degenerate"]

    # The four routes ---------------------------------------------------------------------------------------

    def _by_losses(self, step: "_Step") -> Tensor:
        """One backward of the weighted sum."""
        if self._rule == "objective":
            # On detached, reduced losses: right for any function of them, on any number of ranks.
            values = step.values.clone().requires_grad_()
            with torch.enable_grad():
                self.objective(values).backward()
            assert values.grad is not None
            weights = values.grad
        else:
            weights = self._call(step)
        self._weighted_backward(step, weights)
        return weights

    def _at_last(self, step: "_Step") -> Tensor:
        """K short backwards to the last shared layer to measure, then one of the weighted sum."""
        if step.last is None:
            raise DoesNotFitError(
                f"{self._label()} measures gradients at the last shared layer: pass last=, its weight"
            )
        matrix, _ = gradients.rows(step.losses, [step.last], keep_graph=True)
        if step.reduce is not None:
            matrix = step.reduce(matrix, reduce_op="mean")
        weights = self._call(step, gradients.gramian(matrix), matrix)
        self._weighted_backward(step, weights)
        return weights

    def _at_features(self, step: "_Step") -> Tensor | None:
        """K backwards through the heads to the features, then one through the trunk."""
        features = step.features
        if features is None:
            raise DoesNotFitError(f"{self._label()} needs the features: pass features=…, or measure at='shared'")
        if step.reduce is not None and "jacobian" in self._needs:
            raise DoesNotFitError(f"{self._label()} reads feature gradients, which several ranks do not share")
        matrix, own = gradients.rows(step.losses, [features], step.private, keep_graph=True)
        gramian = gradients.gramian(matrix)
        if step.reduce is not None:
            # A rank's rows are R times those of the whole batch, and the whole batch's columns are all ranks'.
            ranks = step.reduce(torch.ones((), device=features.device), reduce_op="sum").item()
            gramian = step.reduce(gramian.to(features.device), reduce_op="sum").cpu() / ranks**2
        result = self._call(step, gramian, matrix)
        weights = None if self._rule == "combine" else result
        into_features = (result if weights is None else weights @ matrix.to(weights)).to(features)
        self._give_heads(step, own, weights)
        roots, directions = step.added()
        torch.autograd.backward([features, *roots], [into_features.view_as(features), *directions])
        return weights

    def _at_shared(self, step: "_Step") -> Tensor | None:
        """K backwards to the shared parameters; their update is made of those rows, without another pass."""
        matrix, own = gradients.rows(step.losses, step.trunk, step.private)
        if step.reduce is not None:
            matrix = step.reduce(matrix, reduce_op="mean")
        result = self._call(step, gradients.gramian(matrix), matrix)
        weights = None if self._rule == "combine" else result
        update = result if weights is None else weights @ matrix
        if self.norm == "sum":
            length, target = torch.linalg.vector_norm(update), torch.linalg.vector_norm(matrix.sum(0))
            scale = torch.where(length > 0, target / length, torch.ones_like(length))
            update, weights = scale * update, None if weights is None else scale * weights
        self._give_heads(step, own, weights)
        gradients.assign(step.trunk, update)
        return weights

    # Their parts -------------------------------------------------------------------------------------------

    def _call(self, step: "_Step", gramian: Tensor | None = None, jacobian: Tensor | None = None) -> Tensor:
        """Call `weigh` or `combine` with what it names, without grad, and check what comes back."""
        if "features" in self._needs and step.features is None:
            raise DoesNotFitError(f"{self._label()} reads the features: pass features=…")
        if "features" in self._needs and step.reduce is not None:
            raise DoesNotFitError(f"{self._label()} reads the features, which several ranks do not share")
        values = step.values
        if gramian is not None:
            self._check("gradient", gramian.diagonal())
            values = values.to(gramian)  # one copy to the host: K×K problems are solved there, in float64
        features = None if step.features is None else step.features.detach()
        available = {"losses": values, "gramian": gramian, "jacobian": jacobian, "features": features}
        with torch.no_grad():
            result: Tensor = getattr(self, self._rule)(**{name: available[name] for name in self._needs})
        columns = None if jacobian is None else jacobian.shape[1]
        expected = [columns] if self._rule == "combine" else [self.num_tasks]
        if list(result.shape) != expected:
            raise ValueError(f"{self._label()}.{self._rule} returned {list(result.shape)} instead of {expected}")
        return result.detach().to(step.values, copy=True)  # a rule may return what it learns, which is about to change

    @staticmethod
    def _weighted_backward(step: "_Step", weights: Tensor) -> None:
        """One backward of Σ weights_k losses_k + Σ extra_k."""
        roots, directions = step.added()
        if step.stacked.requires_grad:  # or no task has a label in this batch
            roots, directions = [step.stacked, *roots], [weights, *directions]
        if roots:
            torch.autograd.backward(roots, directions)

    def _give_heads(self, step: "_Step", own: list[list[Tensor]], weights: Tensor | None) -> None:
        """Give each private parameter its tasks' gradients, plain or weighted."""
        for k, (parameters, found) in enumerate(zip(step.private, own, strict=True)):
            if self.heads == "weighted" and weights is not None:
                found = [weights[k] * gradient for gradient in found]
            _accumulate(parameters, found)

    def _extra(self, inputs: Mapping[str, Tensor] | None, taps: Sequence[Sequence[Tensor]] | None) -> Tensor | None:
        terms = []
        for part in self.parts():
            if type(part).extra is Method.extra:
                continue
            if inputs is None or taps is None:
                raise DoesNotFitError(f"{part._label()} adds terms of its own: pass inputs=… and taps=…")
            terms.append(part.extra(inputs, taps))
        total = torch.stack(terms).sum() if terms else None
        return total if total is not None and total.requires_grad else None

    def _passes_heads(self, extra: Tensor, heads: list[Tensor]) -> bool:
        if self._extra_is_private is None:
            private = not gradients.leaves(extra).keys().isdisjoint(heads)
            if len(self._private) < self.num_tasks:  # not all heads are known yet
                return private
            self._extra_is_private = private
        return self._extra_is_private

    def _trunk(self, losses: list[Tensor], shared: Iterable[Tensor | tuple[str, Tensor]]) -> list[Tensor]:
        """The shared parameters that learn; at first sight of a task's graph, also find what is private to it."""
        named = [item if isinstance(item, tuple) else (f"shared[{i}]", item) for i, item in enumerate(shared)]
        trunk = [parameter for _, parameter in named if parameter.requires_grad]
        if not trunk:
            raise ValueError("no shared parameter was passed: pass shared=trunk.parameters()")
        unseen = [k for k, loss in enumerate(losses) if k not in self._private and loss.requires_grad]
        if unseen:
            # A rule's own parameters are in no loss's graph, so what is reached is the network's.
            reached = {k: gradients.leaves(losses[k]) for k in unseen}
            common = set(trunk)
            if len(unseen) == self.num_tasks:
                everything = {leaf for own in reached.values() for leaf in own}
                lost = [f"{n} {list(p.shape)}" for n, p in named if p.requires_grad and p not in everything]
                if lost:
                    raise ValueError(f"no loss reaches the shared parameter {lost[0]}")
            for k in unseen:
                self._private[k] = [leaf for leaf in reached[k] if leaf not in common]
        return trunk

    def _values(self, losses: Tensor, reduce: Reduce | None) -> Tensor:
        """The losses `[K]` over all ranks, found to be finite."""
        if reduce is not None:
            # The number of tasks whose heads a rank has not seen travels along, so that all ranks refuse together.
            unseen = losses.new_tensor([self.num_tasks - len(self._private)])
            *values, unseen = reduce(torch.cat([losses, unseen]), reduce_op="mean").unbind()
            if unseen > 0:
                raise DoesNotFitError(
                    "a rank cannot know a task's head before it has seen a graph of its loss: "
                    "where a batch has no label let it be total / count.clamp(min=1)"
                )
            losses = torch.stack(values)
        self._check("loss", losses)
        return losses

    def _check(self, what: str, values: Tensor) -> None:
        if not is_finite(values):
            raise DivergedError(what, int((~torch.isfinite(values)).nonzero()[0]), self.steps)

    def _label(self) -> str:
        return type(self).__name__


@dataclass
class _Step:
    """What the routes work on."""

    losses: list[Tensor]
    stacked: Tensor
    """The losses `[K]`, with their graph."""
    values: Tensor
    """The losses `[K]`, detached and reduced."""
    extra: Tensor | None
    trunk: list[Tensor]
    private: list[list[Tensor]]
    features: Tensor | None
    last: Tensor | None
    reduce: Reduce | None

    def added(self) -> tuple[list[Tensor], list[Tensor]]:
        """The added terms as roots of a backward, with their gradients."""
        return ([], []) if self.extra is None else ([self.extra], [torch.ones_like(self.extra)])


def is_finite(values: Tensor) -> bool:
    """Whether all values are finite: one number is copied from the device, unless it is not finite."""
    return math.isfinite(values.sum()) or bool(torch.isfinite(values).all())


def _accumulate(parameters: Sequence[Tensor], found: Sequence[Tensor]) -> None:
    for parameter, gradient in zip(parameters, found, strict=True):
        parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient


def _arguments(cls: type, function: str, allowed: Iterable[str]) -> tuple[str, ...]:
    """The named arguments of `cls.function`, each of which must be one of `allowed`."""
    parameters = list(inspect.signature(getattr(cls, function)).parameters.values())[1:]
    names = tuple(p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD))
    for name in names:
        if name not in allowed:
            raise TypeError(f"{cls.__name__}.{function} asks for {name!r}: it may ask for {', '.join(sorted(allowed))}")
    return names
