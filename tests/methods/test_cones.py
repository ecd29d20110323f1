"""Cone projections and the weights of CAGrad, against the conditions that define them, on rows of any lengths.

No second solver: what is checked is computed from the matrix `[K, P]` of gradients alone.
"""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.core.solvers.cagrad import conflict_averse
from methods.core.solvers.cone import project_onto_cone

moderate = settings(deadline=None, derandomize=True, max_examples=150)


def units(rows):
    lengths = rows.norm(dim=1, keepdim=True)
    return rows / torch.where(lengths > 0, lengths, 1)


def faults_of_projection(rows, least, weights):
    """By how much weights miss being those of the projection, each relative to the size of what is added up.

    They are those if and only if weights ≥ least, g_k · d ≥ 0, and g_k · d = 0 where a weight is raised.
    """
    lengths = rows.norm(dim=1)
    terms, raised = weights * lengths, (weights - least) * lengths
    size = terms.abs().sum()
    if size == 0:
        return 0.0, 0.0, 0.0
    cosines = units(rows) @ (weights @ rows) / size
    return float(-raised.min() / size), float(-cosines.min()), float((raised / size) @ cosines.abs())


@st.composite
def bounds(draw, tasks):
    kind = draw(st.sampled_from(["one", "equal", "any"]))
    if kind == "one":
        return torch.eye(tasks, dtype=torch.float64)[draw(st.integers(0, tasks - 1))]
    if kind == "equal":
        return torch.full((tasks,), 1 / tasks, dtype=torch.float64)
    return torch.from_numpy(np.random.default_rng(draw(st.integers(0, 2**32 - 1))).exponential(size=tasks))


@moderate
@given(data=st.data())
def test_the_projection_is_the_nearest_vector_without_conflict(gradient_matrices, data):
    rows = data.draw(gradient_matrices())
    least = data.draw(bounds(len(rows)))
    weights = project_onto_cone(rows @ rows.T, least)
    assert max(faults_of_projection(rows, least, weights)) < 1e-13


@pytest.mark.parametrize("geometry", ["random", "conflicting", "low rank", "collinear"])
@pytest.mark.parametrize("tasks", [2, 3, 8, 40])
def test_primal_and_dual_meet(tasks, geometry):
    """vᵀMv and 2 least·Mv − vᵀMv: the second is a lower bound where Mv ≥ 0, here on rows of length 1.

    Where the projection is zero or nearly so, what is left is rounding. It is judged against (Σ v)², of which 1e-14 is
    45 units in the last place.
    """
    for seed in range(5):
        draw = np.random.default_rng(seed)
        rows = draw.normal(size=(tasks, tasks // 2 + 1 if geometry == "low rank" else tasks + 3))
        if geometry == "conflicting":
            rows -= 0.99 * rows.mean(0)
        elif geometry == "collinear":  # and half of them against the others
            rows = (-1.0) ** np.arange(tasks)[:, None] * rows[0] + 1e-3 * rows
        unit = units(torch.from_numpy(rows))
        lengths = torch.from_numpy(10.0 ** draw.uniform(-6, 6, size=tasks))
        rows = unit * lengths.unsqueeze(1)
        own = torch.eye(tasks, dtype=torch.float64)
        found = project_onto_cone(rows @ rows.T, own) * lengths / lengths.unsqueeze(1)
        for least, weights in zip(own, found, strict=True):
            cosines = unit @ (weights @ unit)
            primal = float(weights @ cosines)
            gap = 2 * (weights - least) @ cosines.abs()
            assert cosines.min() > -1e-12 * weights.sum()
            assert gap <= 1e-9 * max(primal, 1e-5 * float(weights.sum()) ** 2)


def exact_projection(rows, least):
    """In rational numbers: of all sets of raised weights, the one that meets the conditions."""
    tasks = len(rows)
    dot = lambda a, b: sum(x * y for x, y in zip(a, b, strict=True))  # noqa: E731
    target = [dot(least, column) for column in zip(*rows, strict=True)]
    for count in range(tasks + 1):
        for raised in itertools.combinations(range(tasks), count):
            system = [[dot(rows[i], rows[j]) for j in raised] + [-dot(rows[i], target)] for i in raised]
            found = eliminate(system)
            if found is None or any(x < 0 for x in found):
                continue
            d = [t + sum(x * rows[k][p] for k, x in zip(raised, found, strict=True)) for p, t in enumerate(target)]
            if all(dot(row, d) >= 0 for row in rows):
                return d
    raise AssertionError("there is always one")


def eliminate(system):
    """Solve a square system of equations in rational numbers, None if it is singular."""
    size = len(system)
    for column in range(size):
        pivot = next((r for r in range(column, size) if system[r][column] != 0), None)
        if pivot is None:
            return None
        system[column], system[pivot] = system[pivot], system[column]
        system[column] = [x / system[column][column] for x in system[column]]
        for r in range(size):
            if r != column:
                factor = system[r][column]
                system[r] = [x - factor * y for x, y in zip(system[r], system[column], strict=True)]
    return [row[-1] for row in system]


@moderate
@given(data=st.data(), tasks=st.integers(2, 4))
def test_it_is_the_projection_in_rational_numbers(data, tasks):
    whole = st.integers(-4, 4)
    matrix = data.draw(st.lists(st.lists(whole, min_size=3, max_size=3), min_size=tasks, max_size=tasks))
    least = data.draw(st.sampled_from([[1] + [0] * (tasks - 1), [1] * tasks, list(range(tasks))]))
    expected = exact_projection([[Fraction(x) for x in row] for row in matrix], [Fraction(x) for x in least])
    rows = torch.tensor(matrix, dtype=torch.float64)
    weights = project_onto_cone(rows @ rows.T, torch.tensor(least, dtype=torch.float64))
    size = weights @ rows.norm(dim=1)
    error = weights @ rows - torch.tensor([float(x) for x in expected], dtype=torch.float64)
    assert error.norm() <= 1e-12 * (1 + size)


@moderate
@given(data=st.data())
def test_several_problems_are_solved_as_each_alone(gradient_matrices, data):
    rows = data.draw(gradient_matrices(tasks=st.integers(1, 6)))
    several = torch.stack([data.draw(bounds(len(rows))) for _ in range(3)])
    together = project_onto_cone(rows @ rows.T, several)
    for least, weights in zip(several, together, strict=True):
        alone = project_onto_cone(rows @ rows.T, least)
        error = ((alone - weights) @ rows).norm()
        assert error <= 1e-12 * torch.maximum(alone.abs() @ rows.norm(dim=1), weights.abs() @ rows.norm(dim=1))


@pytest.mark.parametrize("tasks", [1, 2, 3, 40])
def test_without_conflict_nothing_is_raised(tasks):
    rows = torch.rand(tasks, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    own = torch.eye(tasks, dtype=torch.float64)
    assert torch.equal(project_onto_cone(rows @ rows.T, own), own)


@pytest.mark.parametrize("tasks", [2, 3, 4])
def test_a_zero_row_keeps_its_least_weight_and_changes_no_other(tasks):
    rows = torch.randn(tasks, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    rows -= 0.9 * rows.mean(0)
    least = torch.rand(tasks, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    weights = project_onto_cone(rows @ rows.T, least)
    more = torch.cat([rows, torch.zeros(1, 2, dtype=torch.float64)])
    found = project_onto_cone(more @ more.T, torch.cat([least, torch.tensor([0.7])]))
    assert found[-1] == pytest.approx(0.7)
    torch.testing.assert_close(found[:-1] @ rows, weights @ rows)
    assert (weights > least).any()


def test_a_zero_row_keeps_its_least_weight_beside_rows_of_any_length():
    rows = torch.randn(6, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    rows = (rows - 0.99 * rows.mean(0)) * 10.0 ** torch.arange(-6.0, 6, 2).unsqueeze(1)
    rows[2] = 0
    own = torch.eye(6, dtype=torch.float64)
    weights = project_onto_cone(rows @ rows.T, own)
    assert (weights > own).any()
    assert torch.equal(weights[:, 2], own[:, 2])
    assert torch.equal(weights[2], own[2])


# CAGrad ----------------------------------------------------------------------------------------------------


def faults_of_weights(rows, weights, c):
    """By how much weights miss being those of CAGrad, for rows of length 1 and |g_0| = 1; None where g_w or g_0 is 0.

    They are those if and only if g_k · d ≥ F for d = g_0 + c |g_0| g_w / |g_w|, with = where a weight is positive.
    Row by row, in units of |g_k| |g_0|, that can be seen to rounding however long the other rows are.
    """
    lengths, mean, combined = rows.norm(dim=1), rows.mean(dim=0), weights @ rows
    terms = weights * lengths
    cancelled = combined.norm() <= 1e-6 * terms.sum() or mean.norm() <= 1e-6 * lengths.mean()
    if cancelled or (lengths == 0).any():
        return None
    d = mean / mean.norm() + c * combined / combined.norm()
    shares = terms / terms.sum()
    value = (shares @ (units(rows) @ d)) / (weights.sum() / terms.sum())
    slack = units(rows) @ d - value / lengths
    return float(-slack.min()), float(shares @ slack.abs())


@moderate
@given(data=st.data(), c=st.sampled_from([0.1, 0.4, 0.9, 1.5]))
def test_the_weights_of_cagrad_are_on_the_simplex_and_optimal(gradient_matrices, data, c):
    rows = data.draw(gradient_matrices())
    weights = conflict_averse(rows @ rows.T, c)
    assert (weights >= 0).all()
    assert float(weights.sum()) == pytest.approx(1, abs=1e-14)
    faults = faults_of_weights(rows, weights, c)
    assert faults is None or max(faults) < 1e-9


@pytest.mark.parametrize("c", [0.1, 0.4, 0.9])
@pytest.mark.parametrize("geometry", ["random", "conflicting", "collinear"])
@pytest.mark.parametrize("tasks", [1, 2, 3, 8, 40])
def test_they_are_optimal_to_rounding(tasks, geometry, c):
    for seed in range(5):
        draw = np.random.default_rng(seed)
        rows = draw.normal(size=(tasks, tasks + 3))
        if geometry == "conflicting":
            rows -= 0.99 * rows.mean(0) * (tasks > 1)
        elif geometry == "collinear":
            rows = (-1.0) ** np.arange(tasks)[:, None] * rows[0] + 1e-3 * rows
        rows = units(torch.from_numpy(rows)) * torch.from_numpy(10.0 ** draw.uniform(-6, 6, size=(tasks, 1)))
        faults = faults_of_weights(rows, conflict_averse(rows @ rows.T, c), c)
        assert faults is not None and max(faults) < 1e-11


def test_without_a_radius_the_weight_is_on_the_worst_task():
    rows = torch.tensor([[3.0, 0], [1, 1], [-1, 2]], dtype=torch.float64)
    assert conflict_averse(rows @ rows.T, 0.0).tolist() == [0, 0, 1]


def test_two_orthogonal_rows_of_one_length_weigh_the_same():
    assert conflict_averse(torch.eye(2, dtype=torch.float64), 0.4).tolist() == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("ratio", [1e-6, 1.0, 1e6])
def test_if_the_rows_can_cancel_and_no_direction_helps_all_they_cancel(ratio):
    rows = torch.tensor([[2.0, 0, 0], [-1, 0, 0], [0, ratio, 0]], dtype=torch.float64)
    # The mean improves the first task and makes the second worse. With c = 2 the ball reaches directions of neither.
    weights = conflict_averse(rows @ rows.T, 2.0)
    assert weights.tolist() == pytest.approx([1 / 3, 2 / 3, 0], abs=1e-7)


@pytest.mark.parametrize("tasks", [1, 2, 5])
def test_if_the_mean_is_zero_the_weights_are_equal(tasks):
    rows = torch.randn(tasks, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows -= rows.mean(dim=0)
    assert conflict_averse(rows @ rows.T, 0.4).tolist() == pytest.approx([1 / tasks] * tasks)


def test_a_zero_row_has_the_weight_if_the_others_could_all_improve():
    rows = torch.tensor([[1.0, 0.2], [0, 0], [0.3, 1], [0, 0]], dtype=torch.float64)
    assert conflict_averse(rows @ rows.T, 0.4).tolist() == [0, 0.5, 0, 0.5]


def test_a_zero_row_has_no_weight_if_another_task_gets_worse():
    rows = torch.tensor([[3.0, 0.2], [-1, 0.1]], dtype=torch.float64)
    weights = conflict_averse(rows @ rows.T, 0.4)
    assert float((weights @ rows) @ rows.mean(0)) < 0  # the worst task is made worse
    more = torch.cat([rows, torch.zeros(1, 2, dtype=torch.float64)])
    torch.testing.assert_close(conflict_averse(more @ more.T, 0.4), torch.cat([weights, weights.new_zeros(1)]))


@moderate
@given(data=st.data(), exponent=st.integers(-60, 60))
def test_a_scale_common_to_all_rows_changes_nothing(gradient_matrices, data, exponent):
    rows = data.draw(gradient_matrices())
    more = rows * 2.0**exponent
    assert torch.equal(conflict_averse(more @ more.T, 0.4), conflict_averse(rows @ rows.T, 0.4))
    own = torch.eye(len(rows), dtype=torch.float64)
    assert torch.equal(project_onto_cone(more @ more.T, own), project_onto_cone(rows @ rows.T, own))
