"""Task sets by name. (Methods have `methods.create`.)"""

from functools import cache
from typing import TYPE_CHECKING

from bench.blame import blame, place_in
from methods.core.registry import PLACE, Part, Registry, UsageError, canonical
from tasks.core.errors import in_words

if TYPE_CHECKING:
    from tasks.core.base import TaskSet

PLACES: dict[str, str] = {}
"""Where the data of a task set lies on this machine, by variant, if a request named a folder. It is no part of the
variant: the same data in another place is the same data, and other data has another fingerprint."""

task_sets = Registry("task set", "tasks", "TaskSet", "mtl_bench.tasks")


def parse_task_set(variant: str) -> Part:
    """Read a task set's variant, `name[key=value,…]`.

    Raises:
        UsageError: a name or an option is wrong.
    """
    parts = task_sets.parse(variant)
    if len(parts) > 1:
        raise UsageError(f"{variant}: one task set at a time; separate several by commas")
    return parts[0]


def task_set(variant: str) -> "TaskSet":
    """Return the task set of a variant, built once in a process: runs share its data. Raises as `build`."""
    return _built(variant, PLACES.get(variant, ""))


@cache
def _built(variant: str, place: str) -> "TaskSet":
    return build(variant)


def build(variant: str) -> "TaskSet":
    """Build a task set from its variant, and try its parts on each other.

    Raises:
        UsageError: a name or an option is wrong, or the set is not declared as it should be, or its code raises.
        DataError: the data cannot be had, or is not what the set declares.
    """
    from tasks.core.trial import try_out  # with torch, which a wrong name need not pay for

    built = construct(variant)
    with blame(parse_task_set(variant).entry):
        built.check()
        try_out(built)
    return built


def construct(variant: str) -> "TaskSet":
    """Make the object of a task set, whose data is not loaded yet.

    Raises:
        UsageError: a name or an option is wrong, or the set's file or constructor raises.
    """
    part = parse_task_set(variant)
    values = dict(part.values)
    if place := values.get(PLACE) or PLACES.get(canonical([part])):
        values[PLACE] = place
    with blame(part.entry):
        kind = part.entry.load()
        try:
            made: TaskSet = kind(**values)
        except ValueError as problem:  # what it has against an option
            raise UsageError(f"{in_words(problem)}{place_in(part.entry.file, problem)}") from problem
    return made
