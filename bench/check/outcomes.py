"""What checks share: how they fail, and what they compare."""

import random
from collections.abc import Mapping

import numpy as np
import torch

from bench.spec import RunSpec
from methods.core.registry import Variant
from tasks.core.base import TaskSet


class CheckError(Exception):
    """What is wrong, and what would be right."""


class NotApplicableError(Exception):
    """Why a check has nothing to try."""


def generators() -> dict[str, object]:
    """Return the states of the global generators of random numbers."""
    state = np.random.get_state(legacy=True)  # noqa: NPY002
    return {"torch": torch.get_rng_state().numpy().tobytes(), "numpy": str(state), "Python": random.getstate()}


def require_same_generators(before: Mapping[str, object], right: str) -> None:
    """Raise `CheckError` if a global generator is not as it was."""
    after = generators()
    for name, state in before.items():
        if after[name] != state:
            raise CheckError(f"it draws from {name}'s global generator: {right}")


def task_names(built: TaskSet) -> tuple[str, ...]:
    """Return the names of a set's tasks."""
    return tuple(task.name for task in built.tasks)


def short_run(task_set: Variant, built: TaskSet, tasks: tuple[str, ...], method: str) -> RunSpec:
    """Return a run of at most 20 steps, of the set's shortest protocol."""
    shortest = min(built.protocols.values(), key=lambda protocol: protocol.steps)
    steps = min(20, shortest.steps)
    protocol = shortest.model_copy(update={"steps": steps, "points": min(2, steps)})
    return RunSpec(task_set=task_set.stable, tasks=tasks, method=method, seed=0, protocol=protocol)
