"""k-means of numbers, against all clusterings there are."""

from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.core.solvers.clusters import cluster_means

moderate = settings(deadline=None, derandomize=True, max_examples=100)


def scatter(numbers):
    """The sum of squared distances to the mean, without rounding."""
    mean = sum(numbers, Fraction(0)) / len(numbers)
    return sum(((number - mean) ** 2 for number in numbers), Fraction(0))


def least(numbers, groups):
    """The least scatter of numbers in at most so many clusters: every way to give numbers to clusters is tried."""
    best = None
    clusterings = [[]]
    for number in numbers:
        grown = []
        for clusters in clusterings:
            grown += [[*clusters[:i], [*c, number], *clusters[i + 1 :]] for i, c in enumerate(clusters)]
            if len(clusters) < groups:
                grown.append([*clusters, [number]])
        clusterings = grown
    for clusters in clusterings:
        cost = sum(map(scatter, clusters))
        best = cost if best is None else min(best, cost)
    return best


def achieved(numbers, means):
    """The scatter of the clusters that numbers with the same mean form, and the largest error of a mean."""
    clusters = {}
    for number, mean in zip(numbers, means, strict=True):
        clusters.setdefault(mean, []).append(number)
    error = max(abs(float(sum(c) / len(c)) - mean) / (max(map(float, c)) or 1) for mean, c in clusters.items())
    return sum(map(scatter, clusters.values())), len(clusters), error


numbers = st.lists(
    st.integers(-6, 6).map(lambda e: 10.0**e) | st.floats(0, 10) | st.integers(0, 5), min_size=1, max_size=6
)


@moderate
@given(values=numbers, groups=st.integers(1, 6))
def test_no_clustering_is_better(values, groups):
    values = [float(value) for value in values]
    means = cluster_means(torch.tensor(values, dtype=torch.float64), groups).tolist()
    exact = [Fraction(value) for value in values]
    cost, count, error = achieved(exact, means)
    assert count <= groups
    assert error < 1e-14
    assert cost <= least(exact, groups) * (1 + Fraction(1, 10**12))


@moderate
@given(values=st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=40), groups=st.integers(1, 8), seed=st.integers(0, 9))
def test_the_order_of_the_numbers_does_not_matter(values, groups, seed):
    values = torch.tensor(values, dtype=torch.float64)
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(seed))
    assert torch.equal(cluster_means(values[order], groups), cluster_means(values, groups)[order])


@pytest.mark.parametrize("groups", [2, 3])
def test_of_forty_numbers_no_other_division_of_the_sorted_ones_is_better(groups):
    """An optimal cluster is a stretch of the sorted numbers: its members are nearer to its mean than to another."""
    values = np.sort(10.0 ** np.random.default_rng(0).uniform(-3, 3, 40))
    means = cluster_means(torch.from_numpy(values.copy()), groups).numpy()
    divided = (np.split(values, cuts) for cuts in combinations(range(1, 40), groups - 1))
    best = min(sum(((part - part.mean()) ** 2).sum() for part in parts) for parts in divided)
    assert ((values - means) ** 2).sum() == pytest.approx(best, rel=1e-12)
    assert len(set(means)) == groups


def test_numbers_that_hardly_differ_are_told_apart():
    """Sums of squares would lose the differences: 1e-9 squared is below the rounding of 1."""
    values = torch.tensor([1.0, 1 + 1e-9, 1 + 5e-9, 1 + 6e-9], dtype=torch.float64)
    means = cluster_means(values, 2)
    assert means[0] == means[1] < means[2] == means[3]


def test_small_numbers_beside_a_huge_one_are_told_apart():
    means = cluster_means(torch.tensor([3e12, 1.0, 9.0, 1.5], dtype=torch.float64), 3)
    assert means.tolist() == [3e12, 1.25, 9.0, 1.25]


def test_equal_numbers_stay_together():
    values = torch.tensor([0.0, 1, 1, 2], dtype=torch.float64)
    means = cluster_means(values, 2)
    assert means[1] == means[2]


@pytest.mark.parametrize("groups", [4, 7])
def test_with_a_cluster_for_each_number_they_are_what_they_were(groups):
    values = torch.tensor([3.0, 1, 2, 1], dtype=torch.float64)
    assert torch.equal(cluster_means(values, groups), values)


def test_with_one_cluster_all_have_the_mean():
    assert cluster_means(torch.tensor([3.0, 1, 2], dtype=torch.float64), 1).tolist() == [2, 2, 2]
