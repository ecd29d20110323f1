"""Records → tables: a pure function of the records, in the order of their contents."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from bench.evidence.delta import delta_mtl, mean_rank, per_seed, task_gains
from bench.evidence.significance import suite_mean, t_interval
from bench.records import REFERENCE, STL, CostRecord, RunRecord, digest

PASSES = ("forward_passes", "heads_passes", "trunk_passes", "teacher_passes")
SUITE = "all"
"""The name of the rows over task sets."""


@dataclass(frozen=True)
class Group:
    """The runs on one task set under one protocol: what may be compared."""

    label: str
    suite: str
    """What marks the task sets that may be averaged with this one: its protocol and precision, if not the default."""
    all_tasks: tuple[str, ...]
    metrics: list[tuple[str, str]]
    """(task, metric) `[M]`, as far as any run has scores."""
    higher_is_better: list[bool]
    runs: dict[str, dict[int, RunRecord]]
    """By method and seed, single-task runs excepted."""
    baselines: dict[int, dict[str, RunRecord]]
    """By seed and task."""

    @property
    def tasks(self) -> list[str]:
        """The task of each metric `[M]`."""
        return [task for task, _ in self.metrics]

    def members(self) -> list[tuple[str, RunRecord]]:
        """Every run with what its method is called, in a fixed order."""
        found = [(method, run) for method, runs in self.runs.items() for run in runs.values()]
        found += [(STL, run) for own in self.baselines.values() for run in own.values()]
        return sorted(found, key=lambda pair: (pair[0], pair[1].spec.seed, pair[1].spec.tasks))

    def seeds(self, method: str) -> list[int]:
        """The seeds with which a method can be compared: it and every baseline are there and ok."""
        runs = self.runs[method]
        return sorted(s for s in runs if runs[s].result.status == "ok" and self.baseline(s) is not None)

    def values(self, method: str, seeds: Sequence[int]) -> np.ndarray:
        """The test metrics `[S, M]`."""
        return np.array([_metrics(self.runs[method][seed], self.metrics) for seed in seeds])

    def baseline(self, seed: int) -> list[float] | None:
        """The single-task networks' metrics `[M]` at a seed, if all are ok."""
        own = self.baselines.get(seed, {})
        if any(task not in own or own[task].result.status != "ok" for task in self.all_tasks):
            return None
        scores = {task: record.result.scores[task] for task, record in own.items()}
        return [float(scores[task][name].value or 0) for task, name in self.metrics]

    def without_baseline(self, method: str) -> list[str]:
        """Say at which seeds a method that is there has no gain, because a single-task run is not."""
        lost: dict[str, list[int]] = defaultdict(list)
        for seed, run in sorted(self.runs[method].items()):
            own = self.baselines.get(seed, {})
            for task in self.all_tasks if run.result.status == "ok" else ():
                status = own[task].result.status if task in own else "missing"
                if status != "ok":
                    lost[f"the baseline of task {task} is {status}"].append(seed)
        return [
            f"no gain at seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}: {why}"
            for why, seeds in lost.items()
        ]


def groups(records: Iterable[RunRecord]) -> list[Group]:
    """Sort records into what may be compared: by task set, protocol and precision."""
    sorted_in = defaultdict(list)
    for record in records:
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
        scores = {task: own for record in members for task, own in record.result.scores.items()}
        order = max((record.spec.tasks for record in members), key=len)
        metrics = [(task, name) for task in order if task in scores for name in scores[task]]
        higher = [scores[task][name].higher_is_better for task, name in metrics]
        suffix = labels[key].removeprefix(members[0].task_set_label)
        # Same name, other content (a protocol that was edited): told apart by a digest.
        label = labels[key] + (f"#{digest(key)[:4]}" if list(labels.values()).count(labels[key]) > 1 else "")
        found.append(Group(label, suffix, order, metrics, higher, dict(sorted(runs.items())), baselines))
    return found


def _label(record: RunRecord) -> str:
    """The task set, with its protocol and precision where they are not the default."""
    protocol, precision = record.spec.protocol.name, record.spec.precision
    suffix = "" if protocol == "quick" else f"@{protocol}"
    return record.task_set_label + suffix + ("" if precision == "32-true" else f"@{precision}")


def _shown(labels: dict[str, str]) -> dict[str, str]:
    """What to call each variant: its label, or in full where two have one label."""
    names = list(labels.values())
    return {variant: label if names.count(label) == 1 else variant for variant, label in labels.items()}


def tidy(records: Iterable[RunRecord]) -> pd.DataFrame:
    """One row per test metric of each run; a run without scores has one row, with its status alone."""
    rows = []
    for group in groups(records):
        for method, record in group.members():
            common = {"task_set": group.label, "method": method, "seed": record.spec.seed}
            end = {"status": record.result.status}
            scores = record.result.scores or {"+".join(record.spec.tasks): {}}
            for task, own in scores.items():
                for name, score in own.items():
                    value = {"value": score.value, "higher_is_better": score.higher_is_better}
                    rows.append({**common, "task": task, "metric": name, "split": "test", **value, **end})
                if not own:
                    rows.append({**common, "task": task, **end})
    columns = ["task_set", "method", "seed", "task", "metric", "split", "value", "higher_is_better", "status"]
    return pd.DataFrame(rows, columns=columns)


@dataclass(frozen=True)
class _Line:
    """A method's row on one task set, and the per-seed gains `[S]` that it sums up, if it has any."""

    row: dict[str, object]
    by_task: np.ndarray | None = None
    by_metric: np.ndarray | None = None


def leaderboard(records: Iterable[RunRecord]) -> pd.DataFrame:
    """One row per task set and method, best first, then rows over task sets; single-task learning among them."""
    rows: list[dict[str, object]] = []
    lines: dict[str, dict[str, list[_Line]]] = defaultdict(lambda: defaultdict(list))
    sizes: Counter[str] = Counter()
    for group in groups(records):
        sizes[group.suite] += 1
        usable = {method: group.seeds(method) for method in group.runs}
        ranked = [method for method, seeds in usable.items() if seeds]
        means = [group.values(method, usable[method]).mean(0) for method in ranked]
        ranks = dict(zip(ranked, mean_rank(means, group.higher_is_better), strict=True)) if ranked else {}
        own = {method: _line(group, method, seeds, ranks.get(method)) for method, seeds in usable.items()}
        rows += sorted([_stl_row(group), *(line.row for line in own.values())], key=_best_first)
        for method, line in own.items():
            if line.by_task is not None:
                lines[group.suite][method].append(line)
    for suite, methods in lines.items():
        everywhere = {method: found for method, found in methods.items() if len(found) == sizes[suite] > 1}
        rows += sorted((_suite_row(SUITE + suite, *item) for item in everywhere.items()), key=_best_first)
    first = [
        *("task_set", "method", "seeds", "failed", "delta_task", "delta_task_low", "delta_task_high"),
        *("delta_metric", "delta_metric_low", "delta_metric_high", "mean_rank"),
        *(*PASSES, "degenerate", "note"),
    ]
    frame = pd.DataFrame(rows)
    return frame.reindex(columns=[*first, *(column for column in frame.columns if column not in first)])


def _line(group: Group, method: str, seeds: list[int], rank: float | None) -> _Line:
    runs, higher = group.runs[method], group.higher_is_better
    reasons = sorted({f"{r.result.status}: {r.result.reason}" for r in runs.values() if r.result.reason})
    reasons += group.without_baseline(method)
    row: dict[str, object] = {
        **{"task_set": group.label, "method": method, "seeds": len(seeds)},
        "failed": sum(run.result.status not in ("ok", "skipped") for run in runs.values()),
        "degenerate": sum(run.result.degenerate for run in runs.values()),
        "note": "; ".join(reasons),
    }
    if not seeds:
        return _Line(row)
    values, baseline = group.values(method, seeds), np.array([group.baseline(seed) for seed in seeds])
    row["delta_task"], row["delta_metric"] = delta_mtl(values, baseline, higher, group.tasks)
    by_task = per_seed(values, baseline, higher, group.tasks)
    by_metric = per_seed(values, baseline, higher, range(len(higher)))
    row["delta_task_low"], row["delta_task_high"] = t_interval(by_task)
    row["delta_metric_low"], row["delta_metric_high"] = t_interval(by_metric)
    row["mean_rank"] = rank
    row |= dict(zip(_columns(group), values.mean(0), strict=True))
    row |= dict(zip(_columns(group, "gain"), task_gains(values, baseline, higher), strict=True))
    row |= {f"{what}_passes": number for what, number in runs[seeds[0]].cost.passes.items()}
    return _Line(row, by_task, by_metric)


def _suite_row(label: str, method: str, lines: list[_Line]) -> dict[str, object]:
    """Means over task sets; seeds are the fewest, failures the sum."""
    rows = [line.row for line in lines]
    row: dict[str, object] = {
        **{"task_set": label, "method": method},
        "seeds": min(len(line.by_task) for line in lines if line.by_task is not None),
        "failed": sum(int(str(one["failed"])) for one in rows),
        "degenerate": sum(int(str(one["degenerate"])) for one in rows),
    }
    for name, column in (("delta_task", "by_task"), ("delta_metric", "by_metric")):
        row[name], row[f"{name}_low"], row[f"{name}_high"] = suite_mean(*(getattr(line, column) for line in lines))
    for name in ("mean_rank", *PASSES):
        row[name] = float(np.mean([one.get(name, np.nan) for one in rows]))
    return row


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


class Ratios(NamedTuple):
    """A method's cost relative to that of equal weights."""

    step: float
    """The time of a step."""
    training: float
    """The time of a training, with that of its teachers."""
    memory: float
    """The most that a step needs at once, beyond parameters and data; NaN where it was not measured."""


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
                row |= {f"{name}_ratio": value for name, value in ratios[group.label, method]._asdict().items()}
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
                ratios = Ratios(own[0] / reference[0], own[1] / reference[1], np.nan)
            found[group.label, method] = ratios
            suites[SUITE + group.suite, method].append(ratios)
    return found | {key: Ratios(*np.exp(np.log(ratios).mean(0))) for key, ratios in suites.items()}


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
        own.step_seconds / reference.step_seconds,
        training / reference.step_seconds,
        own.peak_bytes / reference.peak_bytes if reference.peak_bytes else np.nan,
    )


def _median_times(runs: Mapping[int, RunRecord], by_name: Mapping[str, RunRecord]) -> tuple[float, float]:
    """The medians over seeds of the seconds of a step, and of a training with its teachers'."""
    timed = [run for run in runs.values() if run.cost.step_seconds is not None]
    teachers = [sum(_training_seconds(by_name.get(n)) for n in run.parts.upstream) for run in timed]
    whole = [_training_seconds(run) + other for run, other in zip(timed, teachers, strict=True)]
    return _median([run.cost.step_seconds for run in timed]), _median(whole)


def mixtures(records: Iterable[RunRecord]) -> list[str]:
    """Say of each task set which of its runs were made with differing code, data or versions."""
    notes = []
    for group in groups(records):
        seen: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        for method, run in group.members():
            facts = {f"the code of {name}": value for name, value in run.parts.sources.items()}
            facts |= {**run.parts.versions, "the data": run.parts.data, "the device": run.parts.device}
            for name, value in facts.items():
                seen[name][value].add(method)
        differing = sorted(name for name, values in seen.items() if len(values) > 1)
        if differing:
            notes.append(
                f"{group.label}: the runs were not all made with the same {', '.join(differing)}: run the command "
                "again for all seeds and methods before comparing them"
            )
    return notes


def _stl_row(group: Group) -> dict[str, object]:
    # Teachers of another seed are no baselines: no method was run with that seed.
    compared = {seed for runs in group.runs.values() for seed in runs}
    rows = [baseline for seed in sorted(compared) if (baseline := group.baseline(seed)) is not None]
    row: dict[str, object] = {"task_set": group.label, "method": STL, "seeds": len(rows)}
    row["failed"] = sum(r.result.status != "ok" for own in group.baselines.values() for r in own.values())
    if rows:
        row |= {"delta_task": 0.0, "delta_metric": 0.0, **dict(zip(_columns(group), np.mean(rows, 0), strict=True))}
    return row


def _columns(group: Group, what: str = "") -> list[str]:
    return [f"{task}.{metric}{'.' + what if what else ''}" for task, metric in group.metrics]


def _metrics(record: RunRecord, metrics: Sequence[tuple[str, str]]) -> list[float]:
    values = (record.result.scores[task][name].value for task, name in metrics)
    return [float("nan") if value is None else value for value in values]


def _best_first(row: dict[str, object]) -> tuple[bool, float, str]:
    delta = row.get("delta_task")
    return delta is None, -delta if isinstance(delta, float) else 0.0, str(row["method"])


def _training_seconds(record: RunRecord | None) -> float:
    """The seconds of a run's steps, without evaluation and probes."""
    if record is None or record.cost.step_seconds is None:
        return float("nan")
    return record.cost.step_seconds * record.spec.protocol.steps


def _median(values: Iterable[float | None]) -> float:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else float("nan")
