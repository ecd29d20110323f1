"""Records that are made up, for tests and benchmarks that need many and train none."""

from bench.records import KeyParts, Provenance, RunRecord
from bench.spec import STL, Cost, Result, RunSpec, Score
from tasks.core.protocol import Protocol

PASSES = {"forward": 1.0, "heads": 1.0, "trunk": 1.0, "teacher": 0.0}
METRICS = [("left", "accuracy", True), ("left", "error", False), ("right", "loss", False)]
"""(task, metric, higher is better)."""


def make_record(
    method="equal", seed=0, scores=None, *, task_set="toy", tasks=("left", "right"), status=None,
    reason="", parts=(), cost=None, precision="32-true", protocol="quick", steps=100, label=None,
    set_label=None, points=(),
):  # fmt: skip
    """Make up one record; without `scores` it is of a run that failed."""
    spec = RunSpec(
        task_set=task_set,
        tasks=tasks,
        method=method,
        seed=seed,
        protocol=Protocol(name=protocol, steps=steps, batch_size=8, lr=0.1, steps_per_epoch=10),
        precision=precision,
    )
    facts = {"data": "d", "threads": 1, "device": "cpu", "versions": {"torch": "2"}, "upstream": {}}
    parts = KeyParts(**{**facts, "sources": {"bench.training": "s"}, **dict(parts)})
    found: dict[str, dict[str, Score]] = {}
    for (task, metric, higher), value in (scores or {}).items():
        own = found.setdefault(task, {})
        own[metric] = Score(value=value, higher_is_better=higher, untrained=0.1)
    status = status or ("ok" if scores else "crashed")
    return RunRecord(
        name=spec.name,
        key=parts.key(spec.name),
        spec=spec,
        parts=parts,
        task_set_label=set_label or task_set,
        method_label=label or method,
        result=Result(status=status, reason=reason, scores=found, points=list(points)),
        cost=cost or Cost(step_seconds=0.01, passes=PASSES),
        provenance=Provenance(commit="", versions={}, hardware={}, seeds=()),
    )


def make_runs(method, values, metrics=METRICS, **changed):
    """Make up a method's records, from its metrics (those of METRICS, in order) by seed; None is a crash."""
    records = []
    for seed, row in values.items():
        scores = None if row is None else dict(zip(metrics, row, strict=True))
        names = tuple(dict.fromkeys(task for task, *_ in metrics))
        groups = [(name,) for name in names] if method == STL else [names]
        for tasks in groups:
            own = None if scores is None else {m: v for m, v in scores.items() if m[0] in tasks}
            records.append(make_record(method, seed, own, tasks=tasks, **changed))
    return records
