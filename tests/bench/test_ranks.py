"""Bands, groups and letters by brute force."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scikit_posthocs import compact_letter_display
from scipy import stats

from bench.evidence.ranks import cliques, letters, rank_bands

moderate = settings(deadline=None, derandomize=True, max_examples=60)


@st.composite
def graphs(draw, most=7):
    """Which pairs differ, and an order."""
    count = draw(st.integers(1, most))
    upper = np.triu(draw(arrays(bool, (count, count))), 1)
    return upper | upper.T, draw(st.permutations(range(count)))


def maximal_cliques(different):
    every = [
        set(group)
        for size in range(1, len(different) + 1)
        for group in itertools.combinations(range(len(different)), size)
        if not any(different[i, j] for i, j in itertools.combinations(group, 2))
    ]
    return [group for group in every if not any(group < other for other in every)]


def differing(count, *pairs):
    result = np.zeros((count, count), bool)
    for i, j in pairs:
        result[i, j] = result[j, i] = True
    return result


@pytest.mark.parametrize(
    ("pairs", "expected"), [([(1, 2)], ["ab", "a", "b"]), ([(0, 1)], ["a", "b", "ab"]), ([], ["a", "a", "a"])]
)
def test_letters_oracles(pairs, expected):
    assert letters(differing(3, *pairs), range(3)) == expected


@moderate
@given(graphs())
def test_two_methods_share_a_letter_exactly_if_they_are_not_shown_to_differ(graph):
    different, order = graph
    found = letters(different, order)
    for i, j in itertools.combinations(range(len(different)), 2):
        assert bool(set(found[i]) & set(found[j])) != different[i, j]
    assert all(found)
    assert "a" in found[order[0]]


@moderate
@given(graphs(most=5))
def test_letters_share_as_scikit_posthocs_do(graph):
    different, order = graph
    expected = compact_letter_display(pd.DataFrame(np.where(different, 0.0, 1.0)))
    found = letters(different, order)
    for i, j in itertools.combinations(range(len(different)), 2):
        shared = (set(expected[i]) & set(expected[j])) - {" "}
        assert bool(set(found[i]) & set(found[j])) == bool(shared)


@moderate
@given(graphs())
def test_groups_are_maximal_cliques_and_hold_every_pair_with_none_to_spare(graph):
    different, order = graph
    groups = cliques(different, order)
    maximal = maximal_cliques(different)
    assert all(set(group) in maximal for group in groups)
    held = [{frozenset(pair) for pair in itertools.product(group, group)} for group in groups]
    alike = {frozenset((i, j)) for i, j in itertools.product(order, order) if not different[i, j]}
    assert set().union(*held) == alike
    for number, pairs in enumerate(held):
        assert pairs - set().union(*held[:number])
    assert all(group == sorted(group, key=order.index) for group in groups)


@moderate
@given(graphs())
def test_renaming_the_methods_renames_the_groups(graph):
    different, order = graph
    renamed = cliques(different[np.ix_(order, order)], range(len(order)))
    assert [[order[i] for i in group] for group in renamed] == cliques(different, order)


def test_the_diagonal_says_nothing():
    assert letters(np.eye(3, dtype=bool), [2, 0, 1]) == ["a", "a", "a"]


def test_methods_left_out_of_the_order_have_no_letter():
    assert letters(differing(4, (0, 3)), [3, 0, 1]) == ["b", "ab", "", "a"]


def test_letters_never_run_out():
    """Sixty methods that all differ."""
    found = letters(~np.eye(60, dtype=bool), range(60))
    assert found[:2] + found[25:28] + found[51:54] == ["a", "b", "z", "A", "B", "Z", "a1", "b1"]
    assert len(set(found)) == 60


def test_rank_bands_of_three_tiers():
    """The best is shown better than the last two, the second than the last."""
    best, worst = rank_bands([4, 3, 2, 1], differing(4, (0, 2), (0, 3), (1, 3)))
    assert best.tolist() == [1, 1, 2, 3]
    assert worst.tolist() == [2, 3, 4, 4]


@moderate
@given(graphs(), st.data())
def test_a_rank_band_counts_those_shown_better_and_worse(graph, data):
    different, _ = graph
    means = data.draw(arrays(np.float64, len(different), elements=st.integers(-3, 3)))
    best, worst = rank_bands(means, different)
    for i, mean in enumerate(means):
        assert best[i] == 1 + sum(different[i, j] and means[j] > mean for j in range(len(means)))
        assert worst[i] == len(means) - sum(different[i, j] and means[j] < mean for j in range(len(means)))
        assert best[i] <= stats.rankdata(-means, "min")[i]
        assert stats.rankdata(-means, "max")[i] <= worst[i]


def test_without_a_mean_every_rank_is_possible():
    best, worst = rank_bands([1.0, float("nan")], differing(2))
    assert (best.tolist(), worst.tolist()) == ([1, 1], [2, 2])
