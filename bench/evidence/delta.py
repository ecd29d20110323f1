"""Δ-MTL: gains over single-task learning, in percentage points; positive is better.

Everywhere M is the number of metrics and S that of seeds; row s of two arrays is the same seed. Two weightings exist
and disagree: over tasks of the mean over their metrics (`delta_task`, the headline), and over all metrics
(`delta_metric`, which is `delta_task` with every metric as a task of its own).
"""

from collections.abc import Hashable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

Floats = NDArray[np.float64]

TIE = 1e-6
"""Values that differ by this share of the larger one have the same rank."""
LARGEST_RATIO = 1e50
"""Values are at most this many baselines: the statistics square their gains twice."""


def delta_mtl(
    values: ArrayLike, baseline: ArrayLike, higher_is_better: Sequence[bool], tasks: Sequence[Hashable]
) -> tuple[float, float]:
    """Return (delta_task, delta_metric): the mean relative gain of `values` over `baseline`.

    A ratio of means over seeds, R = mean(values) / mean(baseline); the mean of per-seed ratios is biased by about
    minus the baseline's squared coefficient of variation.

    Args:
        values, baseline: `[M]` or `[S, M]`; of different numbers of seeds, if need be.
        higher_is_better: `[M]`.
        tasks: `[M]`, the task of each metric.

    Raises:
        ValueError: a baseline's mean is 0, over which there is no relative gain (`has_relative_gain`); or the arguments
            are not of as many metrics.

    Example:
        Accuracy rises from 0.5 to 0.6, by 20 %, and an error from 2.0 to 2.2, which is 10 % worse.

        >>> delta_task, delta_metric = delta_mtl([0.6, 2.2], [0.5, 2.0], [True, False], ["kind", "size"])
        >>> round(delta_task, 6)
        5.0
    """
    _require_metrics(np.shape(values)[-1:], np.shape(baseline)[-1:], np.shape(higher_is_better), (len(tasks),))
    gains = _gains(_means(values), _means(baseline), higher_is_better)
    return float(gains @ _task_weights(tasks)), float(gains.mean())


def per_seed(
    values: ArrayLike,
    baseline: ArrayLike,
    higher_is_better: Sequence[bool],
    tasks: Sequence[Hashable],
    kind: Literal["linearised", "paired", "fixed"] = "linearised",
) -> Floats:
    """Return per-seed gains `[S]` whose mean is `delta_task` and whose spread is right for one question.

    For `delta_metric` name every metric a task: `tasks=range(M)`. With B̄ the baseline's mean and R = M̄ / B̄:

    * "linearised", (R − 1) + (M_s − R B_s) / B̄: for the interval of Δ; carries the baseline's own spread.
    * "paired", (M_s − B_s) / B̄: for the test of Δ = 0, symmetric under a swap of method and baseline.
    * "fixed", M_s / B̄ − 1: differences of it compare two methods. Alone it takes the baseline as free of noise.

    Args:
        values, baseline: `[S, M]`, paired by seed.
        higher_is_better, tasks: `[M]`.

    Raises:
        ValueError: the two are not of one shape `[S, M]`, the others not of as many metrics, there is no such kind, or
            a baseline's mean is 0.

    Example:
        Three seeds of two metrics. The mean of the gains is `delta_mtl` of the same numbers.

        >>> values = [[0.60, 2.2], [0.62, 2.1], [0.58, 2.3]]
        >>> baseline = [[0.50, 2.0], [0.51, 2.0], [0.49, 2.0]]
        >>> gains = per_seed(values, baseline, [True, False], ["kind", "size"])
        >>> gains.round(2).tolist()
        [5.0, 8.3, 1.7]
        >>> round(float(gains.mean()), 6)
        5.0
    """
    method, stl = np.asarray(values, np.float64), np.asarray(baseline, np.float64)
    if method.shape != stl.shape or method.ndim != 2:
        raise ValueError(f"values {method.shape} and baseline {stl.shape} should be one shape [seeds, metrics]")
    _require_metrics(method.shape[1:], np.shape(higher_is_better), (len(tasks),))
    mean = stl.mean(0)
    _require_baseline(mean)
    ratio = method.mean(0) / mean
    if kind == "linearised":
        relative = (ratio - 1) + (method - ratio * stl) / mean
    elif kind == "paired":
        relative = (method - stl) / mean
    elif kind == "fixed":
        relative = method / mean - 1
    else:
        raise ValueError(f"kind={kind!r}: there is linearised, paired and fixed")
    # Over |B̄|: of a negative baseline a larger value is a larger value still.
    gains = 100 * _signs(higher_is_better) * np.sign(mean) * relative
    result: Floats = gains @ _task_weights(tasks)
    return result


def task_gains(values: ArrayLike, baseline: ArrayLike, higher_is_better: Sequence[bool]) -> Floats:
    """Return each metric's own gain `[M]`, in per cent, of `values` and `baseline` `[M]` or `[S, M]`.

    Raises:
        ValueError: a baseline's mean is 0.
    """
    return _gains(_means(values), _means(baseline), higher_is_better)


def has_relative_gain(values: ArrayLike, baseline: ArrayLike) -> NDArray[np.bool_]:
    """Return for each metric `[M]` whether gains over the baseline's mean can be computed.

    Not over a mean of 0, nor over one so small that gains and their squares would be no numbers.

    Args:
        values, baseline: `[S, M]`, at least one seed each.
    """
    largest = np.abs(np.asarray(values, np.float64)).max(0)
    mean = np.abs(_means(baseline))
    found: NDArray[np.bool_] = (mean > 0) & (largest <= LARGEST_RATIO * mean)
    return found


def mean_rank(values: ArrayLike, higher_is_better: Sequence[bool], ties: Literal["min", "average"] = "min") -> Floats:
    """Return each method's mean over metrics of its rank, 1 the best: values `[methods, M]` -> `[methods]`.

    Ties share the best rank ("min"), as most papers' numbers do, or the average. Values are ties if they differ by at
    most a millionth of the larger one, and so are values that a chain of such ties joins: metrics are computed in
    float32, where rounding alone tells equal scores apart. Single-task learning is not to be among the rows: the
    literature never ranks it. Ranks depend on which methods are compared.

    Args:
        values: finite.
        higher_is_better: `[M]`.

    Raises:
        ValueError: a value is not finite, or the arguments are not of as many metrics.

    Example:
        >>> mean_rank([[0.9, 1.0], [0.8, 2.0], [0.9, 3.0]], [True, False]).tolist()
        [1.0, 2.5, 2.0]
    """
    given = np.asarray(values, np.float64)
    _require_metrics(given.shape[1:], np.shape(higher_is_better))
    if not np.isfinite(given).all():
        raise ValueError("a value is not finite, and has no rank: leave its method or its metric out")
    scores = -given * _signs(higher_is_better)
    order = np.argsort(scores, axis=0, kind="stable")
    ascending = np.take_along_axis(scores, order, 0)
    larger = np.maximum(np.abs(ascending[1:]), np.abs(ascending[:-1]))
    steps = np.zeros(scores.shape, np.int64)
    steps[1:] = np.cumsum(ascending[1:] - ascending[:-1] > TIE * larger, axis=0)
    places = np.empty_like(steps)
    np.put_along_axis(places, order, steps, 0)
    result: Floats = rankdata(places, method=ties, axis=0).mean(1)
    return result


def _means(values: ArrayLike) -> Floats:
    array = np.asarray(values, np.float64)
    return array.mean(0) if array.ndim == 2 else array


def _signs(higher_is_better: Sequence[bool]) -> Floats:
    return np.where(np.asarray(higher_is_better, bool), 1.0, -1.0)


def _require_metrics(*shapes: tuple[int, ...]) -> None:
    if len(set(shapes)) > 1 or len(shapes[0]) != 1:
        raise ValueError(f"arguments of shapes {', '.join(map(str, shapes))} should all be of the same metrics [M]")


def _require_baseline(mean: Floats) -> None:
    if zeros := np.flatnonzero(mean == 0).tolist():
        raise ValueError(
            f"the baseline's mean of metric {zeros[0]} is 0: nothing is a relative gain over it, leave it out"
        )


def _gains(values: Floats, baseline: Floats, higher_is_better: Sequence[bool]) -> Floats:
    _require_baseline(baseline)
    return 100 * _signs(higher_is_better) * (values - baseline) / np.abs(baseline)


def _task_weights(tasks: Sequence[Hashable]) -> Floats:
    """One weight per metric `[M]`: 1 / (number of tasks × number of this task's metrics)."""
    names = list(tasks)
    return np.array([1 / (len(set(names)) * names.count(task)) for task in names])
