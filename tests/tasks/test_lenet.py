"""The LeNet keeps a network's promises: what is shared, where the features is, what the taps are."""

import pytest
import torch

from tasks.networks.lenet import LeNet


@pytest.fixture
def network():
    torch.manual_seed(0)
    return LeNet("image", 36, {"a": 10, "b": 3})


@pytest.fixture
def inputs():
    return {"image": torch.randint(256, (11, 1, 36, 36), dtype=torch.uint8)}


def test_it_predicts_every_task(network, inputs):
    shapes = {task: tuple(prediction.shape) for task, prediction in network(inputs).predictions.items()}
    assert shapes == {"a": (11, 10), "b": (11, 3)}


@pytest.mark.parametrize("side", [16, 28, 29, 31, 36])
def test_any_side_will_do(side):
    image = torch.zeros(2, 1, side, side, dtype=torch.uint8)
    assert LeNet("image", side, {"a": 4})({"image": image}).predictions["a"].shape == (2, 4)


def test_bytes_are_seen_as_zero_to_one(network, inputs):
    seen = []
    network.trunk["conv1"].register_forward_hook(lambda module, given, result: seen.append(given[0]))
    network(inputs)
    torch.testing.assert_close(seen[0], inputs["image"].float() / 255)


def test_what_is_shared_is_everything_but_the_heads(network):
    shared = dict(network.shared)
    everything = dict(network.named_parameters())
    assert shared.keys() == {name for name in everything if not name.startswith("heads.")}
    assert all(parameter is everything[name] for name, parameter in shared.items())
    assert len(shared) == 6


def test_the_last_shared_layer_is_the_one_before_the_heads(network):
    assert network.last is dict(network.shared)["trunk.linear.weight"]


def test_the_taps_are_the_last_map_and_the_cut(network, inputs):
    outputs = network(inputs)
    assert outputs.taps.keys() == {"a", "b"}
    for second, shared in outputs.taps.values():
        assert second.shape == (11, 16, 6, 6)
        assert shared is outputs.features
        torch.testing.assert_close(network.trunk["linear"](second.flatten(1)).relu(), shared)


def test_all_that_heads_know_comes_through_the_cut(network, inputs):
    """The trunk's gradient is the features's, taken back through the trunk."""
    outputs = network(inputs)
    loss = sum(prediction.square().sum() for prediction in outputs.predictions.values())
    trunk = [parameter for _, parameter in network.shared]
    whole = torch.autograd.grad(loss, trunk, retain_graph=True)
    [into_features] = torch.autograd.grad(loss, [outputs.features], retain_graph=True)
    for expected, found in zip(whole, torch.autograd.grad(outputs.features, trunk, into_features), strict=True):
        torch.testing.assert_close(found, expected)


def test_an_image_is_predicted_alike_in_any_batch(network, inputs):
    alone = network({"image": inputs["image"][3:4]}).predictions["a"][0]
    torch.testing.assert_close(network(inputs).predictions["a"][3], alone)
