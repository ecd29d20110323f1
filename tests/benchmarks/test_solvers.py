"""The K×K problems behind the rules, ours and TorchJD's, on conflicting, badly scaled gradients.

Each round solves another of a fixed set of problems. They are made from their solutions, so how far a solver is from
the best is known without a second solver; it stands beside the time, so that speed is not bought with wrongness.
"""

import inspect
from itertools import cycle

import pytest
import torch
from torchjd.aggregation import MGDAWeighting

from methods.core import solvers

PROBLEMS = 40
PASSES = 5
"""So often each problem is solved on the clock."""


def hulls(tasks, seed=0):
    """Gradients `[K, K + 1]` whose hull's shortest vector is the last axis, of length 1, with all weights positive.

    To that vector each adds one at right angles to it, of any length from about 1 to 100. Divided by their lengths
    these sum to zero: so the weights that are inverse to the lengths give the vector itself, which has the same
    product with every gradient as with itself, and nothing in the hull is shorter.
    """
    generator = torch.Generator().manual_seed(seed)
    draw = {"generator": generator, "dtype": torch.float64}
    for _ in range(PROBLEMS):
        across = torch.randn(tasks, tasks, **draw) / tasks**0.5
        lengths = 10 ** (2 * torch.rand(tasks, 1, **draw))
        yield torch.hstack([lengths * (across - across.mean(0)), torch.ones(tasks, 1, dtype=torch.float64)])


def excess(weights, rows):
    """How much longer than the shortest vector the one found is, relative to it; or shorter, outside the hull."""
    return abs(float((weights @ rows).norm()) - 1)


SOLVERS = {
    "shortest vector of the hull": (hulls, excess, {"mtl-bench": solvers.min_norm_point, "TorchJD": MGDAWeighting()})
}
"""By problem: what makes such problems, how far from the best a solution is, and who solves it."""
CASES = [(problem, library) for problem, (_, _, solve) in SOLVERS.items() for library in solve]


@pytest.mark.parametrize("tasks", [2, 3, 8, 40])
@pytest.mark.parametrize(("problem", "library"), CASES)
def test_solver(benchmark, problem, library, tasks):
    make, gap, libraries = SOLVERS[problem]
    solve = libraries[library]
    rows = list(make(tasks))
    gramians = [own @ own.T for own in rows]
    following = cycle(gramians)
    benchmark.group = f"solver: {problem}, K = {tasks}"
    benchmark.extra_info["gap"] = max(gap(solve(one), own) for one, own in zip(gramians, rows, strict=True))
    benchmark.pedantic(solve, setup=lambda: ((next(following),), {}), rounds=PASSES * PROBLEMS, warmup_rounds=PROBLEMS)


def test_every_solver_is_timed():
    here = {name for name, one in inspect.getmembers(solvers, inspect.isfunction) if one.__module__ == solvers.__name__}
    timed = {libraries["mtl-bench"].__name__ for _, _, libraries in SOLVERS.values()}
    assert {name for name in here if not name.startswith("_")} == timed
