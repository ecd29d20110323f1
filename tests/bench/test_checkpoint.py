"""A run that is stopped goes on from its checkpoint, bit for bit."""

import os
import typing

import pytest
import torch
from trained import train

import methods
from bench.catalogue import parse_task_set, task_set
from bench.checkpoint import Checkpoint
from bench.spec import STL, RunSpec
from bench.store import StoreError
from bench.training.loop import Run
from bench.training.streams import build_network
from methods.core.registry import REQUIRED

TASKS = ("size", "kind")


def rules_to_try():
    """Every built-in rule at each place where it measures, and distillation on top of some."""
    for name, entry in methods.registry.entries().items():
        options = methods.registry.options(entry)
        if any(option.default is REQUIRED for option in options.values()):
            continue
        places = typing.get_args(options["at"].type) if "at" in options else ()
        yield from [f"{name}[at={place}]" for place in places] or [name]
    yield from ("static[weights=1:3]", "kd+mgda", "kd+gradnorm")


class Stop(Exception):
    """Somebody pulled the plug."""


@pytest.fixture
def make(sets, rules, tmp_path):
    variant = parse_task_set(sets).stable
    protocol = task_set(variant).protocols["epochs"]

    def build(method, tasks=TASKS):
        if method[0].isupper():
            method = f"{rules}:{method}"
        name = STL if method == STL else methods.parse(method).stable
        spec = RunSpec(task_set=variant, tasks=tasks, method=name, seed=3, protocol=protocol)
        single = [spec.model_copy(update={"tasks": (task,), "method": STL}) for task in tasks]
        states = [build_network(one, task_set(variant)).state_dict() for one in single]
        distils = name != STL and methods.reads_teachers(methods.parse(name))
        return spec, states if distils else []

    return build


def stopped(monkeypatch, spec, teachers, checkpoint, after):
    """Train until a number of steps, and stop there."""
    step = Run.step

    def counted(run, chosen, **more):
        if run.steps == after:
            raise Stop
        step(run, chosen, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "step", counted)
        with pytest.raises(Stop):
            train(spec, teachers, checkpoint=checkpoint)


@pytest.mark.parametrize("method", [*rules_to_try(), "Noisy", "AfterStep", "Validating", STL])
def test_a_run_goes_on_bit_for_bit(make, tmp_path, monkeypatch, method):
    """Network, optimisers, schedule, the method with its own, accumulators, points, counts: all of them."""
    spec, teachers = make(method, TASKS[:1] if method == STL else TASKS)
    whole, cost, state = train(spec, teachers)
    checkpoint = Checkpoint(tmp_path / "state.safetensors", "key", every=5)
    stopped(monkeypatch, spec, teachers, checkpoint, after=12)  # inside an epoch, after the first point
    torch.manual_seed(99)
    stopped(monkeypatch, spec, teachers, checkpoint, after=23)  # and once more
    assert checkpoint.load()["steps"] == 20
    resumed, again, end = train(spec, teachers, checkpoint=checkpoint)
    assert resumed == whole
    assert whole.status == "ok"
    assert again.passes == cost.passes
    if method == STL:
        assert all(torch.equal(end[name], state[name]) for name in state)


def test_it_takes_up_only_its_own(make, tmp_path, monkeypatch):
    spec, teachers = make("uncertainty")
    file = tmp_path / "state.safetensors"
    stopped(monkeypatch, spec, teachers, Checkpoint(file, "key", every=5), after=12)
    assert Checkpoint(file, "key", every=5).load()["steps"] == 10
    assert Checkpoint(file, "another", every=5).load() is None


@pytest.mark.parametrize("content", [b"", b"{}", b"\x08\0\0\0\0\0\0\0{}      ", None])
def test_one_that_cannot_be_read_is_none(tmp_path, content):
    file = tmp_path / "state.safetensors"
    if content is not None:
        file.write_bytes(content)
    assert Checkpoint(file, "key", every=5).load() is None


def test_a_pipe_in_its_place_is_waited_for_by_nobody(tmp_path):
    file = tmp_path / "state.safetensors"
    os.mkfifo(file)
    assert Checkpoint(file, "key", every=5).load() is None


def test_every_kind_of_value_comes_back(tmp_path):
    shared = torch.arange(6.0)
    state = {
        "numbers": {0: 1, 1: 2.5, "x": None, "y": True},
        "tensors": [shared, shared[::2], shared.view(2, 3).T, torch.tensor(3), torch.zeros(0, 4, dtype=torch.bfloat16)],
        "nested": {"list": [[1, "tensor"], ["dict", []]], "empty": {}},
        "exact": [0.1, 1e-310, 2**63, float("inf")],
    }
    checkpoint = Checkpoint(tmp_path / "new" / "state.safetensors", "k", 1)
    checkpoint.save(state)
    back = checkpoint.load()
    for one, other in zip(back["tensors"], state["tensors"], strict=True):
        assert torch.equal(one, other)
        assert one.dtype == other.dtype
    del back["tensors"], state["tensors"]
    assert back == state
    checkpoint.remove()
    assert checkpoint.load() is None


def test_where_it_cannot_be_written_that_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        Checkpoint(tmp_path / "file" / "state", "k", 1).save({})
