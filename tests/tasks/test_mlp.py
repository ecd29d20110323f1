"""The multilayer perceptron keeps a network's promises: what is shared, the features, the taps."""

import pytest
import torch

from tasks.networks.mlp import MLP


@pytest.fixture
def network():
    torch.manual_seed(0)
    return MLP("x", (5, 9, 7, 6), {"a": 2, "b": 3})


@pytest.fixture
def inputs():
    return {"x": torch.randn(11, 5), "unseen": torch.zeros(11)}


def test_it_predicts_every_task(network, inputs):
    shapes = {task: tuple(prediction.shape) for task, prediction in network(inputs).predictions.items()}
    assert shapes == {"a": (11, 2), "b": (11, 3)}


def test_what_is_shared_is_everything_but_the_heads(network):
    shared = dict(network.shared)
    everything = dict(network.named_parameters())
    assert shared.keys() == {name for name in everything if not name.startswith("heads.")}
    assert all(parameter is everything[name] for name, parameter in shared.items())
    assert len(shared) == 6


def test_the_last_shared_layer_is_the_one_before_the_heads(network, inputs):
    assert network.last is dict(network.shared)["trunk.2.weight"]
    assert network.last.shape == (6, 7)


def test_the_taps_are_the_last_two_hidden_layers_of_every_task(network, inputs):
    outputs = network(inputs)
    first = torch.relu(network.trunk[0](inputs["x"]))
    second = torch.relu(network.trunk[1](first))
    third = torch.relu(network.trunk[2](second))
    assert outputs.taps.keys() == {"a", "b"}
    for taps in outputs.taps.values():
        assert len(taps) == 2
        torch.testing.assert_close(taps[0], second)
        torch.testing.assert_close(taps[1], third)


def test_a_network_of_one_hidden_layer_has_one_tap():
    assert len(MLP("x", (5, 4), {"a": 1})({"x": torch.randn(3, 5)}).taps["a"]) == 1


def test_all_that_heads_know_comes_through_the_cut(network, inputs):
    """The trunk's gradient is the features's, taken back through the trunk."""
    outputs = network(inputs)
    loss = sum(prediction.square().sum() for prediction in outputs.predictions.values())
    trunk = [parameter for _, parameter in network.shared]
    whole = torch.autograd.grad(loss, trunk, retain_graph=True)
    [into_features] = torch.autograd.grad(loss, [outputs.features], retain_graph=True)
    through = torch.autograd.grad(outputs.features, trunk, into_features)
    for expected, found in zip(whole, through, strict=True):
        torch.testing.assert_close(found, expected)


def test_predictions_follow_from_the_cut_alone(network, inputs):
    outputs = network(inputs)
    for task, prediction in outputs.predictions.items():
        torch.testing.assert_close(network.heads[task](outputs.features), prediction)


def test_heads_start_at_their_scale_times_the_usual_weights():
    networks = [MLP("x", (5, 4), {"a": 3}, head_scale=scale) for scale in (1.0, 0.1)]
    heads = []
    for network in networks:
        torch.manual_seed(1)
        network.heads["a"].reset_parameters()
        heads.append(network.heads["a"])
    torch.testing.assert_close(heads[1].weight, 0.1 * heads[0].weight)
    torch.testing.assert_close(heads[1].bias, 0.1 * heads[0].bias)
