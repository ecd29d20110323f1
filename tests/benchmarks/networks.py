"""The reference networks in training, and the rules that are timed and tried on them."""

import typing
from contextlib import nullcontext
from functools import partial

import torch
from torch import nn
from torch.nn import functional

import methods
from methods.core.options import REQUIRED
from tasks.core.base import Network, Outputs
from tasks.networks.mlp import MLP
from tasks.networks.segnet import SegNet


class Conv(Network):
    """An encoder-decoder with batch norm, 481k shared parameters, and a 1×1 head per task at the image's size."""

    def __init__(self, outputs):
        super().__init__()
        self.encoder = nn.Sequential(
            block(3, 32), block(32, 64, stride=2), block(64, 128, stride=2), block(128, 128), block(128, 128)
        )
        self.decoder = nn.Sequential(
            nn.Upsample(scale_factor=2), block(128, 64), nn.Upsample(scale_factor=2), block(64, 32)
        )
        self.heads = nn.ModuleDict({name: nn.Conv2d(32, size, 1) for name, size in outputs.items()})

    @property
    def shared(self):
        return [item for item in self.named_parameters() if not item[0].startswith("heads.")]

    @property
    def last(self):
        return self.decoder[-1][0].weight

    def forward(self, inputs):
        bottleneck = self.encoder(inputs["x"])
        features = self.decoder(bottleneck)
        predictions = {name: head(features) for name, head in self.heads.items()}
        return Outputs(predictions, features, dict.fromkeys(predictions, (bottleneck, features)))


def block(inputs, outputs, stride=1):
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


class Teacher(nn.Module):
    """A network of one task, as distillation reads it."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, inputs):
        [taps] = self.network(inputs).taps.values()
        return taps


class Problem:
    """A reference network in training: its batch, losses and optimiser, and teachers for rules that distil.

    All numbers are drawn on the CPU in float32, so that they are the same on every device and in every type. With
    `small` there are fewer examples, and of `segnet` fewer channels and pixels, for a rehearsal. With `low` the network
    runs under bfloat16 autocast, as with `--precision bf16-mixed`.
    """

    def __init__(self, name, device="cpu", dtype=torch.float32, small=False, low=False, batch=8):
        torch.manual_seed(0)
        self.device, self.dtype, self.low = torch.device(device), dtype, low
        if name in ("conv", "segnet"):
            build = Conv if name == "conv" else partial(SegNet, "x", channels=1 / 16 if small else 1)
            outputs = {"segmentation": 13, "depth": 1, "normals": 3}
            full = (32, 32) if name == "conv" else (288, 384)
            less = (16, 16) if name == "conv" else (32, 32)
            batch, size = (2, less) if small else (batch, full)
            inputs = torch.randn(batch, 3, *size)
            classes = torch.randint(13, (batch, *size))
            targets = [classes, torch.randn(batch, 1, *size), torch.randn(batch, 3, *size)]
            losses = [functional.cross_entropy, functional.l1_loss, functional.mse_loss]
        else:
            count = {"mlp": 8, "mlp40": 40}[name]
            build = partial(MLP, "x", (64, 256, 256, 128))
            outputs = {f"task{k}": 1 for k in range(count)}
            batch = 32 if small else 256
            inputs = torch.randn(batch, 64)
            targets = [torch.randn(batch, 1) for _ in range(count)]
            losses = [functional.mse_loss] * count
        self.inputs = {"x": inputs.to(device, dtype)}
        targets = [target.to(device, dtype if target.is_floating_point() else None) for target in targets]
        self.network = build(outputs).to(device, dtype)
        self.shared, self.last = self.network.shared, self.network.last
        self.teachers = [Teacher(build({name: size})).to(device, dtype) for name, size in outputs.items()]
        self.goals = list(zip(losses, targets, strict=True))
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-4, fused=True)

    def forward(self):
        """Return the outputs, and the K losses in the network's type, under autocast too."""
        around = torch.autocast(self.device.type, torch.bfloat16) if self.low else nullcontext()
        with around:
            outputs = self.network(self.inputs)
        predictions = outputs.predictions.values()
        losses = [loss(p.to(self.dtype), target) for p, (loss, target) in zip(predictions, self.goals, strict=True)]
        return outputs, losses

    def method(self, variant):
        """Return a rule of this project on this problem's device; one that waits for epochs has heard of them."""
        count = len(self.goals)
        method = methods.create(variant, num_tasks=count, teachers=self.teachers).to(self.device)
        if method.overrides("after_epoch"):  # some weigh nothing before the sixth
            for value in (6.0, 5.0, 4.0, 3.0, 2.0, 1.0):
                losses = torch.full((count,), value, device=self.device)
                method.end_epoch(losses=losses.clone, validation=losses.clone)
        return method

    def backward(self, method, outputs, losses):
        """Let the rule turn the losses into gradients."""
        return method.backward(
            losses,
            shared=self.shared,
            features=outputs.features,
            last=self.last,
            inputs=self.inputs,
            taps=list(outputs.taps.values()),
        )


def rules():
    """The variants to time: every rule of this project, at every place where it can measure; what adds terms also on
    top of a rule that measures. A rule that needs an option is left out: only a harness knows what `frozen` freezes."""
    registry, found = methods.registry, []
    for name, entry in registry.built_in().items():
        described = registry.describe(entry)
        options = described.options
        if any(option.default is REQUIRED for option in options.values()):
            continue
        found.append(name)
        if at := options.get("at"):
            found += [f"{name}[at={place}]" for place in typing.get_args(at.type) if place != at.default]
        if described.facts["extra"]:
            found.append(f"{name}+mgda")
    return found


def own_step(problem, variant):
    """Return a step of a rule of this project, to be called."""
    method = problem.method(variant)

    def step():
        outputs, losses = problem.forward()
        problem.backward(method, outputs, losses)
        problem.optimizer.step()
        if method.overrides("after_step"):
            with torch.no_grad():
                method.end_step(torch.stack(problem.forward()[1]))

    return step


def bare_step(problem):
    """Return a step on the sum of the losses, as somebody would write it, to be called."""

    def step():
        _, losses = problem.forward()
        problem.optimizer.zero_grad()
        sum(losses).backward()
        problem.optimizer.step()

    return step
