"""Weights that somebody chose."""

import pytest
import torch

import methods


def test_the_update_is_the_weighted_sum(linear):
    rows = torch.tensor([[1.0, 0, 2], [0, 3, 1]])
    losses, theta = linear(rows, torch.ones(2))
    weights = methods.create("static[weights=0.25:3]", num_tasks=2).backward(losses, shared=[theta])
    assert weights.tolist() == [0.25, 3]
    torch.testing.assert_close(theta.grad, 0.25 * rows[0] + 3 * rows[1])


def test_weights_for_another_number_of_tasks_do_not_fit():
    with pytest.raises(methods.DoesNotFitError, match="2 weights were given for 3 tasks"):
        methods.create("static", num_tasks=3, weights=(1, 2))


def test_without_weights_it_is_equal_weights(linear):
    losses, theta = linear(torch.tensor([[1.0, 0, 2], [0, 3, 1]]), torch.ones(2))
    assert methods.create("static", num_tasks=2).backward(losses, shared=[theta]).tolist() == [1, 1]
