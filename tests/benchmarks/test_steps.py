"""Whole training steps of every rule, on two reference networks, beside TorchJD's of the same rules.

What is timed is one step on one fixed batch, in float32 on one thread: forward, the K losses, the rule's `backward`
(with the step of its own optimiser), Adam's step, and a second forward where the rule asks for it. Right before each
step that is timed, equal weights take one on a network of their own, so that both meet the same machine. The median
over rounds of the one's time over the other's is `times_equal`, with the quartiles around it; where others use the
machine, too, it is steadier than the fastest over the fastest.
"""

import statistics
import time
import typing
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional
from torchjd import aggregation, autojac, scalarization

import methods
from bench.records import REFERENCE
from methods.core.options import REQUIRED
from tasks.core.base import Network, Outputs
from tasks.networks.mlp import MLP

ROUNDS = {"conv": 30, "mlp": 100}
WARMUP = 3


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
    """A reference network in training: its batch, losses and optimiser, and teachers for rules that distil."""

    def __init__(self, name):
        torch.manual_seed(0)
        if name == "conv":
            build = Conv
            outputs = {"segmentation": 13, "depth": 1, "normals": 3}
            self.inputs = {"x": torch.randn(8, 3, 32, 32)}
            targets = [torch.randint(13, (8, 32, 32)), torch.randn(8, 1, 32, 32), torch.randn(8, 3, 32, 32)]
            losses = [functional.cross_entropy, functional.l1_loss, functional.mse_loss]
        else:
            build = partial(MLP, "x", (64, 256, 256, 128))
            outputs = {f"task{k}": 1 for k in range(8)}
            self.inputs = {"x": torch.randn(256, 64)}
            targets = [torch.randn(256, 1) for _ in range(8)]
            losses = [functional.mse_loss] * 8
        self.network = build(outputs)
        self.teachers = [Teacher(build({name: size})) for name, size in outputs.items()]
        self.goals = list(zip(losses, targets, strict=True))
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-4, fused=True)

    def forward(self):
        outputs = self.network(self.inputs)
        predictions = outputs.predictions.values()
        losses = [loss(p, target) for p, (loss, target) in zip(predictions, self.goals, strict=True)]
        return outputs, losses


def rules(count):
    """The variants to time, by what they are called: every rule of this project, at every place where it can measure;
    what adds terms also on top of a rule that measures. An option that must be given gets a 1 per task."""
    registry, found = methods.registry, {}
    for name, entry in registry.built_in().items():
        described = registry.describe(entry)
        options = described.options
        given = [f"{o}={':'.join('1' * count)}" for o, option in options.items() if option.default is REQUIRED]
        found[name] = f"{name}[{','.join(given)}]"
        if at := options.get("at"):
            places = [f"at={place}" for place in typing.get_args(at.type) if place != at.default]
            found |= {f"{name}[{place}]": f"{name}[{','.join([*given, place])}]" for place in places}
        if described.facts["extra"]:
            found[f"{name}+mgda"] = f"{found[name]}+mgda"
    return found


def own_step(problem, variant):
    """A step of a rule of this project."""
    count = len(problem.goals)
    method = methods.create(variant, num_tasks=count, teachers=problem.teachers)
    network, shared = problem.network, problem.network.shared
    if method.overrides("after_epoch"):  # some weigh nothing before they have heard of two epochs
        for value in (2.0, 1.0):
            losses = torch.full((count,), value)
            method.end_epoch(losses=losses.clone, validation=losses.clone)

    def step():
        outputs, losses = problem.forward()
        given = {"inputs": problem.inputs, "taps": list(outputs.taps.values())}
        method.backward(losses, shared=shared, features=outputs.features, last=network.last, **given)
        problem.optimizer.step()
        if method.overrides("after_step"):
            with torch.no_grad():
                method.end_step(torch.stack(problem.forward()[1]))

    return step


def scalarized(problem, scalarizer):
    """A step on one scalar made of the losses, as TorchJD's documentation writes it."""
    parameters = [*problem.network.parameters(), *scalarizer.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-4, fused=True)

    def step():
        _, losses = problem.forward()
        scalarizer(torch.stack(losses)).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def jacobian_descent(problem, aggregator):
    """A step along an aggregation of the Jacobian, as TorchJD's documentation writes it."""
    trunk = [parameter for _, parameter in problem.network.shared]

    def step():
        outputs, losses = problem.forward()
        autojac.mtl_backward(losses, features=outputs.features)
        autojac.jac_to_grad(trunk, aggregator)
        problem.optimizer.step()
        problem.optimizer.zero_grad()

    return step


def weight_average(problem):
    scalarizer = scalarization.DWA()
    for value in (2.0, 1.0):  # as of ours, above
        scalarizer(torch.full((len(problem.goals),), value))
        scalarizer.step()
    return scalarized(problem, scalarizer)


TORCHJD = {
    "equal": lambda problem: scalarized(problem, scalarization.Sum()),
    "static": lambda problem: scalarized(problem, scalarization.Constant(torch.ones(len(problem.goals)))),
    "uncertainty": lambda problem: scalarized(problem, scalarization.UW(len(problem.goals))),
    "dwa": weight_average,
    "mgda": lambda problem: jacobian_descent(problem, aggregation.MGDA()),
}
"""Its implementations of rules that are also here."""

LIBRARIES = {"mtl-bench": rules(1), "TorchJD": TORCHJD}
CASES = [(network, method, library) for network in ROUNDS for library, known in LIBRARIES.items() for method in known]


@pytest.mark.parametrize(("network", "method", "library"), CASES)
def test_step(benchmark, network, method, library):
    equal, problem = own_step(Problem(network), REFERENCE), Problem(network)
    own = rules(len(problem.goals))
    step = TORCHJD[method](problem) if library == "TorchJD" else own_step(problem, own[method])
    seconds = []

    def step_of_equal_weights():
        begin = time.perf_counter()
        equal()
        seconds.append(time.perf_counter() - begin)

    benchmark.group = f"step: {network}"
    benchmark.pedantic(step, setup=step_of_equal_weights, rounds=ROUNDS[network], warmup_rounds=WARMUP)
    if benchmark.enabled:
        pairs = zip(benchmark.stats["data"], seconds[WARMUP:], strict=True)
        low, middle, high = statistics.quantiles([own / reference for own, reference in pairs], n=4)
        benchmark.extra_info |= {"times_equal": middle, "low": low, "high": high}
