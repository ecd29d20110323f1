"""The rules that weigh losses, against an independent implementation of those that it has."""

import pytest
import torch
from torchjd import scalarization

import methods

VALUES = [[0.5, 2.0, 30.0], [0.4, 2.5, 20.0], [0.45, 1.0, 21.0], [0.2, 1.5, 12.0]]


def ours(method, values):
    theta = torch.zeros(len(values), requires_grad=True)
    return method.backward(list(theta + torch.tensor(values)), shared=[theta])


def theirs(scalarizer, values):
    values = torch.tensor(values, requires_grad=True)
    scalarizer(values).backward()
    return values.grad


def close(one, other):
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("name", "other"), [("uncertainty", scalarization.UW), ("imtll", scalarization.IMTLL)])
def test_what_is_learnt(name, other):
    method, scalarizer = methods.create(name, num_tasks=3), other(3)
    optimizer = torch.optim.Adam(scalarizer.parameters(), lr=0.025)
    for _ in range(5):
        for values in VALUES:
            optimizer.zero_grad()
            close(ours(method, values), theirs(scalarizer, values))
            optimizer.step()


def test_the_geometric_mean():
    method = methods.create("gls", num_tasks=3)
    for values in VALUES:
        close(ours(method, values), theirs(scalarization.GeometricMean(), values))


def test_famo():
    method, scalarizer = methods.create("famo", num_tasks=3), scalarization.FAMO(3)
    for _ in range(5):
        for before, after in zip(VALUES, [*VALUES[1:], VALUES[0]], strict=True):
            close(ours(method, before), theirs(scalarizer, before))
            method.end_step(torch.tensor(after))
            scalarizer.update(torch.tensor(after))


def test_dwa():
    """Its epochs are means of the values that it has seen; ours are told."""
    method, scalarizer = methods.create("dwa", num_tasks=3), scalarization.DWA()
    for values in VALUES:
        close(ours(method, values), theirs(scalarizer, values))
        scalarizer.step()
        method.end_epoch(losses=lambda values=values: torch.tensor(values))


@pytest.mark.parametrize("mu", [0.1, 1.0])
def test_the_smooth_maximum(mu):
    """It has the plain formula. Of the logarithms, weighed and scaled as in deep networks, it is the same rule."""
    method = methods.create("stch", num_tasks=3, mu=mu, warmup=1)
    method.end_epoch(losses=lambda: torch.tensor(VALUES[0]))
    plain = scalarization.STCH(mu=mu, weights=torch.ones(3), reference=torch.tensor(VALUES[0]).log())
    for values in VALUES:
        close(ours(method, values), theirs(lambda x: 3 * plain(x.log()), values))


def test_random_weights():
    """The draws are others; their moments are the same."""
    method = methods.create("rlw", num_tasks=3)
    torch.manual_seed(0)
    draws = [torch.stack([draw() for _ in range(3000)]) for draw in (
        lambda: method.weigh(torch.ones(3)),
        lambda: theirs(scalarization.Random(), [1.0, 1.0, 1.0]),
    )]  # fmt: skip
    for one, other in zip(*([d.mean(0), d.std(0)] for d in draws), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0.02)
