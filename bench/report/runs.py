"""Records → what may be compared: the runs on one task set under one protocol; and those of a tidy table."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.records import FAILURES, RunRecord
from bench.spec import STL, Score, digest

Floats = NDArray[np.float64]

COLUMNS = ["task_set", "method", "seed", "task", "metric", "split", "value", "higher_is_better", "status", "untrained"]
"""Of a tidy file: one row per test metric of each run."""
NEEDED = ["task_set", "method", "seed", "task", "metric", "value", "higher_is_better"]
SUITE = "all"
"""The label of what is over task sets."""
LARGEST = 1e100
"""A score beyond this is no number to compute with: squares and sums of it would be infinite."""
MOST_NAMED = 8
"""So many seeds or methods are named; the others are counted."""
GIVEN = "given"
"""The protocol of runs that a tidy file tells of: how they were trained is not known."""


Metric = tuple[str, str]
"""Task and name."""


@dataclass(frozen=True)
class Group:
    """The runs on one task set under one protocol: what may be compared."""

    label: str
    suite: str
    """What marks the task sets that may be averaged with this one: its protocol and precision, if not the default."""
    all_tasks: tuple[str, ...]
    metrics: list[Metric]
    """Those that count `[M]`: see `_counted`."""
    higher_is_better: list[bool]
    untrained: list[float]
    """The scores `[M]` of a predictor that has not seen the inputs; NaN where they are not known."""
    runs: dict[str, dict[int, RunRecord]]
    """By method and seed, single-task runs excepted."""
    baselines: dict[int, dict[str, RunRecord]]
    """By seed and task."""
    notes: tuple[str, ...] = ()
    """Which metrics do not count, and why."""

    @property
    def tasks(self) -> list[str]:
        """The task of each metric `[M]`."""
        return [task for task, _ in self.metrics]

    def members(self) -> list[tuple[str, RunRecord]]:
        """Every run with what its method is called, in a fixed order."""
        found = [(method, run) for method, runs in self.runs.items() for run in runs.values()]
        found += [(STL, run) for own in self.baselines.values() for run in own.values()]
        return sorted(found, key=lambda pair: (pair[0], pair[1].spec.seed, pair[1].spec.tasks))

    def seeds(self) -> list[int]:
        """The seeds with which methods can be compared: every baseline is there and ok, and some method has run."""
        compared = {seed for runs in self.runs.values() for seed in runs}
        return sorted(seed for seed in compared if self.baseline(seed) is not None)

    def values(self, method: str, *, impute: bool = True) -> Floats:
        """The test metrics `[S, M]` of a method at `seeds()`, NaN where it has none.

        A run that failed is an outcome: with `impute` it counts with the scores of the untrained predictor, as long as
        the method has succeeded at some seed. Where these scores are not known the method has no values at all: those
        of its other runs are a choice of the lucky ones. A run that was skipped, or that lacks a metric, is missing.
        """
        runs, failed = self.runs[method], set(self.failed_seeds(method))
        nothing = impute and (self.cannot_be_scored(method) or not self._has_succeeded(method))
        missing = [np.nan] * len(self.metrics)
        rows = []
        for seed in self.seeds():
            if nothing or seed not in runs or (seed in failed and not impute):
                rows.append(missing)
            elif seed in failed:
                rows.append(self.untrained)
            else:
                scores = usable(runs[seed])
                whole = all(metric in scores for metric in self.metrics)
                rows.append([scores[metric][0] for metric in self.metrics] if whole else missing)
        return np.array(rows, np.float64).reshape(len(rows), len(self.metrics))

    def failed_seeds(self, method: str) -> list[int]:
        """The seeds, of those that can be compared, at which a method's run failed."""
        runs = self.runs[method]
        return [seed for seed in self.seeds() if seed in runs and runs[seed].result.status in FAILURES]

    def counted_failures(self, method: str) -> int:
        """How many of a method's failed runs count with the scores of the untrained predictor."""
        counts = self._has_succeeded(method) and not self.cannot_be_scored(method)
        return len(self.failed_seeds(method)) if counts else 0

    def cannot_be_scored(self, method: str) -> bool:
        """Whether a method has both failed and succeeded, and what a failure counts is not known."""
        unknown = any(np.isnan(self.untrained))
        return unknown and self._has_succeeded(method) and bool(self.failed_seeds(method))

    def _has_succeeded(self, method: str) -> bool:
        """Whether a method has a run with every metric."""
        whole = [run for run in self.runs[method].values() if usable(run).keys() >= set(self.metrics)]
        return any(run.result.status == "ok" for run in whole)

    def stl_values(self) -> Floats:
        """The single-task networks' metrics `[S, M]` at `seeds()`."""
        rows = [self.baseline(seed) for seed in self.seeds()]
        return np.array(rows, np.float64).reshape(len(rows), len(self.metrics))

    def baseline(self, seed: int) -> list[float] | None:
        """The single-task networks' metrics `[M]` at a seed, if all are ok."""
        own = self.baselines.get(seed, {})
        if any(task not in own or own[task].result.status != "ok" for task in self.all_tasks):
            return None
        scores = {metric: value for record in own.values() for metric, (value, _) in usable(record).items()}
        return [scores[metric] for metric in self.metrics]

    def left_out(self, method: str) -> list[str]:
        """Say which runs of a method that is there are not compared, and why."""
        lost: dict[tuple[str, str], list[int]] = defaultdict(list)
        for seed, run in sorted(self.runs[method].items()):
            if run.result.status != "ok":
                continue
            own = self.baselines.get(seed, {})
            for task in self.all_tasks:
                status = own[task].result.status if task in own else "missing"
                if status != "ok":
                    lost["no gain at ", f": the baseline of task {task} is {status}"].append(seed)
            scores = usable(run)
            if lacks := ", ".join(" ".join(metric) for metric in self.metrics if metric not in scores):
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


def groups(records: Iterable[RunRecord]) -> list[Group]:
    """Sort records into what may be compared: by task set, protocol and precision. Their order does not matter."""
    sorted_in = defaultdict(list)
    for record in sorted(records, key=lambda record: record.name):
        spec = record.spec
        sorted_in[spec.task_set, spec.protocol.model_dump_json(), spec.precision].append(record)
    labels = {key: _label(members[0]) for key, members in sorted_in.items()}
    found = []
    for key in sorted(sorted_in):
        members = sorted_in[key]
        runs: dict[str, dict[int, RunRecord]] = defaultdict(dict)
        baselines: dict[int, dict[str, RunRecord]] = defaultdict(dict)
        shown = _shown({r.spec.method: r.method_label for r in members})
        for record in members:
            if record.spec.method == STL:
                baselines[record.spec.seed][record.spec.tasks[0]] = record
            else:
                runs[shown[record.spec.method]][record.spec.seed] = record
        metrics, notes = _counted(members)
        scored = [usable(record) for record in members]
        given = [[own[metric][1] for own in scored if metric in own] for metric in metrics]
        tasks = {task for task, _ in metrics} | (set(_all_tasks(members)) - {task for task, _ in _all_metrics(members)})
        suffix = labels[key].removeprefix(members[0].task_set_label)
        # Same name, other content (a protocol that was edited): told apart by a digest. So is a task set whose name is
        # that of the table over all of them.
        taken = list(labels.values()).count(labels[key]) > 1 or members[0].task_set_label == SUITE
        found.append(
            Group(
                label=labels[key] + (f"#{digest(key)[:4]}" if taken else ""),
                suite=suffix,
                all_tasks=tuple(task for task in _all_tasks(members) if task in tasks),
                metrics=metrics,
                higher_is_better=[scores[0].higher_is_better for scores in given],
                untrained=[_agreed(scores) for scores in given],
                runs=dict(sorted(runs.items())),
                baselines=baselines,
                notes=notes,
            )
        )
    return found


def _all_tasks(members: Sequence[RunRecord]) -> list[str]:
    """Every task that a run has: in the order of the run with most, others after it."""
    orders = sorted({record.spec.tasks for record in members}, key=lambda tasks: (-len(tasks), tasks))
    return list(dict.fromkeys(task for order in orders for task in order))


def _all_metrics(members: Sequence[RunRecord]) -> list[Metric]:
    """Every metric that a run has, by task: in the order of the run with most, others after it."""
    found = []
    for task in _all_tasks(members):
        orders = {tuple(record.result.scores.get(task, ())) for record in members}
        by_size = sorted(orders, key=lambda names: (-len(names), names))
        found += [(task, name) for name in dict.fromkeys(name for names in by_size for name in names)]
    return found


def _counted(members: Sequence[RunRecord]) -> tuple[list[Metric], tuple[str, ...]]:
    """Return the metrics that count `[M]`, and what is to be said of the others.

    A metric counts if there are single-task runs of its task, all that are ok have it, at least half of all other runs
    that are ok have it, and all runs agree whether higher is better. A run that lacks one of these is left out of the
    comparison.
    """
    scores = {id(record): usable(record) for record in members}
    scored = [record for record in members if record.result.status == "ok"]
    alone = [record for record in scored if record.spec.method == STL]
    joint = [record for record in scored if record.spec.method != STL]
    known_alone = {task for record in members if record.spec.method == STL for task in record.spec.tasks}
    counted, notes = [], []
    for task, name in _all_metrics(members):
        metric, called = (task, name), f"{task} {name} is left out"
        without = sorted(r.spec.seed for r in alone if task in r.spec.tasks and metric not in scores[id(r)])
        lacking = [record for record in joint if metric not in scores[id(record)]]
        directions = {own[metric][1].higher_is_better for own in scores.values() if metric in own}
        if known_alone and task not in known_alone:
            notes.append(f"{called}: there is no single-task run of {task}")
        elif len(directions) > 1:
            notes.append(f"{called}: in some runs higher is better, in others lower")
        elif without:
            notes.append(f"{called}: the single-task runs at {seed_text(without)} lack it")
        elif 2 * len(lacking) > len(joint):
            names = sorted({record.method_label for record in lacking})
            more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
            notes.append(
                f"{called}: {len(lacking)} of {len(joint)} runs lack it (of {', '.join(names[:MOST_NAMED])}{more})"
            )
        elif directions:
            counted.append(metric)
    return counted, tuple(notes)


def usable(record: RunRecord) -> dict[Metric, tuple[float, Score]]:
    """The scores of a run that are numbers to compute with, each with its value."""
    return {
        (task, name): (score.value, score)
        for task, own in record.result.scores.items()
        for name, score in own.items()
        if score.value is not None and abs(score.value) <= LARGEST
    }


def _agreed(scores: Sequence[Score]) -> float:
    """The untrained score on which all runs that know it agree; else NaN."""
    known = {score.untrained for score in scores if score.untrained is not None}
    return known.pop() if len(known) == 1 else float("nan")


def _label(record: RunRecord) -> str:
    """The task set, with its protocol and precision where they are not the default."""
    protocol, precision = record.protocol_label or record.spec.protocol.name, record.spec.precision
    suffix = "" if protocol in ("quick", GIVEN) else f"@{protocol}"
    return record.task_set_label + suffix + ("" if precision == "32-true" else f"@{precision}")


def _shown(labels: dict[str, str]) -> dict[str, str]:
    """What to call each variant: its label, or in full where two have one label."""
    names = list(labels.values())
    return {variant: label if names.count(label) == 1 else variant for variant, label in labels.items()}


def tidy(records: Iterable[RunRecord]) -> pd.DataFrame:
    """One row per test metric of each run; a run without scores has one row per task, with its status alone."""
    rows = []
    for group in groups(records):
        for method, record in group.members():
            common = {"task_set": group.label, "method": method, "seed": record.spec.seed}
            end = {"status": record.result.status}
            scores = record.result.scores or {task: {} for task in record.spec.tasks}
            for task, own in scores.items():
                for name, score in own.items():
                    value = {"value": score.value, "higher_is_better": score.higher_is_better}
                    more = {**end, "untrained": score.untrained}
                    rows.append({**common, "task": task, "metric": name, "split": "test", **value, **more})
                if not own:
                    rows.append({**common, "task": task, **end})
    return pd.DataFrame(rows, columns=COLUMNS)


def mixtures(records: Iterable[RunRecord]) -> dict[str, list[str]]:
    """Say of each task set, by its label, which of its runs were made with differing code, data or versions."""
    notes: dict[str, list[str]] = {}
    for group in groups(records):
        seen: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        for method, run in group.members():
            facts = {f"the code of {name}": value for name, value in run.parts.sources.items()}
            facts |= {**run.parts.versions, "the data": run.parts.data, "the device": run.parts.device}
            for name, value in facts.items():
                seen[name][value].add(method)
        differing = sorted(name for name, values in seen.items() if len(values) > 1)
        if differing:
            notes[group.label] = [
                f"the runs were not all made with the same {', '.join(differing)}: run the command again for all seeds "
                "and methods before comparing them"
            ]
    return notes
