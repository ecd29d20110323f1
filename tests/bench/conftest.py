"""What the harness's tests share: fresh processes, one real run, and records made up."""

import os
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
from made_records import make_record, make_runs

import bench
from bench.store import Store

PROJECT = Path(bench.__file__).parent.parent
"""The folder that holds the three packages."""
HERE = Path(__file__).parent


@pytest.fixture
def hears_ctrl_c():
    """This process listens to SIGINT, which a shell's background jobs and their children ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def sets():
    """The test's own task set, as a variant."""
    return f"{HERE / 'plugin_sets.py'}:Wobbly"


@pytest.fixture(scope="session")
def rules():
    """The file of the test's own balancing rules."""
    return HERE / "plugin_rules.py"


@pytest.fixture(scope="session")
def observe(sets, rules):
    """Train one run on the test's own task set; return it with all that its network saw. Remembers runs."""

    from trained import train

    from bench.catalogue import parse_task_set, task_set
    from bench.spec import RunSpec

    @cache
    def run(method="equal", seed=0, tasks=("size", "kind"), options="", precision="32-true", steps=24, **protocol):
        variant = parse_task_set(sets + (f"[{options}]" if options else "")).stable
        if method[0].isupper():
            method = f"{rules}:{method}"
        toy = task_set(variant)
        recipe = toy.protocols["epochs"].model_copy(update={"steps": steps, **protocol})
        spec = RunSpec(
            task_set=variant,
            tasks=tasks,
            method=method,
            seed=seed,
            protocol=recipe,
            precision=precision,
        )
        result, cost, state = train(spec)
        network = toy.built[-1]
        steps = [seen for seen in network.seen if seen.grad]
        final = {name: value.clone() for name, value in network.state_dict().items()}
        return SimpleNamespace(
            spec=spec, result=result, cost=cost, state=state, network=network, steps=steps, final=final,
            initial=network.initial, seen=network.seen, task_set=toy,
        )  # fmt: skip

    return run


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
    return make_record


@pytest.fixture(scope="session")
def runs():
    """Make up a method's records, from its metrics by seed; None is a crash."""
    return make_runs
