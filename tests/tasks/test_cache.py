"""Prepared data: made once, read by others, never half."""

import pytest
import torch

from tasks.core.cache import cached, folder

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
