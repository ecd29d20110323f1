"""Whole training steps of every rule, on two reference networks, beside TorchJD's of the same rules.

What is timed is one step on one fixed batch, in float32 on one thread: forward, the K losses, the rule's `backward`
(with the step of its own optimiser), Adam's step, and a second forward where the rule asks for it. Right before each
step that is timed, equal weights take one on a network of their own, so that both meet the same machine. The median
over rounds of the one's time over the other's is `times_equal`, with the quartiles around it; where others use the
machine, too, it is steadier than the fastest over the fastest.
"""

import statistics
import time

import pytest
import torch
from networks import Problem, own_step, rules
from torchjd import aggregation, autojac, scalarization

from bench.records import REFERENCE

ROUNDS = {"conv": 30, "mlp": 100}
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
