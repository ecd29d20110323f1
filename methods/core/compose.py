"""Builds a rule from its parts: `kd+mgda` is MGDA with distillation added."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import nn

from methods.core.base import SEED, SETTINGS, DoesNotFitError, Method

MISSING = {
    "teachers": "needs teachers: pass teachers=[…], a module per task",
    "average": "needs the average weights of another rule's run, which a harness provides; here fix them with static",
}


class Part(Protocol):
    """A rule's class, and the values of its options."""

    @property
    def values(self) -> Mapping[str, Any]:
        """Option values by name: arguments of `__init__`, and the settings of rules that measure gradients (`at`)."""

    def load(self) -> type:
        """Return the class."""


def compose(
    parts: Sequence[Part],
    *,
    num_tasks: int,
    seed: int = 0,
    teachers: Sequence[nn.Module] | None = None,
    average: Any = None,
) -> Method:
    """Build a method from its parts. The parts that add terms come first; the rule that balances comes last.

    Args:
        parts: at least one.
        num_tasks: K, the number of losses.
        seed: of the method's own random numbers.
        teachers: K modules that turn a batch's inputs into their taps, for rules that distil.
        average: what another rule's training left (`methods.frozen.Average`), for rules that fix its weights.

    Raises:
        DoesNotFitError: a rule cannot work with so many tasks, or without what it reads.
    """
    given = {"teachers": teachers, "average": average}
    *added, balancer = [_build(part, num_tasks, seed, given) for part in parts]
    balancer.carry(*added)
    return balancer


def takes(rule: type, name: str) -> bool:
    """Whether a rule's `__init__` names an argument that is provided, or passes it on to one that does."""
    for base in rule.__mro__:
        if "__init__" in vars(base):
            parameters = inspect.signature(vars(base)["__init__"]).parameters
            if name in parameters:
                return True
            if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters.values()):
                return False
    return False


def _build(part: Part, num_tasks: int, seed: int, given: Mapping[str, Any]) -> Method:
    rule = part.load()
    settings = {*SETTINGS, "every"}
    arguments = {name: value for name, value in part.values.items() if name not in settings}
    for what, value in given.items():
        if takes(rule, what):
            if value is None:
                raise DoesNotFitError(f"{rule.__name__.lower()} {MISSING[what]}")
            arguments[what] = value
    token = SEED.set(seed)  # before `__init__` draws from its generator
    try:
        method: Method = rule(num_tasks=num_tasks, **arguments)
    finally:
        SEED.reset(token)
    for name in settings & part.values.keys():
        setattr(method, name, part.values[name])
    return method
