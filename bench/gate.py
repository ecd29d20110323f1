"""Records against a stored baseline → states: has a method's quality, or the cost of its step, become worse?

A method is compared with its own stored values, paired by run name, so that a change of its code is just what is
compared; not by its Δ, or a better single-task network would flag every method. An alarm needs both, significance
(Holm, over all methods) and a fall beyond the tolerance. Counters of passes and allocation need no statistics.
"""

import datetime
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.evidence.delta import has_relative_gain, per_seed
from bench.evidence.power import detectable
from bench.evidence.significance import MINIMUM_SEEDS, Floats, holm, suite_mean, suite_test
from bench.records import CostRecord, RunRecord
from bench.report.costs import relative_costs
from bench.report.groups import Group, groups
from bench.report.scores import LARGEST, Run, from_records, usable
from bench.spec import PASSES, STL
from bench.store import NothingToCompareError, write
from tasks.core.protocol import Protocol

ALPHA = 0.05
"""Of a false alarm in a whole comparison: half for the means over task sets, half for the single sets."""
ALLOCATION = 1.05
"""What a step allocates may grow by this factor."""
SLOWER_IN_TURN = 1.2
"""A step's time may grow by this factor, where both versions were timed in turn (`bench.interleave`)."""
SLOWER = 1.5
"""Else its time relative to equal weights' by this one, on the same hardware only: such ratios move."""
ASKED = ("methods", "tasks", "protocol", "precision")
"""The options of the command line that a cell stores."""

State = Literal["identical", "ok", "improved", "suspect", "regressed", "stale", "missing"]
NOT_COMPARED: frozenset[State] = frozenset({"stale", "missing"})
Key = tuple[str, str]
"""Task set and method, as labelled."""
Timing = Literal["in turn", "relative to equal weights", "not compared"]
"""How times of steps were compared."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SeedValues(_Frozen):
    """What one method made at one seed: one run, or of single-task learning one a task."""

    names: tuple[str, ...]
    """Of the runs."""
    ok: bool
    values: tuple[float, ...] = ()
    """Test metrics `[M]`, to six digits."""


class Cell(_Frozen):
    """One method on one task set."""

    task_set: str
    method: str
    asked: dict[str, str]
    """Options of the command line that ask for its runs."""
    metrics: tuple[tuple[str, str, bool], ...]
    """(task, metric, higher is better) `[M]`."""
    seeds: dict[int, SeedValues]
    passes: dict[str, Annotated[float, Field(ge=0)]] = {}
    """By kind (`PASSES`); empty where they were not counted."""
    allocated_bytes: int | None = Field(default=None, ge=0, lt=2**63)
    step_ratio: float | None = Field(default=None, gt=0)
    """The time of a step relative to equal weights'."""

    @property
    def key(self) -> Key:
        """What it is stored under."""
        return self.task_set, self.method

    def values(self, seeds: Iterable[int]) -> Floats:
        """The test metrics at some seeds `[S, M]`."""
        return np.array([self.seeds[seed].values for seed in seeds], np.float64)


class Snapshot(_Frozen):
    """What a folder of records says, as far as it may become worse."""

    commits: tuple[str, ...] = ()
    """Of the records, each once."""
    versions: dict[str, str] = {}
    hardware: dict[str, str] = {}
    cells: tuple[Cell, ...]
    """By task set and method, each once."""


class Baseline(Snapshot):
    """What later runs are compared with: one committed file, reviewed by a person."""

    schema_version: Literal[1] = 1
    date: str
    reason: str
    """Why it was made or updated."""


@dataclass(frozen=True)
class Finding:
    """What became of one method, on one task set or over all of them."""

    task_set: str
    """Empty: the mean over task sets."""
    method: str
    what: Literal["quality", "cost"]
    state: State
    mean: float = float("nan")
    """Percentage points of the mean over tasks, each metric relative to its stored mean; negative is worse."""
    low: float = float("nan")
    high: float = float("nan")
    p: float = float("nan")
    """One-sided, of no change in the direction that it has gone, adjusted for all that is tested alike."""
    seeds: int = 0
    note: str = ""
    """In our own words, none of a user's."""


def snapshot(records: Iterable[RunRecord], measured: Sequence[CostRecord] = ()) -> Snapshot:
    """Return every method's values and costs on every task set; what was skipped is not there."""
    ordered = [record for record in records if record.result.status != "skipped"]
    if not ordered:
        return Snapshot(cells=())
    found = groups(from_records(ordered))
    ratios = relative_costs(found, measured)
    by_name = {record.name: record for record in ordered}
    allocated = {
        (record.task_set, record.protocol, cost.method, cost.tasks): cost.allocated_bytes
        for record in measured
        for cost in record.costs
    }
    cells = []
    for group in found:
        rows = {
            method: {seed: [by_name[run.name]] for seed, run in runs.items() if not _lacks_a_metric(run, group)}
            for method, runs in group.runs.items()
        }
        whole = {seed: own for seed, own in group.baselines.items() if set(own) >= set(group.all_tasks)}
        rows[STL] = {seed: [by_name[own[task].name] for task in group.all_tasks] for seed, own in whole.items()}
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
    """One method's cell, from its runs by seed: one, or of single-task learning one a task."""
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
    """Return a baseline of a whole, successful run.

    Raises:
        NothingToCompareError: there is no run, a run failed, or seeds that were asked for are missing.
    """
    found = snapshot(records, measured)
    if not found.cells:
        raise NothingToCompareError("there are no records to make a baseline of: run the benchmark first")
    asked = {seed for record in records for seed in record.provenance.seeds}
    for cell in found.cells:
        if not all(seed.ok for seed in cell.seeds.values()):
            raise NothingToCompareError(
                f"a run of {cell.method} on {cell.task_set} failed: a baseline is made of whole, successful runs"
            )
        if lost := sorted(asked - set(cell.seeds)):
            raise NothingToCompareError(f"{cell.method} on {cell.task_set} lacks seed {lost[0]}: finish the run first")
    return Baseline(**dict(found), reason=reason, date=datetime.date.today().isoformat())


def read_baseline(file: Path) -> Baseline:
    """Read a baseline.

    Raises:
        NothingToCompareError: there is none, or it is not one.
    """
    try:
        baseline = Baseline.model_validate_json(file.read_bytes())
    except OSError as problem:
        raise NothingToCompareError(f"{file} cannot be read: {problem.strerror}; baseline update makes one") from None
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise NothingToCompareError(f"{file} is not a baseline ({where or 'JSON'}: {first['msg']})") from None
    for where, what in _contradictions(baseline):
        raise NothingToCompareError(f"{file} is not a baseline ({where}: {what})")
    return baseline


def _contradictions(baseline: Baseline) -> Iterator[tuple[str, str]]:
    """What the parts of a baseline say against each other: where, and what."""
    keys = [cell.key for cell in baseline.cells]
    for place, cell in enumerate(baseline.cells):
        here = f"cells.{place}"
        if cell.key in keys[:place]:
            yield here, f"the task set and method of cells.{keys.index(cell.key)} again"
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
    """Write a baseline, sorted, a line a seed, so that a person can review the difference."""
    head = baseline.model_dump(mode="json", exclude={"cells"})
    cells = []
    for cell in baseline.cells:
        facts, seeds = cell.model_dump_json(exclude={"seeds"}), cell.model_dump(mode="json")["seeds"]
        lines = ",\n".join(f"  {json.dumps(seed)}: {json.dumps(own)}" for seed, own in seeds.items())
        cells.append(f'{facts[:-1]},"seeds":{{\n{lines}\n}}}}')
    text = f'{json.dumps(head, ensure_ascii=False)[:-1]}, "cells": [\n{",".join(cells)}\n]}}\n'
    write(file, text.encode())


@dataclass(frozen=True)
class Outcome:
    """What the comparison with a baseline came to."""

    before: Snapshot
    now: Snapshot
    findings: tuple[Finding, ...]
    """Quality of methods over all task sets first, then of each on each, then costs."""
    detectable: float
    """The fall, in points over all task sets, that would have been found with a power of 80 %; NaN where nothing was
    tested."""
    tolerance: float
    times: Timing

    def having(self, *states: State) -> list[Finding]:
        """Return the findings of some states."""
        return [finding for finding in self.findings if finding.state in states]

    @property
    def unknown(self) -> list[Cell]:
        """What was run and is not in the baseline."""
        stored = {cell.key for cell in self.before.cells}
        return [cell for cell in self.now.cells if cell.key not in stored]


def gate(
    before: Snapshot, now: Snapshot, tolerance: float = 1.0, slowdowns: Mapping[Key, float] | None = None
) -> Outcome:
    """Compare what there is with what was stored.

    Args:
        before: a baseline.
        now: of `snapshot`.
        tolerance: percentage points; a smaller fall is no regression, however sure.
        slowdowns: by task set and method, how many times as long a step takes now, measured in turn. Without them
            times relative to equal weights are compared, if both were measured on the same hardware.

    Raises:
        NothingToCompareError: no run has the name of one in the baseline.
    """
    current = {cell.key: cell for cell in now.cells}
    changes = {cell.key: _change(cell, current.get(cell.key)) for cell in before.cells}
    compared = {key: change for key, change in changes.items() if change.state not in NOT_COMPARED}
    if not compared:
        raise NothingToCompareError(
            "no run here has the name of one in the baseline: another protocol, or other seeds?"
        )
    by_method: dict[str, list[_Change]] = defaultdict(list)
    for change in compared.values():
        by_method[change.cell.method].append(change)
    over_sets = [_Test("", method, own) for method, own in sorted(by_method.items())]
    findings = _judge(over_sets, tolerance)
    findings += _judge([_Test(c.cell.task_set, c.cell.method, [c]) for c in changes.values()], tolerance)
    same = now.hardware == before.hardware
    for key, change in compared.items():
        factor = slowdowns.get(key) if slowdowns else None
        cost = _cost(change.cell, current[key], factor, ratios=same and not slowdowns)
        findings += [cost] if cost is not None else []
    detectable = _detectable([test for test in over_sets if _settled(test) is None])
    times: Timing = "in turn" if slowdowns else "relative to equal weights" if same else "not compared"
    return Outcome(before, now, tuple(findings), detectable, tolerance, times)


def _detectable(tests: Sequence["_Test"]) -> float:
    enough = [t for t in tests if min(len(c.change) for c in t.changes) >= MINIMUM_SEEDS]
    if not enough:
        return float("nan")
    seeds = min(len(c.change) for t in enough for c in t.changes)
    spreads = [np.sqrt(sum(c.change.var(ddof=1) for c in t.changes)) / len(t.changes) for t in enough]
    return detectable(seeds, len(enough), ALPHA) * float(np.median(spreads))  # one-sided, at half of ALPHA


def gained(cell: Cell, before: Floats, after: Floats) -> Floats:
    """Return what each seed has gained `[S]`, in points, from values `[S, M]` to others of the same cell.

    Over the metrics that can change relative to their mean before; empty if none can, as over a mean of 0.
    """
    has = has_relative_gain(after, before)
    kept = [metric for metric, kept in zip(cell.metrics, has, strict=True) if kept]
    if not kept:
        return np.array([])
    return per_seed(after[:, has], before[:, has], [up for *_, up in kept], [task for task, *_ in kept], "paired")


@dataclass(frozen=True)
class _Change:
    """A cell and what has become of it."""

    cell: Cell
    state: State | None
    """Where there is nothing to test."""
    change: Floats
    """Per paired seed `[S]`, in points."""
    note: str = ""


@dataclass(frozen=True)
class _Test:
    task_set: str
    method: str
    changes: list[_Change]


def _change(stored: Cell, now: Cell | None) -> _Change:
    nothing = np.array([])
    if now is None:
        return _Change(stored, "missing", nothing, "no run of it is here that has every metric")
    paired = [s for s, own in stored.seeds.items() if s in now.seeds and own.names == now.seeds[s].names]
    if not paired:
        overlap = set(stored.seeds) & set(now.seeds)
        why = (
            "its runs are asked for differently now"
            if overlap
            else "no run of it is here that has every metric and a seed of the baseline"
        )
        return _Change(stored, "stale" if overlap else "missing", nothing, why)
    if stored.metrics != now.metrics:
        return _Change(stored, "stale", nothing, "its metrics are others now")
    failed = [s for s in paired if stored.seeds[s].ok and not now.seeds[s].ok]
    if failed:
        return _Change(stored, "regressed", nothing, f"seeds that were ok fail: {', '.join(map(str, failed))}")
    both = [s for s in paired if stored.seeds[s].ok and now.seeds[s].ok]
    if all(stored.seeds[s] == now.seeds[s] for s in paired):
        return _Change(stored, "identical", np.zeros(len(paired)))
    if not both:
        return _Change(stored, "missing", nothing, "no seed is ok both then and now")
    before, after = stored.values(both), now.values(both)
    change = gained(stored, before, after)
    if not len(change):
        return _Change(stored, "stale", nothing, "every stored mean is 0, and nothing changes relative to it")
    without = int((~has_relative_gain(after, before)).sum())
    note = f"{without} of its {len(stored.metrics)} metrics left out: a stored mean is 0" if without else ""
    return _Change(stored, None, change, note)


def _judge(tests: Sequence[_Test], tolerance: float) -> list[Finding]:
    """Test, adjust, and name the state of each."""
    means = {}
    falls, rises = [], []
    for place, test in enumerate(tests):
        fall = rise = float("nan")
        if _settled(test) is None:
            differences = [change.change for change in test.changes]
            means[place] = mean, _, _ = suite_mean(*differences)
            tail = suite_test(*differences) / 2
            fall, rise = (tail, 1 - tail) if mean < 0 else (1 - tail, tail)
        falls.append(fall)
        rises.append(rise)
    fallen, risen = holm(falls), holm(rises)
    found = []
    for place, test in enumerate(tests):
        note = "; ".join(change.note for change in test.changes if change.note)
        seeds = min((len(change.change) for change in test.changes), default=0)
        state = _settled(test)
        if state is not None:
            zero = 0.0 if state == "identical" else float("nan")
            found.append(
                Finding(test.task_set, test.method, "quality", state, zero, zero, zero, seeds=seeds, note=note)
            )
            continue
        mean, low, high = means[place]
        p = float(fallen[place] if mean < 0 else risen[place])
        if mean < -tolerance:
            state = "regressed" if p <= ALPHA / 2 else "suspect"
        else:
            state = "improved" if mean > tolerance and p <= ALPHA / 2 else "ok"
        found.append(Finding(test.task_set, test.method, "quality", state, mean, low, high, p, seeds, note))
    return found


def _settled(test: _Test) -> State | None:
    """The state of what needs no test: any failure, or no difference at all."""
    states = {change.state for change in test.changes}
    if "regressed" in states:
        return "regressed"
    if states <= {"identical"}:
        return "identical"
    alone = next(iter(states)) if len(states) == 1 else None
    return alone if alone in NOT_COMPARED else None


def _cost(stored: Cell, now: Cell, slowdown: float | None, *, ratios: bool) -> Finding | None:
    """What a step takes, then and now; None where it is known of neither."""
    worse: list[str] = []
    better: list[str] = []
    same: list[str] = []

    def judge(factor: float, limit: float, text: str) -> None:
        (worse if factor > limit else better if factor < 1 / limit else same).append(text)

    for what, was in stored.passes.items() if now.passes else ():
        passes = now.passes[what]
        if abs(passes - was) > 1e-9:
            judge(passes / was if was else math.inf, 1.0, f"{what} passes {was:g} → {passes:g}")
    if stored.allocated_bytes and now.allocated_bytes:
        factor = now.allocated_bytes / stored.allocated_bytes
        changed = f" ({stored.allocated_bytes:,} → {now.allocated_bytes:,} bytes)" if factor != 1 else ""
        judge(factor, ALLOCATION, f"allocation × {factor:.2f}{changed}")
    if slowdown is not None:
        judge(slowdown, SLOWER_IN_TURN, f"time × {slowdown:.2f}")
    elif ratios and stored.step_ratio and now.step_ratio:
        text = f"time ÷ equal weights' {stored.step_ratio:.3g} → {now.step_ratio:.3g}"
        judge(now.step_ratio / stored.step_ratio, SLOWER, text)
    lost = ["passes not measured"] if stored.passes and not now.passes else []
    lost += ["allocation not measured"] if stored.allocated_bytes and not now.allocated_bytes else []
    if not stored.passes and not (worse or lost or better or same):
        return None
    state: State = "regressed" if worse else "missing" if lost else "improved" if better else "ok"
    return Finding(stored.task_set, stored.method, "cost", state, note="; ".join(worse + lost + better or same))


def _lacks_a_metric(run: Run, group: Group) -> bool:
    """Whether a method's run is of a time when its task set had other metrics."""
    return run.status == "ok" and any(name not in run.scores.get(task, {}) for task, name in group.metrics)


def _seed_values(runs: Sequence[RunRecord], group: Group) -> SeedValues:
    names = tuple(run.name for run in runs)
    if any(run.result.status != "ok" for run in runs):
        return SeedValues(names=names, ok=False)
    scores = {metric: value for run in runs for metric, value in usable(run.result.scores).items()}
    known = tuple(_rounded(scores[metric]) for metric in group.metrics if metric in scores)
    ok = len(known) == len(group.metrics)  # what is not finite is no result, least of all 0, the best of errors
    return SeedValues(names=names, ok=ok, values=known if ok else ())


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
