"""With `every=n` a rule measures gradients at one step in n, and its last weights serve in between."""

import pytest
import torch
from torch import nn

import methods
from methods.core.base import Method

MEASURED = ("shared", "features", "last")


class Scripted(Method):
    """Returns other weights at each call, and counts the calls."""

    every = 3
    calls = 0

    def weigh(self, gramian):
        self.calls += 1
        return torch.arange(1.0, 1 + len(gramian)).to(gramian) * self.calls


def scripted(at, heads="plain", **settings):
    method = Scripted(3)
    method.at, method.heads = at, heads
    for name, value in settings.items():
        setattr(method, name, value)
    return method


def expected(net, outputs, weights, heads):
    """The gradients by one plain backward of each sum."""
    plain = net.gradients(sum(outputs.losses))
    weighted = net.gradients(sum(w * loss for w, loss in zip(weights, outputs.losses, strict=True)))
    return {name: (weighted if heads == "weighted" or "trunk" in name else plain)[name] for name in plain}


@pytest.mark.parametrize("heads", ["plain", "weighted"])
@pytest.mark.parametrize("at", MEASURED)
@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_between_measurements_the_last_weights_serve_for_trunk_and_heads(network, kind, at, heads):
    net, method = network(kind), scripted(at, heads)
    for step in range(7):
        outputs = net()
        weights = [1.0 + step // 3, 2.0 + 2 * (step // 3), 3.0 + 3 * (step // 3)]
        wanted = expected(net, outputs, weights, heads)
        assert net.give(method, outputs).tolist() == pytest.approx(weights)
        net.assert_gradients(wanted)
        with torch.no_grad():  # the network moves, so that old gradients would show
            for parameter in net.parameters():
                parameter.mul_(0.9)
    assert method.calls == 3


@pytest.mark.parametrize("heads", ["plain", "weighted"])
@pytest.mark.parametrize("at", MEASURED)
def test_a_step_in_between_passes_the_trunk_once(network, at, heads):
    net, seen = network(), []
    method = scripted(at, heads)
    net.give(method)
    net.trunk[2].register_full_backward_hook(lambda *_: seen.append(1))
    net.give(method)
    assert len(seen) == 1


def test_a_layer_that_two_heads_share_gets_the_plain_sum_in_between(network):
    net, method = network(), scripted("shared")
    net.hidden[1] = net.hidden[0]
    net.give(method)
    outputs = net()
    wanted = expected(net, outputs, [1, 2, 3], "plain")
    net.give(method, outputs)
    net.assert_gradients(wanted)


def test_extra_terms_are_added_in_between_as_at_a_measurement(network, distil):
    net = network()
    outputs = net()
    method = scripted("shared")
    method.carry(distil(3, width=outputs.taps[0][0].shape[1], lr=0))
    net.give(method, outputs)
    assert method.calls == 1
    found = []
    for every in (3, 1):  # in between, and measured
        method.every, method.calls = every, 0
        net.give(method, net())
        found.append({name: parameter.grad.clone() for name, parameter in net.named_parameters()})
    assert method.calls == 1
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], msg=name)


def test_weights_are_measured_anew_where_other_tasks_are_present():
    trunk = torch.ones(4, requires_grad=True)
    heads = [torch.ones(4, requires_grad=True) for _ in range(3)]
    method = scripted("shared")

    def step(*absent):
        losses = [None if k in absent else (trunk * head).square().sum() for k, head in enumerate(heads)]
        return method.backward(losses, shared=[trunk]).tolist()

    assert step() == [1, 2, 3]
    assert step(1) == [2, 0, 4]  # the second call, of two tasks
    assert step(1) == [2, 0, 4]
    assert step(1) == [2, 0, 4]
    assert step(1) == [3, 0, 6]
    assert step() == [4, 8, 12]
    assert step() == [4, 8, 12]


def test_a_run_that_is_resumed_in_between_goes_on_with_the_same_weights():
    def build():
        torch.manual_seed(0)
        trunk = nn.Linear(3, 4)
        return trunk, methods.create("mgda[every=4]", num_tasks=4), torch.optim.SGD(trunk.parameters(), lr=0.1)

    def steps(trunk, method, optimizer, count):
        for _ in range(count):
            losses = list((trunk(torch.ones(5, 3)).square() * torch.tensor([1.0, 2, 4, 8])).mean(0))
            method.backward(losses, shared=trunk.parameters())
            optimizer.step()

    whole, cut, resumed = build(), build(), build()
    steps(*whole, 7)
    steps(*cut, 2)
    resumed[0].load_state_dict(cut[0].state_dict())
    resumed[1].load_state_dict(cut[1].state_dict())
    steps(*resumed, 5)
    assert torch.equal(whole[0].weight, resumed[0].weight)
    assert whole[1].steps == resumed[1].steps == 7


def test_frozen_trunk_parameters_are_left_alone_in_between(network):
    net, method = network(), scripted("shared")
    frozen = [net.trunk[0].weight, net.heads[0].bias]
    for parameter in frozen:
        parameter.requires_grad_(False)
    net.give(method)
    net.give(method)
    assert method.calls == 1
    assert all(parameter.grad is None for parameter in frozen)
    assert all(parameter.grad is not None for parameter in net.parameters() if parameter.requires_grad)


def test_the_option_reaches_the_rule_and_shows_in_its_repr():
    method = methods.create("mgda", num_tasks=2, every=10, heads="weighted")
    assert (method.every, method.heads) == (10, "weighted")
    assert repr(method) == "MGDA(num_tasks=2, heads='weighted', every=10)"


def test_head_weights_of_a_rule_s_own_serve_in_between_and_a_task_that_was_left_out_has_a_plain_head():
    class Own(Method):
        heads = "own"
        every = 2
        zero_gradients = "left out"

        def weigh(self, gramian):
            self.head_weights = gramian.new_full((len(gramian),), 3.0 + self.steps)
            return gramian.new_ones(len(gramian))

    trunk = torch.ones(2, requires_grad=True)
    heads = [torch.ones(2, requires_grad=True) for _ in range(3)]
    method = Own(3)
    for _ in range(2):
        losses = [(trunk.detach() if k == 1 else trunk) @ head for k, head in enumerate(heads)]
        assert method.backward(losses, shared=[trunk]).tolist() == [1, 0, 1]
        assert [head.grad.tolist() for head in heads] == [[3, 3], [1, 1], [3, 3]]
        assert trunk.grad.tolist() == [2, 2]


def test_a_rule_that_makes_the_update_itself_has_no_weights_to_give_to_heads():
    with pytest.raises(TypeError, match="heads = 'weighted' is for weigh"):

        class Wrong(Method):
            heads = "weighted"

            def combine(self, jacobian):
                return jacobian.sum(0)
