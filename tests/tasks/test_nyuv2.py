"""`nyuv2` and `cityscapes`: photographs of the hub's layout, mapped into memory, with the tasks of `scenes`."""

import math
import re

import hub_shaped
import numpy as np
import pytest
import torch
from torch import Tensor

import bench
from bench.catalogue import build, parse_task_set, task_sets
from bench.store import Store
from methods.core.names import UsageError
from tasks.cityscapes import Cityscapes
from tasks.core import dense
from tasks.core.errors import DataError
from tasks.core.hub import require_folder
from tasks.core.photographs import places, validates
from tasks.nyuv2 import NYUv2
from tasks.scenes import Scenes


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where this file's tests have prepared data in common."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def prepared(nyuv2_folder, place):
    """The small folder, prepared."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MTL_BENCH_CACHE", str(place))
        made = NYUv2(str(nyuv2_folder), channels=0.0625)
        assert made.tasks
        return made


def test_the_splits_are_the_hubs_rows_each_once(prepared):
    train, test = hub_shaped.draw(12, 288, 384, 13, seed=1), hub_shaped.draw(4, 288, 384, 13, seed=2)
    assert {split: len(columns["depth"]) for split, columns in prepared.splits.items()} == {
        "train": 11,
        "validation": 1,
        "test": 4,
    }
    kept = [row for row in range(12) if row != 5]
    for name, kind in {"image": np.float16, "segmentation": np.int8, "depth": np.float16, "normal": np.float16}.items():
        for split, columns, rows in (("train", train, kept), ("validation", train, [5]), ("test", test, range(4))):
            found = prepared.splits[split][name].numpy()
            assert found.dtype == kind
            assert np.array_equal(found, columns[name][list(rows)].astype(kind)), (split, name)
    assert "noise" not in prepared.splits["train"]


def test_the_columns_are_maps_of_files_and_no_copies(prepared, place):
    """A process that maps them takes no memory of its own, and slices are no copies."""
    whole = prepared.mapped.splits["train"]["depth"]
    assert prepared.splits["train"]["depth"].data_ptr() == whole.data_ptr()
    held = prepared.splits["validation"]["depth"]
    assert held.data_ptr() == whole.data_ptr() + 11 * 288 * 384 * 2
    [file] = place.glob("*.columns/train.depth.npy")
    assert file.stat().st_size - 12 * 288 * 384 * 2 in (64, 128)  # the numbers after a short header


def test_of_the_whole_set_nine_blocks_of_nine_successive_images_validate():
    held = np.flatnonzero(validates(795))
    assert len(held) == 81
    assert [len(block) for block in np.split(held, np.flatnonzero(np.diff(held) > 1) + 1)] == [9] * 9
    place = places("train", 795)
    assert sorted(place) == list(range(795))
    assert sorted(place[held]) == list(range(714, 795))
    assert (np.diff(place[held]) == 1).all()
    assert places("val", 654).tolist() == list(range(654))
    assert 0.08 < validates(2_975).mean() < 0.11


def test_training_and_validation_together_are_the_whole_map(prepared):
    part, whole = prepared.splits, prepared.train_and_validation
    assert len(whole["depth"]) == 12
    assert whole["depth"].data_ptr() == part["train"]["depth"].data_ptr()
    assert torch.equal(whole["depth"][:11], part["train"]["depth"])
    assert torch.equal(whole["depth"][11:], part["validation"]["depth"])
    assert list(whole) == list(part["train"])


def test_the_fingerprint_is_of_content_alone(prepared, nyuv2_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("MTL_BENCH_CACHE", str(tmp_path / "elsewhere"))
    again = NYUv2(str(nyuv2_folder), metrics="both")
    assert again.fingerprint == prepared.fingerprint
    again = NYUv2(str(nyuv2_folder))
    again.mapped = prepared.mapped._replace(digests={**prepared.mapped.digests, "val.depth": "0" * 64})
    assert again.fingerprint != prepared.fingerprint


def wide(column: Tensor) -> Tensor:
    return column.float() if column.is_floating_point() else column.long()


@pytest.fixture(scope="module")
def like_scenes(prepared):
    """`scenes` with these columns in its own types."""
    made = Scenes(288, 384)
    made.splits = {split: {n: wide(c) for n, c in columns.items()} for split, columns in prepared.splits.items()}
    return made


@pytest.fixture(scope="module")
def predicted(prepared):
    generator = torch.Generator().manual_seed(0)
    shapes = {"segmentation": 13, "depth": 1, "normals": 3}
    return {name: torch.randn(4, size, 288, 384, generator=generator) for name, size in shapes.items()}


@pytest.mark.parametrize("name", ["segmentation", "depth", "normals"])
def test_losses_and_metrics_of_small_types_are_those_of_scenes(prepared, like_scenes, predicted, name):
    ours, theirs = prepared.task(name), like_scenes.task(name)
    target = prepared.splits["test"][ours.target]
    for one, other in zip(
        ours.total_and_count(predicted[name], target),
        theirs.total_and_count(predicted[name], wide(target)),
        strict=True,
    ):
        torch.testing.assert_close(one, other)
    assert list(ours.metrics) == list(theirs.metrics)
    for metric, declared in ours.metrics.items():
        own, other = declared.factory(), theirs.metrics[metric].factory()
        for chunk in range(4):
            part = slice(chunk, chunk + 1)
            own.update(*ours.metric_inputs(predicted[name][part], target[part]))
        other.update(*theirs.metric_inputs(predicted[name], wide(target)))
        assert float(own.compute()) == pytest.approx(float(other.compute()), rel=1e-4), metric
        assert declared.constant_score == pytest.approx(theirs.metrics[metric].constant_score, rel=2e-4), metric
        assert declared.higher_is_better == theirs.metrics[metric].higher_is_better


def test_the_scores_of_constants_are_kept_for_the_next_process(prepared, place, monkeypatch):
    first = [m.constant_score for task in prepared.tasks for m in task.metrics.values()]
    monkeypatch.setattr(dense, "PIXELS", None)  # splitting a column by it would fail
    monkeypatch.setenv("MTL_BENCH_CACHE", str(place))
    again = NYUv2(prepared.path)
    assert [m.constant_score for task in again.tasks for m in task.metrics.values()] == first


def test_float16_is_fine_enough_for_what_is_predicted():
    """Of depths, 0.05 %; of normals, a twentieth of a degree, which no metric here sees."""
    depth = torch.rand(100_000, dtype=torch.float64) * 9.3 + 0.7
    assert ((depth.half().double() - depth).abs() / depth).max() < 5e-4
    normal = torch.nn.functional.normalize(torch.randn(100_000, 3, dtype=torch.float64), dim=1)
    stored = torch.nn.functional.normalize(normal.half().double(), dim=1)
    assert torch.rad2deg((normal - stored).norm(dim=1)).max() < 0.05


def test_a_network_reads_images_of_float16_as_float32_ones(prepared):
    network = prepared.network(("depth", "normals")).eval()
    image = prepared.splits["test"]["image"][:2]
    with torch.no_grad():
        one, other = network({"image": image}), network({"image": image.float()})
    assert {name: tuple(p.shape) for name, p in one.predictions.items()} == {
        "depth": (2, 1, 288, 384),
        "normals": (2, 3, 288, 384),
    }
    assert all(torch.equal(one.predictions[name], other.predictions[name]) for name in one.predictions)
    assert network.double()({"image": image}).predictions["depth"].dtype == torch.float64


def test_a_training_batch_is_augmented_by_what_its_columns_are(prepared):
    batch = {name: column[:3] for name, column in prepared.splits["train"].items()}
    found = prepared.augment(batch, torch.Generator().manual_seed(0))
    assert {n: (c.shape, c.dtype) for n, c in found.items()} == {n: (c.shape, c.dtype) for n, c in batch.items()}
    again = prepared.augment(batch, torch.Generator().manual_seed(0))
    assert all(torch.equal(found[name], again[name]) for name in found)
    assert Cityscapes.kinds["depth"] == "inverse depth"
    assert NYUv2.kinds == {"image": "image", "segmentation": "classes", "depth": "depth", "normal": "normals"}


@pytest.mark.parametrize("metrics", ["legacy", "both"])
def test_legacy_metrics_are_an_option(prepared, metrics):
    made = NYUv2(prepared.path, metrics=metrics)
    made.mapped = prepared.mapped
    names = [name for task in made.tasks for name in task.metrics]
    pooled = [name for task in prepared.tasks for name in task.metrics]
    assert [name for name in names if not name.startswith("legacy_")] == (pooled if metrics == "both" else [])
    assert sum(name.startswith("legacy_") for name in names) == 9
    assert all(math.isfinite(m.constant_score) for task in made.tasks for m in task.metrics.values())


@pytest.mark.parametrize(("made", "images", "batch"), [(NYUv2, 795, 2), (Cityscapes, 2_975, 8)])
def test_the_protocols_of_papers_are_those_of_the_papers(made, images, batch):
    first, later = made.protocols["li2020"], made.protocols["navon2022"]
    assert first.steps_per_epoch == images // batch
    for protocol in (first, later):
        assert (protocol.steps, protocol.batch_size) == (200 * (images // batch), batch)
        assert (protocol.optimizer, protocol.lr, protocol.weight_decay) == ("adam", 1e-4, 0)
        assert (protocol.schedule, protocol.halve_every, protocol.validation) == ("halving", 100, False)
        assert protocol.trials == 0
    assert (first.augment, first.average_last) == (False, 1)
    assert (later.augment, later.average_last) == (True, 10)


def test_the_cards_say_what_the_test_split_is_and_where_deviations_are_listed():
    for made in (NYUv2, Cityscapes):
        assert "what the field calls val" in made.card.traps
        assert "docs/published-protocols.md lists where li2020 and navon2022 differ" in made.card.traps
    assert "81 validate" in NYUv2.card.preprocessing
    assert "not confirmed" in Cityscapes.card.traps


def test_options_that_have_their_default_are_in_no_name():
    assert parse_task_set("nyuv2").label == parse_task_set("nyuv2[metrics=pooled]").label
    known = task_sets.options(task_sets.find("nyuv2"))
    assert sorted(known) == ["channels", "metrics", "network", "path"]
    assert parse_task_set("nyuv2[metrics=pooled,network=segnet,channels=1]").stable == "nyuv2"
    assert parse_task_set("cityscapes[network=segnet]").stable == "cityscapes"


# Cityscapes


@pytest.fixture(scope="module")
def streets(tmp_path_factory):
    """12 training and 4 other photographs with what MTAN's copy has."""
    return city(tmp_path_factory.mktemp("hub") / "streets")


def city(folder, splits=("train", "val"), **changed):
    for split, rows in zip(splits, (12, 4), strict=True):
        columns = hub_shaped.draw(rows, 128, 256, 7, seed=rows)
        columns["depth"] = np.where(columns["depth"] > 0, 0.2 / columns["depth"].clip(0.5), 0).astype(np.float32)
        columns = {name: columns[name] for name in ("image", "segmentation", "depth")}
        hub_shaped.write(folder, split, {changed.get(name, name): values for name, values in columns.items()})
    return folder


def test_cityscapes_is_read_from_a_folder(streets):
    made = build(f"cityscapes[channels=0.0625,path={streets}]")
    assert [task.name for task in made.tasks] == ["segmentation", "depth"]
    assert {split: len(columns["depth"]) for split, columns in made.splits.items()} == {
        "train": 11,
        "validation": 1,
        "test": 4,
    }
    assert made.tasks[1].metrics["absolute"].constant_score < 0.2


def test_cityscapes_without_a_folder_says_which_files():
    with pytest.raises(DataError, match=r"name a folder by \[path=…\] that contains the Parquet files .*/cityscapes"):
        Cityscapes().check()
    with pytest.raises(DataError, match="tanganke/cityscapes"):
        require_folder("cityscapes", Cityscapes.local, "")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"segmentation": "segmentation_19"}, "lacks the column segmentation: it has image, segmentation_19, depth"),
        ({"splits": ("train", "validation")}, "there is no val split: it has train, validation"),
    ],
)
def test_a_copy_of_cityscapes_that_differs_is_refused_with_what_was_found(tmp_path, changed, said):
    with pytest.raises(DataError, match=said) as caught:
        Cityscapes(str(city(tmp_path / "other", **changed))).check()
    assert "\n" not in str(caught.value)


def test_nineteen_classes_are_refused_with_their_rows(tmp_path):
    columns = hub_shaped.draw(6, 128, 256, 19)
    for split in ("train", "val"):
        hub_shaped.write(tmp_path / "fine", split, columns)
    said = "the train split's segmentation has values from -1 to 18 in rows 0 to 5, and should have classes from 0 to 6"
    with pytest.raises(DataError, match=said):
        Cityscapes(str(tmp_path / "fine")).check()


def test_a_folder_of_the_other_size_is_refused(nyuv2_folder):
    said = re.escape("image is Array3D(3×288×384, float32), and should be Array3D(3×128×256, float32)")
    with pytest.raises(DataError, match=said):
        Cityscapes(str(nyuv2_folder)).check()


def test_it_is_trained_on_by_a_worker_of_the_command_line(streets, tmp_path):
    tasks = f"cityscapes[network=encoder_decoder,path={streets}]"
    protocol = "navon2022[steps=2,steps_per_epoch=1,points=1,average_last=2]"
    board = bench.run("kd", tasks, 1, protocol, tmp_path / "out", accelerator="cpu", workers=1)
    assert list(board.seeds) == [1, 1, 1]
    assert list((tmp_path / "out" / "costs").iterdir())


def test_two_epochs_of_li2020_train_by_name(nyuv2_folder, place, tmp_path, monkeypatch):
    """With distillation as published; validation takes no part."""
    monkeypatch.setenv("MTL_BENCH_CACHE", str(place))
    tasks, protocol = f"nyuv2[channels=0.0625,path={nyuv2_folder}]", "li2020[steps=4,steps_per_epoch=2,points=2]"
    out = tmp_path / "out"
    board = bench.run("kd[mode=train,weight=1:1:2]", tasks, 1, protocol, out, accelerator="cpu", engine="inline")
    assert list(board.seeds) == [1, 1, 1]
    records = Store(out).records().values()
    assert len(records) == 5
    assert all(record.result.status == "ok" for record in records)
    assert all(point.validation == {} for record in records for point in record.result.points)
    page = (out / "leaderboard.html").read_text("utf-8")
    assert "halved every 100 epochs" in page
    assert "what would validate is trained on, too" in page
    with pytest.raises(UsageError, match="keeps no examples for validation"):
        bench.run("equal", tasks, 1, protocol, out, accelerator="cpu", tuning=7)
