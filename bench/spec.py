"""The input and the results of a training, as plain, frozen, validated data: RunSpec, Result, Score, Point, Cost."""

import hashlib
import json
import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from tasks.core.protocol import Protocol

STL = "stl"
"""The variant of a single-task baseline: plain backward, no balancing rule."""

PASSES = ("forward", "heads", "trunk", "teacher")
"""The kinds of passes that are counted."""

Status = Literal["ok", "diverged", "timeout", "out_of_memory", "crashed", "skipped"]


class Frozen(BaseModel):
    """Validated data that does not change."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RunSpec(Frozen):
    """One training, as it was asked for."""

    schema_version: int = 1
    """The version of the specification itself: raising it renames every run."""
    task_set: str
    """Canonical variant."""
    tasks: tuple[str, ...]
    method: str
    """Canonical variant, or `stl`."""
    seed: int
    protocol: Protocol
    precision: str = "32-true"
    reads: tuple[str, ...] = Field(default=(), exclude_if=lambda names: not names)
    """The names of the runs that this one reads, where another protocol than its own has trained them."""

    @property
    def name(self) -> str:
        """The hash of the specification."""
        return digest(self.model_dump(mode="json"))


class Score(Frozen):
    """One metric on the test split."""

    value: float | None
    """None if it is not finite."""
    higher_is_better: bool
    untrained: float | None


class Point(Frozen):
    """What is known after some steps. Losses and weights are means since the last point."""

    step: int
    losses: dict[str, float | None]
    validation: dict[str, dict[str, float | None]]
    weights: dict[str, float | None] | None
    gradient_norms: dict[str, float | None] | None
    """The lengths of the task gradients with respect to the shared parameters, on this step's batch."""
    cosines: list[list[float | None]] | None
    """The cosines between those gradients, in the order of the tasks."""
    update_ratio: float | None
    """‖update of the shared parameters‖ ÷ ‖Σ task gradients‖."""


class Result(Frozen):
    """The outcome: a pure function of the run's key."""

    status: Status
    reason: str = ""
    scores: dict[str, dict[str, Score]] = {}
    """By task and metric."""
    points: list[Point] = []
    mean_weights: dict[str, float] | None = Field(default=None, exclude_if=lambda weights: weights is None)
    """By task, the mean over the steps of w / Σ|w|, times the mean of Σ|w|: what `frozen` fixes."""
    degenerate: int = 0
    """Steps at which the rule's definition had no solution."""
    weights_sha256: str | None = None
    """The hash of the file with the trained network, which a baseline writes beside its record."""


class Cost(Frozen):
    """What the run took. It is measured, so it differs each time. Seconds are wall-clock seconds."""

    step_seconds: float | None = None
    """Mean over the steps, without evaluation and probes."""
    evaluation_seconds: float = 0.0
    probe_seconds: float = 0.0
    total_seconds: float = 0.0
    passes: dict[str, float] = {}
    """Per step: forward passes, backward passes through the heads and through the trunk, teachers' forward passes.
    Empty where they were not counted."""
    peak_memory: int | None = None
    """Bytes on the GPU."""

    @field_validator("passes")
    @classmethod
    def _are_of_every_kind(cls, passes: dict[str, float]) -> dict[str, float]:
        if passes and (set(passes) != set(PASSES) or not all(0 <= count < math.inf for count in passes.values())):
            raise ValueError(f"passes should be counts of {', '.join(PASSES)}")
        return passes


def digest(value: Any) -> str:
    """The first 20 hex digits of the sha256 of canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:20]
