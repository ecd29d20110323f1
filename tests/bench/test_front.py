"""The Pareto front against its definition."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.evidence.front import front


def beats(one, other):
    """Whether a point is as good in every aim and better in one."""
    return all(a >= b for a, b in zip(one, other, strict=True)) and any(a > b for a, b in zip(one, other, strict=True))


@given(
    st.integers(1, 3).flatmap(lambda aims: st.lists(st.tuples(*[st.integers(0, 4)] * aims), min_size=1, max_size=15))
)
def test_on_the_front_is_what_no_other_point_beats(points):
    assert front(points).tolist() == [not any(beats(other, own) for other in points) for own in points]


def test_equal_points_are_on_the_front_together():
    assert front([(1, 2), (1, 2), (1, 1)]).tolist() == [True, True, False]


def test_a_point_that_is_not_known_is_not_on_the_front_and_beats_nobody():
    assert front([(math.nan, 9), (1, 2), (0, 1)]).tolist() == [False, True, False]


def test_infinite_aims_have_their_order():
    assert front([(-math.inf, 2), (1, math.inf), (1, 2)]).tolist() == [False, True, False]


def test_no_point_has_an_empty_front():
    assert front(np.zeros((0, 2))).tolist() == []


def test_points_without_aims_are_refused():
    with pytest.raises(ValueError, match=r"\[N, M\]"):
        front([1.0, 2.0])
