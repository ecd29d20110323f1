"""The table of scores and what steps were measured to cost → costs relative to equal weights, and tables of them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, replace

import numpy as np
import pandas as pd

from bench.records import REFERENCE, CostRecord, StepCost
from bench.report.board import Ratios
from bench.report.groups import Group, groups
from bench.report.scores import SUITE, Run, Scores, in_order


def timings(scores: Scores) -> pd.DataFrame:
    """One row per run: the seconds it took, while others may have shared the machine, and its passes per step."""
    rows = []
    for run in in_order(scores):
        cost = dict(run.cost)
        passes = cost.pop("passes")
        rows.append(
            {
                **{"task_set": run.task_set, "method": run.method, "seed": run.seed},
                "tasks": "+".join(run.tasks),
                **cost,
                **{f"{what}_passes": number for what, number in passes.items()},
            }
        )
    return pd.DataFrame(rows)


def costs(scores: Scores, measured: Sequence[CostRecord] = ()) -> pd.DataFrame:
    """One row per task set and method: what a step takes, absolutely and relative to equal weights."""
    found = groups(scores)
    ratios = relative_costs(found, measured)
    rows = []
    for group in found:
        for method, runs in group.with_frozen.runs.items():
            run = next(iter(runs.values()))
            own = _step(run, _session(run, measured))
            row: dict[str, object] = {"task_set": group.label, "method": method}
            row |= own.model_dump(exclude={"method", "tasks"}) if own is not None else {}
            if (group.label, method) in ratios:
                row |= {f"{name}_ratio": value for name, value in asdict(ratios[group.label, method]).items()}
            rows.append(row | {f"{what}_passes": number for what, number in run.cost.passes.items()})
    first = ["task_set", "method", "step_seconds", "allocated_bytes", "peak_bytes"]
    frame = pd.DataFrame(rows)
    return frame.reindex(columns=[*first, *(column for column in frame.columns if column not in first)])


def relative_costs(found: Sequence[Group], measured: Sequence[CostRecord] = ()) -> dict[tuple[str, str], Ratios]:
    """Return what each method costs relative to equal weights, by task set and method.

    Taken from steps that were measured side by side, where they were; else from the medians of the runs' own times.
    Over task sets the geometric mean.
    """
    by_name = {run.name: run for group in found for run in group.with_frozen.members if run.name}
    ratios: dict[tuple[str, str], Ratios] = {}
    suites: dict[tuple[str, str], list[Ratios]] = defaultdict(list)
    for group in found:
        reference = _median_times(group.runs.get(REFERENCE, {}), by_name)
        for method, runs in group.with_frozen.runs.items():
            own = _measured_ratios(next(iter(runs.values())), measured, by_name)
            if own is None:
                step, training = _median_times(runs, by_name)
                own = Ratios(_ratio(step, reference[0]), _ratio(training, reference[1]), np.nan)
            choice = next(iter(runs.values())).choice
            if choice is not None:
                own = replace(own, with_trials=own.training * (1 + choice.budget * len(choice.seeds)))
            ratios[group.label, method] = own
            if not group.draw_of:
                suites[SUITE + group.suite, method].append(own)
    return ratios | {
        key: Ratios(*np.exp(np.log([astuple(own) for own in members]).mean(0))) for key, members in suites.items()
    }


def _session(run: Run, measured: Sequence[CostRecord]) -> CostRecord | None:
    """The measurement in which this run's method took part: of several the one with most methods."""
    if run.spec is None:
        return None
    what = run.spec.task_set, run.protocol, run.spec.precision
    sessions = [m for m in measured if (m.task_set, m.protocol, m.precision) == what and _step(run, m) is not None]
    return max(sessions, key=lambda m: (len(m.costs), m.key), default=None)


def _step(run: Run, session: CostRecord | None) -> StepCost | None:
    """What a step of this run's method took in a measurement."""
    if session is None or run.spec is None:
        return None
    return next((cost for cost in session.costs if (cost.method, cost.tasks) == (run.spec.method, run.tasks)), None)


def _measured_ratios(run: Run, measured: Sequence[CostRecord], by_name: Mapping[str, Run]) -> Ratios | None:
    session = _session(run, measured)
    own = _step(run, session)
    if session is None or own is None:
        return None
    costs = {(cost.method, cost.tasks): cost for cost in session.costs}
    # The reference is in every request; its canonical variant is its name.
    reference = costs.get((REFERENCE, run.tasks))
    upstream = _teachers(run)
    read = [by_name[name] for name in upstream if name in by_name]
    teachers = [costs.get((one.spec.method, one.tasks)) for one in read if one.spec is not None]
    if reference is None or None in teachers or len(teachers) < len(upstream):
        return None
    training = own.step_seconds + sum(teacher.step_seconds for teacher in teachers if teacher is not None)
    return Ratios(
        _ratio(own.step_seconds, reference.step_seconds),
        _ratio(training, reference.step_seconds),
        _ratio(own.peak_bytes, reference.peak_bytes),
    )


def _teachers(run: Run) -> Sequence[str]:
    """The names of the runs that a run reads."""
    return list(run.parts.upstream) if run.parts is not None else []


def _ratio(value: float, reference: float) -> float:
    """How many times the reference; NaN of nothing, which was not measured."""
    return value / reference if value > 0 and reference > 0 else float("nan")


def _median_times(runs: Mapping[int, Run], by_name: Mapping[str, Run]) -> tuple[float, float]:
    """The medians over seeds of the seconds of a step, and of a training with its teachers'."""
    timed = [run for run in runs.values() if run.cost.step_seconds is not None]
    teachers = [sum(_training_seconds(by_name.get(name)) for name in _teachers(run)) for run in timed]
    whole = [_training_seconds(run) + other for run, other in zip(timed, teachers, strict=True)]
    return _median([run.cost.step_seconds for run in timed]), _median(whole)


def _training_seconds(run: Run | None) -> float:
    """The seconds of a run's steps, without evaluation and probes."""
    if run is None or run.spec is None or run.cost.step_seconds is None:
        return float("nan")
    return run.cost.step_seconds * run.spec.protocol.steps


def _median(values: Iterable[float | None]) -> float:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else float("nan")
