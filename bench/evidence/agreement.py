"""How far task sets agree on the order of methods."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata


def kendall_w(values: ArrayLike) -> float:
    """Return Kendall's coefficient of concordance W, corrected for ties (Kendall & Babington Smith 1939).

    It is 1 if every task set puts the methods in the same order, and 0 if all methods have the same mean rank. Orders
    that are drawn by lot have 1 / D on average. Friedman's χ² is D (M − 1) W. Whether higher or lower is better makes
    no difference. It describes these task sets: it is no test.

    Args:
        values: `[D, M]`, one row per task set and one column per method, in any unit; equal values share their mean
            rank.

    Returns:
        W between 0 and 1; nan if there are fewer than two sets or two methods, or if every set has one value only.

    Raises:
        ValueError: the values are not `[D, M]`, or one of them is not finite and so has no rank.

    Example:
        Two task sets agree on the last of three methods, and not on the first two.

        >>> kendall_w([[3.0, 2.0, 1.0], [20.0, 30.0, 10.0]])
        0.75
    """
    given = np.asarray(values, np.float64)
    if given.ndim != 2 or not np.isfinite(given).all():
        raise ValueError(f"values of shape {given.shape} should be finite, and [task sets, methods]")
    sets, methods = given.shape
    if sets < 2 or methods < 2:
        return float("nan")
    ranks = rankdata(given, axis=1) - (methods + 1) / 2
    most = sets * (ranks**2).sum()
    return float((ranks.sum(0) ** 2).sum() / most) if most else float("nan")
