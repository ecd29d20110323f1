"""Draws a share of the recorded runs, trains them again into a temporary folder, and has them judged.

No record is there while its run is trained again, and none of what it reads: networks that it distils are trained again
before it, and are compared with their records, too.
"""

import math
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.engine.base import Setting
from bench.engine.choose import ChosenEngine
from bench.engine.interrupt import UserInterruptError
from bench.engine.schedule import execute
from bench.planning.again import Plan, plan_records, plan_table
from bench.planning.forecast import time_needed
from bench.planning.plan import Planned
from bench.records import RunRecord
from bench.report.given import read_tidy
from bench.report.scores import suffix
from bench.spec import STL, digest
from bench.store import ENDING, FOLDER, NothingToCompareError, RecordError, Store
from bench.verify import TABLE, require
from bench.verify.judge import Judged, judge
from bench.verify.pairs import Recorded, grouped

TRAINED = ("ok", "diverged")
"""How a run ends that trains. Another attempt at one that was skipped trains nothing, and a crash is no result."""


@dataclass(frozen=True)
class Found:
    """The recorded runs of a folder or file, and how each would be made again."""

    runs: Sequence[Recorded]
    plans: Mapping[str, Planned]
    """By name, also those that others read."""
    refused: Mapping[str, Sequence[str]]
    """Why runs cannot be trained again, with these runs in words."""
    known: Mapping[str, RunRecord]
    """The records, from which times are taken."""
    broken: Sequence[str] = ()
    """What is wrong with files in the place of records that are none, or were edited."""


@dataclass(frozen=True)
class Outcome:
    """What `verify` has done and found."""

    judged: Judged
    found: Found
    drawn: int
    to_train: int
    """Those that were drawn, and those that they read."""
    trained: int
    interrupted: bool

    @property
    def fails(self) -> bool:
        """Whether something does not reproduce."""
        return self.judged.fails or bool(self.found.broken)


class Watcher(Protocol):
    """Hears how the command goes."""

    def planned(self, runs: Sequence[Planned], forecast: Sequence[str]) -> None:
        """Hear which runs are trained again, and how long they take."""

    def done(self, planned: Planned, record: RunRecord) -> None:
        """Hear of a run that has ended."""


def verify(source: Path, *, share: float, seed: int, engine: ChosenEngine, watcher: Watcher) -> Outcome:
    """Train a share of the runs again that a folder of records, or a tidy file, has, and compare.

    Args:
        source: the folder, or the file. Of a folder without records its `runs.csv` is read.
        share: of the runs of each task set, rounded up.
        seed: of the draw. A larger share draws more runs, and the same ones among them.
        engine: where runs execute.
        watcher: hears of the plan and of each run.

    Raises:
        UsageError: share or seed is out of range.
        NothingToCompareError: there is no run, or none that can be made again.
        StoreError: the folder or the file cannot be used.
    """
    require(source, share, seed)
    found = read(source)
    drawn = draw(found.runs, share, seed)
    todo = with_upstream(drawn, found.plans)
    again: dict[str, RunRecord] = {}
    interrupted = False

    def done(planned: Planned, record: RunRecord) -> None:
        again[record.name] = record
        watcher.done(planned, record)

    with tempfile.TemporaryDirectory(prefix="mtl-bench-verify-") as folder:
        store = Store(Path(folder))
        try:
            with engine.open(Setting(store)) as opened:
                opened.prepare(todo)
                more = f", and {len(todo) - len(drawn)} that these read" if len(todo) > len(drawn) else ""
                said = f"seed {seed}: {len(drawn)} of {len(found.runs)} runs are drawn{more}, and trained again"
                watcher.planned(todo, [said, time_needed(todo, found.known, min(opened.workers, len(todo)))])
                execute(todo, opened, store, done)
        except UserInterruptError:
            interrupted = True
    return Outcome(judge(found.runs, again), found, len(drawn), len(todo), len(again), interrupted)


def draw(runs: Iterable[Recorded], share: float, seed: int) -> list[str]:
    """Return the names of a random share of the runs of each task set, at least one of each."""
    drawn = []
    for own in grouped(runs, lambda run: run.task_set).values():
        mixed = sorted((run.name for run in own), key=lambda name: digest([seed, name]))
        drawn += mixed[: math.ceil(share * len(mixed) - 1e-9)]  # 0.1 × 30 is more than 3 in floats
    return drawn


def with_upstream(names: Collection[str], plans: Mapping[str, Planned]) -> list[Planned]:
    """Return the plans of these runs and, before each, those of all runs that it reads."""
    found: dict[str, Planned] = {}

    def add(name: str) -> None:
        for other in plans[name].parts.upstream:
            add(other)
        found.setdefault(name, plans[name])

    for name in names:
        add(name)
    return list(found.values())


def read(source: Path) -> Found:
    """Read what a folder or a file has recorded, and plan each run anew. Raises as `verify`."""
    if source.is_file():
        return _of_table(source)
    records, broken = _records(Store(source))
    if records or broken:
        return _of_records(source, records, broken)
    return _of_table(source / TABLE)


def _records(store: Store) -> tuple[dict[str, RunRecord], list[str]]:
    """Read the records of a folder, and say what is wrong with files that are none. They stay where they are."""
    records, broken = {}, []
    for file in sorted((store.folder / FOLDER).glob(f"*{ENDING}")):
        try:
            record = store.read(file)
        except FileNotFoundError:  # somebody has taken it away meanwhile
            continue
        except RecordError as problem:
            broken.append(str(problem))
        else:
            records[record.name] = record
    return records, broken


def _of_records(source: Path, records: Mapping[str, RunRecord], broken: Sequence[str]) -> Found:
    there = {name: record for name, record in records.items() if record.result.status in TRAINED}
    plans = plan_records(records)
    runs = [(_recorded(record), plans[name]) for name, record in there.items()]
    sound = {name: plan for name, plan in plans.items() if isinstance(plan, Planned)}
    return _found(source, runs, sound, records, broken)


def _recorded(record: RunRecord) -> Recorded:
    spec, result = record.spec, record.result
    method = STL if spec.method == STL else record.method_label
    task_set = record.task_set_label + suffix(spec.protocol.name, spec.precision)
    return Recorded(spec, task_set, method, result.status, result.scores, record)


def _of_table(file: Path) -> Found:
    scores = read_tidy(file)
    there = [run for run in scores.runs if run.status in TRAINED]
    planned, plans = plan_table(there, file.parent)
    runs: list[tuple[Recorded | str, Plan]] = []
    for run, plan in planned:
        if isinstance(plan, Planned):
            runs.append((Recorded(plan.spec, run.set_name, run.method, run.status, run.scores), plan))
        else:
            runs.append((f"{run.set_name} {run.method} seed {run.seed}", plan))
    return _found(file, runs, plans, {})


def _found(
    source: Path,
    runs: Iterable[tuple[Recorded | str, Plan]],
    plans: Mapping[str, Planned],
    known: Mapping[str, RunRecord],
    broken: Sequence[str] = (),
) -> Found:
    """Sort runs into those that can be made again, and those that cannot."""
    sound, refused = [], []
    for run, plan in runs:
        if isinstance(plan, Planned) and isinstance(run, Recorded):
            sound.append(run)
        else:
            refused.append((str(plan), run if isinstance(run, str) else run.label))
    reasons = {why: [run for _, run in own] for why, own in grouped(refused, lambda pair: pair[0]).items()}
    if not sound:
        first = next(iter([*broken, *reasons]), "they have no result")
        raise NothingToCompareError(f"{source}: none of its runs can be trained again: {first}")
    return Found(sound, plans, reasons, known, broken)
