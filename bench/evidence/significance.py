"""Tests, intervals and verdicts over seeds. The run is the unit: tasks and metrics within one are no replicates.

Everywhere S is the number of seeds, `d` holds per-seed differences (method minus reference, positive is better) and NaN
is a missing pair. Functions that take `*differences` take one array per task set, and speak of the mean over exactly
these sets, each weighing the same; one array is one task set alone.
"""

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit
from scipy.stats import false_discovery_control, rankdata

Floats = NDArray[np.float64]
Verdict = Literal["better", "worse", "equivalent", "undecided", "not enough seeds", "identical"]

MINIMUM_SEEDS = 3
"""Below this no interval is given: at two seeds its half-width is 12.7 standard errors."""
MINIMUM_SETS = 6
"""Below this no exact test over task sets reaches 5 %: with five, the smallest p is 1/16."""
EXACT_SEEDS = 16
"""Up to here every sign flip is taken (32 768 up to a common sign), beyond it `DRAWS` of them."""
DRAWS = 20_000
TIE = 1e-9
"""Statistics in [0, 1] this close are ties: rounding alone must not make a flip smaller than the data."""


def t_interval(d: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Return the t interval (low, high) of the mean of per-seed values `[S]`, in their unit.

    Args:
        d: finite, or NaN where a seed is missing. Below three seeds that are there the interval is (nan, nan).
        level: of confidence, between 0 and 1.
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


def _welch(*differences: ArrayLike) -> tuple[float, float, float]:
    """Return mean, standard error and degrees of freedom; the latter two nan where a set has too few seeds."""
    sets = [_present(d) for d in differences]
    mean = float(np.mean([values.mean() if len(values) else np.nan for values in sets]))
    if min(len(values) for values in sets) < MINIMUM_SEEDS:
        return mean, float("nan"), float("nan")
    parts = np.array([values.var(ddof=1) / len(values) for values in sets]) / len(sets) ** 2
    total = float(parts.sum())
    if total == 0:  # the interval is the mean, whatever the degrees of freedom
        return mean, 0.0, 1.0
    freedom = 1 / sum((part / total) ** 2 / (len(v) - 1) for part, v in zip(parts, sets, strict=True))
    return mean, math.sqrt(total), float(freedom)


def sign_flip_test(d: ArrayLike) -> Floats:
    """Return the exact two-sided p of each column: `[S]` -> a scalar, `[S, …]` -> `[…]`; no correction for many.

    The share of all sign flips of the differences whose |mean| is at least the data's (Fisher 1935). Exact for the
    difference of two exchangeable runs, whatever its distribution. Beyond 16 seeds it is that of 20 000 random flips,
    always the same and the identity among them, which is a valid test too.
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
    """Return p `[tests]` adjusted by Holm (1979), valid under any dependence; nan stays, and counts as no test."""
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

    The only question here about task sets that are not in the suite. Zeros are dropped, and ties share their mean rank;
    scipy's `method="exact"` ignores both. Differences apart by rounding alone are ties.
    """
    values = _present(d)
    if len(values) < MINIMUM_SETS:
        return None
    values = np.round(values / max(np.abs(values).max(), np.finfo(float).tiny), 9)
    values = values[values != 0]
    return float(sign_flip_test(np.sign(values) * rankdata(np.abs(values))))


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


def _flips(seeds: int) -> Floats:
    """Return sign patterns `[S, flips]`, each standing for its opposite too; the first changes nothing."""
    if seeds <= EXACT_SEEDS:  # the last seed's bit stays 0
        bits = np.arange(2 ** max(seeds - 1, 0)) >> np.arange(seeds)[:, None] & 1
    else:
        bits = np.random.default_rng(0).integers(0, 2, (seeds, DRAWS))
        bits[:, 0] = 0
    return np.where(bits, -1.0, 1.0)


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

    def statistic(flips: Floats) -> Floats:
        """t² / (1 + t²) `[columns, flips]`: rises with |t|, comparable across numbers of pairs, never infinite."""
        share = (unit @ flips) ** 2 / np.maximum(pairs, 1)
        found: Floats = (pairs - 1) * share / (1 + np.maximum(pairs - 2, 0) * share)
        return found

    flips = _flips(len(d))
    order = np.argsort(statistic(flips[:, :1])[:, 0])
    unit, pairs = unit[order], pairs[order]
    threshold = statistic(flips[:, :1]) - TIE
    count = np.zeros(len(order))
    piece = max(2**20 // max(len(order), 1), 1)  # of 8 MiB a statistic
    for start in range(0, flips.shape[1], piece):
        found = statistic(flips[:, start : start + piece])
        if step_down:
            found = np.maximum.accumulate(found)
        count += (found >= threshold).sum(1)
    if step_down:  # no column is more significant than one with a larger statistic
        count = np.maximum.accumulate(count[::-1])[::-1]
    p = np.empty_like(count)
    p[order] = count / flips.shape[1]
    return p
