"""Metrics accumulate over a split, and know what a predictor that sees no input would score."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from tasks.core.metrics.binary import auroc, probabilities_and_labels
from tasks.core.metrics.classification import accuracy, classes, macro_recall
from tasks.core.metrics.regression import labelled, normalized_rmse


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


def score(metric, inputs, prediction, target, sizes):
    """The score of a metric over chunks, of what `inputs` makes of them."""
    accumulator = metric.factory()
    for chunk in zip(prediction.split(sizes), target.split(sizes), strict=True):
        accumulator.update(*inputs(*chunk))
    return float(accumulator.compute())


def outcomes(seed, kinds, missing):
    """Forty logits of so many different values (so that there are ties), and outcomes, some of them missing."""
    draw = np.random.default_rng(seed)
    target = np.where(draw.random(40) < missing, np.nan, draw.integers(2, size=40))
    target[:2] = 0, 1
    logits = draw.choice(np.linspace(-3, 3, kinds), 40)
    return torch.from_numpy(logits.astype(np.float32))[:, None], torch.from_numpy(target.astype(np.float32))[:, None]


@given(
    sizes=chunks(),
    seed=st.integers(0, 2**32),
    kinds=st.integers(1, 40),
    missing=st.sampled_from([0.0, 0.3, 0.9]),
)
def test_auroc_is_that_of_sklearn_over_the_labels_with_ties_and_in_uneven_chunks(sizes, seed, kinds, missing):
    logits, target = outcomes(seed, kinds, missing)
    known = ~target.isnan()
    expected = roc_auc_score(target[known].numpy(), logits[known].numpy())
    assert score(auroc(), probabilities_and_labels, logits, target, sizes) == pytest.approx(expected, abs=1e-6)


def test_auroc_of_a_constant_is_the_untrained_score():
    logits, target = outcomes(0, 1, 0.3)
    metric = auroc()
    assert metric.higher_is_better
    assert score(metric, probabilities_and_labels, logits, target, [40]) == metric.constant_score == 0.5


def test_probabilities_are_of_the_labelled_elements_alone():
    prediction, target = torch.tensor([[0.0], [2.0], [-1.0]]), torch.tensor([[1.0], [torch.nan], [0.0]])
    probabilities, labels = probabilities_and_labels(prediction, target)
    torch.testing.assert_close(probabilities, torch.tensor([0.5, 1 / (1 + np.e)]).float())
    assert labels.tolist() == [1, 0]


@given(sizes=chunks(), seed=st.integers(0, 2**32), missing=st.sampled_from([0.0, 0.3, 0.9]))
def test_nrmse_with_gaps_is_that_of_the_labels_alone(sizes, seed, missing):
    draw = np.random.default_rng(seed)
    train, target = draw.normal(2, 3, (70, 1)), draw.normal(2, 3, (40, 1))
    for values in (train, target):
        values[1:][draw.random(len(values) - 1) < missing] = np.nan
    prediction = draw.normal(2, 3, target.shape)
    known = ~np.isnan(target)
    constant = np.sqrt(((np.nanmean(train) - target[known]) ** 2).mean())
    expected = np.sqrt(((prediction - target)[known] ** 2).mean()) / constant
    metric = normalized_rmse(torch.from_numpy(train))
    found = score(metric, labelled, torch.from_numpy(prediction), torch.from_numpy(target), sizes)
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("inputs", [probabilities_and_labels, labelled])
def test_a_chunk_without_a_label_changes_nothing(inputs):
    metric = auroc() if inputs is probabilities_and_labels else normalized_rmse(torch.tensor([[1.0], [3.0]]))
    prediction, target = torch.tensor([[0.3], [0.7], [0.1]]), torch.tensor([[1.0], [0.0], [torch.nan]])
    with_it = score(metric, inputs, prediction, target, [2, 1])
    assert with_it == score(metric, inputs, prediction[:2], target[:2], [2])
    assert all(len(part) == 0 for part in inputs(prediction[2:], target[2:]))


@pytest.mark.parametrize("inputs", [probabilities_and_labels, labelled])
@pytest.mark.parametrize(("prediction", "target"), [((4, 1), (4,)), ((4,), (4, 1)), ((4, 2), (4, 1)), ((1,), (4,))])
def test_what_metrics_with_gaps_read_never_broadcasts(inputs, prediction, target):
    with pytest.raises(ValueError, match="should have the same shape"):
        inputs(torch.ones(prediction), torch.ones(target))
