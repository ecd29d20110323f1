"""Balancing rules by name: the registry of rules, and functions that read a variant and build a method from it."""

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from methods.core.names import UsageError
from methods.core.options import Option, arguments
from methods.core.registry import Part, Registry, Variant

if TYPE_CHECKING:
    from torch import nn

    from methods.core.base import Method

MOST_SEARCHED = 2
"""Options of one rule that are searched: more would starve each of trials."""
PROVIDED = frozenset({"num_tasks", "teachers", "average"})
GROUPS = ("standard", "all", "loss", "gradient", "distillation")
"""The groups of rules; `methods.core.groups` says what is in each."""


def facts(rule: Any) -> dict[str, Any]:
    """Return what a plan needs to know about a rule: the function it overrides, its arguments, and its settings."""
    from methods.core.base import RULES, SETTINGS, Method
    from methods.core.compose import takes
    from methods.core.search import as_json

    if len(rule.search) > MOST_SEARCHED or not rule.search.keys() <= arguments(rule).keys():
        raise TypeError(f"search = {dict(rule.search)}: name options of the rule, {MOST_SEARCHED} at most")
    overridden = next((name for name in RULES if getattr(rule, name) is not getattr(Method, name)), "")
    asked = list(inspect.signature(getattr(rule, overridden)).parameters.values())[1:] if overridden else []
    asks = [parameter.name for parameter in asked if parameter.kind is not parameter.VAR_KEYWORD]
    return {
        "overrides": overridden,
        "asks": asks,
        "extra": rule.extra is not Method.extra,
        "teachers": takes(rule, "teachers"),
        "average": takes(rule, "average"),
        "search": as_json(rule.search),
        "places": list(rule.places),
        **{name: getattr(rule, name) for name in (*SETTINGS, "every")},
    }


def _common(facts: Mapping[str, Any]) -> Mapping[str, Option]:
    """Return the options that every rule has which measures gradients; one that returns no weights has fewer."""
    if not {"gramian", "jacobian"} & set(facts["asks"]):
        return {}
    norm = Option(Literal["own", "sum"], facts["norm"])
    combines = facts["overrides"] == "combine"
    places: Any = tuple(place for place in facts["places"] if not (combines and place == "last"))
    at = Option(Literal[places], facts["at"])
    if combines:
        return {"at": at, "norm": norm}
    heads = Literal["own", "plain", "weighted"] if facts["heads"] == "own" else Literal["plain", "weighted"]
    return {
        "at": at,
        "heads": Option(heads, facts["heads"]),
        "norm": norm,
        "every": Option(int, facts["every"]),
    }


registry = Registry(
    "method",
    "methods",
    "methods.core.base:Method",
    "mtl_bench.methods",
    facts,
    _common,
    PROVIDED,
    groups=frozenset(GROUPS),
)


def parse(variant: "str | type | Variant", **options: Any) -> Variant:
    """Read a variant: the parts that only add terms first, the balancing rule last.

    Raises:
        UsageError: a name or an option is wrong, or the parts do not go together.
    """
    if isinstance(variant, Variant):
        return variant
    read = registry.parse(variant, **options)
    parts = sorted(read.parts, key=lambda part: not part.facts["extra"])
    rules = [part for part in parts if not part.facts["extra"]]
    if len(parts) > 1 and len(rules) != 1:
        names = " and ".join(part.entry.name for part in (rules or parts))
        raise UsageError(f"{variant}: of {names} only one can balance; what is added to it must have terms of its own")
    for part in parts:
        if part.values.get("norm") == "sum" and part.values["at"] != "shared":
            raise UsageError(f"{variant}: norm=sum needs the gradients at the shared parameters (at=shared)")
        if (every := part.values.get("every", 1)) < 1:
            raise UsageError(f"{variant}: every={every} should be a number of steps, 1 or more")
        if every > 1 and part.values.get("norm") == "sum":
            raise UsageError(f"{variant}: norm=sum needs the gradients at every step (every=1)")
    return Variant(tuple(parts))


def reads_teachers(rule: Variant) -> Part | None:
    """Return the part whose `__init__` names `teachers`, if there is one."""
    return next((part for part in rule.parts if part.facts["teachers"]), None)


def reads_average(rule: Variant) -> Variant | None:
    """Return the rule whose average weights a rule fixes, if it is such a rule.

    Raises:
        UsageError: `of` is not written in brackets, or the rule in them is wrong, or has no weights.
    """
    part = next((part for part in rule.parts if part.facts["average"]), None)
    if part is None:
        return None
    text = part.values["of"]
    if not (text.startswith("[") and text.endswith("]")):
        raise UsageError(f"{rule.label}: write the whole rule in brackets, frozen[of=[mgda]]")
    found = parse(text[1:-1])
    facts = found.parts[-1].facts
    if facts["overrides"] not in ("weigh", "objective") or facts["average"]:
        raise UsageError(f"{rule.label}: {found.label} has no weights of its own that could be frozen")
    return found


def heads(rule: Variant) -> str:
    """Return what a rule gives to the heads: their "plain" gradient, or the "weighted" one."""
    part = rule.parts[-1]
    found = part.values.get("heads", part.facts["heads"])
    return "weighted" if found == "weighted" else "plain"


def create(
    variant: "str | type | Variant",
    *,
    num_tasks: int,
    seed: int = 0,
    teachers: "Sequence[nn.Module] | None" = None,
    **options: Any,
) -> "Method":
    """Build a method from a variant such as `mgda`, `mgda[at=features]` or `kd+mgda`.

    Args:
        variant: one or more rules with options; of several, one balances and the others add terms. Or a class.
        num_tasks: K, the number of losses.
        seed: of the method's own random numbers.
        teachers: K modules that turn a batch's inputs into their taps, for rules that distil.
        options: those of a variant of one part, as keywords.

    Raises:
        UsageError: a name or an option is wrong.
        DoesNotFitError: the rule cannot work with so many tasks.
    """
    from methods.core.compose import compose

    return compose(parse(variant, **options).parts, num_tasks=num_tasks, seed=seed, teachers=teachers)
