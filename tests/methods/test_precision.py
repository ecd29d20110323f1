"""Every rule on a network that runs under bfloat16 autocast, against the same step in float32.

The tolerance is derived, not tried out. bfloat16 keeps 8 bits, so rounding errs by at most U = 2⁻⁸. Under autocast each
layer of the network below rounds three times on the way forward (its weight, its sum, its activation) and as often on
the way back. The gradient of a weight goes through all L layers in both directions and is rounded itself: 6 L + 1
roundings. They are independent, so that a task gradient errs by about √(6 L + 1) U of its length, where layers do not
amplify errors (tanh does not, nor do weights of this size). Everything else is done in float32 and float64 and adds
nothing. A rule makes its weights of inner products, in which two gradients err: an update errs by twice that.
"""

import copy
import math

import pytest
import torch
from torch import nn

import methods

U = 2.0**-8
LAYERS = 3
"""Two of the trunk and one of the head."""
GRADIENT = math.sqrt(6 * LAYERS + 1) * U
"""1.7 %: what a task gradient may err by."""
UPDATE = 2 * GRADIENT
DRAWN = math.sqrt(GRADIENT)
"""GradDrop compares the purity of a coordinate, which errs by GRADIENT, with a random number. So in a share GRADIENT of
the coordinates it takes the other sign, which changes all that is there: this is the square of the whole error."""
STEPS = 2

KD = ["kd", *(f"kd+mgda[at={place}]" for place in ("shared", "features", "last"))]


class Small(nn.Module):
    """Two convolutions and a head of one for each task, whose targets agree in part, so that gradients conflict."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 8, 3, padding=1), nn.Tanh())
        self.heads = nn.ModuleList(nn.Conv2d(8, 1, 1) for _ in range(3))
        self.inputs = torch.randn(STEPS, 8, 3, 8, 8)
        alike = torch.randn(STEPS, 1, 8, 1, 8, 8)
        self.targets = 2 + 0.7 * alike + torch.randn(STEPS, 3, 8, 1, 8, 8)

    def forward(self, number, *, low):
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            features = self.trunk(self.inputs[number])
            predictions = [head(features) for head in self.heads]
        pairs = zip((0.5, 1.0, 2.0), predictions, self.targets[number], strict=True)
        losses = [scale * (p.float() - target).square().mean() for scale, p, target in pairs]
        return losses, features


class Teacher(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 8, 1)

    def forward(self, inputs):
        return (torch.tanh(self.layer(inputs["x"])),)


@pytest.fixture(scope="module")
def teachers():
    torch.manual_seed(1)
    return [Teacher() for _ in range(3)]


def built(variant, teachers):
    method = methods.create(variant, num_tasks=3, teachers=copy.deepcopy(teachers))
    if method.overrides("after_epoch"):  # some weigh nothing before the sixth
        for mean in (6.0, 5.0, 4.0, 3.0, 2.0, 1.0):
            means = torch.tensor([mean, 1.5 * mean, mean**1.5])
            method.end_epoch(losses=means.clone, validation=means.clone)
    return method


def trained(variant, teachers, *, low):
    """Take the steps, with `backward` under autocast, too; return gradients, weights and what the rule was given."""
    net, method, told = Small(), built(variant, teachers), []
    own = getattr(method, method.rule)

    def spy(*positional, **named):
        assert not torch.is_autocast_enabled("cpu")
        told.append({**named, **({"losses": positional[0]} if positional else {})})
        return own(*positional, **named)

    setattr(method, method.rule, spy)
    for number in range(STEPS):
        losses, features = net(number, low=low)
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            weights = method.backward(
                losses,
                shared=net.trunk.parameters(),
                features=features,
                last=net.trunk[2].weight,
                inputs={"x": net.inputs[number]},
                taps=[(features,)] * 3,
            )
        if method.overrides("after_step"):
            falls = torch.tensor([0.9, 0.7, 0.8])  # unlike ones: of equal ones Adam would see nothing but rounding
            method.end_step(falls * torch.stack([loss.detach() for loss in losses]))
    return net, weights, told


def error(found, exact):
    return float((found - exact).norm() / exact.norm())


def flat(module):
    return torch.cat([parameter.grad.flatten() for parameter in module.parameters()])


def assert_near(variant, teachers):
    (low, weights, told), (full, _, _) = (trained(variant, teachers, low=low) for low in (True, False))
    for parameter in low.parameters():
        assert parameter.grad.dtype == torch.float32
        assert parameter.grad.isfinite().all()
    measures = any("gramian" in given or "jacobian" in given for given in told)
    for given in told:
        if "gramian" in given:
            assert given["gramian"].dtype == torch.float64
        if "jacobian" in given:
            assert given["jacobian"].dtype == torch.float32
        if "losses" in given:
            assert given["losses"].dtype == (torch.float64 if measures else torch.float32)
    assert weights is None or (weights.dtype == torch.float32 and bool(weights.isfinite().all()))
    assert 0 < error(flat(low.trunk), flat(full.trunk)) <= (DRAWN if variant.startswith("graddrop") else UPDATE)
    assert error(flat(low.heads), flat(full.heads)) <= UPDATE


def test_a_step_under_bf16_is_that_of_float32_but_for_the_roundings_of_the_network(variant, teachers):
    assert_near(variant, teachers)


@pytest.mark.parametrize("distilling", KD)
def test_so_is_a_step_with_distillation(distilling, teachers):
    assert_near(distilling, teachers)


def test_the_task_gradients_err_as_derived_and_conflict():
    found = []
    for low in (True, False):
        net = Small()
        losses, _ = net(0, low=low)
        parameters = list(net.trunk.parameters())
        rows = [torch.autograd.grad(loss, parameters, retain_graph=True) for loss in losses]
        found.append(torch.stack([torch.cat([part.flatten() for part in row]) for row in rows]))
    for low, full in zip(*found, strict=True):
        assert 0 < error(low, full) <= GRADIENT
    assert torch.corrcoef(found[1]).min() < -0.3
