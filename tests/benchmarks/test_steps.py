"""Whole training steps of every rule, on three reference networks, beside TorchJD's of the same rules.

What is timed is one step on one fixed batch, in float32 on one thread: forward, the K losses, the rule's `backward`
(with the step of its own optimiser), Adam's step, and a second forward where the rule asks for it. Right before each
step that is timed, equal weights take one on a network of their own, so that both meet the same machine. The median
over rounds of the one's time over the other's is `times_equal`, with the quartiles around it; where others use the
machine, too, it is steadier than the fastest over the fastest. Beside the times of ours stand the passes of a step,
which hooks count.
"""

import statistics
import time

import pytest
import torch
from networks import Problem, own_step, rules
from torchjd import aggregation, autojac, scalarization

from bench.records import REFERENCE
from bench.training.meters import Passes

NETWORKS = ("conv", "mlp", "mlp40")
SECONDS = 2.0
"""So long each rule is timed on each network, with the steps of equal weights."""
LEAST, MOST = 10, 100
"""Rounds."""
WARMUP = 3


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


def looking_back(problem):
    """A step of FAMO, whose scalarizer is told the losses after the step, too."""
    scalarizer = scalarization.FAMO(len(problem.goals))
    step = scalarized(problem, scalarizer)

    def both():
        step()
        with torch.no_grad():
            losses = torch.stack(problem.forward()[1])
        scalarizer.update(losses)

    return both


SCALARIZERS = {
    "equal": lambda count: scalarization.Sum(),
    "static": lambda count: scalarization.Constant(torch.ones(count)),
    "uncertainty": scalarization.UW,
    "gls": lambda count: scalarization.GeometricMean(),
    "imtll": scalarization.IMTLL,
    "rlw": lambda count: scalarization.Random(),
    "stch": lambda count: scalarization.STCH(mu=1.0),
}
AGGREGATORS = {
    "alignedmtl": lambda count: aggregation.AlignedMTL(),
    "cagrad": lambda count: aggregation.CAGrad(c=0.4),
    "config": lambda count: aggregation.ConFIG(),
    "dualproj": lambda count: aggregation.DualProj(),
    "excessmtl": lambda count: aggregation.ExcessMTL(),
    "fairgrad": lambda count: aggregation.FairGrad(alpha=2.0),
    "graddrop": lambda count: aggregation.GradDrop(),
    "gradvac": lambda count: aggregation.GradVac(),
    "imtlg": lambda count: aggregation.IMTLG(),
    "mgda": lambda count: aggregation.MGDA(),
    "nashmtl": lambda count: aggregation.NashMTL(n_tasks=count),
    "pcgrad": lambda count: aggregation.PCGrad(),
    "rgw": lambda count: aggregation.Random(),
    "upgrad": lambda count: aggregation.UPGrad(),
}
LOOPS = {"dwa": weight_average, "famo": looking_back}
TORCHJD = [*SCALARIZERS, *AGGREGATORS, *LOOPS]
"""Its implementations of rules that are also here."""


def their_step(problem, method):
    count = len(problem.goals)
    if method in SCALARIZERS:
        return scalarized(problem, SCALARIZERS[method](count))
    if method in AGGREGATORS:
        return jacobian_descent(problem, AGGREGATORS[method](count))
    return LOOPS[method](problem)


LIBRARIES = {"mtl-bench": [rule for rule in rules() if not rule.endswith("[at=last]")], "TorchJD": TORCHJD}
CASES = [(network, method, library) for network in NETWORKS for library, known in LIBRARIES.items() for method in known]


@pytest.mark.parametrize(("network", "method", "library"), CASES)
def test_step(benchmark, network, method, library):
    equal, problem = own_step(Problem(network), REFERENCE), Problem(network)
    step = their_step(problem, method) if library == "TorchJD" else own_step(problem, method)
    seconds = []

    def step_of_equal_weights():
        begin = time.perf_counter()
        equal()
        seconds.append(time.perf_counter() - begin)

    for _ in range(WARMUP):
        begin = time.perf_counter()
        step_of_equal_weights()
        step()
    rounds = max(LEAST, min(MOST, int(SECONDS / (time.perf_counter() - begin))))
    benchmark.group = f"step: {network}"
    benchmark.pedantic(step, setup=step_of_equal_weights, rounds=rounds)
    if benchmark.enabled:
        pairs = zip(benchmark.stats["data"], seconds[WARMUP:], strict=True)
        low, middle, high = statistics.quantiles([own / reference for own, reference in pairs], n=4)
        benchmark.extra_info |= {"times_equal": middle, "low": low, "high": high}
    if library != "TorchJD":  # its Jacobian is one batched pass, which a hook cannot tell from a single one
        passes = Passes(problem.network, problem.teachers)
        step()
        benchmark.extra_info |= passes.counts


def test_what_torchjd_has_is_timed_beside_ours():
    assert set(TORCHJD) <= set(LIBRARIES["mtl-bench"])
