"""The projection onto the simplex, against the conditions that define it, and against fractions."""

from fractions import Fraction
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.core.solvers.simplex import project_to_simplex

moderate = settings(deadline=None, derandomize=True, max_examples=200)

near = st.floats(-2, 2)
numbers = near | st.floats(-1e17, 1e17) | near.map(lambda x: 1e6 + x)


def project(values):
    return project_to_simplex(torch.tensor(values, dtype=torch.float64))


@moderate
@given(values=st.lists(numbers, min_size=1, max_size=40))
def test_it_is_the_nearest_point(values):
    """p is it if and only if it is on the simplex and Σ (v_k − p_k)(q_k − p_k) ≤ 0 for every corner q."""
    found = [Fraction(x) for x in project(values).tolist()]
    assert min(found) >= 0
    assert abs(sum(found) - 1) < 1e-14
    # A constant added to all values changes nothing, so they are counted from the largest.
    errors = [Fraction(v) - Fraction(max(values)) - p for v, p in zip(values, found, strict=True)]
    assert max(errors) - sum(e * p for e, p in zip(errors, found, strict=True)) < 1e-14


@moderate
@given(values=st.lists(numbers, min_size=1, max_size=5))
def test_it_is_what_fractions_say(values):
    exact = [Fraction(v) for v in values]
    everything = range(len(exact))
    candidates = []
    for size in range(1, len(exact) + 1):
        for support in combinations(everything, size):
            threshold = (sum(exact[k] for k in support) - 1) / size
            point = [exact[k] - threshold if k in support else Fraction(0) for k in everything]
            if min(point) >= 0:
                candidates.append((sum((p - v) ** 2 for p, v in zip(point, exact, strict=True)), point))
    nearest = min(candidates)[1]
    assert project(values).tolist() == pytest.approx([float(p) for p in nearest], abs=1e-15)


@pytest.mark.parametrize("tasks", [1, 2, 3, 40])
def test_equal_values_share(tasks):
    for value in (0.0, -3.5, 1e300):
        assert project([value] * tasks).tolist() == pytest.approx([1 / tasks] * tasks, rel=1e-14)


@moderate
@given(values=st.lists(st.floats(0, 1), min_size=1, max_size=40).filter(lambda v: sum(v) > 0.1))
def test_a_point_of_the_simplex_stays(values):
    point = [v / sum(values) for v in values]
    assert project(point).tolist() == pytest.approx(point, abs=1e-15)


def test_the_largest_takes_all_where_the_others_are_far_below():
    assert project([5.0, 3.9, -1e30]).tolist() == [1, 0, 0]
    assert project([5.0, 4.5, -1e30]).tolist() == [0.75, 0.25, 0]


def test_its_argument_is_left_alone():
    values = torch.tensor([0.3, 2.0, -1.0], dtype=torch.float64)
    project_to_simplex(values)
    assert values.tolist() == [0.3, 2.0, -1.0]
