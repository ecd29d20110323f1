"""What a rule holds at most at once in a step: K gradients, the one that is measured, and nothing else that is large.

The profiler counts what is allocated, so that the numbers are the same each time. Pieces, which have a fixed size, are
made as small beside this network as they are beside one of 25 million parameters.
"""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

import methods
from bench.costs import _memory
from methods.core import gradients

TASKS, LAYERS, WIDTH = 4, 32, 1 << 14
GRADIENT = 4 * LAYERS * WIDTH
"""Bytes of one gradient in float32, which is the unit of all numbers below."""
SMALL = 0.5
"""For pieces, and for what autograd holds of one layer."""
RULES = {"unit": 0, "mgda": 0, "imtl": 0, "gradnorm": 0, "excessmtl": 0, "moco": 1, "dbmtl": 1, "graddrop": 7}
"""A rule of each kind. Those that make the update themselves need some vectors of its length for it besides."""


@pytest.fixture(autouse=True)
def _pieces(monkeypatch):
    monkeypatch.setattr(gradients, "NUMBERS", 1 << 14)
    monkeypatch.setattr(gradients, "COLUMNS", 1 << 12)


DIRECTIONS = torch.randn(TASKS, LAYERS, WIDTH, generator=torch.Generator().manual_seed(0))


def losses_of(trunk, zero=()):
    """Losses with these gradients, or with none: a graph that holds nothing that is large."""
    factors = [0 if k in zero else 1 + k for k in range(TASKS)]
    return [
        1 + factor * sum(layer @ part for layer, part in zip(trunk, own, strict=True))
        for factor, own in zip(factors, DIRECTIONS, strict=True)
    ]


def most(take):
    """The most that the second step holds at once: what is remembered is there."""
    trunk = [nn.Parameter(torch.linspace(1, 2, WIDTH)) for _ in range(LAYERS)]
    take(trunk)
    for layer in trunk:
        layer.grad = None
    return _memory(SimpleNamespace(device=torch.device("cpu")), lambda: take(trunk))[1] / GRADIENT


@pytest.mark.parametrize(("name", "more"), RULES.items())
def test_a_step_holds_k_gradients_and_the_one_that_is_measured(name, more):
    method = methods.create(name, num_tasks=TASKS, at="shared")
    held = most(lambda trunk: method.backward(losses_of(trunk), shared=trunk))
    assert TASKS + 1 <= held <= TASKS + 1 + more + SMALL


def test_gradients_of_another_layout_are_copied_once():
    """As of a network in channels-last."""
    shape = (64, 16, 4, 4)
    trunk = [nn.Parameter(torch.ones(shape).to(memory_format=torch.channels_last)) for _ in range(LAYERS)]
    given = [[part.view(shape).to(memory_format=torch.channels_last) for part in own] for own in DIRECTIONS]
    method = methods.create("unit", num_tasks=TASKS)

    def take(_):
        losses = [1 + sum((layer * part).sum() for layer, part in zip(trunk, own, strict=True)) for own in given]
        return method.backward(losses, shared=trunk)

    assert most(take) <= TASKS + 1 + SMALL
    expected = sum(own.flatten() / own.norm() for own in DIRECTIONS)
    torch.testing.assert_close(torch.cat([layer.grad.flatten() for layer in trunk]), expected)


def test_left_out_gradients_copy_nothing():
    method = methods.create("unit", num_tasks=TASKS)
    assert most(lambda trunk: method.backward(losses_of(trunk, zero=[1]), shared=trunk)) <= TASKS + 1 + SMALL
    assert method.degenerate == 2


def test_an_update_of_the_length_of_the_sum_needs_the_sum_and_the_update_twice():
    method = methods.create("mgda", num_tasks=TASKS, norm="sum")
    assert most(lambda trunk: method.backward(losses_of(trunk), shared=trunk)) <= TASKS + 2 + SMALL


def test_micro_batches_are_held_once_with_the_one_that_is_measured():
    method = methods.create("mgda", num_tasks=TASKS)

    def take(trunk):
        for absent in (0, 1):
            losses = losses_of(trunk)
            losses[absent] = None
            method.accumulate(losses, shared=trunk)
        method.backward(losses_of(trunk), shared=trunk)

    assert most(take) <= 2 * TASKS + 1 + SMALL
