"""Ray-cast rooms as a task set: NYUv2's losses, masks and metrics, against numpy on the whole split."""

import numpy as np
import pytest
import torch

from bench.catalogue import parse_task_set
from tasks.core.base import SPLITS
from tasks.rendering import raycast
from tasks.scenes import Scenes

CLASSES = len(raycast.CLASSES)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MTL_BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr("tasks.scenes.COUNTS", {"train": 40, "validation": 10, "test": 30})
        made = Scenes(height=12, width=16)
        made.check()
        yield made


@pytest.fixture(scope="module")
def predicted(scenes):
    """Predictions for the test split that are neither right nor constant."""
    torch.manual_seed(0)
    test = scenes.splits["test"]
    likely = torch.nn.functional.one_hot(test["segmentation"].clamp(min=0), CLASSES).movedim(-1, 1)
    return {
        "segmentation": likely + torch.randn(likely.shape),
        "depth": test["depth"] + 0.3 * torch.randn(test["depth"].shape),
        "normals": 2 * test["normal"] + torch.randn(test["normal"].shape),
    }


def score(scenes, task, metric, prediction, sizes=(7, 1, 22)):
    """The metric, accumulated over uneven batches."""
    task = scenes.task(task)
    accumulator = task.metrics[metric].factory()
    target = scenes.splits["test"][task.target]
    for some, those in zip(prediction.split(sizes), target.split(sizes), strict=True):
        accumulator.update(*task.metric_inputs(some, those))
    return float(accumulator.compute())


def test_segmentation_is_scored_on_labelled_pixels_of_the_whole_split(scenes, predicted):
    target = scenes.splits["test"]["segmentation"].numpy().ravel()
    guess = predicted["segmentation"].numpy().argmax(1).ravel()[target >= 0]
    target = target[target >= 0]
    confusion = np.zeros((CLASSES, CLASSES))
    np.add.at(confusion, (target, guess), 1)
    union = confusion.sum(0) + confusion.sum(1) - confusion.diagonal()
    miou = (confusion.diagonal()[union > 0] / union[union > 0]).mean()
    assert score(scenes, "segmentation", "miou", predicted["segmentation"]) == pytest.approx(miou, rel=1e-5)
    accuracy = score(scenes, "segmentation", "pixel_accuracy", predicted["segmentation"])
    assert accuracy == pytest.approx((target == guess).mean(), rel=1e-6)


def test_depth_is_scored_where_it_is_valid(scenes, predicted):
    target = scenes.splits["test"]["depth"].numpy()
    error = np.abs(predicted["depth"].numpy() - target)[target > 0]
    assert score(scenes, "depth", "absolute", predicted["depth"]) == pytest.approx(error.mean(), rel=1e-5)
    relative = (error / target[target > 0]).mean()
    assert score(scenes, "depth", "relative", predicted["depth"]) == pytest.approx(relative, rel=1e-5)


def test_normals_are_scored_by_their_angles_over_the_whole_split(scenes, predicted):
    target = np.moveaxis(scenes.splits["test"]["normal"].numpy(), 1, -1).reshape(-1, 3).astype(np.float64)
    guess = np.moveaxis(predicted["normals"].numpy(), 1, -1).reshape(-1, 3).astype(np.float64)
    valid = (target != 0).any(1)
    guess = guess[valid] / np.linalg.norm(guess[valid], axis=1, keepdims=True)
    angle = np.degrees(np.arccos(np.clip((guess * target[valid]).sum(1), -1, 1)))
    for name, expected in {
        "mean_angle": angle.mean(),
        "median_angle": np.sort(angle)[(len(angle) - 1) // 2],
        "within_11.25": (angle < 11.25).mean(),
        "within_22.5": (angle < 22.5).mean(),
        "within_30": (angle < 30).mean(),
    }.items():
        assert score(scenes, "normals", name, predicted["normals"]) == pytest.approx(expected, rel=1e-3), name


def test_losses_are_means_over_valid_pixels(scenes, predicted):
    test = scenes.splits["test"]
    total, count = scenes.task("depth").loss(predicted["depth"], test["depth"])
    valid = test["depth"] > 0
    assert int(count) == int(valid.sum())
    torch.testing.assert_close(total / count, (predicted["depth"] - test["depth"])[valid].abs().mean())

    total, count = scenes.task("normals").loss(predicted["normals"], test["normal"])
    cosine = torch.nn.functional.cosine_similarity(predicted["normals"], test["normal"], dim=1)
    valid = test["normal"].norm(dim=1) > 0
    assert int(count) == int(valid.sum())
    torch.testing.assert_close(total / count, 1 - cosine[valid].mean())

    total, count = scenes.task("segmentation").loss(predicted["segmentation"], test["segmentation"])
    expected = torch.nn.functional.cross_entropy(predicted["segmentation"], test["segmentation"], ignore_index=-1)
    assert int(count) == int((test["segmentation"] >= 0).sum())
    torch.testing.assert_close(total / count, expected)


@pytest.mark.parametrize("task", ["segmentation", "depth", "normals"])
def test_a_batch_without_labels_has_no_loss_but_a_graph(scenes, task):
    task = scenes.task(task)
    target = torch.full_like(scenes.splits["test"][task.target], -1 if task.name == "segmentation" else 0)
    shape = (len(target), CLASSES, *target.shape[1:]) if task.name == "segmentation" else target.shape
    prediction = torch.randn(shape, requires_grad=True)
    total, count = task.loss(prediction, target)
    total.backward()
    assert (float(total.detach()), int(count)) == (0, 0)
    assert prediction.grad.abs().max() == 0


def test_a_zero_direction_has_a_finite_gradient(scenes):
    target = scenes.splits["test"]["normal"]
    prediction = torch.zeros_like(target, requires_grad=True)
    total, _ = scenes.task("normals").loss(prediction, target)
    total.backward()
    assert torch.isfinite(prediction.grad).all()


def test_untrained_scores_are_those_of_constants_fitted_to_the_training_split(scenes):
    train, test = scenes.splits["train"], scenes.splits["test"]
    labels = train["segmentation"][train["segmentation"] >= 0]
    commonest = int(labels.bincount().argmax())
    labelled = test["segmentation"][test["segmentation"] >= 0]
    share = float((labelled == commonest).double().mean())
    assert scenes.task("segmentation").metrics["pixel_accuracy"].constant_score == pytest.approx(share)
    present = len(labelled.unique())
    assert scenes.task("segmentation").metrics["miou"].constant_score == pytest.approx(share / present, rel=1e-5)
    depth = train["depth"][train["depth"] > 0].mean()
    valid = test["depth"][test["depth"] > 0]
    assert scenes.task("depth").metrics["absolute"].constant_score == pytest.approx(float((valid - depth).abs().mean()))
    mean = train["normal"].sum((0, 2, 3))
    normals = test["normal"].movedim(1, -1)[(test["normal"] != 0).any(1)]
    angle = torch.rad2deg(torch.acos((normals @ (mean / mean.norm())).clamp(-1, 1)))
    assert scenes.task("normals").metrics["mean_angle"].constant_score == pytest.approx(float(angle.mean()), rel=1e-4)


def test_splits_are_different_rooms_of_one_rendering(scenes):
    rooms = raycast.render(80, height=12, width=16, seed=0)
    joined = torch.cat([scenes.splits[split]["image"] for split in SPLITS])
    assert torch.equal(joined, torch.from_numpy(rooms["image"]))
    assert len(joined.flatten(1).unique(dim=0)) == 80


@pytest.mark.parametrize("tasks", [("depth",), ("segmentation", "depth", "normals")])
@pytest.mark.parametrize(("height", "width"), [(12, 16), (16, 24), (288, 384)])
def test_the_network_taps_bottleneck_and_last_shared_map_at_any_size(scenes, tasks, height, width):
    network = scenes.network(tasks)
    outputs = network({"image": torch.randn(2, 3, height, width)})
    sizes = {"segmentation": CLASSES, "depth": 1, "normals": 3}
    assert {n: tuple(p.shape) for n, p in outputs.predictions.items()} == {
        task: (2, sizes[task], height, width) for task in tasks
    }
    for task in tasks:
        bottleneck, shared = outputs.taps[task]
        assert bottleneck.shape[2:] == (height // 4, width // 4)
        assert shared.shape[2:] == (height // 2, width // 2)
        assert shared is outputs.features
    heads = {id(parameter) for parameter in network.heads.parameters()}
    assert {id(p) for p in network.parameters()} == heads | {id(p) for _, p in network.shared}
    loss = sum(prediction.square().mean() for prediction in outputs.predictions.values())
    through = torch.autograd.grad(loss, outputs.features, retain_graph=True)
    by_features = torch.autograd.grad(outputs.features, network.last, through, retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(loss, network.last), by_features)


@pytest.mark.parametrize("options", [{"height": 30}, {"width": 2}, {"height": 0}])
def test_a_size_that_does_not_fit_is_refused(options):
    with pytest.raises(ValueError, match="scenes needs a multiple of 4"):
        Scenes(**options)


def test_another_draw_is_other_rooms(scenes, tmp_path, monkeypatch):
    monkeypatch.setenv("MTL_BENCH_CACHE", str(tmp_path))
    monkeypatch.setattr("tasks.scenes.COUNTS", {"train": 4, "validation": 3, "test": 2})
    other = Scenes(height=12, width=16, draw=1)
    joined = torch.cat([other.splits[split]["image"] for split in SPLITS])
    assert torch.equal(joined, torch.from_numpy(raycast.render(9, height=12, width=16, seed=1)["image"]))
    assert not torch.equal(other.splits["train"]["image"], scenes.splits["train"]["image"][:4])


def test_a_draw_below_0_is_refused():
    with pytest.raises(ValueError, match="draw=-1: the draw of the data is a number from 0 on"):
        Scenes(draw=-1)


@pytest.fixture(scope="module")
def one_label(scenes):
    """The rooms of `scenes`, whose training images have one label each. Made of the rooms that `scenes` has cached."""
    made = Scenes(height=12, width=16, labels="one")
    made.check()
    return made


def has_label(columns):
    """Whether each image has any label of each task `[N, 3]`."""
    found = (columns["segmentation"] != -1, columns["depth"] > 0, columns["normal"] != 0)
    return torch.stack([where.flatten(1).any(1) for where in found], 1)


def test_with_one_label_a_training_image_has_the_labels_of_one_task_unchanged(scenes, one_label):
    train, whole = one_label.splits["train"], scenes.splits["train"]
    labelled = has_label(train)
    assert has_label(whole).all()
    assert torch.equal(labelled.sum(1), torch.ones(40, dtype=torch.long))
    assert (labelled.sum(0) > 5).all()  # of 40 images a third is expected
    for task, name in enumerate(("segmentation", "depth", "normal")):
        assert torch.equal(train[name][labelled[:, task]], whole[name][labelled[:, task]])
    assert torch.equal(train["image"], whole["image"])


def test_with_one_label_validation_and_test_are_whole(scenes, one_label):
    for split in ("validation", "test"):
        for name, column in scenes.splits[split].items():
            assert torch.equal(one_label.splits[split][name], column), (split, name)


def test_which_labels_an_image_has_is_the_same_in_every_process(scenes, one_label, tmp_path, monkeypatch):
    monkeypatch.setenv("MTL_BENCH_CACHE", str(tmp_path))
    assert Scenes(height=12, width=16, labels="one").fingerprint == one_label.fingerprint
    assert one_label.fingerprint != scenes.fingerprint


@pytest.mark.parametrize("task", ["segmentation", "depth", "normals"])
def test_a_batch_of_other_tasks_labels_has_none_of_this_one(one_label, task):
    number = [task.name for task in one_label.tasks].index(task)
    chosen = one_label.task(task)
    target = one_label.splits["train"][chosen.target]
    others = target[~has_label(one_label.splits["train"])[:, number]]
    shape = (len(others), CLASSES, 12, 16) if task == "segmentation" else others.shape
    total, count = chosen.loss(torch.randn(shape), others)
    assert (float(total), int(count)) == (0, 0)


def test_options_that_were_added_later_rename_nothing():
    size = "height=16,width=24"
    assert parse_task_set("scenes").stable == f"scenes[{size}]"
    assert parse_task_set("scenes[draw=0,labels=all]").stable == f"scenes[{size}]"
    assert parse_task_set("scenes[network=encoder_decoder,channels=1]").stable == f"scenes[{size}]"
    assert parse_task_set("scenes[draw=1,labels=one]").stable == "scenes[draw=1,height=16,labels=one,width=24]"
