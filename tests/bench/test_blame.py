"""A fault in somebody's task set is one line with its file and line: no internal error, and no crashed runs."""

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import tasks
from bench import cli
from bench.check import check

SET = """\
import torch

from tasks import Card, Metric, Protocol, Task, TaskSet
from tasks.core.losses import squared_error
from tasks.core.metrics.regression import normalized_rmse
from tasks.networks.mlp import MLP

{before}

class Mine(TaskSet):
    inputs = ("a",)
    protocols = {{"smoke": Protocol(name="smoke", steps=2, batch_size=4, lr=0.01, steps_per_epoch=1, points=1)}}
    card = Card("made up", "MIT", "none", "a toy")

    def __init__(self, size: int = 3) -> None:
        {constructor}

    def load(self):
        {load}
        return {{split: {{"a": torch.ones(9, 2), "b": torch.ones(9, 1)}} for split in ("train", "validation", "test")}}

    @property
    def tasks(self):
        {tasks}
        return tuple(Task(name, "b", squared_error, {{"nrmse": {metric}}}) for name in ("x", "y"))

    def network(self, tasks):
        {network}
        return MLP("a", (2, 3), dict.fromkeys(tasks, 1))
"""
WHOLE = dict.fromkeys(("before", "constructor", "load", "tasks", "network"), "pass") | {
    "metric": 'normalized_rmse(self.splits["train"]["b"])'
}


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Write `mine.py` with a fault, call a command on it in this process, and return its code and what it said."""

    def call(command="run", options="", **fault):
        (tmp_path / "mine.py").write_text(SET.format(**WHOLE | fault))
        monkeypatch.chdir(tmp_path)
        more = ["--methods", "equal", "--seeds", "1", "--protocol", "smoke", "--tasks", f"mine.py:Mine{options}"]
        with pytest.raises(SystemExit) as caught:
            cli.main([command, *more, "--engine", "inline"] if command == "run" else [command, *more])
        assert not (tmp_path / "results").exists()
        return caught.value.code, capsys.readouterr().err

    return call


FAULTS = [
    ({"metric": "normalized_rmse"}, "task 'x': metric 'nrmse' should be a Metric, not a function", 25),
    ({"metric": "normalized_rmse()"}, "normalized_rmse() missing 1 required positional argument: 'train'", 25),
    ({"metric": "Metric(torch.nn.Identity, 1, 0.0)"}, "higher_is_better should be True or False, not an int", 25),
    ({"constructor": "self.data = {}['x']"}, "KeyError: 'x'", 16),
    ({"constructor": "self.data.x = 3"}, "AttributeError: 'Mine' object has no attribute 'data'", 16),
    ({"constructor": "raise SystemExit(0)"}, "SystemExit: 0", 16),
    ({"load": "open('nowhere.csv')"}, "FileNotFoundError: [Errno 2] No such file or directory: 'nowhere.csv'", 19),
    ({"load": "raise RuntimeError('a\\nb')"}, "RuntimeError: a", 19),
    ({"tasks": "self.nothing"}, "AttributeError: 'Mine' object has no attribute 'nothing'", 24),
    ({"tasks": "assert False"}, "AssertionError", 24),
    ({"network": "tasks.index('z')"}, "tuple.index(x): x not in tuple", 28),
    ({"network": "raise SystemExit('enough')"}, "SystemExit: enough", 28),
]


@pytest.mark.parametrize(("fault", "said", "line"), FAULTS, ids=[said for _, said, _ in FAULTS])
def test_a_fault_is_one_line_with_file_and_line(run, fault, said, line):
    assert run(**fault) == (2, f"error: mine.py:Mine: {said} (mine.py:{line})\n")


def test_a_file_that_cannot_be_imported_is_one_line_with_its_line(run):
    code, said = run(before="import nowhere")
    assert (code, said.count("\n")) == (2, 1)
    assert said.endswith("mine.py cannot be imported: ModuleNotFoundError: No module named 'nowhere' (line 8)\n")


def test_what_a_constructor_has_against_an_option_is_said_of_the_option(run):
    fault = {"constructor": "if size > 5: raise ValueError(f'size={size}: at most 5')"}
    assert run(options="[size=9]", **fault) == (2, "error: size=9: at most 5 (mine.py:16)\n")


def test_a_plan_says_it_too(run):
    code, said = run("plan", metric="normalized_rmse")
    assert (code, said.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("load", "said"),
    [
        ("return {}", "mine.py:Mine: the train split lacks the column a: it has none"),
        (
            "return {s: {'a': torch.ones(9, 2), 'b': torch.ones(9, 1) / 0} for s in ('train', 'validation', 'test')}",
            "mine.py:Mine: the train split's column b should be finite: it is inf in row 0",
        ),
    ],
)
def test_data_that_is_wrong_is_one_line_and_nothing_runs(run, load, said):
    # The metric is another one, which does not look at the targets before the data is looked at.
    metric = "Metric(__import__('torchmetrics').MeanSquaredError, False, 1.0)"
    assert run(load=load, metric=metric) == (3, f"error: {said}\n")


def test_shapes_that_would_broadcast_are_said_before_anything_is_trained(run):
    load = "return {s: {'a': torch.ones(9, 2), 'b': torch.ones(9)} for s in ('train', 'validation', 'test')}"
    said = "mine.py:Mine: task 'x': the train split: prediction [2, 1] and target [2] should have the same shape"
    assert run(load=load) == (2, f"error: {said}\n")


@pytest.mark.parametrize(
    "variant", ["scales[tasks=100000000]", "scenes[height=100000,width=100000]", "scenes[height=4,width=400000000]"]
)
@pytest.mark.parametrize("command", ["check", "run"])
def test_a_size_that_no_machine_holds_is_refused_at_once(command, variant, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    began = time.monotonic()
    with pytest.raises(SystemExit) as caught:
        cli.main(["check", variant] if command == "check" else ["run", "--tasks", variant])
    said = capsys.readouterr().err
    assert (caught.value.code, said.count("\n")) == (2, 1)
    assert " takes at most " in said
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("arguments", [["check", "{}"], ["plan", "--protocol", "quick", "--tasks", "{}"]])
def test_a_build_that_takes_long_can_be_interrupted(arguments, environment, tmp_path):
    name = f"{Path(__file__).with_name('plugin_bad.py')}:Slow"
    line = [sys.executable, "-m", "bench", *(argument.format(name) for argument in arguments)]
    process = subprocess.Popen(
        line,
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        # A shell's background jobs ignore SIGINT, and their children with them.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    with process:
        assert process.stdout.readline() == b"loading\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130


def test_the_example_in_the_documentation_of_the_package_keeps_its_contract(tmp_path):
    text = tasks.__doc__
    lines = text[text.index('    """A regression') : text.index("`tasks/core/base.py`")]
    (tmp_path / "mine.py").write_text(textwrap.dedent(lines))
    assert {finding.outcome for finding in check(f"{tmp_path / 'mine.py'}:Diabetes")} == {"ok"}


def test_importing_the_package_of_task_sets_imports_no_torch(without_torch, tmp_path):
    line = [sys.executable, "-c", "import tasks; print(tasks.DataError.__name__)"]
    done = subprocess.run(line, cwd=tmp_path, env=without_torch, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("DataError\n", "")


def test_the_package_of_task_sets_offers_what_a_set_needs():
    assert all(getattr(tasks, name).__name__ == name for name in tasks.__all__)
    with pytest.raises(AttributeError, match="module 'tasks' has no attribute 'Tusk'"):
        _ = tasks.Tusk
