"""The table of scores: what every page is made from, read from records or (`given.py`) from anybody's CSV file.

A run is a group of the table's lines: one a test metric, with what is known of the run. `tidy` writes the lines out.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import pandas as pd
from pydantic import TypeAdapter

from bench.records import KeyParts, Provenance, RunRecord
from bench.spec import STL, Cost, Point, RunSpec, Score, Status, digest
from bench.tuning.choose import Choice
from tasks.core.protocol import Protocol

COLUMNS = ["task_set", "method", "seed", "task", "metric", "split", "value", "higher_is_better", "status", "untrained"]
"""Of a tidy file: one row per test metric of each run."""
NEEDED = ["task_set", "method", "seed", "task", "metric", "value", "higher_is_better"]
ROLE, OF = "role", "of"
"""Further columns, where some run is no contestant, and where some run has the frozen weights of another method."""
SUITE = "all"
"""The label of what is over task sets."""
LARGEST = 1e100
"""A score beyond this is no number to compute with: squares and sums of it would be infinite."""
USUAL_PROTOCOL, USUAL_PRECISION = "quick", "32-true"
"""Those that a label does not name."""

Metric = tuple[str, str]
"""Task and name."""
Role = Literal["contestant", "reference", "trial", "remainder"]
"""What a run is for: a contestant is tested and ranked. A reference (a point of a front of static weights, say) and a
trial are only drawn. A remainder, with the frozen weights of another method, is compared with that method alone. So
they cost no contestant power."""
UNKNOWN_COST = Cost()
_POINTS = TypeAdapter(list[Point])


class Points(Sequence[Point]):
    """What a run wrote down while training, kept as JSON and read anew whenever it is asked for.

    As objects, the points take more than half of the memory of all records, and figures draw those of few runs.
    """

    def __init__(self, points: Sequence[Point]) -> None:
        self._json = _POINTS.dump_json(list(points))
        self._length = len(points)

    def __getitem__(self, place: Any) -> Any:
        return _POINTS.validate_json(self._json)[place]

    def __iter__(self) -> Iterator[Point]:
        return iter(_POINTS.validate_json(self._json))

    def __len__(self) -> int:
        return self._length

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as that of a list


@dataclass(frozen=True)
class Run:
    """One run: its test scores, and what is known of it."""

    task_set: str
    """What the table calls the task set, with the protocol and precision where they are not the usual ones."""
    method: str
    """What the table calls the method; `stl` is a single-task run."""
    seed: int
    tasks: tuple[str, ...]
    status: Status
    scores: Mapping[str, Mapping[str, Score]]
    """By task and metric; empty unless the status is ok."""
    role: Role = "contestant"
    of: str = ""
    """Of a run with frozen weights, the method that they are of."""
    set_name: str = ""
    """The task set alone, without protocol."""
    suite: str = ""
    """What marks the task sets that may be averaged with this one: protocol and precision, if not the usual ones."""
    name: str = ""
    """Of the record, if it was made by the harness."""
    spec: RunSpec | None = None
    """What was asked for; None where it is not known how the run was trained. So are the next ones."""
    parts: KeyParts | None = None
    provenance: Provenance | None = None
    reason: str = ""
    degenerate: int = 0
    points: Sequence[Point] = ()
    cost: Cost = UNKNOWN_COST
    choice: Choice | None = None
    """By which its rate was chosen; None if that is the protocol's own."""

    @property
    def protocol(self) -> Protocol | None:
        """The protocol as it was asked for; None where it is not known."""
        if self.choice is not None:
            return self.choice.protocol
        return self.spec.protocol if self.spec is not None else None

    @cached_property
    def values(self) -> dict[Metric, float]:
        """Those of the scores that are numbers to compute with."""
        return usable(self.scores)


@dataclass(frozen=True)
class Scores:
    """The whole table: runs in an order that does not depend on how they were found, task set by task set."""

    runs: tuple[Run, ...]
    choices: tuple[Choice, ...] = ()
    """By which the rates of tuned runs were chosen, in the order of their names."""
    untuned: "Scores | None" = None
    """The same contestants at the protocol's own rate, under the same labels; None where nothing was tuned."""
    trials: tuple[Run, ...] = ()
    """Those of the trials that chose the rates whose records are there. They are in no table of results."""


def from_records(records: Iterable[RunRecord]) -> Scores:
    """Make the table of records. Their order does not matter.

    Runs of another protocol or precision are a task set of their own. A variant is called by its label, or in full
    where two have one label.
    """
    records = list(records)
    by_name = {record.name: record for record in records}
    protocols: dict[object, str] = {}
    sorted_in: dict[tuple[str, str, str], list[RunRecord]] = defaultdict(list)
    for record in sorted(records, key=lambda record: record.name):
        spec = record.spec
        if spec.protocol not in protocols:
            protocols[spec.protocol] = spec.protocol.model_dump_json()
        sorted_in[spec.task_set, protocols[spec.protocol], spec.precision].append(record)
    suffixes = {key: _suffix(members[0]) for key, members in sorted_in.items()}
    plain = {key: members[0].task_set_label + suffixes[key] for key, members in sorted_in.items()}
    often = Counter(plain.values())
    runs = []
    for key, members in sorted(sorted_in.items()):
        # Same name, other content (a protocol that was edited): told apart by a digest.
        taken = often[plain[key]] > 1
        label = distinct(plain[key], members[0].task_set_label, key, taken=taken)
        shown = _shown({record.spec.method: record.method_label for record in members})
        compared = named(members)
        for record in members:
            role: Role = "contestant" if record.spec.method in compared else "reference"
            other = average_of(record, by_name)
            of = shown.get(other.spec.method, other.method_label) if other is not None else ""
            runs.append(make_run(record, label, shown[record.spec.method], suffixes[key], role=role, of=of))
    return Scores(tuple(runs))


def light(record: RunRecord) -> RunRecord:
    """Return a record whose points take little memory: for reading, not for writing it again."""
    result = record.result.model_copy(update={"points": Points(record.result.points)})
    return record.model_copy(update={"result": result})


def named(records: Iterable[RunRecord]) -> set[str]:
    """Return the methods that somebody has named: all but those whose runs were only made for a reference curve."""
    return {record.spec.method for record in records if record.provenance.role != "reference"}


def average_of(record: RunRecord, by_name: Mapping[str, RunRecord]) -> RunRecord | None:
    """Return the run whose average weights a run fixes: of the runs that it reads, the one of another method."""
    read = (by_name[name] for name in sorted(record.parts.upstream) if name in by_name)
    return next((other for other in read if other.spec.method != STL), None)


def distinct(label: str, name: str, key: Sequence[str], *, taken: bool = False) -> str:
    """Return a task set's label, with a digest where it would be taken for another or for that over all of them."""
    return f"{label}#{digest(list(key))[:4]}" if taken or name == SUITE else label


def make_run(
    record: RunRecord,
    task_set: str,
    method: str,
    suite: str,
    choice: Choice | None = None,
    role: Role = "contestant",
    *,
    of: str = "",
) -> Run:
    """Return what the table holds of a record."""
    spec, result = record.spec, record.result
    return Run(
        task_set=task_set,
        method=STL if spec.method == STL else method,
        seed=spec.seed,
        tasks=spec.tasks,
        status=result.status,
        scores=result.scores,
        set_name=record.task_set_label,
        suite=suite,
        name=record.name,
        spec=spec,
        parts=record.parts,
        provenance=record.provenance,
        reason=result.reason,
        degenerate=result.degenerate,
        points=result.points,
        cost=record.cost,
        choice=choice,
        role="remainder" if of else role,
        of=of,
    )


def suffix(protocol: str, precision: str) -> str:
    """Return the protocol and precision, where they are not the usual ones."""
    named = "" if protocol == USUAL_PROTOCOL else f"@{protocol}"
    return named + ("" if precision == USUAL_PRECISION else f"@{precision}")


def _suffix(record: RunRecord) -> str:
    return suffix(record.protocol_label or record.spec.protocol.name, record.spec.precision)


def _shown(labels: dict[str, str]) -> dict[str, str]:
    """What to call each variant: its label, or in full where two have one label."""
    often = Counter(labels.values())
    return {variant: label if often[label] == 1 else variant for variant, label in labels.items()}


def usable(scores: Mapping[str, Mapping[str, Score]]) -> dict[Metric, float]:
    """Return the values of those scores that are numbers to compute with."""
    return {
        (task, name): score.value
        for task, own in scores.items()
        for name, score in own.items()
        if score.value is not None and abs(score.value) <= LARGEST
    }


def in_order(scores: Scores) -> Iterator[Run]:
    """Go through the table by task set, method, seed and tasks.

    A method has one run at a seed: of two (of a task set whose tasks were changed) it is the later one by name.
    """
    sets: dict[str, dict[tuple[object, ...], Run]] = defaultdict(dict)
    for run in scores.runs:
        sets[run.task_set][run.role, run.method, run.seed, run.tasks[0] if run.method == STL else ""] = run
    for own in sets.values():
        yield from sorted(own.values(), key=lambda run: (run.method, run.seed, run.tasks))


def tidy(scores: Scores) -> pd.DataFrame:
    """One row per test metric of each run; a run without scores has one row per task, with its status alone."""
    rows: list[tuple[object, ...]] = []
    for run in in_order(scores):
        head = run.task_set, run.method, run.seed
        for task, own in (run.scores or {task: {} for task in run.tasks}).items():
            what = run.role, run.of or None
            for name, s in own.items():
                score = s.value, s.higher_is_better, run.status, s.untrained
                rows.append((*head, task, name, "test", *score, *what))
            if not own:
                rows.append((*head, task, None, None, None, None, run.status, None, *what))
    frame = pd.DataFrame(rows, columns=[*COLUMNS, ROLE, OF])
    used = {ROLE: (frame[ROLE] != "contestant").any(), OF: frame[OF].notna().any()}
    return frame.drop(columns=[name for name, is_used in used.items() if not is_used])
