"""The same door in Python."""

from types import SimpleNamespace

import pandas as pd
import pytest
import torch

import bench
from bench.api import report
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

        def measuring(self, members):
            self.heard.append(len(members))

        def done(self, planned, record):
            assert planned.spec == record.spec
            self.heard.append(record.result.status)

    first, second = Watcher(), Watcher()
    for watcher in (first, second):
        bench.run(methods="equal", seeds=1, out=tmp_path, watcher=watcher, **SMALL)
    assert first.heard == [[True] * 3, "ok", "ok", "ok", 3]
    assert second.heard == [[False] * 3]


def test_pages_are_written_as_each_seed_completes(tmp_path):
    """Stopping early leaves a complete leaderboard of fewer seeds."""
    seen = []

    class Watcher:
        def planned(self, runs, forecast):
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


@pytest.mark.parametrize(
    ("visible", "count", "device", "workers", "places"),
    [
        (None, 2, "cuda", "auto", ["0", "1"]),
        (None, 1, "cuda", 2, ["0", "0"]),  # more workers than GPUs share them
        (None, 2, "cuda", 3, ["0", "1", "0"]),
        ("3,5", 2, "cuda", "auto", ["3", "5"]),  # what this process may use is named as it was told
        ("GPU-1f, GPU-2a", 2, "cuda", 2, ["GPU-1f", "GPU-2a"]),
        (None, 5, "cuda×2", "auto", ["0,1", "2,3"]),
        (None, 4, "cpu", 2, []),
    ],
)
def test_every_worker_gets_gpus_that_it_may_use(monkeypatch, visible, count, device, workers, places):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    run = SimpleNamespace(
        parts=SimpleNamespace(device=device), spec=SimpleNamespace(protocol=SimpleNamespace(threads=1))
    )
    found = bench.api._places([run] * 9, workers)
    assert found["gpus"] == places
    assert found["workers"] == (len(places) or workers)


def test_other_names_are_not_there():
    with pytest.raises(AttributeError, match="no attribute 'walk'"):
        bench.walk  # noqa: B018
