"""Dynamic weight average, against its formula worked out by hand."""

import math

import pytest
import torch

import methods


def weights_after(linear, epochs, **options):
    method = methods.create("dwa", num_tasks=len(epochs[0]), **options)
    for losses in epochs:
        method.end_epoch(losses=lambda losses=losses: torch.tensor(losses))
    losses, theta = linear(torch.eye(len(epochs[0])), torch.ones(len(epochs[0])))
    return method.backward(losses, shared=[theta])


@pytest.mark.parametrize("epochs", [[[1.0, 2.0]], [[1.0, 2.0], [0.1, 3.0]][:1]])
def test_the_first_two_epochs_weigh_all_alike(linear, epochs):
    assert weights_after(linear, epochs).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_task_that_falls_slower_weighs_more(linear, temperature):
    before, last = [1.0, 2.0, 4.0], [0.5, 1.9, 4.4]
    raised = [math.exp(b / a / temperature) for a, b in zip(before, last, strict=True)]
    expected = [3 * value / sum(raised) for value in raised]
    weights = weights_after(linear, [[9.0, 9.0, 9.0], before, last], temperature=temperature)
    assert weights.tolist() == pytest.approx(expected)
    assert float(weights.sum()) == pytest.approx(3)


def test_equal_ratios_weigh_all_alike(linear):
    assert weights_after(linear, [[1.0, 100.0], [0.5, 50.0]]).tolist() == pytest.approx([1, 1])


def test_a_loss_of_zero_counts_as_unchanged(linear):
    assert weights_after(linear, [[0.0, 1.0], [0.0, 1.0]]).tolist() == pytest.approx([1, 1])


def test_the_memory_travels():
    method = methods.create("dwa", num_tasks=2)
    for losses in ([1.0, 2.0], [0.5, 1.9]):
        method.end_epoch(losses=lambda losses=losses: torch.tensor(losses))
    other = methods.create("dwa", num_tasks=2)
    other.load_state_dict(method.state_dict())
    assert torch.equal(other.weigh(torch.ones(2)), method.weigh(torch.ones(2)))
