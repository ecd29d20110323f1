"""Metrics accumulate over a split, and know what a predictor that sees no input would score."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.metrics.classification import accuracy, classes, macro_recall
from tasks.core.metrics.regression import normalized_rmse


def accumulate(metric, prediction, target, sizes):
    """The score of a metric that is given chunks of these sizes."""
    accumulator = metric.factory()
    for chunk in zip(prediction.split(sizes), target.split(sizes), strict=True):
        accumulator.update(*chunk)
    return float(accumulator.compute())


@st.composite
def chunks(draw, total=40):
    cuts = sorted(draw(st.sets(st.integers(1, total - 1), max_size=5)))
    return np.diff([0, *cuts, total]).tolist()


@given(sizes=chunks(), seed=st.integers(0, 2**32))
def test_nrmse_over_uneven_chunks_is_that_of_the_whole_split(sizes, seed):
    draw = np.random.default_rng(seed)
    train, target = draw.normal(2, 3, (70, 4)), draw.normal(2, 3, (40, 4))
    prediction = target + draw.normal(0, 1, target.shape)
    expected = np.sqrt(((prediction - target) ** 2).mean() / ((train.mean(0) - target) ** 2).mean())
    metric = normalized_rmse(torch.from_numpy(train))
    given = accumulate(metric, torch.from_numpy(prediction), torch.from_numpy(target), sizes)
    assert given == pytest.approx(expected, rel=1e-9)


def test_nrmse_of_the_training_mean_is_the_untrained_score():
    train, target = torch.randn(50, 3) + 5, torch.randn(30, 3) + 4
    metric = normalized_rmse(train)
    assert not metric.higher_is_better
    assert accumulate(metric, train.mean(0).expand(30, 3), target, [7, 23]) == pytest.approx(metric.constant_score)


def test_nrmse_of_a_perfect_prediction_is_zero():
    target = torch.randn(10, 2)
    assert accumulate(normalized_rmse(torch.randn(9, 2)), target, target, [10]) == 0


def test_nrmse_keeps_small_chunks_beside_a_large_total():
    """In float32 a running sum of 2e8 does not notice another 1."""
    target = torch.zeros(1001, 1)
    prediction = torch.cat([torch.full((1, 1), 2.0**14), torch.ones(1000, 1)])
    metric = normalized_rmse(torch.ones(3, 1))
    expected = np.sqrt((2.0**28 + 1000) / 1001)
    assert accumulate(metric, prediction, target, [1] * 1001) == pytest.approx(expected, rel=1e-12)


@given(sizes=chunks(), seed=st.integers(0, 2**32))
def test_accuracy_is_the_share_of_the_largest_logits_that_are_right(sizes, seed):
    draw = np.random.default_rng(seed)
    logits, target = draw.normal(size=(40, 5)), draw.integers(5, size=40)
    metric = accuracy(5, torch.from_numpy(target), torch.from_numpy(target))
    given = accumulate(metric, torch.from_numpy(logits), torch.from_numpy(target), sizes)
    assert metric.higher_is_better
    assert given == pytest.approx((logits.argmax(1) == target).mean())


def test_untrained_accuracy_is_that_of_the_commonest_training_class_on_the_test_split():
    metric = accuracy(4, train=torch.tensor([2, 2, 1, 0]), test=torch.tensor([2, 1, 1, 1, 1]))
    assert metric.constant_score == pytest.approx(1 / 5)


def test_each_accumulator_starts_anew():
    metric = accuracy(2, torch.tensor([0]), torch.tensor([0]))
    accumulate(metric, torch.eye(2), torch.tensor([1, 0]), [2])
    assert accumulate(metric, torch.eye(2), torch.tensor([0, 1]), [2]) == 1


@pytest.mark.parametrize(
    ("prediction", "target", "complaint"),
    [
        ((4, 1), (4,), "should have the same shape"),
        ((4,), (4, 1), "should have the same shape"),
        ((4, 2), (4, 1), "should have the same shape"),
        ((4, 2), (4, 2), r"an example's target has the shape \[2\], and in training \[1\]"),
    ],
)
def test_nrmse_never_broadcasts(prediction, target, complaint):
    with pytest.raises(ValueError, match=complaint):
        normalized_rmse(torch.randn(9, 1)).factory().update(torch.ones(prediction), torch.ones(target))


@pytest.mark.parametrize("metric", [accuracy, macro_recall])
@pytest.mark.parametrize(("prediction", "target"), [((4, 3), (4, 1)), ((4, 3), (4, 3)), ((4, 3), (1,)), ((4,), (4,))])
def test_metrics_of_classes_refuse_logits_that_do_not_belong_to_the_classes(metric, prediction, target):
    made = metric(3, torch.tensor([0, 1, 2]), torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match=r"should have the shapes \[N, C, …\] and \[N, …\]"):
        made.factory().update(torch.ones(prediction), torch.zeros(target).long())


@pytest.mark.parametrize(("prediction", "target"), [((4,), (1,)), ((4,), (4, 1)), ((1,), (4,))])
def test_metrics_of_classes_refuse_classes_of_another_shape(prediction, target):
    made = macro_recall(3, torch.tensor([0, 1, 2]), torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match="should have the same shape"):
        made.factory().update(torch.zeros(prediction).long(), torch.zeros(target).long())


def test_the_likeliest_classes_want_logits_of_the_targets_shape():
    with pytest.raises(ValueError, match="should have the shapes"):
        classes(torch.ones(4, 3), torch.zeros(4, 1))


def test_macro_recall_leaves_out_what_is_unlabelled():
    train, test = torch.tensor([2, 2, 1, -1, -1, -1]), torch.tensor([0, 1, 2, -1])
    metric = macro_recall(3, train, test)
    assert metric.constant_score == pytest.approx(1 / 3)
    assert accumulate(metric, torch.tensor([0, 1, 1, 1]), test, [2, 2]) == pytest.approx(2 / 3)
