"""What a run is asked to do and what it leaves: plain, frozen, validated data."""

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from tasks.core.protocol import Protocol

SCHEMA: Literal[2] = 2
"""Of a stored record. What reads an older one is `upgrade`."""
STL = "stl"
"""The variant of a single-task baseline: plain backward, no balancing rule."""
REFERENCE = "equal"
"""The one method that the harness knows by name: every request compares with it."""

Status = Literal["ok", "diverged", "timeout", "out_of_memory", "crashed", "skipped"]
FINAL: frozenset[Status] = frozenset({"ok", "diverged", "skipped"})
"""Results: another attempt would end the same way. The other statuses may depend on the machine."""


FAILURES: frozenset[Status] = frozenset({"diverged", "timeout", "out_of_memory", "crashed"})
"""Outcomes without scores. (What was skipped is missing.)"""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RunSpec(_Frozen):
    """One training, as it was asked for."""

    schema_version: int = 1
    """Of what is asked: a change of it changes every name."""
    task_set: str
    """Canonical variant."""
    tasks: tuple[str, ...]
    method: str
    """Canonical variant, or `stl`."""
    seed: int
    protocol: Protocol
    precision: str = "32-true"

    @property
    def name(self) -> str:
        """The hash of what was asked."""
        return digest(self.model_dump(mode="json"))


class KeyParts(_Frozen):
    """Everything beside the spec that a run's numbers depend on."""

    data: str
    """The task set's fingerprint."""
    threads: int
    device: str
    versions: dict[str, str]
    upstream: dict[str, str]
    """The keys of the runs that this one reads, by name."""
    sources: dict[str, str]
    """The digest of each module that defines the numbers."""

    def key(self, name: str) -> str:
        """The hash of a run's name and of these."""
        return digest({"name": name, **self.model_dump(mode="json")})

    def differences(self, other: "KeyParts") -> list[str]:
        """Name what differs, for a reader."""
        found = []
        mine, theirs = self.model_dump(), other.model_dump()
        for part, value in mine.items():
            if isinstance(value, dict):
                names = sorted(n for n in value.keys() | theirs[part].keys() if value.get(n) != theirs[part].get(n))
                found += [{"sources": "the code of ", "upstream": "its baseline "}.get(part, "") + n for n in names]
            elif value != theirs[part]:
                found.append({"data": "the data", "threads": "the number of threads"}.get(part, f"the {part}"))
        return found


class Score(_Frozen):
    """One metric on the test split."""

    value: float | None
    """None if it is not finite."""
    higher_is_better: bool
    untrained: float | None


class Point(_Frozen):
    """What is known after some steps; losses and weights are means since the last point."""

    step: int
    losses: dict[str, float | None]
    validation: dict[str, dict[str, float | None]]
    weights: dict[str, float | None] | None
    gradient_norms: dict[str, float | None] | None
    """Of the task gradients with respect to the shared parameters, at this step's batch."""
    cosines: list[list[float | None]] | None
    """Between those gradients, in the order of the tasks."""
    update_ratio: float | None
    """‖update of the shared parameters‖ ÷ ‖Σ task gradients‖."""


class Result(_Frozen):
    """The outcome: a pure function of the run's key."""

    status: Status
    reason: str = ""
    scores: dict[str, dict[str, Score]] = {}
    """By task and metric."""
    points: list[Point] = []
    degenerate: int = 0
    """Steps at which the rule's definition had no solution."""
    weights_sha256: str | None = None
    """Of the file with the trained network, which a baseline leaves beside its record."""


class Cost(_Frozen):
    """What the run took; measured, so never twice the same. Seconds are wall-clock."""

    step_seconds: float | None = None
    """Mean over the steps, without evaluation and probes."""
    evaluation_seconds: float = 0.0
    probe_seconds: float = 0.0
    total_seconds: float = 0.0
    passes: dict[str, float] = {}
    """Per step: forward passes, backward passes through the heads and through the trunk, teachers' forward passes."""
    peak_memory: int | None = None
    """Bytes on the GPU."""


class Provenance(_Frozen):
    """Where and with what the run was made."""

    commit: str
    versions: dict[str, str]
    hardware: dict[str, str]
    seeds: tuple[int, ...]
    """Those that were asked for together; empty where that is not known. Seeds added after a look are a new sample."""


class RunRecord(_Frozen):
    """One run, as it is stored."""

    schema_version: Literal[2] = SCHEMA
    name: str
    key: str
    spec: RunSpec
    parts: KeyParts
    task_set_label: str
    method_label: str
    protocol_label: str = ""
    """What to call the protocol, if some of its fields were changed (`quick[lr=0.1]`); empty in older records."""
    result: Result
    cost: Cost
    provenance: Provenance
    log: tuple[str, ...] = ()
    """The last lines of what a failed run printed."""


class StepCost(_Frozen):
    """What a step of one method, or of single-task learning, takes."""

    method: str
    tasks: tuple[str, ...]
    step_seconds: float
    """Of the fastest round."""
    allocated_bytes: int
    """In all, over one step."""
    peak_bytes: int
    """At most at once, beyond what was there before the step. To some per cent: events of one moment have no order."""


class CostRecord(_Frozen):
    """The steps of several methods on one task set, measured side by side."""

    schema_version: Literal[1] = 1
    key: str
    task_set: str
    protocol: Protocol
    precision: str
    device: str
    hardware: dict[str, str]
    rounds: int
    costs: list[StepCost]

    def seconds(self, method: str, tasks: tuple[str, ...]) -> float | None:
        """The seconds of a step, if it was measured."""
        return next((c.step_seconds for c in self.costs if (c.method, c.tasks) == (method, tasks)), None)


def upgrade(document: dict[str, Any]) -> dict[str, Any]:
    """Return a stored record of an older schema as one of this; anything else as it is."""
    if document.get("schema_version") == 1:  # did not say which seeds were asked for together
        provenance = {**document.get("provenance", {}), "seeds": []}
        document = {**document, "schema_version": 2, "provenance": provenance}
    return document


def digest(value: Any) -> str:
    """The first 20 hex digits of the sha256 of canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:20]
