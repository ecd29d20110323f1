"""Uncertainty weighting, against Kendall's equations worked out by hand."""

import math

import pytest
import torch

import methods


def step(method, linear, values):
    losses, theta = linear(torch.eye(len(values)), torch.tensor(values))
    weights = method.backward(losses, shared=[theta])
    return weights, theta.grad


@pytest.mark.parametrize("init", [0.0, -0.5])
def test_the_weights_are_half_the_precisions(linear, init):
    weights, update = step(methods.create("uncertainty", num_tasks=3, init=init), linear, [0.1, 1.0, 20.0])
    assert weights.tolist() == pytest.approx([0.5 * math.exp(-init)] * 3)
    assert torch.equal(update, weights)  # the gradients are unit vectors


def test_at_rest_every_gradient_is_divided_by_twice_its_loss(linear):
    values = [0.1, 1.0, 20.0]
    method = methods.create("uncertainty", num_tasks=3)
    method.log_variance.data = torch.tensor(values).log()
    weights, update = step(method, linear, values)
    assert weights.tolist() == pytest.approx([1 / (2 * value) for value in values])
    assert torch.equal(update, weights)
    assert method.log_variance.grad.abs().max() < 1e-6


def test_rest_is_where_training_arrives(linear):
    values = [0.3, 1.0, 5.0]
    method = methods.create("uncertainty", num_tasks=3, lr=0.1)
    for _ in range(300):
        weights, _ = step(method, linear, values)
    assert weights.tolist() == pytest.approx([1 / (2 * value) for value in values], rel=1e-3)


def adam(gradients, lr, beta1=0.9, beta2=0.999, epsilon=1e-8):
    """Kingma & Ba 2015, Algorithm 1, on one number: where it is after each step, from 0."""
    position, mean, square = 0.0, 0.0, 0.0
    for t, gradient in enumerate(gradients, start=1):
        mean = beta1 * mean + (1 - beta1) * gradient(position)
        square = beta2 * square + (1 - beta2) * gradient(position) ** 2
        position -= lr * mean / (1 - beta1**t) / (math.sqrt(square / (1 - beta2**t)) + epsilon)
        yield position


@pytest.mark.parametrize(("options", "lr"), [({}, 0.025), ({"lr": 0.1}, 0.1)])
def test_the_log_variances_move_by_an_adam_of_their_own_without_decay(linear, options, lr):
    losses = [[0.2, 0.5, 0.1, 3.0], [1.0, 1.0, 1.0, 1.0], [40.0, 30.0, 20.0, 1.0]]
    method = methods.create("uncertainty", num_tasks=3, **options)
    derivative = lambda loss: lambda s: 0.5 * (1 - math.exp(-s) * loss)  # noqa: E731
    expected = list(zip(*(adam([derivative(x) for x in task], lr) for task in losses), strict=True))
    before = (0.0, 0.0, 0.0)
    for values, after in zip(zip(*losses, strict=True), expected, strict=True):
        weights, _ = step(method, linear, list(values))
        assert weights.tolist() == pytest.approx([0.5 * math.exp(-s) for s in before], rel=1e-5)
        assert method.log_variance.tolist() == pytest.approx(after, rel=1e-5, abs=1e-7)
        before = after


def test_the_networks_optimiser_has_no_part_in_it(linear):
    ends = []
    for rate in (0.0, 10.0):
        method = methods.create("uncertainty", num_tasks=2)
        for values in ([0.2, 3.0], [0.1, 5.0]):
            losses, theta = linear(torch.eye(2), torch.tensor(values))
            method.backward(losses, shared=[theta])
            torch.optim.AdamW([theta], lr=rate, weight_decay=1.0).step()
        ends.append(method.log_variance.detach())
    assert torch.equal(*ends)


def test_heads_are_weighted_as_the_objective_says(network):
    net, method = network(), methods.create("uncertainty", num_tasks=3)
    method.log_variance.data = torch.tensor([-1.0, 0.5, 2.0])
    outputs = net()
    precisions = torch.exp(-method.log_variance.detach())
    expected = net.gradients(sum(0.5 * p * loss for p, loss in zip(precisions, outputs.losses, strict=True)))
    net.give(method, outputs)
    net.assert_gradients(expected)
