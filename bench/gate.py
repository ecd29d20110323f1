"""Records against a stored baseline → states: has a method's quality, or the cost of its step, become worse?

A method is compared with its own stored values, paired by run name, so that a change of its code is just what is
compared; not by its Δ, or a better single-task network would flag every method. An alarm needs both, significance
(Holm over all that is tested) and a fall beyond the tolerance. Counters of passes and allocation need no statistics.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from bench.evidence.delta import per_seed
from bench.evidence.power import detectable
from bench.evidence.significance import MINIMUM_SEEDS, Floats, holm, suite_mean, suite_test
from bench.records import STL, CostRecord, RunRecord
from bench.report.costs import relative_costs
from bench.report.runs import Group, groups
from bench.store import StoreProblem, write

ALPHA = 0.05
ALLOCATION = 1.05
"""What a step allocates may grow by this factor."""
SLOWER = 1.5
"""A step's time relative to equal weights' may grow by this factor, on the same hardware only: ratios move."""

State = Literal["identical", "ok", "improved", "suspect", "regressed", "stale", "missing"]
NOT_COMPARED: frozenset[State] = frozenset({"stale", "missing"})


class NothingToCompare(StoreProblem):
    """There is no baseline, or nothing in it that this folder has, too."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


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
    metrics: tuple[tuple[str, str, bool], ...]
    """(task, metric, higher is better) `[M]`."""
    seeds: dict[int, SeedValues]
    passes: dict[str, float] = {}
    allocated_bytes: int | None = None
    step_ratio: float | None = None
    """The time of a step relative to equal weights'."""

    @property
    def key(self) -> tuple[str, str]:
        """What it is stored under."""
        return self.task_set, self.method


class Baseline(_Frozen):
    """What later runs are compared with: one committed file, reviewed by a person."""

    schema_version: Literal[1] = 1
    commit: str
    reason: str
    """Why it was updated."""
    hardware: dict[str, str]
    cells: tuple[Cell, ...]


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


def snapshot(records: Iterable[RunRecord], measured: Sequence[CostRecord] = ()) -> dict[tuple[str, str], Cell]:
    """Return every method's values on every task set, as a baseline stores them."""
    ordered = list(records)
    ratios = relative_costs(ordered, measured)
    bytes_by_variant = {
        (record.task_set, record.protocol, cost.method): cost.allocated_bytes
        for record in measured
        for cost in record.costs
    }
    found = {}
    for group in groups(ordered):
        metrics = tuple((*metric, up) for metric, up in zip(group.metrics, group.higher_is_better, strict=True))
        for method, runs in group.runs.items():
            some = next(iter(runs.values()))
            ratio = ratios.get((group.label, method))
            variant = some.spec.task_set, some.spec.protocol, some.spec.method
            cell = Cell(
                task_set=group.label,
                method=method,
                metrics=metrics,
                seeds={seed: _seed_values([run], group) for seed, run in sorted(runs.items())},
                passes=next((r.cost.passes for r in runs.values() if r.cost.passes), {}),
                allocated_bytes=bytes_by_variant.get(variant),
                step_ratio=_rounded(ratio.step) if ratio is not None and np.isfinite(ratio.step) else None,
            )
            found[cell.key] = cell
        single = {
            seed: _seed_values([own[task] for task in group.all_tasks], group)
            for seed, own in sorted(group.baselines.items())
            if set(own) == set(group.all_tasks)
        }
        if single:
            found[group.label, STL] = Cell(task_set=group.label, method=STL, metrics=metrics, seeds=single)
    return found


def make_baseline(records: Sequence[RunRecord], measured: Sequence[CostRecord], reason: str) -> Baseline:
    """Return a baseline of a whole, successful run.

    Raises:
        NothingToCompare: there is no run, a run failed, or seeds that were asked for are missing.
    """
    cells = snapshot(records, measured)
    if not cells:
        raise NothingToCompare("there are no records to make a baseline of: run the benchmark first")
    failed = [key for key, cell in cells.items() if not all(seed.ok for seed in cell.seeds.values())]
    if failed:
        where, method = failed[0]
        raise NothingToCompare(f"a run of {method} on {where} failed: a baseline is made of whole, successful runs")
    asked = {seed for record in records for seed in record.provenance.seeds}
    for (where, method), cell in cells.items():
        if lost := sorted(asked - set(cell.seeds)):
            raise NothingToCompare(f"{method} on {where} lacks seed {lost[0]}: finish the run first")
    origin = records[0].provenance
    return Baseline(
        commit=origin.commit, reason=reason, hardware=origin.hardware, cells=tuple(cells[key] for key in sorted(cells))
    )


def read_baseline(file: Path) -> Baseline:
    """Read a baseline.

    Raises:
        NothingToCompare: there is none, or it is not one.
    """
    try:
        return Baseline.model_validate_json(file.read_bytes())
    except OSError as problem:
        raise NothingToCompare(f"{file} cannot be read: {problem.strerror}; baseline update makes one") from None
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise NothingToCompare(f"{file} is not a baseline ({where or 'JSON'}: {first['msg']})") from None


def write_baseline(baseline: Baseline, file: Path) -> None:
    """Write a baseline, sorted, a line a seed, so that a person can review the difference."""
    write(file, baseline.model_dump_json(indent=1).encode() + b"\n")


@dataclass(frozen=True)
class Outcome:
    """What the comparison with a baseline came to."""

    findings: tuple[Finding, ...]
    """Methods over all task sets first, then each on each, then costs that have changed."""
    detectable: float
    """The fall, in points over all task sets, that would have been found with a power of 80 %; NaN where nothing was
    tested."""
    tolerance: float

    def having(self, *states: State) -> list[Finding]:
        """Return the findings of some states."""
        return [finding for finding in self.findings if finding.state in states]


def gate(
    baseline: Baseline, current: Mapping[tuple[str, str], Cell], hardware: Mapping[str, str], tolerance: float = 1.0
) -> Outcome:
    """Compare what there is with a baseline.

    Args:
        baseline: what was stored.
        current: of `snapshot`.
        hardware: that the current runs were made on; times are compared on the same only.
        tolerance: percentage points; a smaller fall is no regression, however sure.

    Raises:
        NothingToCompare: no run has the name of one in the baseline.
    """
    changes = {cell.key: _change(cell, current.get(cell.key)) for cell in baseline.cells}
    if all(change.state in NOT_COMPARED for change in changes.values()):
        raise NothingToCompare("no run here has the name of one in the baseline: another protocol, or other seeds?")
    by_method: dict[str, list[_Change]] = defaultdict(list)
    for change in changes.values():
        if change.state not in NOT_COMPARED:
            by_method[change.cell.method].append(change)
    over_sets = [_Test("", method, own) for method, own in sorted(by_method.items())]
    findings = _judge(over_sets, tolerance)
    findings += _judge([_Test(c.cell.task_set, c.cell.method, [c]) for c in changes.values()], tolerance)
    same = dict(hardware) == baseline.hardware
    costs = [_cost(change.cell, current[key], same) for key, change in changes.items() if key in current]
    found = (*findings, *(finding for finding in costs if finding is not None))
    return Outcome(found, _detectable([test for test in over_sets if _settled(test) is None]), tolerance)


def _detectable(tests: Sequence["_Test"]) -> float:
    enough = [t for t in tests if min(len(c.change) for c in t.changes) >= MINIMUM_SEEDS]
    if not enough:
        return float("nan")
    seeds = min(len(c.change) for t in enough for c in t.changes)
    spreads = [np.sqrt(sum(c.change.var(ddof=1) for c in t.changes)) / len(t.changes) for t in enough]
    return detectable(seeds, len(enough), 2 * ALPHA) * float(np.median(spreads))  # one-sided


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
        return _Change(stored, "missing", nothing, "it was not run")
    paired = [s for s, own in stored.seeds.items() if s in now.seeds and own.names == now.seeds[s].names]
    if not paired:
        overlap = set(stored.seeds) & set(now.seeds)
        why = "its runs are asked for differently now" if overlap else "no seed of the baseline was run"
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
    before, after = (np.array([cell.seeds[s].values for s in both]) for cell in (stored, now))
    tasks, higher = [task for task, *_ in stored.metrics], [up for *_, up in stored.metrics]
    return _Change(stored, None, per_seed(after, before, higher, tasks, "paired"))


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
            state = "regressed" if p <= ALPHA else "suspect"
        else:
            state = "improved" if mean > tolerance and p <= ALPHA else "ok"
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


def _cost(stored: Cell, now: Cell, same_hardware: bool) -> Finding | None:
    """What a step takes, then and now; None where neither is known or nothing has changed."""
    worse: list[str] = []
    better: list[str] = []
    for what, before in stored.passes.items():
        after = now.passes.get(what, before)
        if abs(after - before) > 1e-9:
            (worse if after > before else better).append(f"{what} passes {before:g} → {after:g}")
    if stored.allocated_bytes and now.allocated_bytes:
        factor = now.allocated_bytes / stored.allocated_bytes
        if factor > ALLOCATION or factor < 1 / ALLOCATION:
            text = f"allocation a step {stored.allocated_bytes:,} → {now.allocated_bytes:,} bytes"
            (worse if factor > 1 else better).append(text)
    if same_hardware and stored.step_ratio and now.step_ratio:
        factor = now.step_ratio / stored.step_ratio
        if factor > SLOWER or factor < 1 / SLOWER:
            (worse if factor > 1 else better).append(
                f"time of a step × equal {stored.step_ratio:g} → {now.step_ratio:g}"
            )
    if not worse and not better:
        return None
    note = "; ".join(worse + better)
    return Finding(stored.task_set, stored.method, "cost", "regressed" if worse else "improved", note=note)


def _seed_values(runs: Sequence[RunRecord], group: Group) -> SeedValues:
    names = tuple(run.name for run in runs)
    scores = {task: own for run in runs for task, own in run.result.scores.items()}
    if any(run.result.status != "ok" for run in runs):
        return SeedValues(names=names, ok=False)
    values = [scores[task][metric].value for task, metric in group.metrics]
    return SeedValues(names=names, ok=True, values=tuple(_rounded(value or 0.0) for value in values))


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
