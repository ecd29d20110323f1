"""Task sets by name. (Methods have `methods.create`.)"""

from functools import cache
from typing import TYPE_CHECKING

from methods.core.registry import PLACE, Part, Registry, UsageError, canonical

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
    """Build a task set from its variant.

    Raises:
        UsageError: a name or an option is wrong.
        DataError: the data cannot be had, or is not what the set declares.
    """
    part = parse_task_set(variant)
    values = dict(part.values)
    if place := values.get(PLACE) or PLACES.get(canonical([part])):
        values[PLACE] = place
    try:
        built: TaskSet = part.entry.load()(**values)
    except ValueError as problem:
        raise UsageError(str(problem)) from problem
    built.check()
    return built
