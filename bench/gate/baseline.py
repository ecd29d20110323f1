"""Baselines: what a folder of records says about quality and cost, and the committed file that stores it.

A `Baseline` is a `Snapshot` of a whole, successful run, with the date and the reason for which it was stored.
"""

import datetime
import json
import shlex
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
from bench.report.runs import LARGEST, Group, groups, usable
from bench.spec import PASSES, STL
from bench.store import NothingToCompareError, write
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


class Baseline(Snapshot):
    """A stored snapshot that later runs are compared with: one committed file, reviewed by a person."""

    schema_version: Literal[1] = 1
    date: str
    reason: str
    """Why it was made or updated."""


def snapshot(records: Iterable[RunRecord], measured: Sequence[CostRecord] = ()) -> Snapshot:
    """Return every method's scores and costs on every task set. Skipped runs are left out."""
    ordered = [record for record in records if record.result.status != "skipped"]
    if not ordered:
        return Snapshot(cells=())
    ratios = relative_costs(ordered, measured)
    allocated = {
        (record.task_set, record.protocol, cost.method, cost.tasks): cost.allocated_bytes
        for record in measured
        for cost in record.costs
    }
    cells = []
    for group in groups(ordered):
        rows = {
            method: {seed: [run] for seed, run in runs.items() if not _lacks_a_metric(run, group)}
            for method, runs in group.runs.items()
        }
        whole = {seed: own for seed, own in group.baselines.items() if set(own) >= set(group.all_tasks)}
        rows[STL] = {seed: [own[task] for task in group.all_tasks] for seed, own in whole.items()}
        for method, by_seed in rows.items():
            if not by_seed:
                continue
            ratio = ratios.get((group.label, method))
            step = _rounded(ratio.step) if ratio is not None and np.isfinite(ratio.step) else None
            cells.append(_cell(group, method, dict(sorted(by_seed.items())), allocated, step))
    origin = ordered[0].provenance
    return Snapshot(
        commits=tuple(sorted({record.provenance.commit for record in ordered})),
        versions=origin.versions,
        hardware=origin.hardware,
        cells=tuple(sorted(cells, key=lambda cell: cell.key)),
    )


def _cell(
    group: Group,
    method: str,
    runs: Mapping[int, Sequence[RunRecord]],
    allocated: Mapping[tuple[str, Protocol, str, tuple[str, ...]], int],
    step_ratio: float | None,
) -> Cell:
    """Make one method's cell from its runs by seed: one run a seed, or one a task for single-task learning."""
    some = next(iter(runs.values()))
    specs = [run.spec for run in some]
    steps = [allocated.get((spec.task_set, spec.protocol, spec.method, spec.tasks)) for spec in specs]
    counted = [own for own in runs.values() if all(run.cost.passes for run in own)]
    return Cell(
        task_set=group.label,
        method=method,
        asked={
            **{"methods": some[0].method_label, "tasks": some[0].task_set_label},
            **{"protocol": some[0].protocol_label or specs[0].protocol.name, "precision": specs[0].precision},
        },
        metrics=tuple((*metric, up) for metric, up in zip(group.metrics, group.higher_is_better, strict=True)),
        seeds={seed: _seed_values(own, group) for seed, own in runs.items()},
        passes={what: sum(run.cost.passes[what] for run in counted[0]) for what in PASSES} if counted else {},
        allocated_bytes=None if None in steps else sum(filter(None, steps)),
        step_ratio=step_ratio,
    )


def make_baseline(records: Sequence[RunRecord], measured: Sequence[CostRecord], reason: str) -> Baseline:
    """Return the baseline of a whole, successful run.

    Raises:
        NothingToCompareError: there is no run, a run failed, or a seed that was asked for is missing.
    """
    found = snapshot(records, measured)
    if not found.cells:
        raise NothingToCompareError("there are no records to make a baseline of: python -m bench run makes them")
    asked = {seed for record in records for seed in record.provenance.seeds}
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
        if set(cell.asked) != set(ASKED):
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
    wanted = list(cells)
    seeds = write_seeds(seed for cell in wanted for seed in cell.seeds)
    found = []
    for protocol, precision in sorted({(cell.asked["protocol"], cell.asked["precision"]) for cell in wanted}):
        own = [c.asked for c in wanted if (c.asked["protocol"], c.asked["precision"]) == (protocol, precision)]
        methods = sorted({asked["methods"] for asked in own} - {STL, REFERENCE}) or [REFERENCE]
        words = ["--methods", ",".join(methods), "--tasks", ",".join(sorted({asked["tasks"] for asked in own}))]
        words += ["--seeds", seeds]
        for name, value in (("protocol", protocol), ("precision", precision)):
            words += [f"--{name}", value] if value != DEFAULTS[name] else []
        found.append(one_line(f"python -m bench run {shlex.join(words)}"))
    return found


def _lacks_a_metric(run: RunRecord, group: Group) -> bool:
    """Whether a run lacks a metric because it was made when its task set had other metrics."""
    own = run.result.scores
    return run.result.status == "ok" and any(name not in own.get(task, {}) for task, name in group.metrics)


def _seed_values(runs: Sequence[RunRecord], group: Group) -> SeedValues:
    names = tuple(run.name for run in runs)
    if any(run.result.status != "ok" for run in runs):
        return SeedValues(names=names, ok=False)
    scores = {metric: value for run in runs for metric, (value, _) in usable(run).items()}
    known = tuple(_rounded(scores[metric]) for metric in group.metrics if metric in scores)
    ok = len(known) == len(
        group.metrics
    )  # a score that is not finite is missing; as 0 it would be the best possible error
    return SeedValues(names=names, ok=ok, values=known if ok else ())


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
