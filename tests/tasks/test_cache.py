"""Prepared data: made once, read by others, never half."""

import os

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tasks.core.cache import cached, folder
from tasks.core.files import temporary

SPLITS = {"train": {"x": torch.arange(6.0).view(3, 2)}, "test": {"x": torch.ones(1, 2), "y": torch.tensor([-1])}}


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("MTL_BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Builder:
    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return SPLITS


def assert_same(found):
    assert {split: set(columns) for split, columns in found.items()} == {"train": {"x"}, "test": {"x", "y"}}
    for split, columns in SPLITS.items():
        assert all(torch.equal(found[split][name], column) for name, column in columns.items())


def test_the_same_identity_is_built_once(place):
    build = Builder()
    for _ in range(3):
        assert_same(cached("this", build))
    assert build.calls == 1
    assert len(list(place.iterdir())) == 1  # and no temporary file


def test_another_identity_is_built_anew():
    build = Builder()
    cached("this", build)
    cached("that", build)
    assert build.calls == 2


@pytest.mark.parametrize("content", [b"", b"not safetensors", None])
def test_a_broken_file_is_made_again(place, content):
    build = Builder()
    cached("this", build)
    [file] = place.iterdir()
    file.write_bytes(file.read_bytes()[:-5] if content is None else content)
    assert_same(cached("this", build))
    assert build.calls == 2
    assert_same(cached("this", build))
    assert build.calls == 2


OTHERS = {
    "other numbers": lambda flat: {**flat, "train/x": flat["train/x"] + 1},
    "one number in another order": lambda flat: {**flat, "train/x": flat["train/x"].flip(0)},
    "a column less": lambda flat: {name: column for name, column in flat.items() if name != "test/y"},
    "a column more": lambda flat: {**flat, "test/z": torch.ones(1)},
    "another type": lambda flat: {**flat, "test/x": flat["test/x"].double()},
    "another shape": lambda flat: {**flat, "train/x": flat["train/x"].view(2, 3)},
    "a split less": lambda flat: {"train/x": flat["train/x"]},
}


@pytest.mark.parametrize("change", OTHERS)
@pytest.mark.parametrize("keeps", [True, False], ids=["with its metadata", "without"])
def test_a_file_that_is_not_what_was_written_is_made_again(place, change, keeps):
    build = Builder()
    cached("this", build)
    [file] = place.iterdir()
    with safe_open(file, "pt") as stored:
        metadata = stored.metadata()
    save_file(OTHERS[change](load_file(file)), file, metadata=metadata if keeps else None)
    assert_same(cached("this", build))
    assert build.calls == 2
    assert_same(cached("this", build))
    assert build.calls == 2


def test_another_identitys_file_is_made_again(place):
    build = Builder()
    cached("this", build)
    [first] = place.iterdir()
    cached("that", build)
    [second] = {*place.iterdir()} - {first}
    second.write_bytes(first.read_bytes())
    assert_same(cached("that", build))
    assert build.calls == 3


def test_a_pipe_in_its_place_is_waited_for_by_nobody(place):
    build = Builder()
    cached("this", build)
    [file] = place.iterdir()
    file.unlink()
    os.mkfifo(file)
    assert_same(cached("this", build))
    assert file.is_file()


def test_what_a_killed_writer_left_goes_when_it_is_old(place):
    place.mkdir()
    left, fresh = temporary(place / "a"), temporary(place / "b")
    for path in (left, fresh):
        path.write_text("half")
    os.utime(left, (0, 0))
    cached("this", Builder())
    assert not left.exists()
    assert fresh.exists()


def test_a_place_that_cannot_be_written_costs_only_the_time(place):
    place.write_text("a file")
    assert_same(cached("this", Builder()))


def test_a_build_that_fails_leaves_nothing(place):
    def fail():
        raise RuntimeError

    with pytest.raises(RuntimeError):
        cached("this", fail)
    assert not place.exists()


def test_the_users_cache_is_the_default(monkeypatch, tmp_path):
    monkeypatch.delenv("MTL_BENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert folder() == tmp_path / "mtl-bench"
