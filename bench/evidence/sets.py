"""Verdicts where the task set is the unit: would a difference hold on other task sets like these?

Everywhere D is the number of task sets, and a method has one value a set: its mean difference from a reference over the
seeds there, positive is better. The noise of the seeds is part of that value and needs no test of its own.

The null hypothesis is that over the sets from which these were drawn, the differences of all methods are distributed
symmetrically about 0, jointly. Then every sign flip of whole sets is as likely as the data: `max_t` of `[D, methods]`
is exact, with all sets as its seeds, and whether the sets spread alike or not has no part in that. Two things are
assumed. The sets are a random sample: a suite that somebody has chosen is one of convenience, and no test can mend
that. And without an effect the differences are symmetric: where a rule gains a little on most sets and loses much on
few, the test errs more often than it says (`results/calibration/sets.md` has how often).

Each set weighs the same in the mean, so that a set with large differences rules it. Two companions do not depend on
how large the largest is: `max_t` of the `scaled` values, and `signed_rank_test` of one method alone.
"""

import numpy as np
from numpy.typing import ArrayLike

from bench.evidence.power import detectable
from bench.evidence.significance import Floats, Verdict, smallest_p, verdict


def verdict_over_sets(means: ArrayLike, p: float, margin: float = 1.0, alpha: float = 0.05) -> Verdict:
    """Return the word for one method's differences `[D]`, of which each is the mean on a task set.

    It is "not enough task sets" where no exact test can reach alpha, whatever the differences are: below six, at 0.05.
    From there on the words mean what they mean over seeds, and are judged in the same order. Equivalence is that of two
    one-sided t tests over sets.

    Args:
        means: finite, or NaN where a set has no value.
        p: of `max_t` over the family, from arrays `[D, methods]`.
        margin: in the unit of the differences.
        alpha: of both tests.

    Example:
        A gain on each of six sets, and one on five:

        >>> from bench.evidence.significance import max_t
        >>> ahead = [3.0, 15.0, 1.0, 2.0, 0.5, 4.0]
        >>> verdict_over_sets(ahead, p=float(max_t([[d] for d in ahead])[0]))
        'better'
        >>> verdict_over_sets(ahead[:5], p=float(max_t([[d] for d in ahead[:5]])[0]))
        'not enough task sets'
    """
    values = np.asarray(means, np.float64)
    if smallest_p(int((~np.isnan(values)).sum())) > alpha:
        return "not enough task sets"
    return verdict(values, p=p, margin=margin, alpha=alpha)


def scaled(means: ArrayLike) -> Floats:
    """Return differences `[D, methods]` in units of each set: of their root mean square over the methods there.

    A flip of a whole set leaves its unit as it is, so that `max_t` of the scaled differences is exact where no method
    has an effect, as it is without scaling. Where some have, its error rate is simulated. Of one method alone the
    signs are left. NaN stays; a set without any difference has zeros.

    Example:
        >>> scaled([[3.0, 4.0], [-30.0, 40.0]]).round(2).tolist()
        [[0.85, 1.13], [-0.85, 1.13]]
    """
    values = np.asarray(means, np.float64)
    there = np.maximum((~np.isnan(values)).sum(1), 1)
    unit = np.sqrt(np.nansum(values**2, axis=1) / there)
    found: Floats = values / np.where(unit > 0, unit, 1)[:, None]
    return found


def detectable_over_sets(means: ArrayLike, alpha: float = 0.05, power: float = 0.8) -> float:
    """Return the smallest true mean that would be found with this power, in the unit of the differences `[D, methods]`.

    At the median over methods of the spread over sets; the family are these methods. This is `power.detectable`, the
    t test's with Bonferroni's correction; measured, `max_t` finds such a mean in 78 to 84 % of cases with eight and
    twelve sets, and in 59 % with six. inf where no exact test reaches alpha, nan without any method.

    Example:
        Two methods on eight sets, and on five of them:

        >>> d = [[1.0, 3.0], [-1.0, 3.0], [1.0, 3.0], [-1.0, 3.0], [1.0, -3.0], [-1.0, -3.0], [1.0, -3.0], [-1.0, -3.0]]
        >>> print(f"{detectable_over_sets(d):.1f}, {detectable_over_sets(d[:5])}")
        2.9, inf
    """
    values = np.asarray(means, np.float64)
    sets, family = values.shape
    if not family:
        return float("nan")
    if smallest_p(sets) > alpha:
        return float("inf")
    return detectable(sets, family, alpha, power) * float(np.nanmedian(np.nanstd(values, axis=0, ddof=1)))
