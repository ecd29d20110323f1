"""What a run is asked to do and what it leaves: plain, frozen, validated data."""

from typing import Any, Literal

from bench.spec import Cost, Frozen, Result, RunSpec, Status, digest
from tasks.core.protocol import Protocol

SCHEMA: Literal[2] = 2
"""The schema version of stored records. `upgrade` converts older ones."""
REFERENCE = "equal"
"""The one method that the harness knows by name: every request compares with it."""

FINAL: frozenset[Status] = frozenset({"ok", "diverged", "skipped"})
"""Results: another attempt would end the same way. The other statuses may depend on the machine."""


FAILURES: frozenset[Status] = frozenset({"diverged", "timeout", "out_of_memory", "crashed"})
"""Outcomes without scores. (What was skipped is missing.)"""


Role = Literal["run", "trial", "reference"]


class KeyParts(Frozen):
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


class Provenance(Frozen):
    """Where and with what the run was made."""

    commit: str
    versions: dict[str, str]
    hardware: dict[str, str]
    seeds: tuple[int, ...]
    """Those that were asked for together; empty where that is not known. Seeds added after a look are a new sample."""
    role: Role = "run"
    """Why it was made first: to be compared, as a trial, or as a point of a reference curve, which is drawn and never
    tested. It is in no hash."""
    host: str = ""
    """The name of the machine, as the network knows it; empty in older records."""


class RunRecord(Frozen):
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


class StepCost(Frozen):
    """What a step of one method, or of single-task learning, takes."""

    method: str
    tasks: tuple[str, ...]
    step_seconds: float
    """Of the fastest round."""
    allocated_bytes: int
    """In all, over one step."""
    peak_bytes: int
    """At most at once, beyond what was there before the step. To some per cent: events of one moment have no order."""


class CostRecord(Frozen):
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
