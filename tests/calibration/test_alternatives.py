"""Friedman's test and the interval by sign flips, against oracles from outside and scipy."""

import math

import numpy as np
import pytest
from alternatives import friedman, sign_flip_interval
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from bench.evidence.delta import mean_rank
from bench.evidence.significance import sign_flip_test, t_interval

D5 = [1.2, 0.8, 1.5, -0.3, 0.9]
D8 = [*D5, 0.4, 1.1, 0.6]
DEMSAR = np.array(
    [  # Demšar, JMLR 2006, Table 6: AUC of C4.5, +m, +cf, +m+cf on 14 data sets
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.975, 0.975],
        [0.957, 0.978, 0.946, 0.970],
    ]
)
AS_IN_THE_PAPER = DEMSAR + [[0, 0, 1e-4 * (row == 12), 0] for row in range(14)]
"""With the tie on the voting data broken as its printed ranks have it."""

moderate = settings(deadline=None, derandomize=True, max_examples=60)


@pytest.mark.parametrize(
    ("d", "level", "interval"),
    [
        (D8, 0.95, (0.3, 1.2)),
        (D5, 0.95, (-math.inf, math.inf)),
        (D5, 0.9, (-0.3, 1.5)),
        ([], 0.9, (-math.inf, math.inf)),
    ],
)
def test_sign_flip_interval_oracles(d, level, interval):
    assert sign_flip_interval(d, level) == pytest.approx(interval, abs=1e-12)


@moderate
@given(arrays(np.float64, st.integers(1, 9), elements=st.integers(-6, 6)), st.sampled_from([0.5, 0.75, 0.8, 0.9, 0.95]))
def test_the_sign_flip_interval_is_what_its_test_does_not_reject(values, level):
    low, high = sign_flip_interval(values, level)
    for mean in [x for end in (low, high) for x in (end - 1e-3, end, end + 1e-3) if math.isfinite(x)] + [-1e3, 1e3]:
        assert (low <= mean <= high) == (sign_flip_test(values - mean) > 1 - level + 1e-12)


def test_the_sign_flip_interval_by_random_flips_is_near_the_t_interval():
    d = np.random.default_rng(0).normal(1, 1, 30)
    assert sign_flip_interval(d) == pytest.approx(t_interval(d), abs=0.05)


def test_friedman_oracle_of_demsars_table():
    assert mean_rank(AS_IN_THE_PAPER.T, [True] * 14, "average") == pytest.approx([3.142857, 2, 2.892857, 1.964286])
    assert friedman(AS_IN_THE_PAPER) == pytest.approx((4.185130, 0.011620660), abs=1e-6)
    chi2 = 10.952381  # with the digits as printed
    assert friedman(DEMSAR)[0] == pytest.approx(13 * chi2 / (14 * 3 - chi2), abs=1e-6)


@moderate
@given(arrays(np.float64, (5, 4), elements=st.integers(0, 5)).filter(lambda x: np.ptp(x, axis=1).any()))
def test_f_is_that_of_scipys_tie_corrected_statistic(values):
    chi2 = stats.friedmanchisquare(*values.T).statistic
    f, p = friedman(values)
    if np.isclose(chi2, 5 * 3):
        assert f == np.inf
    else:
        assert f == pytest.approx(4 * chi2 / (5 * 3 - chi2), rel=1e-9, abs=1e-12)
        assert p == pytest.approx(max(stats.f.sf(f, 3, 12), 1 / 24**4), rel=1e-9)


def test_friedman_at_its_ends():
    """Three blocks in one order: exactly 1/36, where the χ² says .0498."""
    assert friedman(np.tile([1, 2, 3], (3, 1))) == (np.inf, pytest.approx(0.027777778, abs=1e-9))
    assert friedman(np.ones((3, 3))) == (0, 1)


def test_friedman_leaves_out_blocks_with_a_missing_run():
    assert friedman([*DEMSAR, [np.nan, 1, 2, 3]]) == friedman(DEMSAR)
    with pytest.raises(ValueError, match="4 methods in 1 whole blocks"):
        friedman([DEMSAR[0], [np.nan, 1, 2, 3]])
