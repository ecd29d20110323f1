"""Tests, intervals and verdicts against oracles from outside, brute force, scipy and statsmodels.

Oracles: reference/statistics.md, section 2.4.
"""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from statsmodels.stats.multitest import multipletests

from bench.evidence.significance import (
    DRAWS,
    benjamini_hochberg,
    equivalent,
    holm,
    max_t,
    pairwise_max_t,
    sign_flip_test,
    signed_rank_test,
    smallest_p,
    suite_mean,
    suite_means,
    suite_test,
    t_interval,
    verdict,
)

D5 = [1.2, 0.8, 1.5, -0.3, 0.9]
D8 = [*D5, 0.4, 1.1, 0.6]
SHORT = [0.1, 0.5, 0.2]
GAINS = [3.822858, 3.822858, 5.146387]
"""MTL minus equal weights in the reference's example of Δ."""
FAMILY = [[2.6, 1.4, 1.1], [0.3, 0.3, 0.3], [1.1, -0.5, 1.3], [0.7, -0.3, 0.4], [2.5, 2.2, -0.4], [1.8, 1.0, -2.4]]
"""Six seeds of three methods."""
DEMSAR = [  # Demšar, JMLR 2006, Table 6: C4.5+m minus C4.5, in thousandths
    5, -8, 17, 33, 6, -5, 7, 0, 63, 0, 22, 47, 9, 21
]  # fmt: skip
NAN = float("nan")

moderate = settings(deadline=None, derandomize=True, max_examples=60)
samples = st.lists(st.floats(-100, 100), min_size=3, max_size=12).filter(lambda d: np.std(d) > 1e-6)
counts = st.integers(-6, 6)
"""Small whole numbers: full of ties and zeros, and exact in fractions."""


few = st.integers(1, 4)


def families(seeds=few, methods=few, elements=counts):
    shape = st.tuples(seeds, methods)
    return shape.flatmap(lambda size: arrays(np.float64, size, elements=elements))


with_missing = families(seeds=st.integers(1, 6), elements=st.one_of(counts, st.just(NAN)))


def squared_t(d):
    """t² of the mean, exact, as a pair that orders infinity last; None is a missing pair."""
    d = [Fraction(x) for x in d if x is not None]
    if len(d) < 2 or not any(d):
        return (0, Fraction(0))
    mean = sum(d) / len(d)
    variance = sum((x - mean) ** 2 for x in d) / (len(d) - 1)
    return (0, mean**2 * len(d) / variance) if variance else (1, Fraction(0))


def brute_force(d, step_down=True):
    """Westfall & Young's definition, word for word, by all 2^S flips in exact arithmetic."""
    columns = [[None if math.isnan(x) else int(x) for x in column] for column in np.transpose(d)]
    flipped = [
        [squared_t([x if x is None else x * f for x, f in zip(c, flips, strict=True)]) for c in columns]
        for flips in itertools.product([1, -1], repeat=len(d))
    ]
    observed = flipped[0]
    p, largest = [0.0] * len(columns), 0.0
    for j in sorted(range(len(columns)), key=lambda j: observed[j], reverse=True):
        rivals = [i for i in range(len(columns)) if not step_down or observed[i] <= observed[j]]
        largest = max(largest, np.mean([max(t[i] for i in rivals) >= observed[j] for t in flipped]))
        p[j] = largest
    return p


@pytest.mark.parametrize(
    ("d", "interval"), [(D5, (-0.028520871, 1.668520871)), (D8, (0.311134831, 1.238865169))], ids=["d5", "d8"]
)
def test_t_interval_oracles(d, interval):
    assert t_interval(d) == pytest.approx(interval, abs=1e-8)


@moderate
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


@moderate
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
def test_sets_that_are_worked_out_together_have_the_same_bits_as_each_alone():
    generator = np.random.default_rng(0)
    sets = [generator.normal(size=(8, 5)) * 10.0 ** generator.integers(-3, 4, 5) for _ in range(7)]
    gap = np.full((1, 5), np.nan)  # a seed that is nowhere: each set is worked out by itself
    together, alone = suite_means(*sets), suite_means(*(np.concatenate([d, gap]) for d in sets))
    columns = np.array([suite_mean(*(d[:, column] for d in sets)) for column in range(5)]).T
    for found, by_itself, column in zip(together, alone, columns, strict=True):
        assert found.tolist() == by_itself.tolist() == column.tolist()


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


def test_a_missing_pair_is_left_out_of_the_mean_and_its_interval():
    assert t_interval([*D8, NAN]) == pytest.approx(t_interval(D8))
    assert suite_mean([NAN, *D5], D8) == pytest.approx(suite_mean(D5, D8))
    assert math.isnan(t_interval([1.0, 2.0, NAN])[0])


@pytest.mark.parametrize(
    ("sets", "p"),
    [
        ((D5,), 0.055049735),
        ((D8,), 0.005527182),
        ((D5, D8, SHORT), 0.001019906),
        ((D5, SHORT), 0.020708833),
        ((GAINS,), 0.010536),
    ],
)
def test_suite_test_oracles(sets, p):
    assert suite_test(*sets) == pytest.approx(p, abs=1e-6)


@moderate
@given(samples, samples)
def test_the_p_over_two_sets_is_welchs(first, second):
    expected = stats.ttest_ind(first, [-x for x in second], equal_var=False).pvalue
    assert suite_test(first, second) == pytest.approx(expected, rel=1e-6, abs=1e-12)


@moderate
@given(samples, samples, st.floats(0.5, 0.999))
def test_the_suites_interval_and_its_test_agree(first, second, level):
    _, low, high = suite_mean(first, second, level=level)
    p = suite_test(first, second)
    assume(abs(p - (1 - level)) > 1e-9)
    assert (low <= 0 <= high) == (p > 1 - level)


@pytest.mark.filterwarnings("error")
def test_the_suites_p_at_its_ends():
    assert suite_test([0.0] * 4, [0.0] * 3) == 1
    assert suite_test([1.0, -1.0] * 2, [1.0, -1.0] * 2) == 1
    assert suite_test([2.5] * 4) == 0
    assert math.isnan(suite_test(D8, [1.0, 2.0]))
    assert math.isnan(suite_test([NAN] * 3))


@pytest.mark.parametrize(("d", "p"), [(D5, 0.125), (D8, 0.015625), (GAINS, 0.25), ([0.1, 0.2, -0.3], 1.0)])
def test_sign_flip_oracles(d, p):
    """The last is where scipy's relative tolerance misses a tie: 0.1 + 0.2 is not 0.3."""
    assert sign_flip_test(d) == p


@pytest.mark.parametrize("seeds", [3, 7, 10])
def test_sign_flip_is_scipys_permutation_test(seeds):
    d = np.random.default_rng(seeds).normal(0.5, 1, (seeds, 4))
    found = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf, axis=0)
    np.testing.assert_allclose(sign_flip_test(d), found.pvalue, rtol=1e-12)


@moderate
@given(families(methods=st.just(1)), st.floats(0.01, 1000))
def test_sign_flip_is_the_share_of_all_flips_whatever_the_scale(d, scale):
    total = abs(d.sum())
    expected = np.mean([abs(np.dot(f, d[:, 0])) >= total for f in itertools.product([1, -1], repeat=len(d))])
    assert sign_flip_test(d)[0] == expected
    assert sign_flip_test(scale * d[:, 0]) == expected


def test_sign_flip_takes_each_column_alone():
    columns = np.random.default_rng(0).normal(0.5, 1, (6, 2, 3))
    found = sign_flip_test(columns)
    assert found.shape == (2, 3)
    assert found[1, 2] == sign_flip_test(columns[:, 1, 2])


@pytest.mark.parametrize("seeds", range(1, 17))
def test_the_smallest_p_is_that_of_differences_all_alike(seeds):
    assert smallest_p(seeds) == min(1, 2 / 2**seeds) == sign_flip_test([0.3] * seeds)


def test_beyond_sixteen_seeds_random_flips_give_the_same_p_each_time_near_the_exact_one():
    d = np.random.default_rng(4).normal(0.6, 1, 18)
    exact = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    assert 0.01 < exact < 0.1
    assert sign_flip_test(d) == sign_flip_test(d) == pytest.approx(exact, abs=4 * math.sqrt(exact / DRAWS))
    assert sign_flip_test(np.abs(d)) == smallest_p(18) == 1 / DRAWS


def test_max_t_oracle():
    """The reference's three p, with single-step .4375, of a family that has them (its own data are not printed)."""
    assert sign_flip_test(FAMILY).tolist() == [0.03125, 0.21875, 1.0]
    assert brute_force(np.multiply(FAMILY, 10).round(), step_down=False) == [0.03125, 0.4375, 1.0]
    assert max_t(FAMILY).tolist() == [0.03125, 0.40625, 1.0]
    assert holm(sign_flip_test(FAMILY)).tolist() == [0.09375, 0.4375, 1.0]


@moderate
@given(with_missing)
def test_max_t_is_its_definition(d):
    assert max_t(d).tolist() == brute_force(d)


@moderate
@given(families(elements=st.floats(-10, 10)), st.randoms())
def test_max_t_does_not_depend_on_the_order_of_methods_or_seeds(d, random):
    methods, seeds = list(range(d.shape[1])), list(range(d.shape[0]))
    random.shuffle(methods)
    random.shuffle(seeds)
    assert max_t(d[np.ix_(seeds, methods)]).tolist() == max_t(d)[methods].tolist()


@moderate
@given(with_missing, st.data())
def test_max_t_does_not_depend_on_a_methods_sign_or_unit(d, data):
    factors = data.draw(st.lists(st.sampled_from([-1e6, -1, 1, 0.001, 3]), min_size=d.shape[1], max_size=d.shape[1]))
    assert max_t(d * factors).tolist() == max_t(d).tolist()


@moderate
@given(families(elements=st.floats(-10, 10)))
@example(np.array([[1e-255, 1.0, 0.0], [0.0, 1.0, 0.0]]))
def test_adjusted_p_fall_as_the_statistic_rises_and_are_no_smaller_than_the_raw_ones(d):
    """The order is that of |t|: two methods' raw p may be the other way round."""
    raw, adjusted = sign_flip_test(d), max_t(d)
    unit = d / np.maximum(np.abs(d).max(0), np.finfo(float).tiny)  # the squares of the smallest numbers would be 0
    t = np.abs(unit.sum(0)) / np.maximum(np.linalg.norm(unit, axis=0), 1e-300)
    assert (adjusted >= raw).all()
    assert (adjusted <= 1).all()
    order = np.argsort(t)
    assert (np.diff(adjusted[order])[np.diff(t[order]) > 1e-6] <= 0).all()


@moderate
@given(with_missing)
def test_a_larger_family_never_makes_a_p_smaller_and_a_twin_changes_none(d):
    p = max_t(d)
    assert (max_t(d[:, 1:]) <= p[1:]).all() if d.shape[1] > 1 else True
    assert max_t(np.hstack([d, d])).tolist() == [*p, *p]


@moderate
@given(with_missing)
def test_a_seed_that_no_method_has_changes_nothing(d):
    assert max_t(np.vstack([d, np.full(d.shape[1], NAN)])).tolist() == max_t(d).tolist()


def test_a_family_of_one_is_the_sign_flip_test():
    assert max_t(np.transpose([D8])) == sign_flip_test(D8)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("d", [np.zeros((8, 2)), np.full((8, 2), NAN), np.zeros((0, 2)), np.full((1, 2), 3.0)])
def test_without_differences_or_seeds_there_is_no_evidence(d):
    assert max_t(d).tolist() == [1, 1]
    assert sign_flip_test(d).tolist() == [1, 1]


@pytest.mark.filterwarnings("error")
def test_constant_differences_are_the_strongest_evidence():
    d = np.random.default_rng(0).normal(size=(8, 4))
    d[:, 0] = 0.1
    d[1, 0] = NAN
    d[:, 1] = -0.7
    assert max_t(d)[:2].tolist() == brute_force(d * [10, 10, 1000, 1000] // 1)[:2]
    assert max_t(d)[:2].tolist() == [smallest_p(7)] * 2
    assert max_t(d[:, 1:])[0] == smallest_p(8)


def test_over_a_suite_one_flip_is_one_seed_of_one_set_and_each_set_weighs_the_same():
    """Sets of two and four seeds: the mean of means, and its exact distribution, by hand."""
    first, second = [3, 1], [1, -2, 4, 1]
    units = [*(Fraction(x, 2) for x in first), *(Fraction(x, 4) for x in second)]
    sums = [
        abs(sum(f * x for f, x in zip(flips, units, strict=True))) for flips in itertools.product([1, -1], repeat=6)
    ]
    expected = np.mean([total >= sums[0] for total in sums])
    assert max_t(np.transpose([first]), np.transpose([second])) == expected
    assert expected != sign_flip_test(first + second)


@moderate
@given(families(seeds=st.just(4), methods=st.just(3)), families(seeds=st.just(4), methods=st.just(3)))
def test_over_sets_of_as_many_seeds_the_suite_is_one_long_set(first, second):
    assert max_t(first, second).tolist() == max_t(np.vstack([first, second])).tolist()


@pytest.mark.parametrize("sets", [([1.0, 2.0],), (np.ones((3, 2)), np.ones((3, 3)))])
def test_sets_of_other_methods_are_refused(sets):
    with pytest.raises(ValueError, match="of the same methods"):
        max_t(*sets)


@moderate
@given(families(seeds=st.integers(2, 5), methods=st.integers(2, 4), elements=st.one_of(counts, st.just(NAN))))
def test_pairwise_max_t_is_one_family_of_all_pairs(values):
    pairs = list(itertools.combinations(range(values.shape[1]), 2))
    expected = np.ones((values.shape[1], values.shape[1]))
    adjusted = brute_force(np.column_stack([values[:, i] - values[:, j] for i, j in pairs]))
    for (i, j), p in zip(pairs, adjusted, strict=True):
        expected[i, j] = expected[j, i] = p
    np.testing.assert_array_equal(pairwise_max_t(values), expected)


def test_pairwise_max_t_over_a_suite_of_many_methods():
    """All of forty-one methods, with one far above: 24 units, so random flips."""
    sets = np.random.default_rng(0).normal(size=(3, 8, 41))
    sets[:, :, 7] += 5
    different = pairwise_max_t(*sets) <= 0.05
    assert different[7].sum() == different.sum(0)[7] == 40
    assert different.sum() == 80


p_values = st.lists(st.floats(0, 1), min_size=1, max_size=8)


def test_holm_and_benjamini_hochberg_oracles():
    p = [0.016, 0.0058, 0.041, 0.2, 0.6]
    assert holm(p) == pytest.approx([0.064, 0.029, 0.123, 0.4, 0.6])
    assert benjamini_hochberg(p) == pytest.approx([0.04, 0.029, 0.068333333, 0.25, 0.6])


@moderate
@given(p_values)
def test_holm_and_benjamini_hochberg_are_statsmodels(p):
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1], atol=1e-12)
    np.testing.assert_allclose(benjamini_hochberg(p), multipletests(p, method="fdr_bh")[1], atol=1e-12)


@moderate
@given(p_values, st.integers(0, 8))
def test_a_test_that_could_not_be_made_counts_as_none(p, place):
    for adjust in (holm, benjamini_hochberg):
        found = adjust([*p[:place], NAN, *p[place:]])
        assert math.isnan(found[min(place, len(p))])
        np.testing.assert_array_equal(found[~np.isnan(found)], adjust(p))


@pytest.mark.parametrize(("d", "p"), [(D8, 0.015625), (D5, None), ([*D5, NAN], None), ([0.0] * 6, 1.0)])
def test_signed_rank_oracles_and_silence_below_six_sets(d, p):
    assert signed_rank_test(d) == p


def test_signed_rank_is_exact_with_ties_and_zeros():
    """Demšar's C4.5+m and C4.5, with rounding that breaks no tie; scipy's "exact" says .009277."""
    assert signed_rank_test(np.array(DEMSAR) / 1000 + 0.3 - 0.3) == pytest.approx(0.007324219, abs=1e-9)


@moderate
@given(st.lists(st.integers(-500, 500).filter(bool), min_size=6, max_size=11, unique_by=abs))
def test_signed_rank_is_scipys_without_ties(d):
    assert signed_rank_test(d) == pytest.approx(stats.wilcoxon(d, method="exact").pvalue, rel=1e-9)


@pytest.mark.parametrize(
    ("d", "margin", "expected"),
    [([0.5, 0.6, 0.7], 1, True), ([-0.5, -0.6, -0.7], 1, True), ([0.5, 0.6, 0.7], 0.6, False), (D8, 1, False),
     ([0.5, 0.6], 1, False), ([0.5, 0.6, NAN], 1, False), ([0.3] * 3, 0.3, True)],
)  # fmt: skip
def test_equivalence_is_shown_by_an_interval_inside_the_margin(d, margin, expected):
    assert equivalent(d, margin=margin) is expected


@moderate
@given(samples, st.floats(0.1, 50))
def test_equivalence_is_two_one_sided_t_tests(d, margin):
    below = stats.ttest_1samp(d, -margin, alternative="greater").pvalue
    above = stats.ttest_1samp(d, margin, alternative="less").pvalue
    assume(abs(max(below, above) - 0.05) > 1e-9)
    assert equivalent(d, margin=margin) == (max(below, above) <= 0.05)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("sets", "p", "expected"),
    [
        ([D8], 0.05, "better"),
        ([np.negative(D8)], 0.05, "worse"),
        ([D8], 0.0501, "undecided"),
        ([[*D8, NAN]], 0.01, "better"),
        ([D5], 0.001, "not enough seeds"),  # whatever is claimed for it: five seeds show nothing
        ([[*D5, NAN, NAN, NAN]], 0.001, "not enough seeds"),
        ([[*D5, 1.0]], 0.04, "better"),
        ([GAINS], 0.25, "not enough seeds"),
        ([[0.5, 0.6, 0.7]], 1.0, "equivalent"),
        ([[0.5, 0.6, 0.7, 0.5, 0.6, 0.7]], 0.01, "equivalent"),  # for sure above 0, and for sure less than 1
        ([[0.5, 0.6]], 1.0, "not enough seeds"),
        ([[0.0, 0.0]], 1.0, "identical"),
        ([[0.0, NAN]], 1.0, "identical"),
        ([[0.0, 1e-12]], 1.0, "not enough seeds"),
        ([[NAN, NAN]], 1.0, "not enough seeds"),
        ([[]], 1.0, "not enough seeds"),
        ([D8], NAN, "not enough seeds"),
        ([[2.2, 1.8, 2.5, 0.7, 1.9], [1.1, 1.5, 1.2]], 0.02, "better"),  # eight units to flip
        ([D5, np.multiply(SHORT, -10)], 0.02, "worse"),  # sets weigh the same: .82 and −2.67
        ([[0.0] * 3, np.multiply(D5, 3)], 0.3, "undecided"),
        ([[0.0] * 3, [0.0] * 2], 1.0, "identical"),
        ([D8, [NAN] * 3], 0.01, "better"),
    ],
)
def test_the_verdict(sets, p, expected):
    assert verdict(*sets, p=p) == expected


def test_the_verdicts_margin_and_level_are_the_callers():
    assert verdict(D8, p=0.03, margin=2.0) == "equivalent"
    assert verdict(D8, p=0.03, alpha=0.01) == "undecided"
    assert verdict([*D5, 1.0], p=0.03, alpha=0.01) == "not enough seeds"


@moderate
@given(families(seeds=st.integers(1, 5), methods=st.just(2), elements=st.floats(-10, 10)))
def test_five_seeds_never_show_better_or_worse(d):
    p = max_t(d)
    assert {verdict(d[:, j], p=p[j]) for j in range(2)} <= {"identical", "equivalent", "not enough seeds"}


def test_a_family_of_nobody_has_no_p():
    assert max_t(np.zeros((6, 0))).tolist() == []
