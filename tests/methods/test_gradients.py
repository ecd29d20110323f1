"""Every route to an update is compared with one plain backward of the sum that it stands for."""

import pytest
import torch
from torch import nn

from methods.core import gradients
from methods.core.base import Method

ROUTES = ("shared", "features", "last", "losses", "objective")
MEASURED = ("shared", "features", "last")
WEIGHTS = {"ones": (1.0, 1.0, 1.0), "arbitrary": (0.3, -2.0, 17.0)}


class Measured(Method):
    per_task = ("weights",)

    def __init__(self, weights, at="shared", heads="plain"):
        super().__init__(len(weights))
        self.weights, self.at, self.heads = torch.tensor(weights), at, heads

    def weigh(self, gramian):
        return self.weights.to(gramian)


class Blind(Method):
    per_task = ("weights",)

    def __init__(self, weights):
        super().__init__(len(weights))
        self.weights = torch.tensor(weights)

    def weigh(self, losses):
        return self.weights.to(losses)


class Minimised(Method):
    per_task = ("weights",)

    def __init__(self, weights):
        super().__init__(len(weights))
        self.weights = torch.tensor(weights)

    def objective(self, losses):
        return self.weights.to(losses) @ losses


class Summed(Method):
    def combine(self, jacobian):
        return jacobian.sum(0)


def rule(route, weights, heads=None):
    if route in MEASURED:
        return Measured(weights, route, heads or "plain")
    method = {"losses": Blind, "objective": Minimised}[route](weights)
    method.heads = heads or method.heads
    return method


def make_stale(parameters):
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 7)


@pytest.fixture(params=["mlp", "conv"])
def net(request, network):
    return network(request.param)


@pytest.mark.parametrize("route", ROUTES)
def test_weights_of_one_give_the_plain_sum(net, route):
    outputs = net()
    expected = net.gradients(sum(outputs.losses))
    make_stale(net.parameters())
    weights = net.give(rule(route, WEIGHTS["ones"]), outputs)
    net.assert_gradients(expected)
    assert weights.tolist() == [1, 1, 1]


@pytest.mark.parametrize("heads", ["plain", "weighted", "own"])
@pytest.mark.parametrize("route", ROUTES)
def test_any_weights_give_the_weighted_sum_to_the_trunk_and_to_heads_as_the_rule_says(net, route, heads):
    outputs, weights = net(), WEIGHTS["arbitrary"]
    factors = {"plain": WEIGHTS["ones"], "weighted": weights, "own": (5.0, 0.0, -0.5)}[heads]
    weighted, expected = (
        net.gradients(sum(w * loss for w, loss in zip(own, outputs.losses, strict=True))) for own in (weights, factors)
    )
    expected = {name: (weighted if "trunk" in name else expected)[name] for name in expected}
    make_stale(net.parameters())
    method = rule(route, weights, heads)
    method.head_weights = torch.tensor(factors)
    returned = net.give(method, outputs)
    net.assert_gradients(expected)
    assert returned.tolist() == pytest.approx(weights)


def test_what_a_rule_does_not_say_of_heads_follows_from_what_it_asks_for():
    assert (Measured.heads, Summed.heads) == ("plain", "plain")
    assert (Blind.heads, Minimised.heads) == ("weighted", "weighted")


@pytest.mark.parametrize("at", ["shared", "features"])
def test_combine_gives_the_update_itself(net, at):
    outputs = net()
    expected = net.gradients(sum(outputs.losses))
    make_stale(net.parameters())
    method = Summed(3)
    method.at = at
    assert net.give(method, outputs) is None
    net.assert_gradients(expected)


@pytest.mark.parametrize("taps", ["taps", "private_taps"])
@pytest.mark.parametrize("route", [*ROUTES, "combine"])
def test_extra_terms_reach_the_trunk_and_the_adaptors_only(net, distil, route, taps):
    """Also where the features that they read lie in the tasks' own part, as in MTAN."""
    method = Summed(3) if route == "combine" else rule(route, WEIGHTS["ones"])
    outputs = net()
    outputs.taps = getattr(outputs, taps)
    added = distil(3, width=outputs.taps[0][0].shape[1], lr=0)
    method.added.append(added)
    adaptors = list(added.adaptors.named_parameters())
    extra = added.extra({}, outputs.taps).sum()
    losses_only = net.gradients(sum(outputs.losses))
    both = net.gradients(sum(outputs.losses) + extra, adaptors)
    expected = both | {name: gradient for name, gradient in losses_only.items() if "trunk" not in name}
    make_stale([*net.parameters(), *added.parameters()])
    net.give(method, outputs)
    net.assert_gradients(expected, adaptors)


@pytest.mark.parametrize("route", [*ROUTES, "combine"])
def test_extra_terms_without_a_gradient_add_nothing(network, distil, route):
    class Constant(distil):
        def extra(self, inputs, taps):
            return torch.zeros(3)

    net = network()
    outputs = net()
    expected = net.gradients(sum(outputs.losses))
    method = Summed(3) if route == "combine" else rule(route, WEIGHTS["ones"])
    method.added.append(Constant(3))
    net.give(method, outputs)
    net.assert_gradients(expected)


@pytest.mark.parametrize("at", MEASURED)
def test_a_rule_is_given_autograds_gradients_detached(net, at):
    seen = {}

    class Watching(Measured):
        def weigh(self, losses, gramian, jacobian, features):
            seen.update(losses=losses, gramian=gramian, jacobian=jacobian, features=features)
            return torch.ones(3)

    outputs = net()
    place = {"shared": list(net.trunk.parameters()), "features": [outputs.features], "last": [net.last]}[at]
    rows = [torch.autograd.grad(loss, place, retain_graph=True) for loss in outputs.losses]
    jacobian = torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])
    net.give(Watching(WEIGHTS["ones"], at), outputs)

    torch.testing.assert_close(seen["jacobian"], jacobian, rtol=1e-6, atol=0)
    torch.testing.assert_close(seen["gramian"], jacobian.double() @ jacobian.double().T, rtol=1e-6, atol=0)
    torch.testing.assert_close(seen["losses"], torch.stack(outputs.losses).detach().double())
    assert torch.equal(seen["features"], outputs.features)
    assert seen["gramian"].dtype == torch.float64
    assert seen["gramian"].device.type == "cpu"
    assert not any(value.requires_grad for value in seen.values())


def test_a_gramian_neither_overflows_nor_cancels_in_float32():
    rows = torch.tensor([[1e25, 1.0], [-1e25, 1.0], [1e-25, 0]])
    exact = rows.double() @ rows.double().T
    assert torch.equal(gradients.gramian(rows), exact)


def test_a_gramian_made_piece_by_piece_is_the_same():
    rows = torch.randn(3, 2 * 2**14 + 7)
    torch.testing.assert_close(gradients.gramian(rows), rows.double() @ rows.double().T)


@pytest.mark.parametrize(("at", "passes"), [("features", 1), ("last", 1), ("shared", 5)])
def test_only_measuring_at_the_shared_parameters_passes_the_trunk_once_per_task(network, at, passes):
    net, seen = network(tasks=5), []
    net.trunk[2].register_full_backward_hook(lambda *_: seen.append(1))
    net.give(Measured((1.0,) * 5, at))
    assert len(seen) == passes


@pytest.mark.parametrize("route", ROUTES)
def test_a_layer_that_two_heads_share_outside_the_trunk_gets_the_sum(network, route):
    net = network()
    net.hidden[1] = net.hidden[0]
    outputs = net()
    expected = net.gradients(sum(outputs.losses))
    net.give(rule(route, WEIGHTS["ones"]), outputs)
    net.assert_gradients(expected)


@pytest.mark.parametrize("route", ROUTES)
def test_frozen_parameters_are_left_alone(network, route):
    net = network()
    frozen = [net.trunk[0].weight, net.heads[0].bias]
    for parameter in frozen:
        parameter.requires_grad_(False)
    net.give(rule(route, WEIGHTS["ones"]))
    assert all(parameter.grad is None for parameter in frozen)
    assert all(parameter.grad is not None for parameter in net.parameters() if parameter.requires_grad)


def own_parts(net):
    """The lists of each task's own parameters, as a harness knows them."""
    return [[*hidden.parameters(), *head.parameters()] for hidden, head in zip(net.hidden, net.heads, strict=True)]


NO_LABEL = {
    "none": lambda loss: None,
    "constant": lambda loss: torch.tensor(0.0) / torch.tensor(0).clamp(min=1),
    "clamped": lambda loss: loss * 0 / torch.tensor(0).clamp(min=1),
}


@pytest.mark.parametrize("says", [False, True])
@pytest.mark.parametrize("knows", [False, True])
@pytest.mark.parametrize("count", NO_LABEL)
@pytest.mark.parametrize("route", [*ROUTES, "combine"])
def test_a_batch_without_a_tasks_label_moves_its_head_by_nothing(network, route, count, knows, says):
    """Where the loop passes the private parameters their gradient is zero, and where they are found there is none."""
    net = network()
    method = Summed(3) if route == "combine" else rule(route, WEIGHTS["ones"])
    given = {"private": own_parts(net)} if knows else {}
    net.give(method, **given)
    outputs = net()
    others = net.gradients(outputs.losses[0] + outputs.losses[2])
    outputs.losses[1] = NO_LABEL[count](outputs.losses[1])
    weights = net.give(method, outputs, present=[True, False, True] if says else None, **given)
    reached = count == "clamped" and not says  # a loss with a graph is a present one, with a gradient of zero
    own = own_parts(net)[1]
    assert all((parameter.grad is not None) == (knows or reached) for parameter in own)
    assert not any(parameter.grad.any() for parameter in own if parameter.grad is not None)
    for parameter in own:
        parameter.grad = torch.zeros_like(parameter)
    net.assert_gradients(others)
    assert method.absent == (not reached)
    if weights is not None:
        assert weights.tolist() == [1, reached, 1]


@pytest.mark.parametrize("route", ROUTES)
def test_a_first_batch_without_a_tasks_label_does_not_hide_its_head(network, route):
    net = network()
    method = rule(route, WEIGHTS["ones"])
    outputs = net()
    outputs.losses[1] = None
    net.give(method, outputs)
    outputs = net()
    expected = net.gradients(sum(outputs.losses))
    net.give(method, outputs)
    net.assert_gradients(expected)


@pytest.mark.parametrize("knows", [False, True])
@pytest.mark.parametrize("route", [*ROUTES, "combine"])
def test_a_batch_without_any_label_moves_nothing(network, route, knows):
    net = network()
    method = Summed(3) if route == "combine" else rule(route, WEIGHTS["ones"])
    net.give(method)
    weights = net.give(method, losses=[None] * 3, **({"private": own_parts(net)} if knows else {}))
    assert all((parameter.grad is not None) == knows for parameter in net.parameters())
    assert not any(parameter.grad.any() for parameter in net.parameters() if knows)
    assert weights is None if route == "combine" else weights.tolist() == [0, 0, 0]
    assert (method.steps, method.absent, method.degenerate) == (2, 1, 0)


@pytest.mark.parametrize("at", MEASURED)
def test_weights_keep_their_precision_under_autocast(network, at):
    """The features are in bfloat16 there, which has three digits."""
    net, weights = network(), (0.3, 1.7, 0.123456)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = net()
    assert outputs.features.dtype == torch.bfloat16
    outputs.losses = [loss.float() for loss in outputs.losses]
    own = [net.gradients(loss) for loss in outputs.losses]
    returned = net.give(Measured(weights, at, "weighted"), outputs)
    assert returned.tolist() == pytest.approx(weights, rel=1e-6)
    if at != "last":  # there the weighted losses pass through bfloat16 once more
        for k, weight in enumerate(weights):
            expected = weight * own[k][f"heads.{k}.weight"]
            torch.testing.assert_close(net.heads[k].weight.grad, expected, rtol=1e-6, atol=0)


def test_leaves_are_what_a_loss_reaches_and_learns():
    used, unused, frozen = (nn.Parameter(torch.ones(2)) for _ in range(3))
    frozen.requires_grad_(False)
    loss = (used * frozen).sum() + (unused.detach() * used).sum()
    assert set(gradients.reached([loss])[0]) == {used}
    assert gradients.reached([torch.tensor(1.0)]) == ({}, 0)


def test_leaves_come_in_an_order_that_another_process_shares():
    """Ranks average the gradients of private parameters in this order."""
    parameters = [nn.Parameter(torch.ones(1)) for _ in range(200)]
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0)).tolist()
    shuffled = [parameters[i] for i in order]  # neither the order of their addresses nor its reverse
    found = [id(leaf) for leaf in gradients.reached([torch.stack([p.sum() for p in shuffled]).sum()])[0]]
    assert found in ([id(p) for p in shuffled], [id(p) for p in reversed(shuffled)])
