"""What holds of every built-in rule with its default options; one that is added is covered by being there."""

import copy
import io

import pytest
import torch

import methods


def create(variant, tasks, seed=0):
    return methods.create(variant, num_tasks=tasks, seed=seed).to(torch.float64)


def step(net, method, choose=lambda losses: losses):
    """One step of training, with all that a loop tells a method; return (weights, the trunk's update)."""
    outputs = net()
    weights = net.give(method, losses=choose(outputs.losses), cut=outputs.cut)
    update = torch.cat([parameter.grad.flatten() for parameter in net.trunk.parameters()])
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.grad is not None:
                parameter.sub_(0.01 * parameter.grad)
    losses = torch.stack([loss.detach() for loss in choose(net().losses)])
    if method.overrides("after_step"):
        method.after_step(losses)
    if method.overrides("after_epoch"):
        method.end_epoch(losses=lambda: losses, validation=lambda: losses)
    return None if weights is None else weights.clone(), update


def assert_finite(net, weights, update):
    assert weights is None or torch.isfinite(weights).all()
    assert torch.isfinite(update).all()
    gradients = [parameter.grad for parameter in net.parameters() if parameter.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@pytest.fixture
def double(network):
    return lambda tasks: network("mlp", tasks=tasks, dtype=torch.float64)


def test_there_are_rules(variants):
    assert {"equal", "uncertainty", "mgda[at=shared]", "mgda[at=features]", "mgda[at=last]"} <= set(variants)


def test_one_task_alone_is_followed(double, variant):
    net, method = double(1), create(variant, 1)
    for _ in range(5):
        gradients = net.gradients(net().losses[0])
        plain = torch.cat([gradients[f"trunk.{name}"].flatten() for name, _ in net.trunk.named_parameters()])
        _, update = step(net, method)
        scale = (update @ plain) / (plain @ plain)
        assert scale > 0
        torch.testing.assert_close(update, scale * plain, rtol=1e-6, atol=1e-9 * float(update.abs().max()))


def test_forty_tasks_stay_finite(double, variant):
    net, method = double(40), create(variant, 40)
    for _ in range(3):
        weights, update = step(net, method)
        assert_finite(net, weights, update)
        assert update.any()


AWKWARD = {
    "a zero gradient": lambda losses: [losses[0] * 0 + 1, *losses[1:]],
    "two zero gradients": lambda losses: [losses[0] * 0 + 1, losses[1] * 0 + 2, *losses[2:]],
    "zero gradients only": lambda losses: [loss * 0 + 1 for loss in losses],
    "a constant loss": lambda losses: [torch.ones((), dtype=torch.float64), *losses[1:]],
    "the same loss twice": lambda losses: [losses[0], losses[0], *losses[2:]],
    "the same loss throughout": lambda losses: [losses[0] for _ in losses],
    "a multiple of a loss": lambda losses: [losses[0], losses[0] * 1e6, *losses[2:]],
    "opposites": lambda losses: [losses[0], 100 - losses[0], *losses[2:]],
    "very unlike scales": lambda losses: [losses[0] * 1e-9, losses[1], *[loss * 1e9 for loss in losses[2:]]],
}


@pytest.mark.parametrize("what", AWKWARD)
@pytest.mark.parametrize("tasks", [2, 3])
def test_awkward_gradients_stay_finite(double, variant, tasks, what):
    net, method = double(tasks), create(variant, tasks)
    start = copy.deepcopy(net.state_dict())
    for _ in range(3):
        weights, update = step(net, method, AWKWARD[what])
        assert_finite(net, weights, update)
        net.load_state_dict(start)  # a step of any length would diverge on such losses
    assert isinstance(method.degenerate, int)
    assert 0 <= method.degenerate <= 3


def test_a_rule_goes_on_from_its_state_bit_for_bit(double, variant):
    net, method = double(3), create(variant, 3, seed=1)
    for _ in range(4):
        step(net, method)
    file = io.BytesIO()
    torch.save({"net": net.state_dict(), "method": method.state_dict()}, file)
    expected = [step(net, method) for _ in range(4)]

    file.seek(0)
    saved = torch.load(file, weights_only=True)
    other, restored = double(3), create(variant, 3, seed=2)
    other.load_state_dict(saved["net"])
    restored.load_state_dict(saved["method"])
    for weights, update in expected:
        again, repeated = step(other, restored)
        assert torch.equal(repeated, update)
        assert weights is None or torch.equal(again, weights)
    assert (restored.steps, restored.degenerate) == (method.steps, method.degenerate)


def test_a_seed_fixes_a_rule_and_the_global_generator_is_left_alone(double, variant):
    ends = []
    for global_seed in (0, 1):
        net = double(3)
        torch.manual_seed(global_seed)
        method = create(variant, 3)
        updates = [step(net, method)[1] for _ in range(3)]
        after = torch.rand(1)
        torch.manual_seed(global_seed)
        assert torch.equal(after, torch.rand(1))
        ends.append(updates)
    assert all(torch.equal(one, two) for one, two in zip(*ends, strict=True))


# Claims ----------------------------------------------------------------------------------------------------


def check_permutation(double, variant):
    """The order of the tasks permutes the weights and leaves the trunk's update alone, step after step."""
    order = [3, 0, 4, 1, 2]
    net, method = double(5), create(variant, 5)
    other, permuted = double(5), create(variant, 5)
    for _ in range(4):
        weights, update = step(net, method)
        again, same = step(other, permuted, lambda losses: [losses[k] for k in order])
        torch.testing.assert_close(same, update, rtol=1e-6, atol=1e-8 * float(update.abs().max()))
        if weights is not None:
            torch.testing.assert_close(again, weights[order], rtol=1e-5, atol=1e-9)


CLAIMS = {"permutation": check_permutation}


def test_what_a_rule_claims_of_its_update_holds(double, variant):
    for claim in methods.registry.find(variant.partition("[")[0]).load().invariant:
        assert claim in CLAIMS, f"nothing tests the claim {claim!r}: add a check of it here"
        CLAIMS[claim](double, variant)


ORDERED = """
import torch
from methods.core.base import Method

class Ordered(Method):
    def weigh(self, losses):
        return torch.arange(1.0, 6).to(losses)
"""


def test_a_rule_that_looks_at_the_order_fails_the_check(double, tmp_path):
    (tmp_path / "ordered.py").write_text(ORDERED)
    with pytest.raises(AssertionError):
        check_permutation(double, f"{tmp_path}/ordered.py")


def test_a_step_is_as_many_passes_as_its_route_costs(double, variant):
    """K through the trunk for what is measured at the shared parameters, and one for all else."""
    net, passes = double(4), []
    net.trunk[2].register_full_backward_hook(lambda *_: passes.append(1))
    net.give(create(variant, 4))
    assert len(passes) == (4 if "at=shared" in variant else 1)
