"""The same door in Python."""

import importlib
import sys
from pathlib import Path

import pandas as pd
import pytest

import bench
from bench import costs
from bench.api import report
from bench.planning.plan import make_plan
from bench.planning.request import Request
from bench.spec import STL
from bench.store import Store, StoreError
from methods import UsageError

SMALL = {"tasks": "scales[tasks=2]", "protocol": "smoke", "accelerator": "cpu"}


def test_run_returns_the_leaderboard_of_the_seeds_asked_for(tmp_path):
    board = bench.run(methods="equal", tasks="scales", seeds=[5], protocol="smoke", out=tmp_path)
    assert isinstance(board, pd.DataFrame)
    assert set(board.method) == {STL, "equal"}
    assert list(board.seeds) == [1, 1]
    assert {record.spec.seed for record in Store(tmp_path).records().values()} == {5}
    pd.testing.assert_frame_equal(report(tmp_path), board)


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [(2, {0, 1}), ("3-4", {3, 4}), ([7, 2], {2, 7}), (range(1, 3), {1, 2})],
)
def test_seeds_may_be_a_number_text_or_a_list(tmp_path, seeds, expected):
    bench.run(methods=["equal"], seeds=seeds, out=tmp_path, **SMALL)
    assert {record.spec.seed for record in Store(tmp_path).records().values()} == expected


def test_methods_may_be_a_list_of_variants(tmp_path):
    board = bench.run(
        methods=["mgda[at=features,normalize=l2]", "uncertainty"],
        seeds=1,
        out=str(tmp_path),
        **SMALL,
    )
    assert set(board.method) == {STL, "equal", "uncertainty", "mgda[at=features,normalize=l2]"}


def test_a_watcher_hears_of_the_plan_and_of_every_run(tmp_path):
    class Watcher:
        def __init__(self):
            self.heard = []

        def planned(self, runs, forecast):
            self.heard.append([run.todo for run in runs])
            assert forecast[0].startswith("3 runs: ")

        def round(self, name, runs, later):
            self.heard.append((name, len(runs)))

        def measuring(self, members):
            self.heard.append(len(members))

        def done(self, planned, record):
            assert planned.spec == record.spec
            self.heard.append(record.result.status)

    first, second = Watcher(), Watcher()
    for watcher in (first, second):
        bench.run(methods="equal", seeds=1, out=tmp_path, watcher=watcher, **SMALL)
    assert first.heard == [[True] * 3, ("runs", 3), "ok", "ok", "ok", 3]
    assert second.heard == [[False] * 3, ("runs", 3)]


def test_pages_are_written_as_each_seed_completes(tmp_path):
    """Stopping early leaves a complete leaderboard of fewer seeds."""
    seen = []

    class Watcher:
        def planned(self, runs, forecast):
            pass

        def round(self, name, runs, later):
            pass

        def measuring(self, members):
            pass

        def done(self, planned, record):
            if (tmp_path / "leaderboard.csv").exists():
                seen.append(set(pd.read_csv(tmp_path / "leaderboard.csv").seeds))

    bench.run(methods="equal", seeds=3, out=tmp_path, watcher=Watcher(), **SMALL)
    assert {1} in seen
    assert {2} in seen
    assert all(len(seeds) == 1 for seeds in seen)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"methods": "mdga"}, "did you mean 'mgda'"),
        ({"seeds": 0}, "at least one seed"),
        ({"seeds": []}, "at least one seed"),
        ({"tasks": []}, "no task set is named"),
    ],
)
def test_a_wrong_argument_is_refused_in_words_before_anything_is_written(tmp_path, wrong, said):
    with pytest.raises(UsageError, match=said):
        bench.run(**{"methods": "equal", "seeds": 1, **SMALL, **wrong}, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_report_of_nothing_is_refused(tmp_path):
    with pytest.raises(StoreError, match="has no records"):
        report(tmp_path)


CLASSES = """
from torch import tensor
from methods import Method
from tasks.scales import Scales


class Mine(Method):
    def __init__(self, num_tasks, factor: float = 1.0):
        super().__init__(num_tasks)
        self.factor = factor

    def weigh(self, losses):
        return tensor([1.0, self.factor])


class Two(Scales):
    def __init__(self, tasks: int = 2):
        super().__init__(tasks)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "my_own.py").write_text(CLASSES)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield importlib.import_module("my_own")
    del sys.modules["my_own"]


def test_methods_and_tasks_may_be_classes(module, tmp_path):
    asked = {"seeds": 1, "protocol": "smoke", "accelerator": "cpu", "out": tmp_path / "out"}
    board = bench.run([module.Mine, "my_own.py:Mine[factor=2]", "equal"], module.Two, **asked)
    assert set(board.method) == {STL, "equal", "my_own.py:Mine", "my_own.py:Mine[factor=2]"}
    records = Store(tmp_path / "out").records().values()
    assert {r.spec.task_set for r in records} == {"my_own.py:Two"}
    assert {r.spec.method for r in records} == {STL, "equal", "my_own.py:Mine", "my_own.py:Mine[factor=2]"}
    assert {r.result.status for r in records} == {"ok"}
    again = bench.run("my_own.py:Mine,my_own.py:Mine[factor=2]", "my_own.py:Two", **asked)
    pd.testing.assert_frame_equal(again, board)


def test_a_class_without_a_file_needs_the_inline_engine(tmp_path):
    notebook = {"__name__": "a_notebook"}
    exec(CLASSES, notebook)
    asked = {"seeds": 1, "out": tmp_path / "out", **SMALL}
    with pytest.raises(UsageError, match="Mine is in no file: put it in one, or run with engine='inline'"):
        bench.run([notebook["Mine"]], **asked)
    board = bench.run([notebook["Mine"]], engine="inline", **asked)
    assert set(board.method) == {STL, "equal", "Mine"}
    runs = make_plan(
        Request(methods=[notebook["Mine"]], tasks="scales[tasks=2]", seeds=1, protocol="smoke", accelerator="cpu"),
        Store(tmp_path / "out"),
    )
    assert [(run.method_label, run.why) for run in runs if run.todo] == [
        ("Mine", "changed: the code of a_notebook:Mine")
    ]


def test_a_class_that_is_neither_is_refused_in_words(tmp_path):
    with pytest.raises(UsageError, match="method Path: it is no subclass of Method"):
        bench.run([Path], out=tmp_path, **SMALL)


def test_two_protocols_of_one_name_are_told_apart_on_the_pages(tmp_path):
    for protocol in ("smoke", "smoke[lr=0.1]"):
        board = bench.run("equal", "scales[tasks=2]", 1, protocol, tmp_path, accelerator="cpu")
    assert {"scales[tasks=2]@smoke", "scales[tasks=2]@smoke[lr=0.1]"} <= set(board.task_set)


RULE = """
from torch import tensor
from methods.core.base import Method


class Mine(Method):
    def weigh(self, losses):
        return tensor([1.0, {weight}])
"""


def test_a_plug_in_that_is_edited_in_a_running_session_is_trained_as_it_now_is(tmp_path):
    """In a notebook: a record's key is of the code that made its numbers."""
    file, weights = tmp_path / "mine.py", []
    for weight in (1.0, 100.0):
        file.write_text(RULE.format(weight=weight))
        bench.run(methods=f"{file}:Mine", seeds=1, out=tmp_path / "out", **SMALL)
        [record] = [r for r in Store(tmp_path / "out").records().values() if r.method_label == "mine.py:Mine"]
        weights.append(record.result.points[0].weights["y2"])
    assert weights == [1, 100]


def test_other_names_are_not_there():
    with pytest.raises(AttributeError, match="no attribute 'walk'"):
        bench.walk  # noqa: B018


def test_the_tilde_of_a_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    board = bench.run(methods="equal", seeds=1, out="~/x", engine="inline", figures=False, **SMALL)
    assert (tmp_path / "home" / "x" / "leaderboard.csv").exists()
    assert not (tmp_path / "~").exists()
    pd.testing.assert_frame_equal(report("~/x", "~/pages", figures=False), board)
    assert (tmp_path / "home" / "pages" / "leaderboard.csv").exists()
    with pytest.raises(UsageError, match="no such user"):
        report("~nobody-here/x")


def test_a_method_whose_steps_cannot_be_measured_takes_no_others_costs_away(tmp_path, monkeypatch, caplog):
    measure = costs.measure

    def breaks(members):
        if any(planned.method_label == "mgda" for planned in members):
            raise ValueError("no\nmore")
        return measure(members)

    monkeypatch.setattr(costs, "measure", breaks)
    asked = {"methods": "mgda,uncertainty", "seeds": 1, "out": tmp_path, "engine": "inline", "figures": False, **SMALL}
    bench.run(**asked)
    assert caplog.messages == ["what a step of mgda on scales[tasks=2] costs is not known: no more"]
    [record] = Store(tmp_path).costs()
    assert {cost.method.partition("[")[0] for cost in record.costs} == {STL, "equal", "uncertainty"}
