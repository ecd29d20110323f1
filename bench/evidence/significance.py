"""Intervals over seeds. The run is the unit: tasks and metrics within one are no replicates."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

MINIMUM_SEEDS = 3
"""Below this no interval is given: at two seeds its half-width is 12.7 standard errors."""


def t_interval(d: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Return the t interval of the mean of per-seed values `[S]`; (nan, nan) below three seeds."""
    values = np.asarray(d, np.float64)
    return _interval(values.mean(), _squared_error(values), len(values) - 1, level, [values])


def suite_mean(*differences: ArrayLike, level: float = 0.95) -> tuple[float, float, float]:
    """Return mean and interval (mean, low, high) over a fixed suite of task sets, each weighing the same.

    Each argument is one task set's per-seed values `[S_d]`. SE² = Σ s_d² / S_d / D², with Welch–Satterthwaite degrees
    of freedom. This speaks of these task sets, not of others.
    """
    arrays = [np.asarray(d, np.float64) for d in differences]
    mean = float(np.mean([values.mean() for values in arrays]))
    parts = np.array([_squared_error(values) for values in arrays]) / len(arrays) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        freedom = parts.sum() ** 2 / sum(part**2 / (len(a) - 1) for part, a in zip(parts, arrays, strict=True))
    low, high = _interval(mean, parts.sum(), freedom if np.isfinite(freedom) else 1.0, level, arrays)
    return mean, low, high


def _squared_error(values: np.ndarray) -> float:
    return float(values.var(ddof=1) / len(values)) if len(values) > 1 else float("nan")


def _interval(
    mean: float, squared_error: float, freedom: float, level: float, arrays: list[np.ndarray]
) -> tuple[float, float]:
    if min(len(values) for values in arrays) < MINIMUM_SEEDS:
        return float("nan"), float("nan")
    half = float(stdtrit(freedom, (1 + level) / 2) * np.sqrt(squared_error))
    return float(mean) - half, float(mean) + half
