"""Records, or anybody's tidy file → what may be compared: the runs on one task set under one protocol."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.records import FAILURES, KeyParts, Provenance, RunRecord
from bench.spec import STL, Cost, Result, RunSpec, Score, digest
from bench.store import StoreError
from tasks.core.protocol import Protocol

Floats = NDArray[np.float64]

COLUMNS = ["task_set", "method", "seed", "task", "metric", "split", "value", "higher_is_better", "status", "untrained"]
"""Of a tidy file: one row per test metric of each run."""
NEEDED = ["task_set", "method", "seed", "task", "metric", "value", "higher_is_better"]
SUITE = "all"
"""The label of what is over task sets."""
GIVEN = "given"
"""The protocol of runs that a tidy file tells of: how they were trained is not known."""


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
    untrained: list[float]
    """The scores `[M]` of a predictor that has not seen the inputs; NaN where they are not known."""
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

    def seeds(self) -> list[int]:
        """The seeds with which methods can be compared: every baseline is there and ok, and some method has run."""
        compared = {seed for runs in self.runs.values() for seed in runs}
        return sorted(seed for seed in compared if self.baseline(seed) is not None)

    def values(self, method: str, *, impute: bool = True) -> Floats:
        """The test metrics `[S, M]` of a method at `seeds()`, NaN where it has none.

        A run that failed is an outcome: with `impute` it counts with the scores of the untrained predictor, as long as
        the method has succeeded at some seed. One that was skipped is missing.
        """
        runs = self.runs[method]
        succeeded = any(run.result.status == "ok" for run in runs.values())
        missing = [np.nan] * len(self.metrics)
        rows = []
        for seed in self.seeds():
            run = runs.get(seed)
            if run is not None and run.result.status == "ok":
                rows.append(_scores(run, self.metrics))
            elif run is not None and run.result.status in FAILURES and succeeded and impute:
                rows.append(self.untrained)
            else:
                rows.append(missing)
        return np.array(rows, np.float64).reshape(len(rows), len(self.metrics))

    def stl_values(self) -> Floats:
        """The single-task networks' metrics `[S, M]` at `seeds()`."""
        rows = [self.baseline(seed) for seed in self.seeds()]
        return np.array(rows, np.float64).reshape(len(rows), len(self.metrics))

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
        untrained = [_number(scores[task][name].untrained) for task, name in metrics]
        suffix = labels[key].removeprefix(members[0].task_set_label)
        # Same name, other content (a protocol that was edited): told apart by a digest.
        label = labels[key] + (f"#{digest(key)[:4]}" if list(labels.values()).count(labels[key]) > 1 else "")
        found.append(Group(label, suffix, order, metrics, higher, untrained, dict(sorted(runs.items())), baselines))
    return found


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
                    more = {**end, "untrained": score.untrained}
                    rows.append({**common, "task": task, "metric": name, "split": "test", **value, **more})
                if not own:
                    rows.append({**common, "task": task, **end})
    return pd.DataFrame(rows, columns=COLUMNS)


def read_tidy(file: Path) -> list[RunRecord]:
    """Read anybody's tidy file: the columns `NEEDED`, and of the others of `COLUMNS` those that it has.

    Raises:
        StoreError: a column is missing, or a line is not what it should be; says which.
    """
    try:
        frame = pd.read_csv(file, dtype={"method": str, "task_set": str, "task": str, "metric": str, "status": str})
    except OSError as problem:
        raise StoreError(f"{file} cannot be read: {problem.strerror}") from None
    except ValueError as problem:
        raise StoreError(f"{file} is not a CSV file: {problem}") from None
    missing = [name for name in NEEDED if name not in frame]
    if missing:
        raise StoreError(f"{file} has no column {missing[0]}: it needs {', '.join(NEEDED)}, and may have status")
    for name, usual in (("status", "ok"), ("split", "test")):
        frame[name] = frame[name].fillna(usual) if name in frame else usual
    frame = frame.reindex(columns=COLUMNS)
    frame = frame[frame["split"] == "test"]
    for wrong, why in _faults(frame):
        if wrong.any():
            raise StoreError(f"{file}, line {frame.index[wrong][0] + 2}: {why}")
    by_run = frame.groupby(["task_set", "method", "seed"], sort=True)
    records = [record for _, rows in by_run for record in _given(rows)]
    if not any(record.spec.method == STL for record in records):
        raise StoreError(f"{file} has no rows of the method '{STL}': single-task runs are what gains are measured by")
    return records


def _faults(frame: pd.DataFrame) -> Iterable[tuple["pd.Series[bool]", str]]:
    scored = frame["status"] == "ok"
    for name in ("task_set", "method", "task"):
        yield frame[name].isna(), f"its {name} is empty"
    seeds = pd.to_numeric(frame["seed"], errors="coerce")
    yield seeds.isna() | (seeds % 1 != 0), "its seed is not a whole number"
    known = ["ok", "skipped", *sorted(FAILURES)]
    yield ~frame["status"].isin(known), f"its status is none of {', '.join(known)}"
    yield scored & frame["metric"].isna(), "its metric is empty"
    yield scored & pd.to_numeric(frame["value"], errors="coerce").isna(), "its value is not a number"
    yield (
        scored & ~frame["higher_is_better"].astype(str).str.lower().isin(["true", "false"]),
        ("its higher_is_better is neither True nor False"),
    )
    yield frame.duplicated(["task_set", "method", "seed", "task", "metric"]), "this metric of this run is there twice"


def _given(rows: pd.DataFrame) -> list[RunRecord]:
    """The records of one method's rows at one seed: of single-task learning one a task."""
    task_set, method, seed = (rows[name].iloc[0] for name in ("task_set", "method", "seed"))
    scores: dict[str, dict[str, Score]] = {}
    for row in rows[rows["status"] == "ok"].to_dict("records"):
        higher = str(row["higher_is_better"]).lower() == "true"
        untrained = None if pd.isna(row["untrained"]) else float(row["untrained"])
        score = Score(value=float(row["value"]), higher_is_better=higher, untrained=untrained)
        scores.setdefault(row["task"], {})[row["metric"]] = score
    failed = [status for status in rows["status"] if status != "ok"]
    tasks = tuple(dict.fromkeys(name for task in rows["task"] for name in task.split("+")))
    parts = [(task,) for task in tasks] if method == STL else [tasks]
    return [
        _record(task_set, method, int(seed), part, {t: scores[t] for t in part if t in scores}, failed)
        for part in parts
    ]


def _record(
    task_set: str,
    method: str,
    seed: int,
    tasks: tuple[str, ...],
    scores: dict[str, dict[str, Score]],
    failed: list[str],
) -> RunRecord:
    protocol = Protocol(name=GIVEN, steps=1, batch_size=1, lr=1, steps_per_epoch=1, points=1)
    spec = RunSpec(task_set=task_set, tasks=tasks, method=method, seed=seed, protocol=protocol)
    parts = KeyParts(data="", threads=1, device="", versions={}, upstream={}, sources={})
    status = "ok" if len(scores) == len(tasks) else (failed or ["crashed"])[0]
    result = Result.model_validate({"status": status, "scores": scores if status == "ok" else {}})
    return RunRecord(
        name=spec.name,
        key=parts.key(spec.name),
        spec=spec,
        parts=parts,
        task_set_label=task_set,
        method_label=method,
        result=result,
        cost=Cost(),
        provenance=Provenance(commit="", versions={}, hardware={}, seeds=()),
    )


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


def _scores(record: RunRecord, metrics: Sequence[tuple[str, str]]) -> list[float]:
    return [_number(record.result.scores[task][name].value) for task, name in metrics]


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
