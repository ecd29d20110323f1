"""The metrics of older papers, against loops over images and batches in numpy."""

import numpy as np
import pytest
import torch

from tasks.core import dense
from tasks.core.metrics import legacy
from tasks.core.metrics.legacy import BatchMean, ImageAccuracy, ImageIoU, Without

CLASSES = 5
DIVISIONS = [(7,), (1,) * 7, (3, 4), (2, 5), (4, 1, 2)]
"""How many of seven images are added at once."""


@pytest.fixture(scope="module")
def images():
    """Targets and predictions of seven images, of which one has no label at all, and one has no valid depth."""
    generator = torch.Generator().manual_seed(3)
    classes = torch.randint(-1, CLASSES - 1, (7, 6, 8), generator=generator)
    classes[4] = -1
    depth = torch.rand(7, 1, 6, 8, generator=generator) * (torch.rand(7, 1, 6, 8, generator=generator) < 0.7)
    depth[5] = 0
    normal = torch.nn.functional.normalize(torch.randn(7, 3, 6, 8, generator=generator), dim=1) * (depth > 0)
    return {
        "segmentation": (torch.randn(7, CLASSES, 6, 8, generator=generator), classes),
        "depth": (torch.rand(7, 1, 6, 8, generator=generator), depth),
        "normals": (torch.randn(7, 3, 6, 8, generator=generator), normal),
    }


def task(name, images, how):
    target = images[name][1]
    classes = [CLASSES] * (name == "segmentation")
    return getattr(dense, name)(target, target, *classes, getattr(legacy, name)(*classes, how))


def scores(name, images, how="legacy", division=(7,)):
    made = task(name, images, how)
    accumulators = {metric: declared.factory() for metric, declared in made.metrics.items()}
    for prediction, target in zip(*(column.split(division) for column in images[name]), strict=True):
        for accumulator in accumulators.values():
            accumulator.update(*made.metric_inputs(prediction, target))
    return {metric: float(accumulator.compute()) for metric, accumulator in accumulators.items()}


def test_mean_iou_is_by_image_with_what_is_predicted_where_no_label_is(images):
    logits, target = (column.numpy() for column in images["segmentation"])
    predicted = logits.argmax(1)
    ious, accuracies = [], []
    for guess, true in zip(predicted, target, strict=True):
        own = []
        for number in range(CLASSES):
            union = ((guess == number) | (true == number)).sum()
            if union:
                own.append(((guess == number) & (true == number)).sum() / union)
        ious.append(np.mean(own))
        if (true >= 0).any():
            accuracies.append((guess == true)[true >= 0].mean())
    found = scores("segmentation", images)
    assert found == pytest.approx({"legacy_miou": np.mean(ious), "legacy_accuracy": np.mean(accuracies)})
    assert ious[4] == 0  # nothing is labelled, so all that is predicted is wrong


def batches(prediction, target, valid):
    """The valid pixels of the images 0 and 1, 2 and 3, 4 and 5, and 6."""
    for start in range(0, len(target), 2):
        chosen = valid[start : start + 2]
        if chosen.any():
            yield prediction[start : start + 2][chosen], target[start : start + 2][chosen]


def test_depth_is_scored_by_batches_of_two(images):
    prediction, target = (column.numpy()[:, 0].astype(np.float64) for column in images["depth"])
    pairs = list(batches(prediction, target, target > 0))
    assert len(pairs) == 4
    found = scores("depth", images)
    assert found["legacy_absolute"] == pytest.approx(np.mean([np.abs(p - t).mean() for p, t in pairs]), rel=1e-5)
    assert found["legacy_relative"] == pytest.approx(np.mean([(np.abs(p - t) / t).mean() for p, t in pairs]), rel=1e-5)


def test_angles_are_scored_by_batches_of_two(images):
    prediction, target = (np.moveaxis(column.numpy().astype(np.float64), 1, -1) for column in images["normals"])
    angles = []
    for p, t in batches(prediction, target, (target != 0).any(-1)):
        cosine = (p * t).sum(-1) / np.linalg.norm(p, axis=-1)
        angles.append(np.sort(np.degrees(np.arccos(cosine.clip(-1, 1)))))
    found = scores("normals", images)
    assert found["legacy_mean_angle"] == pytest.approx(np.mean([a.mean() for a in angles]), rel=1e-4)
    assert found["legacy_median_angle"] == pytest.approx(np.mean([a[(len(a) - 1) // 2] for a in angles]), rel=1e-4)
    for limit in dense.LIMITS:
        expected = np.mean([(a < limit).mean() for a in angles])
        assert found[f"legacy_within_{limit:g}"] == pytest.approx(expected, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("name", ["segmentation", "depth", "normals"])
@pytest.mark.parametrize("division", DIVISIONS)
def test_how_many_are_added_at_once_makes_no_difference(images, name, division):
    assert scores(name, images, "both", division) == pytest.approx(scores(name, images, "both"), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("name", ["segmentation", "depth", "normals"])
def test_both_are_the_two_kinds_beside_each_other(images, name):
    pooled, legacy = scores(name, images, "pooled"), scores(name, images, "legacy")
    assert scores(name, images, "both") == pytest.approx(pooled | legacy, rel=1e-6)
    assert not pooled.keys() & legacy.keys()
    declared = task(name, images, "both").metrics
    for how in ("pooled", "legacy"):
        for metric, own in task(name, images, how).metrics.items():
            assert declared[metric].higher_is_better == own.higher_is_better
            assert declared[metric].constant_score == pytest.approx(own.constant_score, rel=1e-6)


def test_a_mean_of_medians_is_no_median():
    metric = BatchMean(torch.median)
    metric.update(torch.tensor([1.0, 1, 1, 9, 5, 5]), torch.tensor([2, 2, 1, 1]))
    assert float(metric.compute()) == (1 + 5) / 2  # the median of all six is 1 or 5


@pytest.mark.parametrize("made", [ImageAccuracy, lambda: ImageIoU(3), lambda: BatchMean(torch.mean)])
def test_a_metric_that_was_reset_is_new(made):
    arguments = (
        (torch.tensor([1.0, 5.0]), torch.tensor([1, 1]), torch.tensor([3.0]), torch.tensor([1]))
        if isinstance(made(), BatchMean)
        else (torch.tensor([[0, 1]]), torch.tensor([[0, 0]]), torch.tensor([[1, 1]]), torch.tensor([[1, 1]]))
    )
    used, fresh = made(), made()
    used.update(*arguments[:2])
    used.reset()
    for metric in (used, fresh):
        metric.update(*arguments[2:])
    assert used.compute() == fresh.compute()


def test_a_metric_beside_others_is_reset_with_its_own():
    wrapped = Without(ImageAccuracy())
    counts = torch.tensor([2])
    wrapped.update(torch.tensor([[0, 1]]), torch.tensor([[1, 1]]), counts)
    assert float(wrapped.compute()) == 0.5
    wrapped.reset()
    wrapped.update(torch.tensor([[1, 1]]), torch.tensor([[1, 1]]), counts)
    assert float(wrapped.compute()) == 1
