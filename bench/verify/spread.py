"""How far a score may lie from its record: as far as another seed would, and no further.

Other rounding changes a training by less than another seed does, however far training amplifies it: in the worst case
nothing is left of the pairing, and the two are like runs of two seeds. Their difference then has √2 times the deviation
over seeds. A score that differs by more than that explains is no matter of rounding.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from bench.evidence.delta import delta_mtl, has_relative_gain
from bench.report.scores import Metric, usable
from bench.verify.pairs import Pair, Recorded

ALPHA = 0.05
"""The probability that any score of all that are compared is named without a fault, if nothing is left of pairing."""
SHARED = 1e-6
"""A score that differs by a smaller share of itself is never named, even where seeds do not spread at all."""


@dataclass(frozen=True)
class Change:
    """A score and the same score trained again."""

    pair: Pair
    metric: Metric
    higher_is_better: bool
    was: float
    now: float
    mean: float
    """That of its method's other seeds; not 0. Changes are measured in shares of it."""
    deviation: float
    """The standard deviation over seeds as a share of the mean: of its method, or of all methods, the larger one."""
    freedom: int
    """The degrees of freedom of that; 0 where nothing is known of the spread."""

    @property
    def share(self) -> float:
        """The change as a share of the mean."""
        return (self.now - self.was) / abs(self.mean)

    def limit(self, comparisons: int) -> float:
        """Return the share beyond which no spread of seeds explains a change, if so many scores are compared."""
        if not self.freedom:
            return math.inf
        quantile = float(stdtrit(self.freedom, 1 - ALPHA / (2 * comparisons)))
        return max(math.sqrt(2) * self.deviation * quantile, SHARED)


def changes(pairs: Iterable[Pair], recorded: Iterable[Recorded]) -> list[Change]:
    """Return the changes of all scores of these pairs, of which both runs are ok.

    A score is left out if its mean over the other seeds is 0, as nothing is a share of that.

    Args:
        pairs: runs and the same runs trained again.
        recorded: all recorded runs; they tell how seeds spread. A run never tells about itself, so that a record that
            was edited does not hide behind the spread that it makes.
    """
    cells: dict[tuple[Hashable, Metric], dict[str, float]] = defaultdict(dict)
    pools: dict[tuple[str, Metric], dict[tuple[Hashable, Metric], None]] = defaultdict(dict)
    for run in recorded:
        if run.status == "ok":
            for metric, value in usable(run.scores).items():
                cells[run.cell, metric][run.name] = value
                if run.record is None or run.record.provenance.role != "trial":
                    pools[run.task_set, metric][run.cell, metric] = None
    squares = {cell: _squares(list(values.values())) for cell, values in cells.items()}
    totals = {pool: _sum(squares[cell] for cell in own) for pool, own in pools.items()}
    found = []
    for pair in pairs:
        was, now = pair.was, usable(pair.now.result.scores)
        for metric, value in usable(was.scores).items():
            cell, pool = (was.cell, metric), (was.task_set, metric)
            others = [other for name, other in cells[cell].items() if name != was.name]
            mean = sum(others) / len(others) if others else value
            if metric not in now or not has_relative_gain([[now[metric]], [value]], [[mean]])[0]:
                continue
            own = _squares(others)
            every = totals.get(pool, (0.0, 0))
            if cell in pools[pool]:  # take the run itself out of the total
                every = every[0] - squares[cell][0] + own[0], every[1] - squares[cell][1] + own[1]
            variances = [total / freedom for total, freedom in (own, every) if freedom > 0]
            deviation = math.sqrt(max(*variances, 0.0)) if variances else 0.0
            up = was.scores[metric[0]][metric[1]].higher_is_better
            found.append(Change(pair, metric, up, value, now[metric], mean, deviation, max(every[1], own[1])))
    return found


def _squares(values: Sequence[float]) -> tuple[float, int]:
    """Return the sum of squares about the mean, as shares of it, and its degrees of freedom."""
    if len(values) < 2 or not (mean := sum(values) / len(values)):
        return 0.0, 0
    return sum(((value - mean) / mean) ** 2 for value in values), len(values) - 1


def _sum(parts: Iterable[tuple[float, int]]) -> tuple[float, int]:
    found = list(parts)
    return math.fsum(total for total, _ in found), sum(freedom for _, freedom in found)


def is_nearest(pair: Pair, cell: Sequence[Recorded]) -> bool | None:
    """Whether a run that was trained again lies nearer to its own record than to those of its method's other seeds.

    Distances are sums over scores, each in deviations over seeds. By chance it is so for one run in as many as there
    are seeds.

    Args:
        pair: the run.
        cell: the ok runs of its method, its own among them.

    Returns:
        None if there is no other seed, or no score that differs from seed to seed.
    """
    now = usable(pair.now.result.scores)
    rows = {run.name: usable(run.scores) for run in cell}
    metrics = [metric for metric in now if all(metric in row for row in rows.values())]
    values = np.array([[row[metric] for metric in metrics] for row in rows.values()])
    deviations = values.std(0)
    if len(rows) < 2 or not deviations.any():
        return None
    differences = np.abs(values - [now[metric] for metric in metrics])[:, deviations > 0] / deviations[deviations > 0]
    distances = dict(zip(rows, differences.sum(1), strict=True))
    own = distances.pop(pair.was.name)
    return bool(own < min(distances.values()))


def gain(own: Sequence[Change]) -> float:
    """Return the change of one run, in per cent: the mean over its tasks of the mean over their metrics.

    Positive is better.

    Args:
        own: the changes of its scores, at least one.
    """
    means = np.array([change.mean for change in own])
    moved = np.array([change.now - change.was for change in own])
    tasks = [change.metric[0] for change in own]
    return delta_mtl(means + moved, means, [change.higher_is_better for change in own], tasks)[0]
