"""The K×K problems behind the rules, ours and TorchJD's, on random and conflicting gradients of any lengths.

Each round solves another of the problems whose best values are stored beside tests/methods/make_optima.py. How far the
worst answer is from the best stands beside the time, so that speed is not bought with wrongness.
"""

import json
import pkgutil
import time
from functools import cache, partial
from itertools import cycle
from pathlib import Path

import make_optima
import pytest
import torch
from make_optima import COUNTS, C, Rows, gap
from torchjd import aggregation
from torchjd.linalg import QuadprogProjector

from methods.core import solvers
from methods.core.solvers.bargaining import bargain
from methods.core.solvers.cagrad import conflict_averse
from methods.core.solvers.cone import project_onto_cone
from methods.core.solvers.min_norm import min_norm_point

KNOWN = json.loads(Path(make_optima.__file__).with_name("optima.json").read_text())
SECONDS = 0.5
"""So long each solver of each problem is timed."""
LEAST, MOST = 20, 1000
"""Rounds."""


def first_of_rows(rows):
    """Which row's projection is known; all are computed."""
    return rows.least("row").index(1)


def bounds(rows, problem):
    """The lower bounds of weights: those of the mean gradient, or of each gradient by itself."""
    mean = torch.tensor(rows.least("mean"), dtype=torch.float64)
    return mean if problem == "mean" else torch.eye(rows.count, dtype=torch.float64)


def weighting(build):
    """One of TorchJD's that reads a Gramian."""
    return lambda rows, gramian: partial(build(), gramian)


def nash_by_convex_programs(rows, gramian):
    """TorchJD's Nash-MTL, which reads gradients, and solves for the Gramian divided by its norm."""
    matrix = torch.tensor(rows.matrix, dtype=torch.float64)
    solver, length = aggregation.NashMTL(n_tasks=rows.count, max_norm=0).weighting, gramian.norm().sqrt()

    def solve():
        solver.reset()
        return solver(matrix) / length

    return solve


def averse(weights):
    """The dual's weights in those of the update, which are 1/K more."""
    part = weights - 1 / len(weights)
    return part / part.sum() if part.sum() > 0 else torch.full_like(weights, 1 / len(weights))


SOLVERS = {
    "shortest vector of the hull": (
        "hull",
        {
            "mtl-bench": lambda rows, gramian: partial(min_norm_point, gramian),
            "TorchJD": weighting(aggregation.MGDAWeighting),
        },
    ),
    "projection of the mean onto the dual cone (DualProj)": (
        "mean",
        {
            "mtl-bench": lambda rows, gramian: partial(project_onto_cone, gramian, bounds(rows, "mean")),
            "TorchJD": lambda rows, gramian: partial(QuadprogProjector(), bounds(rows, "mean"), gramian),
        },
    ),
    "projection of every gradient onto the dual cone (UPGrad)": (
        "row",
        {
            "mtl-bench": lambda rows, gramian: partial(project_onto_cone, gramian, bounds(rows, "row")),
            "TorchJD": lambda rows, gramian: partial(QuadprogProjector(), bounds(rows, "row"), gramian),
        },
    ),
    "dual of CAGrad": (
        "cagrad",
        {
            "mtl-bench": lambda rows, gramian: partial(conflict_averse, gramian, C),
            "TorchJD": weighting(partial(aggregation.CAGradWeighting, C)),
        },
    ),
    "Nash bargain": (
        "nash",
        {
            "mtl-bench": lambda rows, gramian: partial(bargain, gramian, 1.0),
            "TorchJD": nash_by_convex_programs,
        },
    ),
    "bargain of α = 2 (FairGrad)": (
        "fair",
        {
            "mtl-bench": lambda rows, gramian: partial(bargain, gramian, 2.0),
            "TorchJD": weighting(partial(aggregation.FairGradWeighting, 2.0)),
        },
    ),
}
"""By problem: its name among the stored ones, and what prepares each library's solver of rows and their Gramian."""
CLOSED = {"aligned", "clusters", "equal_cosines", "simplex", "unit"}
"""What minimises nothing: it sorts K numbers, divides rows, or takes one decomposition of a matrix."""
CASES = [(problem, library) for problem, (_, libraries) in SOLVERS.items() for library in libraries]


@cache
def matrices(tasks, stored):
    """The stored matrices of so many tasks, each with a problem's best value, which is far from zero in all of them."""
    known = [one for one in KNOWN if len(one["rows"]) == tasks and one["kind"] in ("random", "conflicting")]
    return [(Rows(one["rows"], one["exponents"]), one["optima"][stored]) for one in known]


@pytest.mark.parametrize("tasks", COUNTS)
@pytest.mark.parametrize(("problem", "library"), CASES)
def test_solver(benchmark, problem, library, tasks):
    stored, libraries = SOLVERS[problem]
    prepared = [
        (rows, best, libraries[library](rows, torch.tensor(rows.gramian, dtype=torch.float64)))
        for rows, best in matrices(tasks, stored)
    ]
    gaps, begin = [], time.perf_counter()
    answers = [solve() for *_, solve in prepared]
    once = (time.perf_counter() - begin) / len(prepared)
    for (rows, best, _), weights in zip(prepared, answers, strict=True):
        if stored == "row":
            weights = weights[first_of_rows(rows)]
        elif stored == "cagrad" and library == "TorchJD":
            weights = averse(weights)
        gaps.append(abs(gap(stored, rows, weights.tolist(), best)))
    following = cycle([solve for *_, solve in prepared])
    benchmark.group = f"solver: {problem}, K = {tasks}"
    benchmark.extra_info["gap"] = max(gaps)
    rounds = max(LEAST, min(MOST, int(SECONDS / once)))
    benchmark.pedantic(lambda solve: solve(), setup=lambda: ((next(following),), {}), rounds=rounds)


def test_every_solver_is_timed():
    files = {module.name for module in pkgutil.iter_modules(solvers.__path__)}
    timed = [min_norm_point, project_onto_cone, conflict_averse, bargain]
    assert files - CLOSED == {solver.__module__.rpartition(".")[2] for solver in timed}
