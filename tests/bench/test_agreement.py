"""Kendall's W, held against Friedman's test of scipy and against all orders there are."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import stats

from bench.evidence.agreement import kendall_w

moderate = settings(deadline=None, derandomize=True, max_examples=100)
tables = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, min_side=3, max_side=8), elements=st.integers(0, 5))
"""Values `[D, M]` with many ties."""


@moderate
@given(tables)
def test_friedmans_statistic_follows_from_w(values):
    sets, methods = values.shape
    if (values == values[:, :1]).all():
        assert math.isnan(kendall_w(values))
    else:
        chi2, _ = stats.friedmanchisquare(*values.T)
        assert sets * (methods - 1) * kendall_w(values) == pytest.approx(chi2)


@pytest.mark.parametrize("first", [[1, 2, 3], [1, 1, 2]])
@pytest.mark.parametrize("sets", [2, 3, 4])
def test_orders_drawn_by_lot_agree_by_one_over_the_number_of_sets(first, sets):
    """The mean over all orders that the sets may have, one after the other."""
    orders = [*itertools.permutations(first)]
    found = [kendall_w(chosen) for chosen in itertools.product(orders, repeat=sets)]
    assert np.mean(found) == pytest.approx(1 / sets)


def test_sets_that_agree_fully_have_1_and_two_opposite_ones_0():
    order = np.array([3.0, 1.0, 2.0, 5.0])
    assert kendall_w([order, 10 * order, order**3]) == pytest.approx(1)
    assert kendall_w([order, -order]) == pytest.approx(0)


@moderate
@given(tables)
def test_neither_units_nor_the_direction_matter(values):
    units = np.arange(1, len(values) + 1)[:, None]
    assert kendall_w(-values) == pytest.approx(kendall_w(values), nan_ok=True)
    assert kendall_w(values * units + units) == pytest.approx(kendall_w(values), nan_ok=True)


@pytest.mark.parametrize("values", [[[1.0, 2.0]], [[1.0], [2.0]], [[1.0, 1.0], [2.0, 2.0]]])
def test_where_there_is_nothing_to_agree_on_there_is_no_w(values):
    assert math.isnan(kendall_w(values))


@pytest.mark.parametrize("values", [[1.0, 2.0], [[1.0, float("nan")], [1.0, 2.0]], [[1.0, float("inf")], [1.0, 2.0]]])
def test_values_without_a_rank_are_refused(values):
    with pytest.raises(ValueError, match="finite, and"):
        kendall_w(values)
