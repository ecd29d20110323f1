"""Balancing rules: how K task losses become one update.

    method = methods.create("mgda", num_tasks=3)
    weights = method.backward(losses, shared=trunk.parameters())

The rules are this folder's files. Importing this package imports none of them, and no torch.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from methods.core.registry import Entry, Option, Part, Registry, UsageError

if TYPE_CHECKING:
    from torch import nn

    from methods.core.base import DivergedError, DoesNotFitError, Method

__all__ = ["DivergedError", "DoesNotFitError", "Method", "UsageError", "create", "parse", "reads_teachers", "registry"]


def _common(entry: Entry) -> Mapping[str, Option]:
    """`at` and `norm`, of every rule that measures gradients."""
    rule = "combine" if "combine" in entry.functions else "weigh"
    if not {"gramian", "jacobian"} & set(entry.arguments(rule)):
        return {}
    places = Literal["shared", "features"] if rule == "combine" else Literal["shared", "features", "last"]
    return {
        "at": Option(places, entry.attributes.get("at", "shared")),
        "norm": Option(Literal["own", "sum"], entry.attributes.get("norm", "own")),
    }


registry = Registry("method", __name__, "Method", "mtl_bench.methods", frozenset({"num_tasks", "teachers"}), _common)


def parse(variant: str, **options: Any) -> list[Part]:
    """Read a variant: the parts that only add terms first, the balancing rule last.

    Raises:
        UsageError: a name or an option is wrong, or the parts do not go together.
    """
    parts = sorted(registry.parse(variant, **options), key=lambda part: "extra" not in part.entry.functions)
    rules = [part for part in parts if "extra" not in part.entry.functions]
    if len(parts) > 1 and len(rules) != 1:
        names = " and ".join(part.entry.name for part in (rules or parts))
        raise UsageError(f"{variant}: of {names} only one can balance; what is added to it must have terms of its own")
    for part in parts:
        if part.values.get("norm") == "sum" and part.values["at"] != "shared":
            raise UsageError(f"{variant}: norm=sum needs the gradients at the shared parameters (at=shared)")
    return parts


def reads_teachers(parts: Sequence[Part]) -> Part | None:
    """Return the part whose `__init__` names `teachers`, if there is one."""
    return next((part for part in parts if "teachers" in part.entry.arguments("__init__")), None)


def create(
    variant: str, *, num_tasks: int, seed: int = 0, teachers: "Sequence[nn.Module] | None" = None, **options: Any
) -> "Method":
    """Build a method from a variant such as `mgda`, `mgda[at=features]` or `kd+mgda`.

    Args:
        variant: one or more rules with options; of several, one balances and the others add terms.
        num_tasks: K, the number of losses.
        seed: of the method's own random numbers.
        teachers: K modules that turn a batch's inputs into their taps, for rules that distil.
        options: those of a variant of one part, as keywords.

    Raises:
        UsageError: a name or an option is wrong.
        DoesNotFitError: the rule cannot work with so many tasks.
    """
    built = []
    for part in parse(variant, **options):
        values = dict(part.values)
        places = {name: values.pop(name) for name in ("at", "norm") if name in values}
        if reads_teachers([part]):
            if teachers is None:
                raise _does_not_fit(f"{part.entry.name} needs teachers: pass teachers=[…], a module per task")
            values["teachers"] = teachers
        method = _build(part.entry.load(), seed, num_tasks=num_tasks, **values)
        for name, place in places.items():
            setattr(method, name, place)
        built.append(method)
    *added, balancer = built
    balancer.added.extend(added)
    return balancer


def _build(rule: type, seed: int, **arguments: Any) -> "Method":
    """Build a rule whose generator is seeded before its `__init__` draws from it."""
    from methods.core.base import SEED

    token = SEED.set(seed)
    try:
        return rule(**arguments)  # type: ignore[no-any-return]
    finally:
        SEED.reset(token)


def _does_not_fit(message: str) -> Exception:
    from methods.core.base import DoesNotFitError

    return DoesNotFitError(message)


def __getattr__(name: str) -> Any:
    if name in ("Method", "DivergedError", "DoesNotFitError"):
        from methods.core import base

        return getattr(base, name)
    raise AttributeError(f"module 'methods' has no attribute '{name}'")
