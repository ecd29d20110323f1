"""Losses come as (total, count), so that a mean is exact however a batch is split."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.dense import angles, depth_error, normal_error, valid_depths
from tasks.core.losses import binary_cross_entropy, cross_entropy, labelled_squared_error, squared_error


def logits_and_classes(seed=0, examples=12, classes=4, unlabelled=0.3):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(examples, classes, generator=generator)
    target = torch.randint(classes, (examples,), generator=generator)
    return logits, target.where(torch.rand(examples, generator=generator) > unlabelled, -1)


def numbers_with_gaps(loss, seed=0, shape=(12, 2)):
    """Predictions, and targets (0 or 1 for the cross-entropy) of which about a third is missing."""
    draw = np.random.default_rng(seed)
    target = draw.normal(size=shape) if loss is labelled_squared_error else draw.integers(2, size=shape)
    target = np.where(draw.random(shape) < 0.3, np.nan, target)
    prediction = 3 * draw.normal(size=shape)
    return torch.from_numpy(prediction.astype(np.float32)), torch.from_numpy(target.astype(np.float32))


def test_cross_entropy_is_the_sum_of_minus_log_softmax_over_labelled_examples():
    logits, target = logits_and_classes()
    numbers = logits.double().numpy()
    logs = numbers - np.log(np.exp(numbers).sum(1, keepdims=True))
    labelled = np.flatnonzero(target.numpy() >= 0)
    total, count = cross_entropy(logits, target)
    assert 0 < len(labelled) < len(target)
    assert total.item() == pytest.approx(-logs[labelled, target.numpy()[labelled]].sum(), rel=1e-6)
    assert count.item() == len(labelled)


def test_class_minus_one_is_unlabelled():
    logits, target = logits_and_classes(unlabelled=0)
    some = target.clone()
    some[::3] = -1
    keep = torch.arange(len(target)) % 3 != 0
    total, count = cross_entropy(logits, some)
    assert total.item() == pytest.approx(cross_entropy(logits[keep], target[keep])[0].item(), rel=1e-6)
    assert count.item() == keep.sum().item()


@pytest.mark.parametrize("strange", [-2, -100, 255])
def test_a_class_that_is_neither_there_nor_minus_one_is_an_error_and_not_skipped(strange):
    with pytest.raises(IndexError):
        cross_entropy(torch.zeros(2, 3), torch.tensor([1, strange]))


def test_cross_entropy_of_a_batch_without_labels_is_zero_of_zero_with_a_gradient_of_zero():
    logits = torch.randn(5, 3, requires_grad=True)
    total, count = cross_entropy(logits, torch.full((5,), -1))
    total.backward()
    assert (total.item(), count.item()) == (0, 0)
    assert torch.equal(logits.grad, torch.zeros(5, 3))


def test_cross_entropy_counts_pixels():
    logits, target = torch.randn(2, 3, 4, 5), torch.randint(3, (2, 4, 5))
    target[0, 0, 0] = -1
    total, count = cross_entropy(logits, target)
    flat = cross_entropy(logits.movedim(1, -1).reshape(-1, 3), target.reshape(-1))
    assert count.item() == 2 * 4 * 5 - 1
    assert total.item() == pytest.approx(flat[0].item(), rel=1e-6)


def test_squared_error_is_summed_over_an_example_and_counted_per_example():
    prediction, target = torch.randn(6, 3, 2), torch.randn(6, 3, 2)
    total, count = squared_error(prediction, target)
    assert total.item() == pytest.approx(((prediction - target).double() ** 2).sum().item(), rel=1e-6)
    assert count == 6


def test_squared_error_of_no_example_is_zero_of_zero():
    total, count = squared_error(torch.zeros(0, 4), torch.zeros(0, 4))
    assert (total.item(), count) == (0, 0)


GAPPED = pytest.mark.parametrize("loss", [labelled_squared_error, binary_cross_entropy])
"""Losses for which a NaN in the target means that there is no label."""


@GAPPED
@pytest.mark.parametrize("shape", [(12,), (12, 1), (12, 2), (3, 2, 4)])
def test_a_loss_with_gaps_is_that_of_the_definition_over_the_labels(loss, shape):
    prediction, target = numbers_with_gaps(loss, 1, shape)
    known = ~target.isnan().numpy()
    z, y = prediction.double().numpy()[known], target.double().numpy()[known]
    each = (z - y) ** 2 if loss is labelled_squared_error else -np.log(1 / (1 + np.exp(np.where(y == 1, -z, z))))
    total, count = loss(prediction, target)
    assert 0 < known.sum() < target.numel()
    assert count.item() == known.sum()
    assert total.item() == pytest.approx(each.sum(), rel=1e-5)


@GAPPED
def test_only_labelled_elements_get_a_gradient_and_it_is_finite(loss):
    prediction, target = numbers_with_gaps(loss)
    prediction.requires_grad_()
    loss(prediction, target)[0].backward()
    assert prediction.grad.isfinite().all()
    assert torch.equal(prediction.grad != 0, ~target.isnan())


@GAPPED
def test_a_batch_without_any_label_is_zero_of_zero_with_a_gradient_of_zero(loss):
    prediction = torch.randn(5, 1, requires_grad=True)
    total, count = loss(prediction, torch.full((5, 1), torch.nan))
    total.backward()
    assert (total.item(), count.item()) == (0, 0)
    assert torch.equal(prediction.grad, torch.zeros(5, 1))


@GAPPED
def test_a_batch_without_gaps_is_the_ordinary_loss(loss):
    prediction, target = numbers_with_gaps(loss)
    target = target.nan_to_num(1.0)
    ordinary = torch.nn.MSELoss if loss is labelled_squared_error else torch.nn.BCEWithLogitsLoss
    total, count = loss(prediction, target)
    assert count == target.numel()
    assert total.item() == pytest.approx(ordinary(reduction="sum")(prediction, target).item(), rel=1e-6)


@GAPPED
def test_a_prediction_that_is_not_finite_is_seen_where_there_is_a_label(loss):
    prediction, target = torch.tensor([[torch.nan], [1.0]]), torch.tensor([[1.0], [torch.nan]])
    assert loss(prediction, target)[0].isnan()


def test_an_outcome_that_is_almost_excluded_has_a_finite_cross_entropy():
    logit = torch.tensor([[-200.0]], requires_grad=True)
    total, _ = binary_cross_entropy(logit, torch.tensor([[1.0]]))
    total.backward()
    assert (total.item(), logit.grad.item()) == (200, -1)


@given(
    seed=st.integers(0, 2**32),
    cut=st.integers(0, 12),
    loss=st.sampled_from([cross_entropy, squared_error, labelled_squared_error, binary_cross_entropy]),
)
def test_totals_and_counts_add_up_over_any_split_of_a_batch(seed, cut, loss):
    prediction, target = logits_and_classes(seed)
    if loss is squared_error:
        target = prediction.flip(0)
    elif loss is not cross_entropy:
        prediction, target = numbers_with_gaps(loss, seed)
    total, count = loss(prediction, target)
    parts = [loss(prediction[part], target[part]) for part in (slice(cut), slice(cut, None))]
    assert sum(part[0].item() for part in parts) == pytest.approx(total.item(), rel=1e-5, abs=1e-6)
    assert sum(float(part[1]) for part in parts) == float(count)


def shapes(*axes):
    return st.lists(st.sampled_from(axes), min_size=1, max_size=4).map(tuple)


@pytest.mark.parametrize(
    "function",
    [squared_error, labelled_squared_error, binary_cross_entropy, depth_error, normal_error, valid_depths, angles],
)
@given(one=shapes(1, 2, 3), other=shapes(1, 2, 3))
def test_unlike_shapes_are_an_error_and_never_broadcast(function, one, other):
    if one != other:
        with pytest.raises(ValueError, match="should have the same shape"):
            function(torch.ones(one), torch.ones(other))


@given(logits=shapes(1, 2, 3), target=shapes(1, 2, 3))
def test_logits_and_classes_whose_shapes_do_not_belong_together_are_an_error(logits, target):
    if len(logits) < 2 or (logits[0], *logits[2:]) != target:
        with pytest.raises(ValueError, match=r"should have the shapes \[N, C, …\] and \[N, …\]"):
            cross_entropy(torch.ones(logits), torch.zeros(target, dtype=torch.long))
    else:
        assert cross_entropy(torch.ones(logits), torch.zeros(target, dtype=torch.long))[1] > 0
