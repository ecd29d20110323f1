"""Builds task sets by name, once in a process, and knows the folders of their data. (Methods have `methods.create`.)

After a built-in rule or task set was edited or added, `python -m bench.catalogue` writes their descriptions again.
"""

from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import methods
from bench.blame import blame, place_in
from methods.core.names import UsageError
from methods.core.registry import DESCRIBED, Registry, Variant
from tasks.core.errors import in_words

if TYPE_CHECKING:
    from tasks.core.base import TaskSet


def _facts(task_set: Any) -> dict[str, Any]:
    """Return what a plan needs to know about a task set before it is built."""
    protocols = getattr(task_set, "protocols", None)
    known = list(protocols) if isinstance(protocols, Mapping) else None  # None: only what is built knows them
    card = getattr(task_set, "card", None)
    return {
        "embedded": task_set.embedded,
        "hub": task_set.hub,
        "local": task_set.local,
        "protocols": known,
        "card": {name: str(text) for name, text in vars(card).items()} if is_dataclass(card) else {},
    }


task_sets = Registry("task set", "tasks", "tasks.core.base:TaskSet", "mtl_bench.tasks", _facts, place="path")


def parse_task_set(variant: "str | type | Variant") -> Variant:
    """Read a task set's variant, `name[key=value,…]`.

    Raises:
        UsageError: a name or an option is wrong.
    """
    if isinstance(variant, Variant):
        return variant
    found = task_sets.parse(variant)
    if len(found.parts) > 1:
        raise UsageError(f"{variant}: one task set at a time; separate several by commas")
    return found


def embedded() -> list[str]:
    """Return the names of the built-in task sets whose data comes with the package."""
    return [name for name, entry in task_sets.built_in().items() if task_sets.describe(entry).facts["embedded"]]


def place(variant: Variant) -> str:
    """Return the folder of the data on this machine if the variant names one, else an empty text."""
    return str(variant.parts[0].place or "")


def task_set(variant: "str | type | Variant", tried: bool = False) -> "TaskSet":
    """Return the task set of a variant, built once in a process: runs share its data. Raises as `build`.

    With `tried` its parts are not tried on each other: another process has done so.
    """
    parsed = parse_task_set(variant)
    return _built(parsed, parsed.parts[0].load(), tried)


@cache
def _built(variant: Variant, cls: type, tried: bool) -> "TaskSet":  # an edited file has another class
    return construct(variant) if tried else build(variant)


def build(variant: "str | type | Variant") -> "TaskSet":
    """Build a task set from its variant, and try its parts on each other.

    Raises:
        UsageError: a name or an option is wrong, a declaration of the set is wrong, or its code raises an exception.
        DataError: the data cannot be read or fetched, or is not what the set declares.
    """
    from tasks.core.trial import try_out  # this imports torch: not before the name is known to be right

    parsed = parse_task_set(variant)
    built = construct(parsed)
    with blame(parsed.parts[0].entry):
        try_out(built)
    return built


def construct(variant: "str | type | Variant") -> "TaskSet":
    """Make the object of a task set, whose data is not loaded yet.

    Raises:
        UsageError: a name or an option is wrong, or the set's file or constructor raises.
    """
    [part] = parse_task_set(variant).parts
    values = dict(part.values)
    if part.place is not None:
        values[task_sets.place] = part.place
    with blame(part.entry):
        kind = part.load()
        try:
            made: TaskSet = kind(**values)
        except ValueError as problem:  # the set refuses the value of an option
            raise UsageError(f"{in_words(problem)}{place_in(part.entry.file, problem)}") from problem
    return made


def main() -> None:
    """Write `described.json` of both packages."""
    for registry in (methods.registry, task_sets):
        (registry.folder / DESCRIBED).write_text(registry.ship(), "utf-8")


if __name__ == "__main__":
    main()
