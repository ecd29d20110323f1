"""A split is scored in pieces that fit into a fixed memory, and what comes out does not depend on the pieces."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from bench.catalogue import task_set
from bench.spec import STL, RunSpec
from bench.training.scoring import MOST, examples_at_once, score
from bench.training.streams import build_network
from tasks.networks.encoder_decoder import EncoderDecoder

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=["digits", "scales[ratio=100,tasks=5]", "scenes[height=24,width=32]"])
def trained(request):
    """A task set with an untrained network; its test split holds a few examples only."""
    chosen = task_set(request.param)
    tasks = tuple(task.name for task in chosen.tasks)
    spec = RunSpec(task_set=request.param, tasks=tasks, method=STL, seed=0, protocol=chosen.protocols["smoke"])
    few = {split: {name: column[:97] for name, column in own.items()} for split, own in chosen.splits.items()}
    return SimpleNamespace(network=build_network(spec, chosen), set=chosen, few=few)


def scored(trained, at_once):
    few = SimpleNamespace(splits=trained.few, inputs=trained.set.inputs)
    found, losses = score(
        trained.network, few, trained.set.tasks, "test", at_once=at_once, device=CPU, autocast=nullcontext
    )
    values = torch.tensor([value for own in found.values() for value in own.values()])
    return torch.cat([values, losses])


@pytest.mark.parametrize("at_once", [1, 7, 96])
def test_scores_and_losses_do_not_depend_on_how_many_examples_are_scored_at_once(trained, at_once):
    torch.testing.assert_close(scored(trained, at_once), scored(trained, 97), rtol=2e-6, atol=2e-6)


def test_scoring_leaves_the_network_in_train_mode_and_its_running_statistics_alone(trained):
    before = {name: buffer.clone() for name, buffer in trained.network.named_buffers()}
    scored(trained, 10)
    assert trained.network.training
    assert all(torch.equal(buffer, before[name]) for name, buffer in trained.network.named_buffers())


def pictures(height, width):
    """A network for pictures of this size, and a set with one of them."""
    network = EncoderDecoder("image", {"depth": 1})
    return network, SimpleNamespace(splits={"test": {"image": torch.zeros(1, 3, height, width)}}, inputs=("image",))


def test_larger_pictures_are_scored_fewer_at_once():
    small, large = (examples_at_once(*pictures(side, side), CPU, nullcontext, 1 << 30) for side in (128, 256))
    assert small == pytest.approx(4 * large, rel=0.05)
    assert 1 < large < small < MOST


def test_one_example_is_scored_even_where_it_does_not_fit_and_never_more_than_the_most():
    assert examples_at_once(*pictures(64, 64), CPU, nullcontext, memory=1) == 1
    assert examples_at_once(*pictures(8, 8), CPU, nullcontext, memory=1 << 40) == MOST


def test_what_a_piece_takes_at_its_peak_is_within_the_memory():
    from torch.profiler import ProfilerActivity, profile

    memory = 1 << 26
    network, tiny = pictures(128, 128)
    many = examples_at_once(network, tiny, CPU, nullcontext, memory)
    images = torch.zeros(many, 3, 128, 128)
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        network.eval()({"image": images})
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    assert memory / 20 < peak <= memory
