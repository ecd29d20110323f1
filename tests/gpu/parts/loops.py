"""What `method.backward` promises in somebody's own loop, on the device."""

import copy
import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import methods
from bench.checkpoint import Checkpoint
from bench.training.streams import make_repeatable

RULES = ("equal", "uncertainty", "mgda[at=shared]", "mgda[at=features]", "mgda[at=last]", "gradnorm[at=last]")
REMEMBERING = ("moco", "dbmtl", "excessmtl")
"""The rules that remember a gradient of each parameter, which is on the device."""
PLAIN = ("mgda[at=shared]", "mgda[at=features]", "mgda[at=last]")
"""The rules whose heads get their own gradient, not the weighted one."""
NEAR = 1e-5
"""The relative error of a gradient that counts as right, in float32."""


def run(notes, device, small):
    make_repeatable(torch.device(device))
    for rule in RULES:
        for what, scenario in SCENARIOS.items():
            if "features" in what and rule != "mgda[at=features]":
                continue
            notes.tried(f"{rule}: {what}", scenario, Loop(rule, device))
    for rule in REMEMBERING:
        notes.tried(f"{rule}: a run that is resumed from a file goes on with the same bytes", resumed, rule, device)


class Loop:
    """A small network with three heads, and a rule that meets it."""

    def __init__(self, rule, device, dtype=torch.float32):
        torch.manual_seed(0)
        self.rule, self.device = rule, device
        self.trunk = nn.Sequential(nn.Linear(20, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh()).to(device, dtype)
        self.heads = nn.ModuleList(nn.Linear(32, 1) for _ in range(3)).to(device, dtype)
        self.x, self.y = torch.randn(16, 20).to(device, dtype), torch.randn(3, 16, 1).to(device, dtype)
        self.method = methods.create(rule, num_tasks=3).to(device)

    def forward(self):
        """Return the features and the losses."""
        features = self.trunk(self.x)
        scales = (0.1, 1.0, 10.0)
        losses = [
            s * (head(features.to(head.weight.dtype)) - y.to(head.weight.dtype)).float().square().mean()
            for head, y, s in zip(self.heads, self.y, scales, strict=True)
        ]
        return features, losses

    def backward(self, features, losses):
        """Give the rule all that it may need."""
        return self.method.backward(
            losses, shared=self.trunk.parameters(), features=features, last=self.trunk[2].weight
        )

    def step(self, near=NEAR, absent=()):
        """Take a step, and return which gradients differ from autograd's for the weights that the rule used."""
        features, losses = self.forward()
        passed = [None if k in absent else loss for k, loss in enumerate(losses)]
        weights = self.backward(features, passed)
        found = {name: p.grad for name, p in self.named()}
        features, losses = self.forward()
        present = [loss for k, loss in enumerate(losses) if k not in absent]
        kept = [float(w) for k, w in enumerate(weights) if k not in absent]
        if any(float(weights[k]) for k in absent):
            return "an absent task has a weight"
        for name, parameter in self.named():
            own = [
                torch.autograd.grad(loss, parameter, retain_graph=True, allow_unused=True)[0]
                for loss in present
                if parameter.requires_grad
            ]
            plain = self.rule in PLAIN and name.startswith("heads")
            terms = [g * (1 if plain else w) for w, g in zip(kept, own, strict=False) if g is not None]
            if not terms or not own:
                if found[name] is not None:
                    return f"{name} has a gradient, and no loss reaches it"
                continue
            expected = torch.stack(terms).sum(0)
            if found[name] is None:
                return f"{name} has no gradient"
            if found[name].dtype != parameter.dtype or found[name].device != parameter.device:
                return f"the gradient of {name} is of {found[name].dtype} on {found[name].device}"
            size = sum(float(term.norm()) for term in terms)  # they may nearly cancel
            error = float((found[name] - expected).norm()) / size
            if not error <= near:
                return f"the gradient of {name} is wrong by {error:.1e}"
        return ""

    def named(self):
        """Return all parameters with their names."""
        return [
            *((f"trunk.{n}", p) for n, p in self.trunk.named_parameters()),
            *((f"heads.{n}", p) for n, p in self.heads.named_parameters()),
        ]


def resumed(rule, device):
    """Return what is wrong with steps after a stop, the first of which lacks a task."""
    whole, cut = Loop(rule, device), Loop(rule, device)
    for loop in (whole, cut):
        for absent in ((), (1,), ()):
            advance(loop, absent)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Checkpoint(Path(folder) / "state", key=rule, every=1)
        checkpoint.save(cut.method.state_dict())
        cut.method = methods.create(rule, num_tasks=3)  # nobody moves it
        cut.method.load_state_dict(checkpoint.load())
    for _, parameter in cut.named():  # as in the process that resumes
        parameter.grad = None
    for absent in ((2,), (), (0,)):
        for loop in (whole, cut):
            advance(loop, absent)
        for (name, one), (_, other) in zip(whole.named(), cut.named(), strict=True):
            if not torch.equal(one, other):
                return f"{name} is another"
    return ""


def advance(loop, absent):
    """Take a step of gradient descent without some of the tasks."""
    features, losses = loop.forward()
    loop.backward(features, [None if k in absent else loss for k, loss in enumerate(losses)])
    with torch.no_grad():
        for _, parameter in loop.named():
            if parameter.grad is not None:
                parameter.sub_(parameter.grad, alpha=0.01)


def several_steps(loop):
    return loop.step() or loop.step() or loop.step()


def frozen_head(loop):
    wrong = loop.step()
    loop.heads[0].requires_grad_(False)
    wrong = wrong or loop.step()
    loop.heads[0].requires_grad_(True)
    return wrong or loop.step() or loop.step()


def frozen_layer(loop):
    loop.trunk[0].requires_grad_(False)
    wrong = loop.step()
    loop.trunk[0].requires_grad_(True)
    return wrong or loop.step()


def replaced_head(loop):
    wrong = loop.step()
    loop.heads[1] = nn.Linear(32, 1).to(loop.device)
    return wrong or loop.step() or loop.step()


def another_network(loop):
    other = Loop(loop.rule, loop.device)
    wrong = loop.step()
    other.method = loop.method
    return wrong or other.step() or other.step()


def copied_method(loop):
    wrong = loop.step()
    loop.method = copy.deepcopy(loop.method)
    return wrong or loop.step()


def absent_task(loop):
    return loop.step(absent=(1,)) or loop.step() or loop.step(absent=(0, 2)) or loop.step()


def unmoved_method(loop):
    loop.method = methods.create(loop.rule, num_tasks=3)
    return loop.step() or loop.step()


def bfloat16(loop):
    loop = Loop(loop.rule, loop.device, torch.bfloat16)
    return loop.step(near=3e-2) or loop.step(near=3e-2)


def mixed_types(loop):
    loop.heads[0].to(torch.bfloat16)
    loop.heads[1].to(torch.float64)
    return loop.step(near=3e-2)


def autocast_around(loop):
    features, losses = loop.forward()
    with torch.autocast(loop.device, torch.bfloat16):
        loop.backward(features, losses)
    inside = [p.grad.clone() for _, p in loop.named()]
    loop.method = methods.create(loop.rule, num_tasks=3).to(loop.device)
    loop.backward(*loop.forward())
    same = all(torch.equal(a, p.grad) for a, (_, p) in zip(inside, loop.named(), strict=True))
    return "" if same else "autocast around backward changes gradients"


def checkpointed(loop):
    layers = loop.trunk
    x = loop.x
    features = checkpoint(layers, x, use_reentrant=False)
    losses = [(head(features) - y).square().mean() for head, y in zip(loop.heads, loop.y, strict=True)]
    loop.backward(features, losses)
    found = [p.grad.clone() for _, p in loop.named()]
    loop.method = methods.create(loop.rule, num_tasks=3).to(loop.device)
    features = layers(x)
    loop.backward(features, [(head(features) - y).square().mean() for head, y in zip(loop.heads, loop.y, strict=True)])
    near = all(torch.allclose(a, p.grad, rtol=1e-4) for a, (_, p) in zip(found, loop.named(), strict=True))
    return "" if near else "checkpointing changes gradients"


def not_finite(loop):
    features, losses = loop.forward()
    losses[1] = losses[1] * torch.nan
    try:
        loop.backward(features, losses)
    except methods.DivergedError as problem:
        return "" if problem.task == 1 else f"it names task {problem.task}"
    return "a loss that is NaN was taken"


def no_scalars(loop):
    features, losses = loop.forward()
    try:
        loop.backward(features, [loss.expand(2) for loss in losses])
    except ValueError:
        return ""
    return "losses of two elements were taken"


def copied_features(loop):
    features, losses = loop.forward()
    return refused(loop, features * 1, losses)


def early_features(loop):
    _, losses = loop.forward()
    return refused(loop, loop.trunk[0](loop.x), losses)


def refused(loop, features, losses):
    """Return what is wrong unless the rule refuses these features."""
    try:
        loop.backward(features, losses)
    except methods.DoesNotFitError:
        return ""
    return "they were believed"


SCENARIOS = {
    "gradients of several steps do not add up": several_steps,
    "a head is frozen and learns again": frozen_head,
    "a shared layer is frozen and learns again": frozen_layer,
    "a head is replaced between steps": replaced_head,
    "a method meets a second network": another_network,
    "a method is deep-copied between steps": copied_method,
    "a task is absent from a batch": absent_task,
    "a method that nobody moved to the device works": unmoved_method,
    "a network in bfloat16 gets gradients of its type": bfloat16,
    "heads of other types get gradients of theirs": mixed_types,
    "autocast around backward changes nothing": autocast_around,
    "a checkpointed trunk gets the same gradients": checkpointed,
    "a loss that is NaN is refused and its task named": not_finite,
    "losses that are not scalars are refused": no_scalars,
    "a copy of the features is refused": copied_features,
    "features that miss a shared layer are refused": early_features,
}
