"""Equal weights: the reference that every other rule is compared with."""

import methods


def test_it_is_one_plain_backward_of_the_sum(network):
    net = network()
    outputs = net()
    expected = net.gradients(sum(outputs.losses))
    weights = net.give(methods.create("equal", num_tasks=3), outputs)
    net.assert_gradients(expected)
    assert weights.tolist() == [1, 1, 1]


def test_it_takes_nothing_but_losses_and_trunk(network):
    net = network()
    nothing = dict.fromkeys(("features", "last", "inputs", "taps"))
    net.give(methods.create("equal", num_tasks=3), **nothing)
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_it_has_no_state_that_learns():
    assert not list(methods.create("equal", num_tasks=3).parameters())
