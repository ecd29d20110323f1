"""What can be detected, against the reference's table, statsmodels and simulation."""

import math

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from bench.evidence.power import detectable, seeds_needed
from bench.evidence.significance import smallest_p, suite_test

SEEDS = [3, 4, 5, 6, 8, 10, 15, 20, 30]
TABLE = {
    1: [3.264, 2.128, 1.682, 1.435, 1.156, 0.996, 0.778, 0.660, 0.529],
    5: [7.320, 3.720, 2.629, 2.109, 1.596, 1.332, 1.003, 0.838, 0.662],
    11: [10.861, 4.859, 3.235, 2.511, 1.835, 1.505, 1.112, 0.922, 0.722],
    24: [16.045, 6.317, 3.957, 2.968, 2.093, 1.686, 1.221, 1.003, 0.780],
}


@pytest.mark.parametrize("family", TABLE)
def test_detectable_is_the_references_table(family):
    assert [detectable(seeds, family) for seeds in SEEDS] == pytest.approx(TABLE[family], abs=1e-3)


@pytest.mark.parametrize("seeds", [5, 8, 40, 2000])
@pytest.mark.parametrize(("alpha", "power"), [(0.05, 0.8), (0.01, 0.9)])
def test_detectable_is_statsmodels(seeds, alpha, power):
    expected = TTestPower().solve_power(nobs=seeds, alpha=alpha, power=power)
    assert detectable(seeds, alpha=alpha, power=power) == pytest.approx(expected, abs=1e-5)


def test_what_is_detectable_is_found_as_often_as_promised():
    d = np.random.default_rng(0).normal(detectable(8), 1, (4000, 8))
    assert np.mean([suite_test(one) <= 0.05 for one in d]) == pytest.approx(0.8, abs=0.02)


def test_one_seed_detects_nothing_and_two_do_only_what_is_huge():
    assert detectable(0) == detectable(1) == math.inf
    assert 10 < detectable(2) < 13


@pytest.mark.parametrize("family", [1, 40])
@pytest.mark.parametrize("effect", [0.3, 1.0, 2.5])
def test_the_seeds_needed_are_the_fewest_that_detect_the_effect(family, effect):
    needed, _ = seeds_needed(2.0, 2 * effect, pilot=8, family=family)
    assert detectable(needed, family) <= effect
    assert needed == 6 or detectable(needed - 1, family) > effect


@pytest.mark.parametrize(("alpha", "fewest"), [(0.05, 6), (1 / 32, 6), (0.03, 7), (0.01, 8)])
def test_no_effect_is_so_large_that_fewer_seeds_do_than_an_exact_test_needs(alpha, fewest):
    assert seeds_needed(0.0, 1.0, pilot=3, alpha=alpha) == (fewest, fewest)
    assert seeds_needed(1.0, 1e3, pilot=8, alpha=alpha) == (fewest, fewest)
    assert smallest_p(fewest) <= alpha < smallest_p(fewest - 1)


@pytest.mark.parametrize(("pilot", "factor"), [(3, 6.285), (5, 2.874)])
def test_the_upper_number_takes_a_pilots_own_doubt_into_account(pilot, factor):
    needed, upper = seeds_needed(1.0, 1.0, pilot)
    assert (needed, upper) == (10, seeds_needed(factor, 1.0, pilot)[0])
    assert upper > needed


@pytest.mark.parametrize(
    "arguments", [(1.0, 0.0, 3), (1.0, -1.0, 3), (-1.0, 1.0, 3), (1.0, 1.0, 1), (math.nan, 1.0, 3)]
)
def test_impossible_questions_are_refused(arguments):
    with pytest.raises(ValueError, match="should be positive"):
        seeds_needed(*arguments)


def test_a_spread_beyond_measure_needs_a_million_seeds_or_more():
    assert seeds_needed(1e60, 1.0, pilot=8) == (1_000_000, 1_000_000)
