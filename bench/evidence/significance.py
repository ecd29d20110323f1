"""Tests, intervals and verdicts over seeds. The run is the unit: tasks and metrics within one are no replicates.

Everywhere S is the number of seeds, `d` holds per-seed differences (method minus reference, positive is better) and NaN
is a missing pair. Functions that take `*differences` take one array per task set, and speak of the mean over exactly
these sets, each weighing the same; one array is one task set alone.
"""

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit
from scipy.stats import PermutationMethod, false_discovery_control, wilcoxon

Floats = NDArray[np.float64]
Verdict = Literal["better", "worse", "equivalent", "undecided", "not enough seeds", "not enough task sets", "identical"]
"""`verdict` gives all but "not enough task sets", which `sets.verdict_over_sets` gives."""

MINIMUM_SEEDS = 3
"""Below this no interval is given: at two seeds its half-width is 12.7 standard errors."""
MINIMUM_SETS = 6
"""Below this no exact test over task sets reaches 5 %: with five, the smallest p is 1/16."""
EXACT_SEEDS = 16
"""Up to here every sign flip is taken (32 768 up to a common sign), beyond it `DRAWS` of them."""
DRAWS = 20_000
PIECE = 2**18
"""So many statistics are worked out at a time: 2 MiB, which a processor's cache holds."""
TIE = 1e-9
"""Statistics in [0, 1] this close are ties: rounding alone must not make a flip smaller than the data."""


def t_interval(d: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Return the t interval (low, high) of the mean of per-seed values `[S]`, in their unit.

    Args:
        d: finite, or NaN where a seed is missing. Below three seeds that are there the interval is (nan, nan).
        level: of confidence, between 0 and 1.

    Example:
        >>> low, high = t_interval([1.0, 2.0, 3.0])
        >>> print(f"{low:.2f} to {high:.2f}")
        -0.48 to 4.48
    """
    _, low, high = suite_mean(d, level=level)
    return low, high


def suite_mean(*differences: ArrayLike, level: float = 0.95) -> tuple[float, float, float]:
    """Return mean and interval (mean, low, high) over a fixed suite of task sets, each weighing the same.

    Each argument is one task set's per-seed values `[S_d]`. SE² = Σ s_d² / S_d / D², with Welch–Satterthwaite degrees
    of freedom. This speaks of these task sets, not of others. Below three seeds in a set the interval is (nan, nan).
    """
    mean, error, freedom = _welch(*differences)
    half = float(stdtrit(freedom, (1 + level) / 2)) * error
    return mean, mean - half, mean + half


def suite_test(*differences: ArrayLike) -> float:
    """Return the two-sided p of a mean of 0 over a fixed suite, by the t of `suite_mean`; nan below three seeds.

    It leans on normal differences, more so the smaller p is: `max_t` of the same arrays is the exact companion, whose
    null hypothesis is "no effect on any set".
    """
    mean, error, freedom = _welch(*differences)
    if error == 0:
        return float(mean == 0)
    return float(2 * stdtr(freedom, -abs(mean) / error))


def suite_means(*differences: ArrayLike, level: float = 0.95) -> tuple[Floats, Floats, Floats]:
    """Return `suite_mean` of many columns at once: `[S_d, columns]` each -> three arrays `[columns]`."""
    mean, error, freedom = _welch_of(*(np.asarray(d, np.float64) for d in differences))
    half = stdtrit(freedom, (1 + level) / 2) * error
    return mean, mean - half, mean + half


def _welch(*differences: ArrayLike) -> tuple[float, float, float]:
    """Return mean, standard error and degrees of freedom; the latter two nan where a set has too few seeds."""
    mean, error, freedom = _welch_of(*(np.asarray(d, np.float64)[:, None] for d in differences))
    return float(mean[0]), float(error[0]), float(freedom[0])


def _welch_of(*sets: Floats) -> tuple[Floats, Floats, Floats]:
    """Return what `_welch` does, of each column of `[S_d, columns]`: arrays `[columns]`."""
    counts = np.stack([_pairs(d) for d in sets], 1)
    means, variances = np.full(counts.shape, np.nan), np.full(counts.shape, np.nan)
    # Everything is summed along memory, as one column alone is.
    if len({d.shape for d in sets}) == 1 and len(sets[0]) > 1 and (counts == len(sets[0])).all():  # one sum for all
        values = np.ascontiguousarray(np.stack(sets).transpose(2, 0, 1))
        means, variances = values.mean(2), values.var(2, ddof=1)
    else:
        for place, d in enumerate(sets):
            for columns, rows in _by_what_is_there(d):
                values = np.ascontiguousarray(d[rows][:, columns].T)
                if values.shape[1]:
                    means[columns, place] = values.mean(1)
                if values.shape[1] > 1:
                    variances[columns, place] = values.var(1, ddof=1)
    mean = means.mean(1)
    parts = variances / np.maximum(counts, 1) / len(sets) ** 2
    total = parts.sum(1)
    too_few = counts.min(1) < MINIMUM_SEEDS
    # Without any spread the interval is the mean, whatever the degrees of freedom.
    some = np.where(total > 0, total, 1)
    freedom = np.zeros(len(total))
    for part, count in zip(parts.T, counts.T, strict=True):
        freedom += (part / some) ** 2 / np.maximum(count - 1, 1)
    freedom = 1 / np.where(total > 0, freedom, 1)
    return mean, np.where(too_few, np.nan, np.sqrt(total)), np.where(too_few, np.nan, freedom)


def _by_what_is_there(d: Floats) -> Iterator[tuple[NDArray[np.intp], NDArray[np.bool_]]]:
    """Return the columns of `[S, columns]` that have values in the same rows, together with these rows `[S]`."""
    there = ~np.isnan(d)
    if there.all():
        yield np.arange(d.shape[1]), np.ones(len(d), bool)
        return
    patterns, which = np.unique(there, axis=1, return_inverse=True)
    for number, rows in enumerate(patterns.T):
        yield np.flatnonzero(which == number), rows


def sign_flip_test(d: ArrayLike) -> Floats:
    """Return the exact two-sided p of each column: `[S]` -> a scalar, `[S, …]` -> `[…]`; no correction for many.

    The share of all sign flips of the differences whose |mean| is at least the data's (Fisher 1935). Exact for the
    difference of two exchangeable runs, whatever its distribution. Beyond 16 seeds it is that of 20 000 random flips,
    always the same and the identity among them, which is a valid test too.

    Example:
        Six differences of one sign: of the 64 sign flips two have a mean as large, all as they are and all flipped.

        >>> float(sign_flip_test([1.0, 2.0, 3.0, 1.0, 2.0, 3.0]))
        0.03125
    """
    values = np.asarray(d, np.float64)
    columns = values.reshape(len(values), math.prod(values.shape[1:]))
    return _share_of_flips(columns, step_down=False).reshape(values.shape[1:])


def smallest_p(seeds: int) -> float:
    """Return the smallest p that the exact tests can give with this many pairs: 1/16 with five, 1/32 with six."""
    return 1 / (2 ** max(seeds - 1, 0) if seeds <= EXACT_SEEDS else DRAWS)


def max_t(*differences: ArrayLike) -> Floats:
    """Return p `[methods]` adjusted for the family of all methods, from differences `[S_d, methods]`.

    Step-down max-T by joint sign flips (Westfall & Young 1993): every flip takes one sign per task set and seed, the
    same for all methods, and so keeps their dependence. A method without any pair, or any difference, gets 1.

    Raises:
        ValueError: the sets are not all `[S_d, methods]` of the same methods.

    Example:
        Six seeds of two methods: the first is ahead at every seed, the second at half of them. Alone, the first would
        have p = 1/32.

        >>> max_t([[1, 1], [2, -1], [3, 1], [1, -1], [2, 1], [3, -1]]).tolist()
        [0.0625, 1.0]
    """
    sets = [np.asarray(d, np.float64) for d in differences]
    if {d.ndim for d in sets} != {2} or len({d.shape[1] for d in sets}) != 1:
        raise ValueError(f"differences {[d.shape for d in sets]} should be [seeds, methods], of the same methods")
    # Each set's mean weighs the same, whatever its number of pairs.
    return _share_of_flips(np.concatenate([d / np.maximum(_pairs(d), 1) for d in sets]), step_down=True)


def pairwise_max_t(*values: ArrayLike) -> Floats:
    """Return p `[methods, methods]` of every difference between two methods, from values `[S_d, methods]`.

    One `max_t` over all pairs jointly, so that bands and letters are right together; 1 on the diagonal.
    """
    sets = [np.asarray(v, np.float64) for v in values]
    count = sets[0].shape[1]
    first, second = np.triu_indices(count, 1)
    result = np.ones((count, count))
    result[first, second] = result[second, first] = max_t(*(v[:, first] - v[:, second] for v in sets))
    return result


def holm(p: ArrayLike) -> Floats:
    """Return p `[tests]` adjusted by Holm (1979), valid under any dependence; nan stays, and counts as no test.

    Example:
        >>> holm([0.01, 0.04, 0.03]).tolist()
        [0.03, 0.06, 0.06]
    """
    values = np.asarray(p, np.float64)
    order = np.argsort(values)  # nan last
    factors = np.isfinite(values).sum() - np.arange(len(values))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1)
    return adjusted


def benjamini_hochberg(p: ArrayLike) -> Floats:
    """Return p `[tests]` adjusted for the false discovery rate (1995); nan stays, and counts as no test.

    For exploring many cells of a heat map, not for verdicts.
    """
    values = np.array(p, np.float64)
    tests = np.isfinite(values)
    values[tests] = false_discovery_control(values[tests])
    return values


def signed_rank_test(d: ArrayLike) -> float | None:
    """Return Wilcoxon's exact two-sided p over task sets, from each set's mean `[D]`; None below six sets.

    It asks of other task sets like these, as `max_t` does of the same means, but weighs sets by the order of their
    differences and not by their size. It is of one method alone, not adjusted for a family. Zeros are dropped, and ties
    share their mean rank: with ties p comes from the sign flips themselves, all of them up to 14 sets. Differences
    apart by rounding alone are ties.
    """
    values = _present(d)
    if len(values) < MINIMUM_SETS:
        return None
    values = np.round(values / max(np.abs(values).max(), np.finfo(float).tiny), 9)
    values = values[values != 0]
    if not len(values):
        return 1.0
    tied = len(np.unique(np.abs(values))) < len(values)
    return float(wilcoxon(values, method=PermutationMethod(n_resamples=DRAWS, rng=0) if tied else "exact").pvalue)


def equivalent(*differences: ArrayLike, margin: float = 1.0, alpha: float = 0.05) -> bool:
    """Tell whether the mean is shown to lie within ±margin: two one-sided t tests (Schuirmann 1987), each at alpha.

    That is, the 1 − 2 alpha interval lies inside. Never below three seeds.
    """
    _, low, high = suite_mean(*differences, level=1 - 2 * alpha)
    return -margin <= low and high <= margin


def verdict(*differences: ArrayLike, p: float, margin: float = 1.0, alpha: float = 0.05) -> Verdict:
    """Return the word for one method's per-seed differences `[S_d]` from a reference.

    "equivalent" is judged before "better" and "worse". These two need enough pairs for an exact test to reach alpha.

    Args:
        p: of `max_t` over the family of methods that the reader sees.
        margin: in the unit of the differences; a mean shown to lie within it is "equivalent", whatever p is.
        alpha: of both tests.

    Example:
        >>> ahead = [3.0, 4.0, 5.0, 3.0, 4.0, 5.0]
        >>> verdict(ahead, p=float(sign_flip_test(ahead)))
        'better'
        >>> verdict(ahead[:5], p=float(sign_flip_test(ahead[:5])))
        'not enough seeds'
        >>> verdict([0.1, -0.1, 0.2, 0.0, -0.2, 0.1], p=0.9)
        'equivalent'
    """
    sets = [_present(d) for d in differences]
    pairs = sum(len(values) for values in sets)
    if pairs and not any(values.any() for values in sets):
        return "identical"
    if equivalent(*sets, margin=margin, alpha=alpha):
        return "equivalent"
    if np.isnan(p) or smallest_p(pairs) > alpha:
        return "not enough seeds"
    if p > alpha:
        return "undecided"
    return "better" if np.mean([values.mean() for values in sets if len(values)]) > 0 else "worse"


def _present(d: ArrayLike) -> Floats:
    values = np.asarray(d, np.float64)
    return values[~np.isnan(values)]


def _pairs(d: Floats) -> NDArray[np.int64]:
    """How many seeds each column of `[S, columns]` has."""
    return np.asarray((~np.isnan(d)).sum(0))


@lru_cache(maxsize=4)
def _flips(seeds: int) -> Floats:
    """Return sign patterns `[S, flips]`, each standing for its opposite too; the first changes nothing."""
    if seeds <= EXACT_SEEDS:  # the last seed's bit stays 0
        bits = np.arange(2 ** max(seeds - 1, 0)) >> np.arange(seeds)[:, None] & 1
    else:
        bits = np.random.default_rng(0).integers(0, 2, (seeds, DRAWS))
        bits[:, 0] = 0
    flips = np.where(bits, -1.0, 1.0)
    flips.setflags(write=False)
    return flips


def _share_of_flips(d: Floats, step_down: bool) -> Floats:
    """Return for each column of `[S, columns]` the share of flips with a statistic at least the data's.

    With `step_down`, with the largest statistic among this column and all whose own is smaller.
    """
    pairs = _pairs(d)[:, None]
    d = np.where(np.isnan(d), 0, d)  # a missing pair adds nothing to the sum, nor to the norm
    largest = np.abs(d).max(0, initial=0)
    d = d / np.where(largest > 0, largest, 1)  # squares of the smallest numbers would be 0
    norm = np.sqrt((d**2).sum(0))
    unit = (d / np.where(norm > 0, norm, 1)).T

    def statistic(sums: Floats) -> Floats:
        """t² / (1 + t²) `[columns, flips]`: rises with |t|, comparable across numbers of pairs, never infinite."""
        share = sums**2 / np.maximum(pairs, 1)
        found: Floats = (pairs - 1) * share / (1 + np.maximum(pairs - 2, 0) * share)
        return found

    flips = _flips(len(d))
    order = np.argsort(statistic(unit @ flips[:, :1])[:, 0])
    unit, pairs = unit[order], pairs[order]
    threshold = statistic(unit @ flips[:, :1]) - TIE
    alike = len(np.unique(pairs)) == 1
    if alike:  # then |sum| rises with the statistic, and can be compared in its place
        threshold = _sum_of(threshold, int(pairs[0, 0]))
    count = np.zeros(len(order))
    piece = max(PIECE // max(len(order), 1), 1)
    for start in range(0, flips.shape[1], piece):
        sums = unit @ flips[:, start : start + piece]
        found = np.abs(sums, out=sums) if alike else statistic(sums)
        if step_down:
            np.maximum.accumulate(found, out=found)
        count += np.count_nonzero(found >= threshold, axis=1)
    if step_down:  # no column is more significant than one with a larger statistic
        count = np.maximum.accumulate(count[::-1])[::-1]
    p = np.empty_like(count)
    p[order] = count / flips.shape[1]
    return p


def _sum_of(statistic: Floats, pairs: int) -> Floats:
    """Return the |sum| of a unit vector of so many pairs at which the statistic of `_share_of_flips` has this value."""
    if pairs < 2:  # it is 0, whatever the sum
        return np.where(statistic > 0, np.inf, -np.inf)
    at_least = np.maximum(statistic, 0)
    found: Floats = np.sqrt(pairs * at_least / (pairs - 1 - (pairs - 2) * at_least))
    return np.where(statistic > 0, found, -np.inf)
