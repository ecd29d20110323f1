"""Records that are made up, for tests and benchmarks that need many and train none."""

from bench.records import KeyParts, Provenance, RunRecord
from bench.spec import STL, Cost, Result, RunSpec, Score
from bench.tuning.choose import SEEDS, Attempt, Choice, choose
from tasks.core.protocol import Protocol

PASSES = {"forward": 1.0, "heads": 1.0, "trunk": 1.0, "teacher": 0.0}
METRICS = [("left", "accuracy", True), ("left", "error", False), ("right", "loss", False)]
"""(task, metric, higher is better)."""


def make_record(
    method="equal", seed=0, scores=None, *, task_set="toy", tasks=("left", "right"), status=None,
    reason="", parts=(), cost=None, precision="32-true", protocol="quick", steps=100, label=None,
    set_label=None, points=(), lr=0.1, role="run",
):  # fmt: skip
    """Make up one record; without `scores` it is of a run that failed."""
    spec = RunSpec(
        task_set=task_set,
        tasks=tasks,
        method=method,
        seed=seed,
        protocol=Protocol(name=protocol, steps=steps, batch_size=8, lr=lr, steps_per_epoch=10),
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
        provenance=Provenance(commit="", versions={}, hardware={}, seeds=(), role=role),
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


def make_choice(method, tried, reference=None, metrics=METRICS, *, tasks=None, protocol="quick", label=None, lr=0.1):
    """Make up trials of one contestant, and what is chosen by them.

    Args:
        method: the contestant, or `stl` for the single-task network of one task.
        tried: by factor, or (factor, pairs of option and text), the metrics (those of `metrics`, in order) by tuning
            seed, on validation and on test; None is a run that diverged.
        reference: the choices of single-task learning; None for these themselves.
        tasks: of the contestant.

    Returns:
        The records of its trials, and the choice.
    """
    tasks = tasks or tuple(dict.fromkeys(task for task, *_ in metrics))
    records, attempts = [], []
    for setting, rows in tried.items():
        factor, pairs = setting if isinstance(setting, tuple) else (setting, ())
        options = dict(pairs)
        written = ",".join(f"{name}={text}" for name, text in options.items())
        variant = f"{method}[{written}]" if options else method
        for seed, row in rows.items():
            scores = None if row is None else dict(zip(metrics, row, strict=True))
            status = "ok" if scores else "diverged"
            record = make_record(
                variant, seed, scores, tasks=tasks, status=status, protocol=protocol, lr=lr * factor, role="trial"
            )
            records.append(record)
            own = {task: {m: v for (t, m, _), v in (scores or {}).items() if t == task} for task in tasks}
            attempts.append(
                Attempt(
                    **{"factor": factor, "options": options, "seed": seed, "run": record.name, "status": status},
                    validation=own if scores else {},
                )
            )
    if reference is None:
        against = {a.seed: a.validation for a in attempts if a.factor == 1}
    else:
        against = {s: {t: m for choice in reference for t, m in choice.validation(s).items()} for s in SEEDS}
    higher = {(task, metric): up for task, metric, up in metrics}
    found = choose(attempts, against, higher, dict.fromkeys(higher, 0.1))
    asked = make_record(method, 0, tasks=tasks, protocol=protocol, lr=lr).spec
    written = ",".join(f"{name}={text}" for name, text in found["options"].items())
    choice = Choice(
        **{"task_set": asked.task_set, "task_set_label": asked.task_set, "method": method, "tasks": tasks},
        **{"method_label": label or method, "variant": f"{method}[{written}]" if written else method},
        **{"protocol": asked.protocol, "protocol_label": protocol, "precision": asked.precision},
        **{"budget": len(tried), "attempts": attempts, "data": "d", "code": "c", "commit": ""},
        **found,
    )
    return records, choice
