"""Runs and what steps were measured to cost → costs relative to equal weights, and tables of them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, astuple

import numpy as np
import pandas as pd

from bench.records import REFERENCE, CostRecord, RunRecord
from bench.report.board import Ratios
from bench.report.runs import SUITE, Group, groups
from bench.spec import STL


def timings(records: Iterable[RunRecord]) -> pd.DataFrame:
    """One row per run: the seconds it took, while others may have shared the machine, and its passes per step."""
    rows = []
    for group in groups(records):
        for method, record in group.members():
            cost = record.cost.model_dump()
            passes = cost.pop("passes")
            rows.append(
                {
                    **{"task_set": group.label, "method": method, "seed": record.spec.seed},
                    "tasks": "+".join(record.spec.tasks),
                    **cost,
                    **{f"{what}_passes": number for what, number in passes.items()},
                }
            )
    return pd.DataFrame(rows)


def costs(records: Iterable[RunRecord], measured: Sequence[CostRecord] = ()) -> pd.DataFrame:
    """One row per task set and method: what a step takes, absolutely and relative to equal weights."""
    ordered = list(records)
    ratios = relative_costs(ordered, measured)
    rows = []
    for group in groups(ordered):
        for method, runs in group.runs.items():
            run = next(iter(runs.values()))
            session = _session(group, run, measured)
            own = [c for c in session.costs if c.method == run.spec.method] if session is not None else []
            row: dict[str, object] = {"task_set": group.label, "method": method}
            row |= own[0].model_dump(exclude={"method", "tasks"}) if own else {}
            if (group.label, method) in ratios:
                row |= {f"{name}_ratio": value for name, value in asdict(ratios[group.label, method]).items()}
            rows.append(row | {f"{what}_passes": number for what, number in run.cost.passes.items()})
    first = ["task_set", "method", "step_seconds", "allocated_bytes", "peak_bytes"]
    frame = pd.DataFrame(rows)
    return frame.reindex(columns=[*first, *(column for column in frame.columns if column not in first)])


def relative_costs(records: Iterable[RunRecord], measured: Sequence[CostRecord] = ()) -> dict[tuple[str, str], Ratios]:
    """Return what each method costs relative to equal weights, by task set and method.

    Taken from steps that were measured side by side, where they were; else from the medians of the runs' own times.
    Over task sets the geometric mean.
    """
    ordered = list(records)
    by_name = {record.name: record for record in ordered}
    found: dict[tuple[str, str], Ratios] = {}
    suites: dict[tuple[str, str], list[Ratios]] = defaultdict(list)
    for group in groups(ordered):
        for method, runs in group.runs.items():
            ratios = _measured_ratios(group, next(iter(runs.values())), measured, by_name)
            if ratios is None:
                own, reference = (_median_times(group.runs.get(name, {}), by_name) for name in (method, REFERENCE))
                ratios = Ratios(_ratio(own[0], reference[0]), _ratio(own[1], reference[1]), np.nan)
            found[group.label, method] = ratios
            suites[SUITE + group.suite, method].append(ratios)
    return found | {
        key: Ratios(*np.exp(np.log([astuple(own) for own in ratios]).mean(0))) for key, ratios in suites.items()
    }


def _session(group: Group, run: RunRecord, measured: Sequence[CostRecord]) -> CostRecord | None:
    """The measurement in which this run's method took part: of several the one with most methods."""
    what = run.spec.task_set, run.spec.protocol, run.spec.precision
    sessions = [m for m in measured if (m.task_set, m.protocol, m.precision) == what]
    sessions = [m for m in sessions if any((c.method, c.tasks) == (run.spec.method, run.spec.tasks) for c in m.costs)]
    return max(sessions, key=lambda m: (len(m.costs), m.key), default=None)


def _measured_ratios(
    group: Group, run: RunRecord, measured: Sequence[CostRecord], by_name: Mapping[str, RunRecord]
) -> Ratios | None:
    session = _session(group, run, measured)
    if session is None:
        return None
    costs = {(cost.method, cost.tasks): cost for cost in session.costs}
    # The reference is in every request; its canonical variant is its name.
    own, reference = costs[run.spec.method, run.spec.tasks], costs.get((REFERENCE, run.spec.tasks))
    teachers = [costs.get((STL, by_name[name].spec.tasks)) for name in run.parts.upstream if name in by_name]
    if reference is None or None in teachers or len(teachers) < len(run.parts.upstream):
        return None
    training = own.step_seconds + sum(teacher.step_seconds for teacher in teachers if teacher is not None)
    return Ratios(
        _ratio(own.step_seconds, reference.step_seconds),
        _ratio(training, reference.step_seconds),
        _ratio(own.peak_bytes, reference.peak_bytes),
    )


def _ratio(value: float, reference: float) -> float:
    """How many times the reference; NaN of nothing, which was not measured."""
    return value / reference if value > 0 and reference > 0 else float("nan")


def _median_times(runs: Mapping[int, RunRecord], by_name: Mapping[str, RunRecord]) -> tuple[float, float]:
    """The medians over seeds of the seconds of a step, and of a training with its teachers'."""
    timed = [run for run in runs.values() if run.cost.step_seconds is not None]
    teachers = [sum(_training_seconds(by_name.get(n)) for n in run.parts.upstream) for run in timed]
    whole = [_training_seconds(run) + other for run, other in zip(timed, teachers, strict=True)]
    return _median([run.cost.step_seconds for run in timed]), _median(whole)


def _training_seconds(record: RunRecord | None) -> float:
    """The seconds of a run's steps, without evaluation and probes."""
    if record is None or record.cost.step_seconds is None:
        return float("nan")
    return record.cost.step_seconds * record.spec.protocol.steps


def _median(values: Iterable[float | None]) -> float:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else float("nan")
