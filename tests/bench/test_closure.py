"""What a run's key depends on: the modules that define its numbers, and nothing that names, prints or stores them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bench
import methods
from bench.catalogue import parse_task_set
from bench.planning.plan import sources_of

PROJECT = Path(bench.__file__).parent.parent

TRAINING = {
    *("bench", "bench.spec", "bench.training"),
    *(f"bench.training.{part}" for part in ("fabric", "loop", "meters", "model", "optimiser", "probe", "problem")),
    *(f"bench.training.{part}" for part in ("scoring", "streams", "teachers")),
    *("methods", "methods.core", "tasks", "tasks.core"),
    *(f"methods.core.{part}" for part in ("base", "errors", "gradients", "problem", "routes")),
    *(f"methods.core.{part}" for part in ("search", "step", "subset")),
    *("tasks.core.base", "tasks.core.draw", "tasks.core.errors", "tasks.core.protocol"),
}
"""What trains anything on any task set."""
RULE = {"methods.core.compose"}
SCALES = {
    *("tasks.core.losses", "tasks.core.metrics", "tasks.core.metrics.regression"),
    *("tasks.networks", "tasks.networks.mlp", "tasks.scales"),
}
SCENES = {
    *("tasks.core.cache", "tasks.core.dense", "tasks.core.files", "tasks.core.losses"),
    *("tasks.core.metrics", "tasks.core.metrics.classification", "tasks.core.metrics.constant"),
    *("tasks.networks", "tasks.networks.by_name", "tasks.networks.encoder_decoder", "tasks.networks.segnet"),
    *("tasks.rendering", "tasks.rendering.raycast", "tasks.scenes"),
}
MGDA = {"methods.mgda", "methods.core.solvers", "methods.core.solvers.min_norm"}
KINDS = {
    ("scales", "stl"): TRAINING | SCALES,
    ("scales", "equal"): TRAINING | RULE | SCALES | {"methods.equal"},
    ("scales", "mgda"): TRAINING | RULE | SCALES | MGDA,
    ("scenes", "equal"): TRAINING | RULE | SCENES | {"methods.equal"},
    ("scenes", "kd+mgda"): TRAINING | RULE | SCENES | MGDA | {"methods.equal", "methods.kd"},
}


def closure_of(task_set, method):
    return sources_of(parse_task_set(task_set), None if method == "stl" else methods.parse(method))


@pytest.mark.parametrize(("task_set", "method"), KINDS)
def test_the_modules_that_a_run_depends_on_are_these(task_set, method):
    """A module more is a reason more for which stored runs are made again: add it here only if it defines numbers."""
    found = closure_of(task_set, method).keys()
    print(f"{method} on {task_set}: {len(found)} modules: {', '.join(sorted(found))}")
    assert found == KINDS[task_set, method]


RUNS = ("scales stl", "scales equal", "scales mgda", "digits equal", "scenes kd", "scenes mgda")
SCRIPT = """
import json, sys
import bench
import methods
from bench.catalogue import parse_task_set
from bench.planning.plan import sources_of
for run in json.loads(sys.argv[1]):
    task_set, method = run.split()
    rule = None if method == "stl" else methods.parse(method)
    print(json.dumps(sources_of(parse_task_set(task_set), rule)))
"""


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    """Edit files of a copy of the project; return the runs whose keys have changed."""
    copy = tmp_path_factory.mktemp("copy")
    for package in ("bench", "methods", "tasks"):
        shutil.copytree(PROJECT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))

    def sources():
        done = subprocess.run(
            [sys.executable, "-P", "-c", SCRIPT, json.dumps(RUNS)],
            env={"PYTHONPATH": str(copy), "PATH": ""},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    before = sources()

    def edit(name, old, new):
        file = copy / name
        text = file.read_text("utf-8") if file.exists() else None
        if text is not None:
            assert old in text, f"{name} no longer says {old!r}"
        file.write_text(new if text is None else text.replace(old, new, 1), "utf-8")
        try:
            return {run for run, one, other in zip(RUNS, before, sources(), strict=True) if one != other}
        finally:
            if text is None:
                file.unlink()
            else:
                file.write_text(text, "utf-8")

    return edit


NOBODY = {
    "a metric of a new kind": ("tasks/core/metrics/ranking.py", "", "def precision():\n    return 1\n"),
    "a new solver": ("methods/core/solvers/other.py", "", "def other():\n    return 1\n"),
    "a new rule": ("methods/other.py", "", "from methods.equal import Equal\n\n\nclass Other(Equal):\n    pass\n"),
    "a spelling hint": ("methods/core/names.py", "cutoff=0.5", "cutoff=0.6"),
    "a field of the record": ("bench/records.py", "    commit: str\n", "    commit: str\n    host: str = ''\n"),
    "a report": ("bench/report/pages/csv.py", "import", "import math\nimport"),
    "a help text": ("bench/cli.py", "import", "import math\nimport"),
    "an engine": ("bench/engine/base.py", "attempts: ClassVar[int] = 3", "attempts: ClassVar[int] = 4"),
    "how records are stored": ("bench/store.py", "import", "import math\nimport"),
}


@pytest.mark.parametrize("what", NOBODY)
def test_an_edit_of_what_names_prints_or_stores_marks_no_run(marked, what):
    assert marked(*NOBODY[what]) == set()


SOMEBODY = {
    "a loss of one set": (
        ("tasks/core/dense.py", "return target > 0\n", "return target >= 0\n"),
        {"scenes kd", "scenes mgda"},
    ),
    "a metric of one kind": (
        ("tasks/core/metrics/classification.py", 'average="micro"', 'average="macro"'),
        {"digits equal", "scenes kd", "scenes mgda"},
    ),
    "the solver of one rule": (
        ("methods/core/solvers/min_norm.py", "maxiter=100", "maxiter=101"),
        {"scales mgda", "scenes mgda"},
    ),
    "one rule": (("methods/kd.py", "EPSILON = 1e-6", "EPSILON = 1e-7"), {"scenes kd"}),
    "one network": (("tasks/networks/mlp.py", "scale = 1.0", "scale = 2.0"), {r for r in RUNS if "scenes" not in r}),
    "a default of the protocol": (("tasks/core/protocol.py", "default=10", "default=11"), set(RUNS)),
    "the loop": (("bench/training/loop.py", "self.steps += 1", "self.steps += 2"), set(RUNS)),
}


@pytest.mark.parametrize("what", SOMEBODY)
def test_an_edit_of_what_defines_numbers_marks_the_runs_that_it_concerns(marked, what):
    edit, expected = SOMEBODY[what]
    assert marked(*edit) == expected
