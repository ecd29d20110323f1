"""k-means of numbers, solved exactly, on the host.

In an optimal clustering of numbers every cluster is a stretch of the sorted numbers. So the best clustering of the
first numbers into one cluster more is found from the best ones of all shorter beginnings (dynamic programming), and no
start has to be drawn.
"""

import numpy as np
import torch
from torch import Tensor


def cluster_means(values: Tensor, groups: int) -> Tensor:
    """Return `[K]`, for each number the mean of its cluster, in the best clustering into at most `groups` clusters.

    The best clustering has the least sum of squared distances to the means. Of several, that with the larger upper
    clusters is taken. `values [K]` are float64, on the CPU.
    """
    numbers = values.numpy()
    order = np.argsort(numbers, kind="stable")
    ordered = numbers[order]
    ends = _ends(ordered, min(groups, len(ordered)))
    means = np.empty_like(ordered)
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        means[order[start:end]] = ordered[start:end].mean()
    return torch.from_numpy(means)


def _ends(ordered: np.ndarray, groups: int) -> list[int]:
    """Return where each cluster of sorted numbers ends, the lowest cluster first."""
    count = len(ordered)
    if groups == 1:
        return [count]
    if groups == count:
        return list(range(1, count + 1))
    costs = _costs(ordered)
    best, starts = costs[0], []
    for _ in range(groups - 1):
        # The last cluster starts at i, after the best clustering of the first i numbers.
        totals = best[:-1, np.newaxis] + costs[1:]
        starts.append(1 + totals.argmin(axis=0))
        best = totals.min(axis=0)
    ends = [count]
    for start in reversed(starts):
        ends.insert(0, int(start[ends[0] - 1]))
    return ends


def _costs(ordered: np.ndarray) -> np.ndarray:
    """Return `[K, K]`, at (i, j) the sum of squared distances of numbers i to j to their mean; infinite where i > j.

    Each number is added to the clusters that end before it. Differences of sums of squares would cancel.
    """
    count = len(ordered)
    costs = np.full((count, count), np.inf)
    means, own = np.zeros(count), np.zeros(count)
    for j, number in enumerate(ordered):
        means[j] = number
        sizes = np.arange(j + 1, 0, -1)  # of clusters that start at 0 … j, with this number
        distances = number - means[: j + 1]
        means[: j + 1] += distances / sizes
        own[: j + 1] += distances * (number - means[: j + 1])
        costs[: j + 1, j] = own[: j + 1]
    return costs
