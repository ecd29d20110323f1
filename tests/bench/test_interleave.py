"""Two versions of the code take turns: which is which, what counts, and what is said when one cannot."""

import contextlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from bench import cli
from bench.gate import interleave
from bench.gate.interleave import TimingError, slowdowns
from bench.report.scores import from_records
from bench.spec import STL
from methods.core.names import UsageError

PROJECT = Path(interleave.__file__).parents[2]
KNOWN = [
    (name, method) for name in ("digits@smoke", "scales@smoke") for method in ("equal", "mgda", "uncertainty", STL)
]


@pytest.fixture
def checkout(tmp_path):
    """A copy of the packages, with more at the end of bench/costs.py."""

    def make(more):
        for package in ("bench", "methods", "tasks"):
            shutil.copytree(PROJECT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
        with (tmp_path / "bench" / "costs.py").open("a") as file:
            file.write(more)
        return tmp_path

    return make


@pytest.fixture
def play(monkeypatch):
    """Let both versions say what is written: lists of rounds, for each process that is started."""
    turns = []

    def make(*processes):
        left = list(processes)

        @contextlib.contextmanager
        def version(folder, asked, device):
            name = "here" if folder == PROJECT else "base"
            rounds = iter(left.pop(0))

            def take():
                turns.append(name)
                return list(next(rounds))

            yield take

        monkeypatch.setattr(interleave, "_version", version)
        monkeypatch.setattr(interleave, "ROUNDS", len(processes[0]))
        return turns

    return make


@pytest.fixture
def two(runs):
    values = {seed: [0.5, 0.2, 1.0] for seed in range(3)}
    return [*runs("equal", values), *runs("mgda", values)]


def base(folder):
    (folder / "bench" / "gate").mkdir(parents=True)
    (folder / "bench" / "gate" / "interleave.py").touch()
    return folder


def test_versions_take_turns_in_changing_order_and_the_smallest_times_count(play, two, tmp_path):
    turns = play([(2.0, 9.0), (9.0, 5.0), (3.0, 4.0), (9.0, 9.0)], [(9.0, 9.0), (2.2, 9.0), (9.0, 2.0), (9.0, 9.0)])
    heard = []
    found = slowdowns(base(tmp_path), from_records(two), [("toy", "equal"), ("toy", "mgda")], heard.append)
    assert found == {("toy", "equal"): pytest.approx(1.1), ("toy", "mgda"): pytest.approx(0.5)}
    assert turns == ["here", "base", "base", "here", "here", "base", "base", "here"]
    assert heard == ["toy"]


def test_what_seems_slower_is_timed_twice_more_and_the_median_counts(play, two, tmp_path):
    play([(1.0, 1.0)], [(3.0, 1.0)], [(1.0, 1.0)], [(1.1, 1.0)], [(1.0, 1.0)], [(1.2, 1.0)])
    found = slowdowns(base(tmp_path), from_records(two), [("toy", "equal"), ("toy", "mgda")], lambda label: None)
    assert found == {("toy", "equal"): pytest.approx(1.2), ("toy", "mgda"): pytest.approx(1.0)}


def test_of_single_tasks_the_slowest_counts_and_what_the_base_has_not_is_not_timed(play, runs, two, tmp_path):
    singles = runs(STL, {0: [0.5, 0.2, 1.0]})
    play([(1.0, 1.0, 1.0)], [(1.0, 1.1, 1.05)])
    found = slowdowns(
        base(tmp_path), from_records([*two, *singles]), [("toy", "equal"), ("toy", STL)], lambda label: None
    )
    assert found == {("toy", "equal"): pytest.approx(1.0), ("toy", STL): pytest.approx(1.1)}


def git(folder, *words):
    who = ["-c", "user.name=a test", "-c", "user.email=a@test"]
    return subprocess.run(
        ["git", "-C", folder, *who, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.mark.parametrize("changed", [False, True])
def test_what_the_base_has_made_is_not_timed_unless_it_has_changes(play, two, tmp_path, changed):
    git(base(tmp_path), "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "the base")
    made_by = {"commit": git(tmp_path, "rev-parse", "HEAD")}
    records = [
        r.model_copy(update={"provenance": r.provenance.model_copy(update=made_by)}) if r.spec.method == "equal" else r
        for r in two
    ]
    if changed:
        (tmp_path / "new.py").touch()
    known = [("toy", "equal"), ("toy", "mgda")]
    play([(1.0,) * (1 + changed)], [(1.0,) * (1 + changed)])
    assert sorted(slowdowns(tmp_path, from_records(records), known, lambda label: None)) == known[not changed :]


@pytest.mark.parametrize("place", interleave.MODULES)
def test_an_older_checkout_is_started_where_it_has_the_module(tmp_path, place):
    file = tmp_path.joinpath(*place.split(".")).with_suffix(".py")
    file.parent.mkdir(parents=True)
    for package in file.relative_to(tmp_path).parents:
        (tmp_path / package / "__init__.py").touch()
    file.write_text("raise RuntimeError('I am ' + __spec__.name)\n")
    said = f"the code of {tmp_path} could not take the steps: RuntimeError: I am {place}"
    with pytest.raises(TimingError, match=re.escape(said)), interleave._version(tmp_path, [], "cpu"):
        pass


def test_each_process_imports_its_own_code(checkout, smoke, monkeypatch):
    """The base claims that a step takes a billion seconds: a step here takes next to nothing beside it."""
    monkeypatch.setattr(interleave, "ROUNDS", 2)
    other = checkout("\n\nSteps.round = lambda self: [1e9] * len(self.runs)\n")
    found = slowdowns(other, from_records(smoke.records.values()), KNOWN, lambda label: None)
    assert sorted(found) == sorted(KNOWN)
    assert all(0 < factor < 1e-8 for factor in found.values())


def test_a_base_that_cannot_is_said(checkout, smoke, capsys):
    other = checkout("\n\nprint('noise')\nraise RuntimeError('planted')\n")
    stored = str(other / "baseline.json")
    compare = ["compare", str(smoke.out), "--baseline", stored, "--base"]
    for arguments, code, said in (
        (["baseline", "update", str(smoke.out), "--baseline", stored, "--reason", "a test"], 0, ""),
        ([*compare, str(other)], 3, f"error: the code of {other} could not take the steps: RuntimeError: planted\n"),
        ([*compare, str(other / "none")], 2, "there is no bench/gate/interleave.py; name a checkout of this project\n"),
    ):
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        assert (caught.value.code or 0) == code
        assert capsys.readouterr().err.endswith(said)


def test_a_folder_that_is_no_checkout_is_refused(tmp_path, two):
    with pytest.raises(UsageError, match=r"there is no bench/gate/interleave.py; name a checkout"):
        slowdowns(tmp_path, from_records(two), [("toy", "equal")], lambda label: None)
