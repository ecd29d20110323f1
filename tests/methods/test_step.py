"""The wide door: whole training rules, on a small problem of the test's own."""

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call

import methods
from methods.core.base import DoesNotFitError, Method
from methods.core.problem import Problem

LR = 0.05


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Linear(4, 6), nn.Tanh())
        self.heads = nn.ModuleList(nn.Linear(6, 1) for _ in range(2))
        self.double()

    def forward(self, x):
        features = self.trunk(x)
        return [head(features) for head in self.heads], features


class Small:
    """Two regressions on random batches: what a harness gives a whole training rule."""

    def __init__(self, network):
        self.network = network
        self.optimizer = torch.optim.SGD(network.parameters(), lr=LR)
        self.lr = LR
        self.shared = list(network.trunk.named_parameters(prefix="trunk"))
        self.private = [list(head.named_parameters(prefix=f"heads.{k}")) for k, head in enumerate(network.heads)]
        self.asked = []
        self.now = 0
        self.begin()

    def begin(self):
        self.now += 1
        self.network.zero_grad()
        outputs, self.features = self.network(self.batch()["x"])
        self.own = self._losses(outputs, self.batch())

    def batch(self, i=0):
        self.asked.append(i)
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(100 * self.now + i), dtype=torch.float64)
        return {"x": x, "y": x[:, :2] * 3}

    def _losses(self, outputs, batch):
        return [(output[:, 0] - batch["y"][:, k]).square().mean() for k, output in enumerate(outputs)]

    def losses(self, batch, parameters=None):
        if parameters is None and torch.equal(batch["x"], self.batch()["x"]):
            return self.own
        outputs, _ = functional_call(self.network, dict(parameters or {}), batch["x"])
        return self._losses(outputs, batch)

    def validation_losses(self, parameters=None):
        return self.losses(self.batch(99), parameters)

    def update(self, direction):
        parameters = [parameter for _, parameter in self.shared]
        with torch.no_grad():
            for parameter, part in zip(parameters, direction.split([p.numel() for p in parameters]), strict=True):
                parameter -= self.lr * part.view_as(parameter)
                parameter.grad = None

    def arguments(self):
        return {"losses": self.own, "shared": self.shared, "private": self.private, "features": self.features}


def test_the_tests_own_problem_has_all_that_the_protocol_promises():
    small = Small(Network())
    promised = [name for name in vars(Problem) if not name.startswith("_")]
    assert {"batch", "losses", "validation_losses", "update", "shared", "private", "lr", "optimizer"} <= set(promised)
    assert all(hasattr(small, name) for name in promised)


def train(method, steps=1):
    network = Network()
    small = Small(network)
    for n in range(steps):
        if n:
            small.begin()
        weights = method.step(small)
        small.optimizer.step()
    return network, small, weights


def plain(losses, parameters):
    return torch.autograd.grad(losses, parameters, retain_graph=True, allow_unused=True, materialize_grads=True)


# Rules of the three kinds ----------------------------------------------------------------------------------


class Bilevel(Method):
    """Weights that descend the validation loss after a virtual step along the weighted training losses."""

    def __init__(self, num_tasks, lr=0.1):
        super().__init__(num_tasks)
        self.weights = nn.Parameter(torch.ones(num_tasks, dtype=torch.float64))
        self.optimizer = torch.optim.SGD([self.weights], lr=lr)

    def step(self, problem):
        named = [*problem.shared, *(item for own in problem.private for item in own)]
        names, parameters = zip(*named, strict=True)
        losses = torch.stack(problem.losses(problem.batch()))
        found = torch.autograd.grad(self.weights @ losses, parameters, create_graph=True)
        virtual = {n: p - problem.lr * g for n, p, g in zip(names, parameters, found, strict=True)}
        self.optimizer.zero_grad()
        used = self.weights.detach().clone()
        (self.weights.grad,) = torch.autograd.grad(
            torch.stack(problem.validation_losses(virtual)).sum(), [self.weights], retain_graph=True
        )
        self.optimizer.step()
        torch.autograd.backward(used @ losses, inputs=list(parameters))
        return used


class ThreeBatches(Method):
    """The trunk follows the third batch with weights from inner products between the first and the second."""

    def step(self, problem):
        shared = [parameter for _, parameter in problem.shared]
        own = [[parameter for _, parameter in part] for part in problem.private]
        rows = []
        for i in range(3):
            losses = problem.losses(problem.batch(i))
            if i == 0:
                for loss, parameters in zip(losses, own, strict=True):
                    torch.autograd.backward(loss, inputs=parameters, retain_graph=True)
            rows.append(torch.stack([torch.cat([g.flatten() for g in plain(loss, shared)]) for loss in losses]))
        weights = (rows[0] @ rows[1].T).mean(0).softmax(0)
        direction = weights @ rows[2]
        for parameter, part in zip(shared, direction.split([p.numel() for p in shared]), strict=True):
            parameter.grad = part.view_as(parameter)
        return weights


class OwnMoments(Method):
    """Momentum per task on the shared parameters, summed; the network's optimiser moves the heads only."""

    def step(self, problem):
        shared = [parameter for _, parameter in problem.shared]
        losses = problem.losses(problem.batch())
        rows = torch.stack([torch.cat([g.flatten() for g in plain(loss, shared)]) for loss in losses])
        for loss, part in zip(losses, problem.private, strict=True):
            torch.autograd.backward(loss, inputs=[parameter for _, parameter in part], retain_graph=True)
        if not hasattr(self, "momentum"):
            self.register_buffer("momentum", torch.zeros_like(rows))
        self.momentum.mul_(0.9).add_(rows)
        problem.update(self.momentum.sum(0))


def test_a_bilevel_rule_descends_the_validation_loss_after_a_virtual_step():
    method = Bilevel(2)
    network, start = Network(), Network()
    small = Small(network)
    weights = method.step(small)
    assert weights.tolist() == [1, 1]
    # By finite differences: the validation loss after a plain step of SGD with other weights.
    differences = []
    for k in range(2):
        ends = []
        for sign in (1, -1):
            moved = copy.deepcopy(start)
            other = Small(moved)
            scale = torch.ones(2, dtype=torch.float64)
            scale[k] += sign * 1e-5
            (scale @ torch.stack(other.own)).backward()
            other.optimizer.step()
            ends.append(float(torch.stack(other.validation_losses()).sum()))
        differences.append((ends[0] - ends[1]) / 2e-5)
    torch.testing.assert_close(method.weights.grad, torch.tensor(differences, dtype=torch.float64), rtol=1e-5, atol=0)
    expected = plain(sum(Small(start).own), list(start.parameters()))
    for parameter, gradient in zip(network.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
    assert 99 in small.asked


def test_a_rule_may_take_three_batches_of_which_the_first_is_the_steps_own():
    network, small, weights = train(ThreeBatches(2))
    assert {0, 1, 2} <= set(small.asked)
    assert weights.sum() == pytest.approx(1)
    start = Network()
    other = Small(start)
    shared = [parameter for _, parameter in other.shared]
    third = plain(weights @ torch.stack(other.losses(other.batch(2))), shared)
    for (name, parameter), gradient in zip(network.trunk.named_parameters(), third, strict=True):
        before = dict(start.trunk.named_parameters())[name]
        torch.testing.assert_close(parameter, before - LR * gradient)


def test_a_rule_with_moments_of_its_own_updates_the_trunk_in_the_optimisers_place():
    network, _, weights = train(OwnMoments(2), steps=3)
    assert weights is None
    expected = Network()
    other, momentum = Small(expected), 0
    for n in range(3):
        if n:
            other.begin()
        sum(other.own).backward()
        gradients = torch.cat([parameter.grad.flatten() for parameter in expected.trunk.parameters()])
        momentum = 0.9 * momentum + gradients
        expected.trunk.zero_grad()
        other.optimizer.step()
        other.update(momentum)
    for parameter, right in zip(network.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(parameter, right)
    assert all(parameter.grad is None for parameter in network.trunk.parameters())


@pytest.mark.parametrize("name", ["equal", "uncertainty", "mgda", "mgda[at=features]"])
def test_the_door_of_any_other_rule_is_backward(name):
    one, other = methods.create(name, num_tasks=2).double(), methods.create(name, num_tasks=2).double()
    network, _, weights = train(one)
    again = Network()
    small = Small(again)
    expected = other.backward(**small.arguments())
    small.optimizer.step()
    assert torch.equal(weights, expected)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))


# What is refused -------------------------------------------------------------------------------------------


def test_a_whole_training_rule_is_no_other_kind_of_rule():
    with pytest.raises(TypeError, match="weigh and step"):
        type("Rule", (ThreeBatches,), {"weigh": lambda self, losses: losses})


def test_a_whole_training_rule_is_given_a_problem():
    with pytest.raises(TypeError, match=r"Rule\.step asks for 'losses'"):
        type("Rule", (Method,), {"step": lambda self, losses: losses})


@pytest.mark.parametrize("call", ["backward", "accumulate"])
def test_a_whole_training_rule_has_no_backward(call):
    small = Small(Network())
    with pytest.raises(DoesNotFitError, match="ThreeBatches is a whole training rule"):
        getattr(ThreeBatches(2), call)(small.own, shared=small.shared)


def test_no_terms_are_added_to_a_whole_training_rule(distil):
    with pytest.raises(DoesNotFitError, match="ThreeBatches is a whole training rule: the terms of Distil"):
        ThreeBatches(2).carry(distil(2))
    ThreeBatches(2).carry()


def test_the_state_of_a_whole_training_rule_travels():
    method, other = Bilevel(2), Bilevel(2)
    train(method, steps=3)
    other.load_state_dict(method.state_dict())
    assert torch.equal(other.weights, method.weights)
