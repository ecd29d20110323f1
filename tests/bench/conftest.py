"""What the harness's tests share: fresh processes, one real run, and records made up."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import bench
from bench.records import STL, Cost, KeyParts, Provenance, Result, RunRecord, RunSpec, Score
from bench.store import Store
from tasks.core.protocol import Protocol

PROJECT = Path(bench.__file__).parent.parent
"""The folder that holds the three packages."""
HERE = Path(__file__).parent
PASSES = {"forward": 1.0, "heads": 1.0, "trunk": 1.0, "teacher": 0.0}
METRICS = [("left", "accuracy", True), ("left", "error", False), ("right", "loss", False)]
"""Of the records made up: (task, metric, higher is better)."""


@pytest.fixture(scope="session")
def sets():
    """The test's own task set, as a variant."""
    return f"{HERE / 'plugin_sets.py'}:Wobbly"


@pytest.fixture(scope="session")
def rules():
    """The file of the test's own balancing rules."""
    return HERE / "plugin_rules.py"


@pytest.fixture(scope="session")
def environment():
    """Variables for a fresh process that finds the packages in `root`; `first` is searched before them."""

    def make(*first, root=PROJECT, **changed):
        path = os.pathsep.join(map(str, [*first, root]))
        return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **changed}

    return make


@pytest.fixture(scope="session")
def command(environment):
    """Call `python -m bench` in a fresh process."""

    def call(*arguments, cwd, env=None):
        line = [sys.executable, "-m", "bench", *map(str, arguments)]
        given = environment() if env is None else env
        return subprocess.run(line, cwd=cwd, env=given, capture_output=True, text=True, timeout=300)

    return call


@pytest.fixture(scope="session")
def without_torch(environment, tmp_path_factory):
    """An environment in which importing torch is an error."""
    folder = tmp_path_factory.mktemp("without")
    (folder / "torch").mkdir()
    (folder / "torch" / "__init__.py").write_text('raise RuntimeError("torch was imported")\n')
    return environment(folder)


@pytest.fixture(scope="session")
def smoke(command, environment, tmp_path_factory):
    """One real run of two rules on two task sets, at one seed."""
    cwd = tmp_path_factory.mktemp("smoke")
    env = environment(PYTHONHASHSEED="0", TZ="UTC")
    named = ["--methods", "uncertainty,mgda", "--tasks", "digits,scales"]
    done = command(
        "run",
        *named,
        "--seeds",
        "1",
        "--protocol",
        "smoke",
        "--accelerator",
        "cpu",
        cwd=cwd,
        env=env,
    )
    out = cwd / "results" / "local"
    return SimpleNamespace(
        done=done,
        cwd=cwd,
        out=out,
        records=Store(out).records() if done.returncode == 0 else {},
    )


@pytest.fixture(scope="session")
def made():
    """Make up one record; without `scores` it is of a run that failed."""

    def make(
        method="equal", seed=0, scores=None, *, task_set="toy", tasks=("left", "right"), status=None,
        reason="", parts=(), cost=None, precision="32-true", protocol="quick", steps=100, label=None,
        set_label=None, points=(),
    ):  # fmt: skip
        spec = RunSpec(
            task_set=task_set,
            tasks=tasks,
            method=method,
            seed=seed,
            protocol=Protocol(name=protocol, steps=steps, batch_size=8, lr=0.1, epoch_steps=10),
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

    return make


@pytest.fixture(scope="session")
def runs(made):
    """Make up a method's records, from its metrics (those of METRICS, in order) by seed; None is a crash."""

    def make(method, values, metrics=METRICS, **changed):
        records = []
        for seed, row in values.items():
            scores = None if row is None else dict(zip(metrics, row, strict=True))
            names = tuple(dict.fromkeys(task for task, *_ in metrics))
            groups = [(name,) for name in names] if method == STL else [names]
            for tasks in groups:
                own = None if scores is None else {m: v for m, v in scores.items() if m[0] in tasks}
                records.append(made(method, seed, own, tasks=tasks, **changed))
        return records

    return make
