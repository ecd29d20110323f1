"""`multimnist` and `multifashion`: pictures are taken apart again to see that they were composed by the recipe."""

import shutil
from dataclasses import replace

import pytest
import torch

import bench
from bench.catalogue import place, task_sets
from bench.planning.plan import make_plan
from bench.planning.request import Request
from bench.store import Store
from methods.core.names import UsageError
from tasks.core.base import DataError
from tasks.multifashion import MultiFashion
from tasks.multimnist import MultiMNIST

SETS = [MultiMNIST, MultiFashion]
REAL = {"multimnist": "ylecun__mnist", "multifashion": "zalando-datasets__fashion_mnist"}


@pytest.fixture
def digits(image_folder):
    return MultiMNIST(str(image_folder))


@pytest.fixture(scope="module")
def sources(pictures):
    """By split of the hub: images `[N, 28, 28]` and labels."""
    made = {"train": pictures(200, 1), "test": pictures(50, 2)}
    return {split: tuple(map(torch.from_numpy, columns)) for split, columns in made.items()}


def taken_apart(digits, sources):
    """By split: of each composite, the source images on the left and on the right, found by their own pixels."""
    found = {}
    for split, columns in digits.splits.items():
        images = sources["test" if split == "test" else "train"][0]
        canvas = columns["image"][:, 0]
        # The left image is alone in its first 6 rows, the right one in its last.
        left = (canvas[:, None, :6, :28] == images[None, :, :6]).all((2, 3)).nonzero()
        right = (canvas[:, None, 28:34, 6:34] == images[None, :, 22:]).all((2, 3)).nonzero()
        assert left[:, 0].tolist() == right[:, 0].tolist() == list(range(len(canvas)))
        found[split] = left[:, 1], right[:, 1]
    return found


def test_a_canvas_is_the_maximum_of_two_images_at_their_places(digits, sources):
    for split, (left, right) in taken_apart(digits, sources).items():
        images = sources["test" if split == "test" else "train"][0]
        expected = torch.zeros(len(left), 2, 36, 36, dtype=torch.uint8)
        expected[:, 0, 0:28, 0:28] = images[left]
        expected[:, 1, 6:34, 6:34] = images[right]
        assert torch.equal(digits.splits[split]["image"], expected.amax(1, keepdim=True))


def test_labels_are_those_of_the_two_images(digits, sources):
    for split, (left, right) in taken_apart(digits, sources).items():
        labels = sources["test" if split == "test" else "train"][1]
        assert torch.equal(digits.splits[split]["left"], labels[left])
        assert torch.equal(digits.splits[split]["right"], labels[right])


def test_source_images_of_training_and_validation_never_mix(digits, sources):
    found = taken_apart(digits, sources)
    train, validation = (set(torch.cat(found[split]).tolist()) for split in ("train", "validation"))
    assert (len(found["train"][0]), len(found["validation"][0]), len(found["test"][0])) == (180, 20, 50)
    assert not train & validation
    assert len(train) == 180


def test_every_image_is_on_the_left_once_and_the_right_is_drawn(digits, sources):
    for left, right in taken_apart(digits, sources).values():
        assert len(left.unique()) == len(left)
        assert 0.45 * len(right) < len(right.unique()) < 0.8 * len(right)  # 1 − 1/e of them


def test_pairs_are_the_same_for_every_seed_and_whether_prepared_before(image_folder, tmp_path, monkeypatch):
    prints = []
    for seed, cache in ((1, "one"), (2, "another"), (3, "another")):
        torch.manual_seed(seed)
        monkeypatch.setenv("MTL_BENCH_CACHE", str(tmp_path / cache))
        prints.append(MultiMNIST(str(image_folder)).fingerprint)
    assert prints[0] == prints[1] == prints[2]


def test_garments_are_composed_as_digits_are(image_folder, digits):
    assert MultiFashion(str(image_folder)).fingerprint == digits.fingerprint


def test_the_sets_differ_in_their_source_and_in_nothing_else():
    assert [made.source.id for made in SETS] == ["ylecun/mnist", "zalando-datasets/fashion_mnist"]
    assert replace(MultiFashion.source, hub=MultiMNIST.hub) == MultiMNIST.source
    assert MultiMNIST.source.rows == {"train": 60_000, "test": 10_000}


@pytest.mark.parametrize("made", SETS)
def test_the_card_says_what_the_numbers_are_not(made):
    assert "not comparable" in made.card.traps
    assert made.source.id in made.card.origin
    assert "36×36" in made.card.preprocessing


def test_a_folder_of_other_data_is_refused(tmp_path, write_images, pictures):
    images, labels = pictures(20)
    folder = write_images(tmp_path / "small", {"train": (images[:, :8, :8], labels), "test": (images, labels)})
    with pytest.raises(DataError, match=r"ylecun/mnist in .*: an image is 8×8 of uint8, and should be 28×28"):
        MultiMNIST(str(folder)).check()


def test_a_folder_of_one_image_has_no_validation_split(tmp_path, write_images, pictures):
    folder = write_images(tmp_path / "one", {"train": pictures(1), "test": pictures(1)})
    with pytest.raises(DataError, match="validation split's columns should have one length above 0"):
        MultiMNIST(str(folder)).check()


@pytest.mark.parametrize("name", REAL)
def test_the_real_images_are_as_declared(real, name):
    made = task_sets.find(name).load()(str(real / "hub_shaped" / REAL[name]))
    assert {split: len(columns["left"]) for split, columns in made.splits.items()} == {
        "train": 9_000,
        "validation": 1_000,
        "test": 2_000,
    }
    for columns in made.splits.values():
        assert columns["image"][:, :, 34:].max() == 0  # the recipe leaves the last two rows and columns empty
        assert (columns["left"].bincount(minlength=10) > 0.05 * len(columns["left"])).all()
        assert ((columns["left"] == columns["right"]).double().mean() - 0.1).abs() < 0.03


def test_the_same_data_elsewhere_is_the_same_run(image_folder, tmp_path):
    """Where it lies is no part of a run's name or key; other data is told by its fingerprint."""
    shutil.copytree(image_folder, tmp_path / "copy")

    def runs(*places, protocol="smoke"):
        tasks = ",".join(f"multimnist[path={folder}]" for folder in places)
        return make_plan(
            Request(methods="mgda", tasks=tasks, seeds="1", protocol=protocol, accelerator="cpu"),
            Store(tmp_path / "out"),
        )

    one, other = runs(image_folder), runs(tmp_path / "copy")
    assert [(run.spec, run.key) for run in one] == [(run.spec, run.key) for run in other]
    assert {run.task_set_label for run in one} == {"multimnist"}
    assert [place(run.task_set) for run in other] == [str(tmp_path / "copy")] * 4
    with pytest.raises(UsageError, match="multimnist is named with two folders"):
        runs(image_folder, tmp_path / "copy")


def test_a_worker_finds_the_folder_that_was_named(image_folder, tmp_path):
    tasks = f"multimnist[path={image_folder}]"
    board = bench.run("mgda", tasks, 1, "smoke", tmp_path / "out", accelerator="cpu", workers=1)
    assert list(board.seeds) == [1, 1, 1]
    assert list((tmp_path / "out" / "costs").iterdir())
