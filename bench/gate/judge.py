"""Compare a folder of records with a stored baseline, and name the state of each method's quality and cost.

Each method is compared with its own stored scores, paired by run, not with its Δ: otherwise an improved single-task
network would flag every method as worse. An alarm needs both a significant fall (Holm, over all methods) and a fall
beyond the tolerance. Passes and allocated bytes are counted, not sampled, so that they are compared without statistics.

Runs are paired at the choices that trials have made. A method with another choice is not compared: that would mix the
effect of the code with that of the rate.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bench.evidence.delta import has_relative_gain, per_seed
from bench.evidence.power import detectable
from bench.evidence.significance import MINIMUM_SEEDS, Floats, holm, suite_mean, suite_test
from bench.gate.baseline import Cell, Key, Snapshot, commands
from bench.store import NothingToCompareError

ALPHA = 0.05
"""The probability of a false alarm in a whole comparison. The means over task sets get half, the single sets half."""
ALLOCATION = 1.05
"""A step may allocate this many times as many bytes as before without alarm."""
SLOWER_IN_TURN = 1.2
"""A step may take this many times as long, where both versions of the code were timed in turn (`interleave.py`)."""
SLOWER = 1.5
"""The same where its time relative to equal weights is compared, on the same hardware only: such ratios vary more."""

State = Literal["identical", "ok", "improved", "suspect", "regressed", "rechosen", "stale", "missing"]
NOT_COMPARED: frozenset[State] = frozenset({"rechosen", "stale", "missing"})
Timing = Literal["in turn", "relative to equal weights", "not compared"]
"""How the times of steps were compared."""


@dataclass(frozen=True)
class Finding:
    """The quality or the cost of one method, on one task set or over all of them, compared with the baseline."""

    task_set: str
    """Empty for the mean over task sets."""
    method: str
    what: Literal["quality", "cost"]
    state: State
    mean: float = float("nan")
    """The mean change over tasks, in per cent of the stored means; negative is worse."""
    low: float = float("nan")
    high: float = float("nan")
    p: float = float("nan")
    """One-sided p-value in the direction of the observed change, Holm-adjusted over all findings of this kind."""
    seeds: int = 0
    note: str = ""
    """Contains no user-supplied text, so it needs no escaping."""


@dataclass(frozen=True)
class Outcome:
    """The result of a comparison with a baseline."""

    before: Snapshot
    now: Snapshot
    findings: tuple[Finding, ...]
    """First the quality of each method over all task sets, then of each on each task set, then the costs."""
    detectable: float
    """The fall, in points over all task sets, that would have been found with a power of 80 %; NaN if nothing was
    tested."""
    tolerance: float
    times: Timing

    def having(self, *states: State) -> list[Finding]:
        """Return the findings that have one of these states."""
        return [finding for finding in self.findings if finding.state in states]

    @property
    def unknown(self) -> list[Cell]:
        """The methods that were run and are not in the baseline."""
        stored = {cell.key for cell in self.before.cells}
        return [cell for cell in self.now.cells if cell.key not in stored]


def judge(
    before: Snapshot, now: Snapshot, tolerance: float = 1.0, slowdowns: Mapping[Key, float] | None = None
) -> Outcome:
    """Compare a snapshot with a stored one.

    Args:
        before: the stored one, a baseline.
        now: the one of the records to judge.
        tolerance: a fall of fewer percentage points is no regression, however sure it is.
        slowdowns: how many times as long a step takes now, by task set and method, measured in turn. Without them,
            times relative to equal weights are compared, if both were measured on the same hardware.

    Raises:
        NothingToCompareError: no run of `now` is in the baseline, too.
    """
    current = {cell.key: cell for cell in now.cells}
    changes = {cell.key: _change(cell, current.get(cell.key)) for cell in before.cells}
    compared = {key: change for key, change in changes.items() if change.state not in NOT_COMPARED}
    if not compared and not any(change.state == "rechosen" for change in changes.values()):
        raise NothingToCompareError(
            "no run here is also in the baseline: the protocol or the seeds are others. The baseline's runs: "
            f"{' && '.join(commands(before.cells))}"
        )
    by_method: dict[str, list[_Change]] = defaultdict(list)
    for change in compared.values():
        by_method[change.cell.method].append(change)
    over_sets = [_Test("", method, own) for method, own in sorted(by_method.items())]
    findings = _tested(over_sets, tolerance)
    findings += _tested([_Test(c.cell.task_set, c.cell.method, [c]) for c in changes.values()], tolerance)
    same = now.hardware == before.hardware
    for key, change in compared.items():
        factor = slowdowns.get(key) if slowdowns else None
        cost = _cost(change.cell, current[key], factor, ratios=same and not slowdowns)
        findings += [cost] if cost is not None else []
    detectable = _detectable([test for test in over_sets if _settled(test) is None])
    times: Timing = "in turn" if slowdowns else "relative to equal weights" if same else "not compared"
    return Outcome(before, now, tuple(findings), detectable, tolerance, times)


def _detectable(tests: Sequence["_Test"]) -> float:
    """Return the fall of a method over all task sets that these tests find with a power of 80 %."""
    enough = [t for t in tests if min(len(c.change) for c in t.changes) >= MINIMUM_SEEDS]
    if not enough:
        return float("nan")
    seeds = min(len(c.change) for t in enough for c in t.changes)
    spreads = [np.sqrt(sum(c.change.var(ddof=1) for c in t.changes)) / len(t.changes) for t in enough]
    return detectable(seeds, len(enough), ALPHA) * float(np.median(spreads))  # one-sided, at half of ALPHA


def gained(cell: Cell, before: Floats, after: Floats) -> Floats:
    """Return the gain of each seed `[S]`, in points, from values `[S, M]` of a cell to later values of it.

    Metrics whose mean was 0 are left out, since no change is relative to it. The result is empty if none remains.
    """
    has = has_relative_gain(after, before)
    kept = [metric for metric, kept in zip(cell.metrics, has, strict=True) if kept]
    if not kept:
        return np.array([])
    return per_seed(after[:, has], before[:, has], [up for *_, up in kept], [task for task, *_ in kept], "paired")


@dataclass(frozen=True)
class _Change:
    """A stored cell and how its values have changed."""

    cell: Cell
    state: State | None
    """None where the change has to be tested."""
    change: Floats
    """The gain of each paired seed `[S]`, in points."""
    note: str = ""


@dataclass(frozen=True)
class _Test:
    """The changes of one method that are tested together."""

    task_set: str
    method: str
    changes: list[_Change]


def _change(stored: Cell, now: Cell | None) -> _Change:
    nothing = np.array([])
    if now is None:
        return _Change(stored, "missing", nothing, "there is no run of it here that has every metric")
    paired = [s for s, own in stored.seeds.items() if s in now.seeds and own.names == now.seeds[s].names]
    if not paired:
        overlap = set(stored.seeds) & set(now.seeds)
        if overlap and stored.chosen != now.chosen:
            return _Change(stored, "rechosen", nothing, _other_choice(stored, now))
        why = (
            "its runs are asked for differently now"
            if overlap
            else "there is no run of it here that has every metric and a seed of the baseline"
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


def _other_choice(stored: Cell, now: Cell) -> str:
    """Say how the choice of a cell's runs, or of the runs that they read, differs."""
    before, after = ([chosen for chosen in cell.chosen if chosen.method == cell.method] for cell in (stored, now))
    if before == after:
        return "its choice is the same, and that of a run that it reads would change"
    if not before or not after:
        return f"its choice would change: the protocol's own rate {'before' if after else 'now'}"
    rates = [", ".join(f"×{chosen.factor:g}" for chosen in own) for own in (before, after)]
    said = f"learning rate {rates[0]} → {rates[1]}" if rates[0] != rates[1] else "the same learning rate"
    other = [chosen.options for chosen in before] != [chosen.options for chosen in after]
    return f"its choice would change: {said}{', other options' if other else ''}"


def _tested(tests: Sequence[_Test], tolerance: float) -> list[Finding]:
    """Test the changes, adjust the p-values for all of them, and name the state of each."""
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
    """The state where no test is needed: a run fails, nothing differs, or nothing can be compared."""
    states = {change.state for change in test.changes}
    if "regressed" in states:
        return "regressed"
    if states <= {"identical"}:
        return "identical"
    alone = next(iter(states)) if len(states) == 1 else None
    return alone if alone in NOT_COMPARED else None


def _cost(stored: Cell, now: Cell, slowdown: float | None, *, ratios: bool) -> Finding | None:
    """Compare the cost of a step then and now; None where neither is known."""
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
