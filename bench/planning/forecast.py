"""Says before a plan starts how long it will take, and which differences it can show."""

import math
from collections.abc import Mapping, Sequence, Set
from functools import cache

from bench.planning.plan import Planned
from bench.records import REFERENCE, RunRecord
from bench.spec import STL, RunSpec
from tasks.core.protocol import Protocol


def forecast(runs: Sequence[Planned], known: Mapping[str, RunRecord], workers: int | None = None) -> list[str]:
    """Say how many runs there are, how long they take, and which differences they can show. Each is one line.

    Args:
        runs: the plan.
        known: stored records by name, from which the times are taken.
        workers: how many runs are made at once; None means one.
    """
    todo = [planned for planned in runs if planned.todo]
    lines = [f"{len(runs)} runs: {len(todo)} to make, {len(runs) - len(todo)} there already"]
    if todo:
        lines.append(time_needed(todo, known, min(workers or 1, len(todo))))
    return lines + _effect(runs, known)


Likeness = tuple[str, str, tuple[str, ...], Protocol]


def similar(spec: RunSpec) -> Likeness:
    """Return the key under which run times are pooled: runs with the same key take about as long."""
    return spec.task_set, spec.method, spec.tasks, _at_one_rate(spec.protocol)


@cache
def _at_one_rate(protocol: Protocol) -> Protocol:
    """A protocol without its learning rate, on which no time depends."""
    return protocol.model_copy(update={"lr": 1.0})


def seconds_of_similar(known: Mapping[str, RunRecord]) -> dict[Likeness, float]:
    """Return the seconds that a run took, by the key of `similar`. Runs that were killed do not count."""
    return {similar(r.spec): r.cost.total_seconds for r in known.values() if r.cost.total_seconds}


def time_needed(todo: Sequence[Planned], known: Mapping[str, RunRecord], workers: int) -> str:
    """Say how long these runs take, as far as the times of similar ones among the known records tell."""
    seconds = seconds_of_similar(known)
    found = [seconds[similar(planned.spec)] for planned in todo if similar(planned.spec) in seconds]
    spread = f" on {workers} workers" if workers > 1 else ""
    if not found:
        return f"time{spread}: not known yet, because no similar run has been made here"
    least = "at least " if len(found) < len(todo) else "about "
    unknown = f"; no time is known yet for {len(todo) - len(found)} of them" if len(found) < len(todo) else ""
    return f"time: {least}{_minutes(sum(found) / workers)}{spread}, from similar runs made here{unknown}"


def _minutes(seconds: float) -> str:
    if seconds < 90:
        return f"{math.ceil(seconds)} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _effect(runs: Sequence[Planned], known: Mapping[str, RunRecord]) -> list[str]:
    """Say which difference from equal weights the seeds can show; in points, if records tell how runs spread."""
    from bench.evidence.power import detectable
    from bench.evidence.significance import smallest_p

    compared = [planned for planned in runs if planned.role == "run" and not planned.average_of]
    methods = {planned.asked_method for planned in compared} - {STL, REFERENCE}
    seeds = len({planned.seed_round for planned in compared})
    if not methods:
        return []
    against = f"{seeds} seed{'s' * (seeds > 1)}, {len(methods)} method{'s' * (len(methods) > 1)} against equal weights"
    if smallest_p(seeds) > 0.05:
        p = smallest_p(seeds)
        return [
            f"{against}: no exact test can call any better or worse (its smallest p is {p:.2g}); 6 seeds or more can"
        ]
    effect = detectable(seeds, len(methods))
    spreads = _spreads(known, {planned.task_set_label for planned in runs})
    points = ", ".join(f"{effect * spread:.2g} on {label}" for label, spread in spreads.items())
    as_here = f"; as runs spread here, in points of Δ task: {points}" if points else ""
    return [
        f"{against}: shows a difference of {effect:.1f} standard deviations over seeds with a power of 80 %{as_here}"
    ]


def _spreads(known: Mapping[str, RunRecord], labels: Set[str]) -> dict[str, float]:
    """Return, by task set, the median over methods of the standard deviation of the differences from equal weights."""
    if not known:
        return {}
    from bench.evidence.power import detectable
    from bench.report.analyse import analyse
    from bench.report.scores import from_records

    boards = [board for board in analyse(from_records(known.values())).boards if board.label in labels]
    found = {b.label: b.detectable / detectable(b.seeds, b.family) for b in boards if b.family and b.seeds > 1}
    return {label: spread for label, spread in found.items() if math.isfinite(spread)}
