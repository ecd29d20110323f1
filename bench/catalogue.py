"""Task sets by name. (Methods have `methods.create`.)"""

from functools import cache
from typing import TYPE_CHECKING

from methods.core.registry import NameProblem, Part, Registry

if TYPE_CHECKING:
    from tasks.core.base import TaskSet

task_sets = Registry("task set", "tasks", "TaskSet", "mtl_bench.tasks")


def parse_task_set(variant: str) -> Part:
    """Read a task set's variant, `name[key=value,…]`.

    Raises:
        NameProblem: a name or an option is wrong.
    """
    parts = task_sets.parse(variant)
    if len(parts) > 1:
        raise NameProblem(f"{variant}: one task set at a time; separate several by commas")
    return parts[0]


@cache
def task_set(variant: str) -> "TaskSet":
    """Return the task set of a variant, built once in a process: runs share its data. Raises as `build`."""
    return build(variant)


def build(variant: str) -> "TaskSet":
    """Build a task set from its variant.

    Raises:
        NameProblem: a name or an option is wrong.
        DataProblem: the data cannot be had, or is not what the set declares.
    """
    part = parse_task_set(variant)
    try:
        built: TaskSet = part.entry.load()(**part.values)
    except ValueError as problem:
        raise NameProblem(str(problem)) from problem
    built.check()
    return built
