"""Baselines: what a folder of records says about quality and cost, and the committed file that stores it.

A `Baseline` is a `Snapshot` of a whole, successful run, with the date and the reason for which it was stored.
"""

import datetime
import json
import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.evidence.significance import Floats
from bench.plain import one_line
from bench.planning.seeds import write_seeds
from bench.records import REFERENCE, CostRecord, RunRecord
from bench.report.costs import relative_costs
from bench.report.groups import Group, groups
from bench.report.scores import LARGEST, Run, Scores
from bench.report.tuned import from_records_and_choices
from bench.spec import PASSES, STL
from bench.store import NothingToCompareError, write
from bench.tuning.choose import Choice
from tasks.core.protocol import Protocol

ASKED = ("methods", "tasks", "protocol", "precision")
"""The options of the command line that a cell stores."""
DEFAULTS = {"protocol": "quick", "precision": "32-true"}
"""Values that the command line takes where an option is not written, so that printed commands leave them out."""

Key = tuple[str, str]
"""Task set and method, as labelled."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SeedValues(_Frozen):
    """The scores of one method at one seed: of one run, or of one run a task for single-task learning."""

    names: tuple[str, ...]
    """The names of the runs."""
    ok: bool
    values: tuple[float, ...] = ()
    """The test metrics `[M]`, to six digits."""


class Chosen(_Frozen):
    """What trials chose for one contestant."""

    method: str
    tasks: tuple[str, ...]
    factor: float
    """How many times the protocol's learning rate."""
    options: dict[str, str] = {}
    """The options of the rule that were chosen, too."""


class Cell(_Frozen):
    """One method on one task set."""

    task_set: str
    method: str
    asked: dict[str, str]
    """The options of the command line that ask for its runs (`ASKED`)."""
    metrics: tuple[tuple[str, str, bool], ...]
    """(task, metric, higher is better) `[M]`."""
    seeds: dict[int, SeedValues]
    passes: dict[str, Annotated[float, Field(ge=0)]] = {}
    """Passes a step, by kind (`PASSES`); empty if they were not counted."""
    allocated_bytes: int | None = Field(default=None, ge=0, lt=2**63)
    step_ratio: float | None = Field(default=None, gt=0)
    """The time of a step relative to equal weights'."""
    chosen: tuple[Chosen, ...] = ()
    """What trials chose for its runs, and then for the runs that they read. Empty: the protocol's own rate."""

    @property
    def key(self) -> Key:
        """The task set and the method, which together name the cell."""
        return self.task_set, self.method

    def values(self, seeds: Iterable[int]) -> Floats:
        """Return the test metrics at these seeds `[S, M]`."""
        return np.array([self.seeds[seed].values for seed in seeds], np.float64)


class Snapshot(_Frozen):
    """Everything in a folder of records that may become worse: the quality of each method, and the cost of its step."""

    commits: tuple[str, ...] = ()
    """The commits that made the records, each once."""
    versions: dict[str, str] = {}
    hardware: dict[str, str] = {}
    cells: tuple[Cell, ...]
    """Sorted by task set and method, each once."""

    @property
    def tuned(self) -> bool:
        """Whether some of its runs were made at what trials chose."""
        return any(cell.chosen for cell in self.cells)


class Baseline(Snapshot):
    """A stored snapshot that later runs are compared with: one committed file, reviewed by a person."""

    schema_version: Literal[1] = 1
    date: str
    reason: str
    """Why it was made or updated."""


def snapshot(
    records: Iterable[RunRecord],
    measured: Sequence[CostRecord] = (),
    choices: Iterable[Choice] = (),
    *,
    tuned: bool = True,
) -> Snapshot:
    """Return every method's scores and costs on every task set. Skipped runs and trials are left out.

    Args:
        records: the records of a folder.
        measured: what steps were measured to cost.
        choices: what was chosen by trials.
        tuned: of contestants that have a choice, take the runs at that choice; else those at the protocol's own rate.
    """
    by_name = {record.name: record for record in records if record.result.status != "skipped"}
    scores = compared(from_records_and_choices(by_name.values(), choices), tuned=tuned)
    if not scores.runs:
        return Snapshot(cells=())
    found = groups(scores)
    ratios = relative_costs(found, measured)
    allocated = {
        (record.task_set, record.protocol, cost.method, cost.tasks): cost.allocated_bytes
        for record in measured
        for cost in record.costs
    }
    chosen = {run.name: _chosen(run, run.choice) for run in scores.runs if run.choice is not None}
    cells = []
    for group in found:
        for method, runs in _by_method(group).items():
            some = next(iter(runs.values()))
            ratio = ratios.get((group.label, method))
            names = [run.name for run in some] + [name for run in some for name in by_name[run.name].parts.upstream]
            cells.append(
                Cell(
                    task_set=group.label,
                    method=method,
                    asked=_asked(some[0], by_name[some[0].name]),
                    metrics=_metrics(group),
                    seeds={seed: _seed_values(own, group) for seed, own in runs.items()},
                    passes=_passes(runs),
                    allocated_bytes=_allocated(some, allocated),
                    step_ratio=_rounded(ratio.step) if ratio is not None and np.isfinite(ratio.step) else None,
                    chosen=tuple(chosen[name] for name in dict.fromkeys(names) if name in chosen),
                )
            )
    made = [by_name[run.name].provenance for run in scores.runs]
    return Snapshot(
        commits=tuple(sorted({origin.commit for origin in made})),
        versions=made[0].versions,
        hardware=made[0].hardware,
        cells=tuple(sorted(cells, key=lambda cell: cell.key)),
    )


def compared(scores: Scores, *, tuned: bool) -> Scores:
    """Return the table whose runs are compared: at the chosen rates, or at the protocol's own."""
    if tuned or scores.untuned is None:
        return scores
    return Scores((*scores.untuned.runs, *(run for run in scores.runs if run.choice is None)))


def _by_method(group: Group) -> dict[str, dict[int, list[Run]]]:
    """Return the runs of each method by seed, in the order of the seeds: one, or one a task for single-task learning.

    Runs that lack a metric, and seeds without every single-task run, are left out.
    """
    rows = {
        method: {seed: [run] for seed, run in runs.items() if not _lacks_a_metric(run, group)}
        for method, runs in group.runs.items()
    }
    whole = {seed: own for seed, own in group.baselines.items() if set(own) >= set(group.all_tasks)}
    rows[STL] = {seed: [own[task] for task in group.all_tasks] for seed, own in whole.items()}
    return {method: dict(sorted(own.items())) for method, own in rows.items() if own}


def _metrics(group: Group) -> tuple[tuple[str, str, bool], ...]:
    return tuple((*metric, up) for metric, up in zip(group.metrics, group.higher_is_better, strict=True))


def _chosen(run: Run, choice: Choice) -> Chosen:
    return Chosen(method=run.method, tasks=run.tasks, factor=choice.factor, options=choice.options)


def _asked(run: Run, record: RunRecord) -> dict[str, str]:
    """Return the options of the command line that ask for a run."""
    choice = run.choice
    if choice is None:
        protocol = record.protocol_label or record.spec.protocol.name
        asked = {"methods": record.method_label, "tasks": record.task_set_label, "protocol": protocol}
    else:
        asked = {"methods": choice.method_label, "tasks": choice.task_set_label, "protocol": choice.protocol_label}
        if choice.budget != choice.protocol.trials:
            asked["tuning"] = str(choice.budget)
    return asked | {"precision": record.spec.precision}


def _passes(runs: Mapping[int, Sequence[Run]]) -> dict[str, float]:
    """Return the passes of a step by kind; nothing if no seed's runs all have them counted."""
    counted = [own for own in runs.values() if all(run.cost.passes for run in own)]
    return {what: sum(run.cost.passes[what] for run in counted[0]) for what in PASSES} if counted else {}


def _allocated(runs: Sequence[Run], known: Mapping[tuple[str, Protocol, str, tuple[str, ...]], int]) -> int | None:
    """Return what a step of these runs allocates in all; None if that was not measured of each."""
    found = []
    for run in runs:
        if run.spec is None or run.protocol is None:
            return None
        found.append(known.get((run.spec.task_set, run.protocol, run.spec.method, run.tasks)))
    return None if None in found else sum(filter(None, found))


def make_baseline(
    records: Sequence[RunRecord], measured: Sequence[CostRecord], reason: str, choices: Iterable[Choice] = ()
) -> Baseline:
    """Return the baseline of a whole, successful run.

    Raises:
        NothingToCompareError: there is no run, a run failed, or a seed that was asked for is missing.
    """
    found = snapshot(records, measured, choices)
    if not found.cells:
        raise NothingToCompareError("there are no records to make a baseline of: python -m bench run makes them")
    asked = {seed for record in records if record.provenance.role == "run" for seed in record.provenance.seeds}
    for cell in found.cells:
        if not all(seed.ok for seed in cell.seeds.values()):
            raise NothingToCompareError(
                f"a run of {cell.method} on {cell.task_set} failed, and a baseline needs successful runs only"
            )
        if lost := sorted(asked - set(cell.seeds)):
            raise NothingToCompareError(
                f"{cell.method} on {cell.task_set} lacks seed {lost[0]}: the same command makes it"
            )
    return Baseline(**dict(found), reason=reason, date=datetime.date.today().isoformat())


def read_baseline(file: Path) -> Baseline:
    """Read a baseline.

    Raises:
        NothingToCompareError: the file cannot be read, or it is not a baseline.
    """
    try:
        baseline = Baseline.model_validate_json(file.read_bytes())
    except OSError as problem:
        update = f"python -m bench baseline update --baseline {shlex.quote(str(file))} --reason '…'"
        raise NothingToCompareError(f"{file} cannot be read: {problem.strerror}; {update} makes one") from None
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise NothingToCompareError(f"{file} is not a baseline ({where or 'JSON'}: {first['msg']})") from None
    for where, what in _contradictions(baseline):
        raise NothingToCompareError(f"{file} is not a baseline ({where}: {what})")
    return baseline


def _contradictions(baseline: Baseline) -> Iterator[tuple[str, str]]:
    """Yield the contradictions between the parts of a baseline: where each is, and what it is."""
    keys = [cell.key for cell in baseline.cells]
    for place, cell in enumerate(baseline.cells):
        here = f"cells.{place}"
        if cell.key in keys[:place]:
            yield here, f"it repeats the task set and method of cells.{keys.index(cell.key)}"
        if set(cell.asked) - {"tuning"} != set(ASKED):
            yield f"{here}.asked", f"it has {', '.join(cell.asked) or 'nothing'}, and should have {', '.join(ASKED)}"
        if cell.passes and set(cell.passes) != set(PASSES):
            yield f"{here}.passes", f"it has {', '.join(cell.passes)}, and should have {', '.join(PASSES)}"
        for seed, own in cell.seeds.items():
            if len(own.values) != (len(cell.metrics) if own.ok else 0):
                failed = "" if own.ok else ", and it is not ok"
                yield f"{here}.seeds.{seed}", f"{len(own.values)} values, {len(cell.metrics)} metrics{failed}"
            if any(abs(value) > LARGEST for value in own.values):
                yield f"{here}.seeds.{seed}", f"a value is beyond {LARGEST:g}"


def write_baseline(baseline: Baseline, file: Path) -> None:
    """Write a baseline, sorted and with a line for each seed, so that a person can review the difference."""
    head = baseline.model_dump(mode="json", exclude={"cells"})
    cells = []
    for cell in baseline.cells:
        facts, seeds = cell.model_dump_json(exclude={"seeds"}), cell.model_dump(mode="json")["seeds"]
        lines = ",\n".join(f"  {json.dumps(seed)}: {json.dumps(own)}" for seed, own in seeds.items())
        cells.append(f'{facts[:-1]},"seeds":{{\n{lines}\n}}}}')
    text = f'{json.dumps(head, ensure_ascii=False)[:-1]}, "cells": [\n{",".join(cells)}\n]}}\n'
    write(file, text.encode())


def commands(cells: Iterable[Cell]) -> list[str]:
    """Return the commands that make the runs of these cells, as a person would type them."""
    wanted: dict[tuple[str, str, tuple[str, ...]], list[Cell]] = defaultdict(list)
    for cell in cells:
        wanted[cell.asked["protocol"], cell.asked["precision"], _tuning(cell)].append(cell)
    seeds = write_seeds(seed for own in wanted.values() for cell in own for seed in cell.seeds)
    found = []
    for (protocol, precision, tuning), own in sorted(wanted.items()):
        methods = sorted({cell.asked["methods"] for cell in own} - {STL, REFERENCE}) or [REFERENCE]
        words = ["--methods", ",".join(methods), "--tasks", ",".join(sorted({cell.asked["tasks"] for cell in own}))]
        words += ["--seeds", seeds]
        for name, value in (("protocol", protocol), ("precision", precision)):
            words += [f"--{name}", value] if value != DEFAULTS[name] else []
        found.append(one_line(f"python -m bench run {shlex.join([*words, *tuning])}"))
    return found


def _tuning(cell: Cell) -> tuple[str, ...]:
    """Return the options that ask for the rate of a cell's runs: the chosen one, or the protocol's own."""
    if cell.chosen:
        budget = cell.asked.get("tuning")
        return (*(("--tuning", budget) if budget else ()), "--no-untuned")
    name = cell.asked["protocol"].partition("[")[0]
    return ("--tuning", "none") if Protocol.model_construct(name=name).trials else ()


def _lacks_a_metric(run: Run, group: Group) -> bool:
    """Whether a run lacks a metric because it was made when its task set had other metrics."""
    return run.status == "ok" and any(name not in run.scores.get(task, {}) for task, name in group.metrics)


def _seed_values(runs: Sequence[Run], group: Group) -> SeedValues:
    names = tuple(run.name for run in runs)
    if any(run.status != "ok" for run in runs):
        return SeedValues(names=names, ok=False)
    scores = {metric: value for run in runs for metric, value in run.values.items()}
    known = tuple(_rounded(scores[metric]) for metric in group.metrics if metric in scores)
    # A score that is not finite is missing; as 0 it would be the best possible error.
    ok = len(known) == len(group.metrics)
    return SeedValues(names=names, ok=ok, values=known if ok else ())


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
