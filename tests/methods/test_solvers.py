"""The K×K problems, against the conditions that define their solutions, on rows of any lengths.

No second solver: what is checked is computed from the matrix `[K, P]` of gradients alone.
"""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from methods.core.solvers.min_norm import min_norm_point

moderate = settings(deadline=None, derandomize=True, max_examples=400)


def solve(rows):
    return min_norm_point(rows @ rows.T)


def assert_on_simplex(weights):
    assert (weights >= 0).all()
    assert float(weights.sum()) == pytest.approx(1, abs=1e-14)


@moderate
@given(data=st.data())
def test_the_shortest_vector_is_the_shortest(gradient_matrices, optimality, data):
    rows = data.draw(gradient_matrices())
    weights = solve(rows)
    assert_on_simplex(weights)
    assert optimality(rows, weights) < 1e-12


@moderate
@given(data=st.data())
def test_of_two_it_is_the_published_formula(gradient_matrices, data):
    """Sener & Koltun 2018, Eq. 4 and Figure 2, here without rounding."""
    rows = data.draw(gradient_matrices(tasks=st.just(2)))
    (a, b) = ([Fraction(x) for x in row] for row in rows.tolist())
    distance = sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    assume(distance > 0)
    first = sum((y - x) * y for x, y in zip(a, b, strict=True)) / distance
    first = min(max(first, Fraction(0)), Fraction(1))
    exact = [float(first * x + (1 - first) * y) for x, y in zip(a, b, strict=True)]
    error = solve(rows) @ rows - torch.tensor(exact, dtype=torch.float64)
    assert error.norm() <= 1e-12 * rows.norm(dim=1).min()


@moderate
@given(data=st.data())
def test_the_vector_does_not_depend_on_the_order(gradient_matrices, data):
    """If two vectors meet the conditions to ε, they differ by √(2ε) of what is added up to make them."""
    rows = data.draw(gradient_matrices())
    order = torch.tensor(data.draw(st.permutations(range(len(rows)))))
    one, two = solve(rows), solve(rows[order])
    size = torch.maximum(one @ rows.norm(dim=1), two @ rows[order].norm(dim=1))
    assert (one @ rows - two @ rows[order]).norm() <= 1e-7 * size


@moderate
@given(data=st.data(), exponent=st.integers(-60, 60))
def test_a_scale_common_to_all_rows_leaves_the_weights_alone(gradient_matrices, data, exponent):
    rows = data.draw(gradient_matrices())
    assert torch.equal(solve(rows * 2.0**exponent), solve(rows))


@moderate
@given(data=st.data())
def test_a_gramian_that_rounding_made_indefinite_is_solved(gradient_matrices, optimality, data):
    rows = data.draw(gradient_matrices())
    gramian = (rows @ rows.T).float().double()
    weights = min_norm_point(gramian)
    assert_on_simplex(weights)
    assert optimality(rows, weights) < 1e-5


@pytest.mark.parametrize("tasks", [1, 2, 3, 7, 40])
def test_orthogonal_rows_weigh_inversely_to_their_squared_lengths(tasks):
    lengths = torch.from_numpy(10.0 ** np.random.default_rng(0).uniform(-6, 6, tasks))
    expected = lengths**-2 / (lengths**-2).sum()
    error = (solve(torch.diag(lengths)) - expected) * lengths
    assert error.norm() <= 1e-14 * lengths.min()


@pytest.mark.parametrize("tasks", [1, 2, 3, 40])
def test_of_equal_rows_the_vector_is_that_row(tasks):
    row = torch.arange(1.0, 6.0, dtype=torch.float64)
    weights = solve(row.repeat(tasks, 1))
    assert_on_simplex(weights)
    torch.testing.assert_close(weights @ row.repeat(tasks, 1), row, rtol=1e-14, atol=0)


@pytest.mark.parametrize("zeros", [1, 2, 5])
def test_a_zero_row_is_the_shortest_vector(zeros):
    rows = torch.randn(5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows[:zeros] = 0
    weights = solve(rows)
    assert weights.tolist() == [1 / zeros] * zeros + [0] * (5 - zeros)


@pytest.mark.parametrize("ratio", [1.0, 1e2, 1e4, 1e6])
def test_exact_opposites_cancel_however_short_a_third_row_is(ratio):
    rows = torch.tensor([[3.0, 0], [-1.0, 0], [0, 1 / ratio]], dtype=torch.float64)
    weights = solve(rows)
    assert weights.tolist() == pytest.approx([0.25, 0.75, 0], abs=1e-7)
    assert (weights @ rows).norm() <= 1e-6 / ratio


@pytest.mark.parametrize("lengths", [(1.0, 1.0), (1e-6, 1e6), (1e6, 1e-6), (3.0, 1.0)])
def test_two_opposites_cancel(lengths):
    rows = torch.tensor([[lengths[0], 0], [-lengths[1], 0]], dtype=torch.float64)
    assert (solve(rows) @ rows).norm() <= 1e-15 * min(lengths)


def test_of_parallel_rows_the_shortest_is_taken():
    rows = torch.tensor([[4.0, 2], [2, 1], [8, 4]], dtype=torch.float64)
    torch.testing.assert_close(solve(rows) @ rows, rows[1])
    torch.testing.assert_close(solve(rows[:2]), torch.tensor([0.0, 1], dtype=torch.float64))
