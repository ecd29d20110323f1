"""Intervals against oracles from outside (reference/statistics.md, section 2.4, and scipy)."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bench.evidence.significance import suite_mean, t_interval

D5 = [1.2, 0.8, 1.5, -0.3, 0.9]
D8 = [*D5, 0.4, 1.1, 0.6]
SHORT = [0.1, 0.5, 0.2]

samples = st.lists(st.floats(-100, 100), min_size=3, max_size=12).filter(lambda d: np.std(d) > 1e-6)


@pytest.mark.parametrize(
    ("d", "interval"), [(D5, (-0.028520871, 1.668520871)), (D8, (0.311134831, 1.238865169))], ids=["d5", "d8"]
)
def test_t_interval_oracles(d, interval):
    assert t_interval(d) == pytest.approx(interval, abs=1e-8)


@given(samples, st.floats(0.5, 0.999))
def test_t_interval_is_scipys_at_any_level(d, level):
    expected = stats.ttest_1samp(d, 0).confidence_interval(level)
    assert t_interval(d, level) == pytest.approx((expected.low, expected.high), rel=1e-6, abs=1e-9)


def test_suite_mean_oracle_of_three_sets():
    assert suite_mean(D5, D8, SHORT) == pytest.approx((0.620555556, 0.329920200, 0.911190911), abs=1e-8)


@pytest.mark.parametrize(
    ("sets", "p", "freedom"),
    [((D5, D8, SHORT), 0.001019906, 8.575686355), ((D5, SHORT), 0.020708833, 5.089431243)],
    ids=["three sets", "two sets"],
)
def test_suite_interval_has_the_oracles_standard_error(sets, p, freedom):
    mean, low, high = suite_mean(*sets)
    error = (high - low) / 2 / stats.t.ppf(0.975, freedom)
    assert 2 * stats.t.sf(mean / error, freedom) == pytest.approx(p, abs=1e-8)
    assert (low + high) / 2 == pytest.approx(mean)


@given(samples, samples, st.floats(0.5, 0.999))
def test_the_mean_over_two_sets_is_half_of_welchs_difference(first, second, level):
    welch = stats.ttest_ind(first, [-x for x in second], equal_var=False).confidence_interval(level)
    mean, low, high = suite_mean(first, second, level=level)
    assert mean == pytest.approx((np.mean(first) + np.mean(second)) / 2, rel=1e-9, abs=1e-9)
    assert (2 * low, 2 * high) == pytest.approx((welch.low, welch.high), rel=1e-6, abs=1e-6)


def test_each_set_weighs_the_same_whatever_its_seeds():
    assert suite_mean([0.0] * 10, [3.0] * 3)[0] == pytest.approx(1.5)


def test_a_suite_of_one_set_is_its_t_interval():
    mean, low, high = suite_mean(D8)
    assert mean == pytest.approx(0.775)
    assert (low, high) == pytest.approx(t_interval(D8))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("d", [[1.0], [1.0, 2.0], [1.0, 1.0]])
def test_below_three_seeds_there_is_no_interval(d):
    assert all(math.isnan(end) for end in t_interval(d))


@pytest.mark.filterwarnings("error")
def test_one_set_below_three_seeds_leaves_the_suite_with_a_mean_alone():
    mean, low, high = suite_mean(D5, [1.0, 2.0])
    assert mean == pytest.approx((0.82 + 1.5) / 2)
    assert math.isnan(low)
    assert math.isnan(high)


@pytest.mark.filterwarnings("error")
def test_without_spread_the_interval_is_the_mean():
    assert t_interval([2.5] * 4) == (2.5, 2.5)
    assert suite_mean([2.0] * 3, [4.0] * 5) == (3.0, 3.0, 3.0)


@pytest.mark.filterwarnings("error")
def test_a_set_without_spread_adds_none_to_the_suite():
    mean, low, high = suite_mean(D5, [2.0] * 4)
    alone = t_interval(D5)
    assert mean == pytest.approx(1.41)
    assert high - low == pytest.approx((alone[1] - alone[0]) / 2)


def test_three_seeds_are_enough():
    low, high = t_interval([1.0, 2.0, 3.0])
    assert (high - low) / 2 == pytest.approx(2.484, abs=1e-3)
