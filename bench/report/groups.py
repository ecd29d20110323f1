"""The table of scores → what may be compared: the runs on one task set under one protocol."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bench.records import FAILURES
from bench.report.draws import draws
from bench.report.scores import Metric, Role, Run, Scores
from bench.spec import STL, Score

Floats = NDArray[np.float64]

MOST_NAMED = 8
"""So many seeds or methods are named; the others are counted."""


@dataclass(frozen=True)
class Group:
    """The runs on one task set under one protocol: what may be compared.

    Computed once and read often: nothing here changes.
    """

    label: str
    suite: str
    """What marks the task sets that may be averaged with this one."""
    all_tasks: tuple[str, ...]
    metrics: list[Metric]
    """Those that count `[M]`: see `_counted`."""
    higher_is_better: list[bool]
    untrained: list[float]
    """The scores `[M]` of a predictor that has not seen the inputs; NaN where they are not known."""
    runs: dict[str, dict[int, Run]]
    """Of the contestants, by method and seed, single-task runs excepted."""
    baselines: dict[int, dict[str, Run]]
    """By seed and task."""
    drawn: dict[tuple[Role, str], dict[int, Run]]
    """The runs that are only drawn, by role and method, and by seed."""
    frozen: dict[str, dict[int, Run]]
    """The runs with frozen weights of other methods, by method and seed."""
    notes: tuple[str, ...] = ()
    """Which metrics do not count, and why."""
    draw_of: str = ""
    """The label of the group of the same task set with another draw of its data, if that is the first."""

    @property
    def tasks(self) -> list[str]:
        """The task of each metric `[M]`."""
        return [task for task, _ in self.metrics]

    @cached_property
    def with_frozen(self) -> "Group":
        """The same group with the frozen among the contestants. Which metrics count is as without them."""
        return replace(self, runs=dict(sorted((self.runs | self.frozen).items()))) if self.frozen else self

    @cached_property
    def members(self) -> tuple[Run, ...]:
        """Every run of the contestants and every single-task run, in a fixed order."""
        found = [run for runs in self.runs.values() for run in runs.values()]
        found += [run for own in self.baselines.values() for run in own.values()]
        return tuple(sorted(found, key=lambda run: (run.method, run.seed, run.tasks)))

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """The seeds with which methods can be compared: every baseline is there and ok, and some method has run."""
        compared = {seed for runs in self.runs.values() for seed in runs}
        return tuple(sorted(seed for seed in compared if self.baseline(seed) is not None))

    def values(self, method: str, *, impute: bool = True) -> Floats:
        """The test metrics `[S, M]` of a method at `seeds`, NaN where it has none.

        A run that failed is an outcome: with `impute` it counts with the scores of the untrained predictor, as long as
        the method has succeeded at some seed. Where these scores are not known the method has no values at all: those
        of its other runs are a choice of the lucky ones. A run that was skipped, or that lacks a metric, is missing.
        """
        runs, failed = self.runs[method], set(self.failed_seeds(method))
        rows = np.full((len(self.seeds), len(self.metrics)), np.nan)
        if impute and (self.cannot_be_scored(method) or not self._has_succeeded(method)):
            return rows
        for row, seed in zip(rows, self.seeds, strict=True):
            if seed in failed:
                row[:] = self.untrained if impute else np.nan
            elif seed in runs:
                row[:] = self.row(runs[seed])
        return rows

    def row(self, run: Run) -> list[float]:
        """The test metrics `[M]` of a run, all NaN if it lacks one."""
        whole = all(metric in run.values for metric in self.metrics)
        return [run.values[metric] if whole else np.nan for metric in self.metrics]

    def failed_seeds(self, method: str) -> list[int]:
        """The seeds, of those that can be compared, at which a method's run failed."""
        runs = self.runs[method]
        return [seed for seed in self.seeds if seed in runs and runs[seed].status in FAILURES]

    def counted_failures(self, method: str) -> int:
        """How many of a method's failed runs count with the scores of the untrained predictor."""
        counts = self._has_succeeded(method) and not self.cannot_be_scored(method)
        return len(self.failed_seeds(method)) if counts else 0

    def cannot_be_scored(self, method: str) -> bool:
        """Whether a method has both failed and succeeded, and what a failure counts is not known."""
        return any(np.isnan(self.untrained)) and bool(self.failed_seeds(method)) and self._has_succeeded(method)

    def _has_succeeded(self, method: str) -> bool:
        """Whether a method has a run with every metric."""
        wanted = set(self.metrics)
        return any(run.status == "ok" and run.values.keys() >= wanted for run in self.runs[method].values())

    def stl_values(self) -> Floats:
        """The single-task networks' metrics `[S, M]` at `seeds`."""
        rows = [self.baseline(seed) for seed in self.seeds]
        return np.array(rows, np.float64).reshape(len(rows), len(self.metrics))

    def baseline(self, seed: int) -> list[float] | None:
        """The single-task networks' metrics `[M]` at a seed, if all are ok."""
        own = self.baselines.get(seed, {})
        if any(task not in own or own[task].status != "ok" for task in self.all_tasks):
            return None
        scores = {metric: value for run in own.values() for metric, value in run.values.items()}
        return [scores[metric] for metric in self.metrics]

    def left_out(self, method: str) -> list[str]:
        """Say which runs of a method that is there are not compared, and why."""
        lost: dict[tuple[str, str], list[int]] = defaultdict(list)
        for seed, run in sorted(self.runs[method].items()):
            if run.status != "ok":
                continue
            own = self.baselines.get(seed, {})
            for task in self.all_tasks:
                status = own[task].status if task in own else "missing"
                if status != "ok":
                    lost["no gain at ", f": the baseline of task {task} is {status}"].append(seed)
            if lacks := ", ".join(" ".join(metric) for metric in self.metrics if metric not in run.values):
                lost["the runs at ", f" are left out: they lack {lacks}"].append(seed)
        found = [before + seed_text(seeds) + after for (before, after), seeds in lost.items()]
        if self.cannot_be_scored(method):
            found.append(
                f"no Δ and no verdict: {len(self.failed_seeds(method))} of its runs failed, and the untrained scores "
                "with which they would count are not known"
            )
        return found


def seed_text(seeds: Sequence[int]) -> str:
    """Name some seeds for a reader: `seed 3`, `seeds 1, 2`; of many the first ones."""
    more = f" and {len(seeds) - MOST_NAMED} more" if len(seeds) > MOST_NAMED else ""
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds[:MOST_NAMED]))}{more}"


def groups(scores: Scores) -> list[Group]:
    """Sort runs into what may be compared. What is no contestant has no say in which metrics and seeds count."""
    sorted_in: dict[str, list[Run]] = defaultdict(list)
    for run in scores.runs:
        sorted_in[run.task_set].append(run)
    first = draws(sorted_in)
    return [_group(label, members, first.get(label, "")) for label, members in sorted_in.items()]


def _group(label: str, members: Sequence[Run], draw_of: str) -> Group:
    compared = [run for run in members if run.role == "contestant"]
    runs: dict[str, dict[int, Run]] = defaultdict(dict)
    baselines: dict[int, dict[str, Run]] = defaultdict(dict)
    drawn: dict[tuple[Role, str], dict[int, Run]] = defaultdict(dict)
    frozen: dict[str, dict[int, Run]] = defaultdict(dict)
    for run in members:
        if run.role == "remainder":
            frozen[run.method][run.seed] = run
        elif run.role != "contestant":
            drawn[run.role, run.method][run.seed] = run
        elif run.method == STL:
            baselines[run.seed][run.tasks[0]] = run
        else:
            runs[run.method][run.seed] = run
    metrics, notes = _counted(compared)
    given = {
        (task, name): [run.scores[task][name] for run in compared if (task, name) in run.values]
        for task, name in metrics
    }
    tasks = {task for task, _ in metrics} | (set(_all_tasks(compared)) - {task for task, _ in _all_metrics(compared)})
    return Group(
        label=label,
        suite=members[0].suite,
        all_tasks=tuple(task for task in _all_tasks(compared) if task in tasks),
        metrics=metrics,
        higher_is_better=[given[metric][0].higher_is_better for metric in metrics],
        untrained=[_agreed(given[metric]) for metric in metrics],
        runs=dict(sorted(runs.items())),
        baselines=dict(baselines),
        drawn=dict(sorted(drawn.items())),
        frozen=dict(sorted(frozen.items())),
        notes=notes,
        draw_of=draw_of,
    )


def _all_tasks(members: Sequence[Run]) -> list[str]:
    """Every task that a run has: in the order of the run with most, others after it."""
    orders = sorted({run.tasks for run in members}, key=lambda tasks: (-len(tasks), tasks))
    return list(dict.fromkeys(task for order in orders for task in order))


def _all_metrics(members: Sequence[Run]) -> list[Metric]:
    """Every metric that a run has, by task: in the order of the run with most, others after it."""
    found = []
    for task in _all_tasks(members):
        orders = {tuple(run.scores.get(task, ())) for run in members}
        by_size = sorted(orders, key=lambda names: (-len(names), names))
        found += [(task, name) for name in dict.fromkeys(name for names in by_size for name in names)]
    return found


def _counted(members: Sequence[Run]) -> tuple[list[Metric], tuple[str, ...]]:
    """Return the metrics that count `[M]`, and what is to be said of the others.

    A metric counts if there are single-task runs of its task, all that are ok have it, at least half of all other runs
    that are ok have it, and all runs agree whether higher is better. A run that lacks one of these is left out of the
    comparison.
    """
    scored = [run for run in members if run.status == "ok"]
    alone = [run for run in scored if run.method == STL]
    joint = [run for run in scored if run.method != STL]
    known_alone = {task for run in members if run.method == STL for task in run.tasks}
    counted, notes = [], []
    for task, name in _all_metrics(members):
        metric, called = (task, name), f"{task} {name} is left out"
        without = sorted(r.seed for r in alone if task in r.tasks and metric not in r.values)
        lacking = [run for run in joint if metric not in run.values]
        directions = {run.scores[task][name].higher_is_better for run in members if metric in run.values}
        if known_alone and task not in known_alone:
            notes.append(f"{called}: there is no single-task run of {task}")
        elif len(directions) > 1:
            notes.append(f"{called}: in some runs higher is better, in others lower")
        elif without:
            notes.append(f"{called}: the single-task runs at {seed_text(without)} lack it")
        elif 2 * len(lacking) > len(joint):
            names = sorted({run.method for run in lacking})
            more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
            notes.append(
                f"{called}: {len(lacking)} of {len(joint)} runs lack it (of {', '.join(names[:MOST_NAMED])}{more})"
            )
        elif directions:
            counted.append(metric)
    return counted, tuple(notes)


def _agreed(scores: Sequence[Score]) -> float:
    """The untrained score on which all runs that know it agree; else NaN."""
    known = {score.untrained for score in scores if score.untrained is not None}
    return known.pop() if len(known) == 1 else float("nan")


def mixtures(found: Iterable[Group]) -> dict[str, list[str]]:
    """Say of each task set, by its label, which of its runs were made with differing code, data or versions."""
    notes: dict[str, list[str]] = {}
    for group in found:
        seen: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        looked_at = set()
        for run in group.members:
            parts = run.parts
            if parts is None:
                continue
            made = run.method, tuple(parts.sources.items()), tuple(parts.versions.items()), parts.data, parts.device
            if made in looked_at:  # most runs of a method were made with the same
                continue
            looked_at.add(made)
            facts = {f"the code of {name}": value for name, value in parts.sources.items()}
            facts |= {**parts.versions, "the data": parts.data, "the device": parts.device}
            for name, value in facts.items():
                seen[name][value].add(run.method)
        differing = sorted(name for name, values in seen.items() if len(values) > 1)
        if differing:
            notes[group.label] = [
                f"the runs were not all made with the same {', '.join(differing)}: run the command again for all seeds "
                "and methods before comparing them"
            ]
    return notes
