"""What a search of so many trials can be expected to find."""

from math import comb

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def expected_best(validation: Floats, test: Floats) -> Floats:
    """Return the expected test value `[N]` of the validation-best of b = 1 … N trials.

    The b trials are a random subset of the N. The i-th best on validation is the best of them with the probability
    C(N − i, b − 1) / C(N, b), so that no sampling is needed. Trials that are equal on validation are the best of a
    subset equally often: each counts with the mean of their test values.

    Args:
        validation: `[N]` what is chosen by; more is better. −∞ stands for a trial that is worse than any.
        test: `[N]` what the chosen trial is worth.

    >>> expected_best(np.array([1.0, 2.0]), np.array([10.0, 20.0]))
    array([15., 20.])
    """
    count = len(validation)
    order = np.argsort(-validation, kind="stable")
    ranked = np.array([test[validation == validation[i]].mean() for i in order])
    return np.array(
        [
            sum(comb(count - 1 - i, b - 1) * ranked[i] for i in range(count - b + 1)) / comb(count, b)
            for b in range(1, count + 1)
        ]
    )
