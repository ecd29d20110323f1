"""The contract of a balancing rule: how K task losses become one update.

A rule never sees the network's graph. It overrides exactly one of `objective`, `weigh`, `combine` and `step`, and the
names of its arguments say what it needs, and so what it costs:

==========  ======================================================================================
`losses`    `[K]` this step's losses, on the network's device (with a Gramian: float64, on the CPU)
`gramian`   `[K, K]` inner products of the task gradients, float64, on the CPU
`jacobian`  `[K, P]` the task gradients themselves
`features`  the tensor through which everything shared reaches the heads, with the batch axis
==========  ======================================================================================

All are detached, and already reduced over ranks. A rule reads them and must not change them in place. A rule that can
do without the features says so by a default, `features=None`: it gets them where the loop has them, on one rank.

With the losses alone a step is one backward. A Gramian or Jacobian costs K backwards to the shared parameters
(`at="shared"`, exact), or K cheap ones through the heads and one through the trunk (`at="features"`), or K short ones
and one full (`at="last"`, at the last shared layer). With `every=n` that is so at one step in n; at the others it is
one backward, and for heads that are not weighted one more through the heads.

If a task has no label in the batch, the rule works at this step on the other tasks alone, and K is their number.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self
from weakref import ref

import torch
from torch import Tensor, nn

from . import routes, subset
from .errors import DivergedError, DoesNotFitError
from .gradients import Reduce
from .problem import Problem
from .search import Space
from .step import Accumulated, Kept, Parameters

__all__ = ["DivergedError", "DoesNotFitError", "Method"]

ARGUMENTS = frozenset({"losses", "gramian", "jacobian", "features"})
EPOCH_ARGUMENTS = frozenset({"losses", "validation"})
RULES = ("objective", "weigh", "combine", "step")

SETTINGS = {
    "at": ("shared", "features", "last"),
    "heads": ("plain", "weighted", "own"),
    "norm": ("own", "sum"),
    "zero_gradients": ("kept", "left out"),
}

SEED: ContextVar[int] = ContextVar("SEED", default=0)
"""The seed of the generators of methods that are being built: set by `methods.create`."""


@dataclass
class Memory:
    """What one step leaves for the next. It belongs to the network in use. It is not part of the rule's state."""

    took_part: list[int]
    """The tasks that were present at the last step."""
    written: list[ref[Tensor]] = field(default_factory=list)
    """The parameters that got a gradient at the last step."""
    accumulated: Accumulated | None = None
    """The sums over the micro-batches before the last one of a batch, if there are any."""


class Method(nn.Module):
    """A balancing rule for `num_tasks` losses. Subclasses give one of `objective`, `weigh`, `combine`, `step`.

    What a rule learns are parameters of its own, in an optimiser of its own: assign that to `self.optimizer`, and
    `backward` steps it. A rule draws its random numbers from `self.generator`. Parameters, buffers, optimiser,
    generator and counters travel in `state_dict`.
    """

    at = "shared"
    """Where gradients are measured: at the "shared" parameters, the "features", or the "last" shared layer's weight."""
    places: tuple[str, ...] = SETTINGS["at"]
    """The places that `at` may name. A rule that remembers something of each parameter leaves "features" out: they are
    those of other examples at each step."""
    heads = ""
    """What the heads get: the "plain" gradient of their task; the "weighted" one, as the trunk; or the gradient times a
    weight of their "own", `head_weights`. If a rule does not say it: "plain" where it measures gradients, else
    "weighted", because a rule of losses weighs whole losses."""
    head_weights: Tensor
    """`[K]` of the tasks that the rule sees at this step: what a rule with `heads = "own"` sets when it is called."""
    every = 1
    """At every how many steps a rule that measures gradients does so. In between its last weights serve, in one
    backward. If other tasks are present than when they were measured, they are measured anew."""
    norm = "own"
    """The update's length at "shared": the rule's "own", or that of the "sum" of the gradients."""
    zero_gradients = "kept"
    """How the rule treats a present task whose measured gradient is zero. "kept": the rule's definition has a solution,
    so the task takes part. "left out": the definition divides by the gradient's length. The task then weighs 0, the
    others are balanced without it, and the step counts as degenerate. Its head gets the plain gradient, also where
    heads are weighted: a head whose weights start at zero passes no gradient on, and could else never learn."""
    per_task: tuple[str, ...] = ()
    """Names of the parameters, buffers and other tensors `[…, K]` in which the rule keeps something of each task. While
    a task is absent the rule sees them without its entries, which stay what they were."""
    invariant: frozenset[str] = frozenset()
    """What does not change the update of the trunk. `check` tests these claims. "permutation": the order of the tasks.
    "scale": that a loss is multiplied by a constant."""
    recalls: bool = False
    """Whether gradients of earlier steps are in the update, too, so that it is not made of this step's alone."""
    nonconflicting: bool = False
    """Whether the rule claims that no step makes a loss worse to first order: g_k · d ≥ 0 for every task gradient. The
    claim is of gradients that are measured at "shared"; elsewhere the update of the trunk may conflict with one."""
    search: Mapping[str, Space] = {}
    """Where its options may be searched, by name: two at most."""

    rule: str = ""
    """The one of the four functions that the class overrides."""
    needs: tuple[str, ...] = ()
    """The arguments of that function."""
    requires_features: bool = False
    """Whether it needs the features, because that argument has no default."""

    _says_heads: ClassVar[bool] = False
    """Whether the class, or one that it derives from, says itself what heads get."""
    _as_written: tuple[str, ...]
    """The arguments that the rule was built with, where they are not at their defaults."""
    __signature__: ClassVar[inspect.Signature]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Note what a rule is built with, for `repr`: `__init__` of a rule need not keep its arguments."""
        made = super().__new__(cls)
        made._as_written = _written(cls, args, kwargs)
        return made

    def __init__(self, num_tasks: int) -> None:
        super().__init__()
        if not hasattr(num_tasks, "__index__") or num_tasks < 1:
            raise ValueError(f"num_tasks={num_tasks!r}: a method needs at least one task, and a whole number of them")
        self.num_tasks = num_tasks
        self.generator = torch.Generator().manual_seed(SEED.get())
        self.optimizer: torch.optim.Optimizer | None = None
        self.added = nn.ModuleList()
        """Methods whose `extra` terms ride on this one (`kd+mgda`)."""
        self.steps = 0
        self.degenerate = 0
        """Steps at which the rule's definition had no solution."""
        self.absent = 0
        """Steps at which a task had no label in the batch."""
        self.memory = Memory(list(range(num_tasks)))
        self.kept: Kept | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # Without it `help` and editors would show the arguments of `__new__`, which takes anything.
        signature = inspect.signature(cls.__init__)
        cls.__signature__ = signature.replace(parameters=list(signature.parameters.values())[1:])
        given = [name for name in RULES if getattr(cls, name) is not getattr(Method, name)]
        if len(given) > 1:
            raise TypeError(f"{cls.__name__} overrides {' and '.join(given)}: a rule is exactly one of {RULES}")
        if given:
            cls.rule = given[0]
            allowed = {"objective": frozenset({"losses"}), "step": frozenset({"problem"})}.get(given[0], ARGUMENTS)
            cls.needs = _arguments(cls, given[0], allowed)
            asked = inspect.signature(getattr(cls, given[0])).parameters
            cls.requires_features = "features" in cls.needs and asked["features"].default is inspect.Parameter.empty
            if given[0] == "combine" and "jacobian" not in cls.needs:
                raise TypeError(f"{cls.__name__}.combine must ask for the jacobian: the update has its columns")
        cls.epoch_arguments()  # it refuses others
        cls._says_heads = cls._says_heads or "heads" in cls.__dict__
        if not cls._says_heads and given:
            cls.heads = "plain" if {"gramian", "jacobian"} & set(cls.needs) else "weighted"
        for name, known in SETTINGS.items():
            if getattr(cls, name) not in known and (name != "heads" or cls.heads):
                raise TypeError(f"{cls.__name__}.{name} = {getattr(cls, name)!r}: there is {', '.join(known)}")
        if cls.at not in cls.places:
            raise TypeError(f"{cls.__name__}.at = {cls.at!r}: this rule measures at {', '.join(cls.places)}")
        if cls.rule == "combine" and cls.heads == "weighted":
            raise TypeError(f"{cls.__name__}.combine returns no weights: heads = 'weighted' is for weigh")

    # What a rule may override ------------------------------------------------------------------------------

    def objective(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return the scalar to minimise, from `losses [K]`. The weights are its derivatives."""
        raise NotImplementedError

    def weigh(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return the weights `[K]`, from any of the arguments at the head of this file."""
        raise NotImplementedError

    def combine(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return the update `[P]` itself, from any of the arguments at the head of this file."""
        raise NotImplementedError

    def step(self, problem: Problem) -> Tensor | None:
        """Take one whole step except the optimiser's: leave `.grad` everywhere, return the weights `[K]` or None.

        This is the door of a harness. The default is `backward` at the step's batch. A rule that overrides it is a
        whole training rule: it asks `problem` for batches and losses, writes the gradients, and steps an optimiser
        of its own itself.
        """
        return self.backward(**problem.arguments())

    def extra(self, inputs: Mapping[str, Tensor], taps: Sequence[Sequence[Tensor]]) -> Tensor:
        """Return differentiable terms `[K]`, added with weight 1 for the trunk and for what the rule learns."""
        raise NotImplementedError

    def after_step(self, losses: Tensor) -> None:
        """Called after the optimiser's step with the batch's new `losses [K]`. Overriding it costs a forward pass."""

    def after_epoch(self, *args: Any, **kwargs: Any) -> None:
        """Called after each epoch with those that it names: `losses [K]` (means over the epoch), `validation [K]`."""

    # What a training loop calls ----------------------------------------------------------------------------

    def backward(
        self,
        losses: Iterable[Tensor | None],
        *,
        shared: Parameters,
        private: Sequence[Parameters] | None = None,
        present: Sequence[bool] | Tensor | None = None,
        features: Tensor | None = None,
        last: Tensor | None = None,
        inputs: Mapping[str, Tensor] | None = None,
        taps: Sequence[Sequence[Tensor]] | None = None,
        reduce: Reduce | None = None,
    ) -> Tensor | None:
        """Turn K losses into this step's `.grad` of every parameter, and step the rule's own optimiser.

        Every parameter that the losses of present tasks reach gets this step's gradient, which replaces the gradient
        that was there. A parameter that the method wrote at its last step and that is not reached now has `.grad` None,
        as after `zero_grad(set_to_none=True)`. So parts of the network may be frozen, replaced or added between steps.

        Args:
            losses: K scalars, one a task, best in float32. The loss of a task without a label in this batch is None,
                or a zero that needs no gradient: the task is absent, weighs 0, and the others are balanced alone.
            shared: the trunk's parameters, or `named_parameters()` for errors that name them.
            private: K lists of the parameters of each task's own part. With these lists, the parameters in them and in
                `shared` that no loss reaches at this step get a gradient of zero, for example the head of an absent
                task. All other parameters that the losses reach are found in the graphs, with or without the lists.
            present: `[K]` booleans, which tasks have a label in this batch (on any rank). Without it the losses decide.
            features: the tensor through which everything shared reaches the heads, for rules at "features".
            last: the last shared layer's weight, for rules at "last".
            inputs: the batch's inputs by name, for rules with `extra` terms.
            taps: K tuples of feature maps, for rules with `extra` terms.
            reduce: `fabric.all_reduce`, on several ranks. Each rank then passes, for R ranks, the losses
                R · total / Σ count, whose mean over ranks is the loss of the whole batch.

        Returns:
            The weights `[K]` that were used, or None if the rule gives the update itself.

        Raises:
            DivergedError: a loss, or a measured gradient, or what the rule returned is NaN or infinite. On a GPU a bad
                result of the rule is noticed at the next loss.
            DoesNotFitError: something that the rule needs was not passed, or is not what it should be.
            ValueError: the losses are not K scalars, or what the rule returned is not what it should return.
        """
        if self.rule == "step":
            raise DoesNotFitError(f"{type(self).__name__} is a whole training rule: call step(problem)")
        given = {"shared": shared, "private": private, "present": present, "reduce": reduce}
        return routes.backward(self, losses, inputs, taps, features=features, last=last, **given)

    def accumulate(
        self,
        losses: Iterable[Tensor | None],
        *,
        shared: Parameters,
        private: Sequence[Parameters] | None = None,
        present: Sequence[bool] | Tensor | None = None,
        features: Tensor | None = None,
        last: Tensor | None = None,
        inputs: Mapping[str, Tensor] | None = None,
        taps: Sequence[Sequence[Tensor]] | None = None,
        reduce: Reduce | None = None,
    ) -> None:
        """Measure one micro-batch and free its graph; `backward` at the last one of a batch weighs the sum of all.

        The K gradients and the losses are added to those of earlier micro-batches. Each loss should therefore be its
        share of the batch's loss: a mean, divided by the number of micro-batches. This takes K backward passes for
        every rule, because even the weights of a rule of losses are known at the last micro-batch only. The result is
        that of the whole batch, except for layers that look at the batch (batch normalisation). What was measured waits
        for the next `backward`, whenever that comes. The arguments from `features` on are accepted, as in `backward`,
        and not used.

        Raises:
            DoesNotFitError: the rule measures at the features or reads them, or has added terms.
            DivergedError, ValueError: as `backward`.
        """
        if self.rule == "step":
            raise DoesNotFitError(f"{type(self).__name__} is a whole training rule: it takes its batches itself")
        routes.accumulate(self, losses, shared=shared, private=private, present=present)

    def carry(self, *others: "Method") -> None:
        """Let the `extra` terms of other methods ride on this one.

        Raises:
            DoesNotFitError: this is a whole training rule, which has no place for them.
        """
        if self.rule == "step" and others:
            name, other = type(self).__name__, type(others[0]).__name__
            raise DoesNotFitError(f"{name} is a whole training rule: the terms of {other} cannot be added to it")
        self.added.extend(others)

    @property
    def measures(self) -> bool:
        """Whether the rule needs a gradient per task."""
        return "gramian" in self.needs or "jacobian" in self.needs

    def parts(self) -> list["Method"]:
        """This method and those whose terms it carries."""
        return [self, *self.added]

    def has(self, name: str) -> bool:
        """Whether this method itself overrides the hook of this name: `extra`, `after_step` or `after_epoch`."""
        return getattr(type(self), name) is not getattr(Method, name)

    def overrides(self, name: str) -> bool:
        """Whether this method, or one that it carries, overrides `extra`, `after_step` or `after_epoch`."""
        return any(part.has(name) for part in self.parts())

    def end_step(self, losses: Tensor) -> None:
        """Call `after_step` of every part with the same batch's `losses [K]` after the optimiser's step."""
        took_part = self.memory.took_part
        told = losses[took_part] if len(took_part) < self.num_tasks else losses
        for part in self.parts():
            with subset.only(part, took_part):
                part.after_step(told)

    def end_epoch(self, **available: Callable[[], Tensor]) -> None:
        """Call `after_epoch` of every part with the values that it names. Other values are not computed.

        Args:
            available: `losses` and `validation`, functions without arguments that return values `[K]`. A NaN stands for
                a task without a label in the epoch. The rule is not told about that task.

        Raises:
            ValueError: a part names a value that was not passed, or a value is not a tensor `[K]`.
        """
        for part in self.parts():
            names = part.epoch_arguments()
            heard = {}
            for name in names:
                if not callable(available.get(name)):
                    raise ValueError(f"{type(part).__name__} hears {name}: pass {name}=, a function that returns them")
                heard[name] = available[name]()
                if not isinstance(heard[name], Tensor) or list(heard[name].shape) != [self.num_tasks]:
                    raise ValueError(f"{name} should return a tensor [{self.num_tasks}]")
            known = [k for k in range(self.num_tasks) if not any(bool(v[k].isnan()) for v in heard.values())]
            if len(known) < self.num_tasks:
                heard = {name: values[known] for name, values in heard.items()}
            if known:
                with subset.only(part, known):
                    part.after_epoch(**heard)

    @classmethod
    def epoch_arguments(cls) -> tuple[str, ...]:
        """Return the names of what `after_epoch` hears."""
        return _arguments(cls, "after_epoch", EPOCH_ARGUMENTS)

    # What a rule may call ----------------------------------------------------------------------------------

    def rows_of(self, name: str, jacobian: Tensor) -> Tensor:
        """Return the buffer `[P, K]` of this name, in which a rule keeps something of each entry of `jacobian [K, P]`.

        A rule registers it as `[0, K]`, because it does not know P, and names it in `per_task`. At the first step, and
        where the trunk has another size than before, it is zero. It lies on the device of `jacobian`, and in memory as
        `jacobian` does, one task after the other: so both are read in order.
        """
        found = self.get_buffer(name)
        if len(found) != jacobian.shape[1]:
            setattr(self, name, jacobian.new_zeros(self.num_tasks, jacobian.shape[1]).T)
        elif found.device != jacobian.device or not found.T.is_contiguous():  # it comes from a state that was saved
            setattr(self, name, found.T.to(jacobian.device).contiguous().T)
        return self.get_buffer(name)

    # What travels ------------------------------------------------------------------------------------------

    def get_extra_state(self) -> dict[str, Any]:
        """Return the part of `state_dict` that is neither a parameter nor a buffer."""
        optimizer = None if self.optimizer is None else self.optimizer.state_dict()
        counters = {"steps": self.steps, "degenerate": self.degenerate, "absent": self.absent}
        kept = None if self.kept is None else vars(self.kept)
        return {"generator": self.generator.get_state(), "optimizer": optimizer, "kept": kept, **counters}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_extra_state` returned."""
        self.generator.set_state(state["generator"])
        if self.optimizer is not None:
            self.optimizer.load_state_dict(state["optimizer"])
        self.steps, self.degenerate, self.absent = state["steps"], state["degenerate"], state["absent"]
        self.kept = Kept(**state["kept"]) if state["kept"] is not None else None

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        for name in self.per_task:  # a buffer of `rows_of` has the size that was saved
            saved, own = state_dict.get(prefix + name), self._buffers.get(name)
            if saved is not None and own is not None and saved.shape[1:] == own.shape[1:]:
                setattr(self, name, torch.empty_like(saved, device=own.device))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def __repr__(self) -> str:
        """Show the rule as one writes it, without what is at its default, and the rules whose terms it carries."""
        cls, settings = type(self), ("at", "heads", "norm", "every")
        changed = [f"{n}={getattr(self, n)!r}" for n in settings if getattr(self, n) != getattr(cls, n)]
        rule = f"{cls.__name__}({', '.join([*self._as_written, *changed])})"
        return " + ".join([*map(repr, self.added), rule])

    def __getstate__(self) -> dict[str, Any]:
        """Leave the memory out of copies: a copy works on another network, where this method has written nothing."""
        return {**self.__dict__, "memory": Memory(list(range(self.num_tasks)))}


def _written(cls: type, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[str, ...]:
    """The arguments of a rule that are not at their defaults, as `name=value`."""
    signature = inspect.signature(cls)
    try:
        given = signature.bind_partial(*args, **kwargs).arguments
    except TypeError:  # `__init__` itself says what is wrong with them
        return ()
    defaults = {name: parameter.default for name, parameter in signature.parameters.items()}
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            given |= given.pop(name, {})
    return tuple(f"{n}={v!r}" for n, v in given.items() if _is_plain(v) and v != defaults.get(n, cls))


def _is_plain(value: object) -> bool:
    """Whether a value is one that an option can have: not a network, which would fill the screen."""
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _arguments(cls: type, function: str, allowed: Iterable[str]) -> tuple[str, ...]:
    """The named arguments of `cls.function`, each of which must be one of `allowed`."""
    parameters = list(inspect.signature(getattr(cls, function)).parameters.values())[1:]
    names = tuple(p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD))
    for name in names:
        if name not in allowed:
            raise TypeError(f"{cls.__name__}.{function} asks for {name!r}: it may ask for {', '.join(sorted(allowed))}")
    return names
