"""`digits`: two real handwritten digits on a canvas. The pictures are taken apart again."""

from collections import defaultdict

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from bench.catalogue import task_set, task_sets
from methods.core.names import UsageError
from tasks.digits import Digits

SAMPLE = 400
HEIGHT, WIDTH = 12, 14
PURE = {"left": np.s_[:, :5], "right": np.s_[:, 9:]}
"""The columns that the other digit never reaches."""


@pytest.fixture(scope="module")
def digits():
    return Digits()


@pytest.fixture(scope="module")
def sources():
    """The images in scikit-learn, scaled, and their labels."""
    loaded = load_digits()
    return (loaded.images / 16).astype(np.float32), loaded.target


@pytest.fixture(scope="module")
def placements(sources):
    """Every image at every place on its side, by its pixels in the columns that are its own."""
    found = {}
    for side, rows, lefts in (("left", range(3), range(2)), ("right", range(2, 5), range(5, 7))):
        found[side] = defaultdict(list)
        for r in rows:
            for c in lefts:
                canvases = np.zeros((len(sources[0]), HEIGHT, WIDTH), np.float32)
                canvases[:, r : r + 8, c : c + 8] = sources[0]
                for index, canvas in enumerate(canvases):
                    found[side][canvas[PURE[side]].tobytes()].append((index, c, canvas))
    return found


@pytest.fixture(scope="module")
def taken_apart(digits, placements):
    """By split: of each of the first composites, all pairs of placed images whose maximum it is."""
    found = {}
    for split, columns in digits.splits.items():
        found[split] = []
        for clean in columns["clean"][:SAMPLE].view(-1, HEIGHT, WIDTH).numpy():
            left, right = (placements[side][clean[pure].tobytes()] for side, pure in PURE.items())
            pairs = [(a, b) for a in left for b in right if np.array_equal(np.maximum(a[2], b[2]), clean)]
            found[split].append(pairs)
    return found


def test_every_clean_canvas_is_the_maximum_of_two_real_digits_at_their_places(taken_apart):
    assert all(pairs for composites in taken_apart.values() for pairs in composites)


def test_labels_are_those_of_the_two_digits(digits, sources, taken_apart):
    labels = sources[1]
    for split, composites in taken_apart.items():
        columns = digits.splits[split]
        for i, pairs in enumerate(composites):
            told = (columns["left"][i].item(), columns["right"][i].item())
            assert told in {(labels[a[0]], labels[b[0]]) for a, b in pairs}


def test_no_source_image_is_in_two_splits(taken_apart):
    used = {
        split: {placed[0] for pairs in composites if len(pairs) == 1 for placed in pairs[0]}
        for split, composites in taken_apart.items()
    }
    assert all(len(images) > 200 for images in used.values())
    assert not used["train"] & used["validation"]
    assert not used["train"] & used["test"]
    assert not used["validation"] & used["test"]


def test_digits_overlap(taken_apart):
    pairs = [composite[0] for composites in taken_apart.values() for composite in composites]
    columns = {left[1] + 8 - right[1] for left, right in pairs}
    inked = np.mean([((left[2] > 0) & (right[2] > 0)).any() for left, right in pairs])
    assert columns == {2, 3, 4}
    assert inked > 0.5


def test_composites_are_many_and_of_the_declared_shapes(digits):
    sizes = {split: len(columns["image"]) for split, columns in digits.splits.items()}
    assert sizes == {"train": 12_000, "validation": 2_000, "test": 2_000}
    for columns in digits.splits.values():
        assert columns["image"].shape[1:] == columns["clean"].shape[1:] == (HEIGHT * WIDTH,)
        assert columns["image"].dtype == columns["clean"].dtype == torch.float32
        assert columns["left"].dtype == columns["right"].dtype == torch.int64


def test_composites_do_not_repeat(digits):
    assert len(digits.splits["train"]["clean"].unique(dim=0)) > 11_900


def test_clean_canvases_lie_between_zero_and_one(digits):
    for columns in digits.splits.values():
        assert columns["clean"].min() == 0
        assert columns["clean"].max() == 1


def test_the_input_is_the_clean_canvas_with_gaussian_noise_of_015(digits):
    for columns in digits.splits.values():
        noise = columns["image"] - columns["clean"]
        assert noise.std().item() == pytest.approx(0.15, rel=0.01)
        assert noise.mean().item() == pytest.approx(0, abs=0.002)
        assert noise.std(0).min() > 0.12  # every pixel has it, inked or not
        assert (noise.abs() > 0.3).double().mean().item() == pytest.approx(0.0455, abs=0.003)


def test_every_class_is_on_both_sides_of_every_split(digits):
    for columns in digits.splits.values():
        for side in ("left", "right"):
            assert columns[side].unique().tolist() == list(range(10))


def test_the_network_has_two_hidden_layers_of_128_and_a_head_per_task(digits):
    network = digits.network(["left", "reconstruction"])
    outputs = network({"image": digits.splits["test"]["image"][:3]})
    assert {name: p.shape[1] for name, p in outputs.predictions.items()} == {
        "left": 10,
        "reconstruction": 168,
    }
    assert [tap.shape[1] for tap in outputs.taps["left"]] == [128, 128]


def test_the_first_draw_is_what_it_was_before_there_were_others(digits):
    assert digits.fingerprint == "c32c998f52ccb25bc05699c1f88b9e197c26b57a3ea225e29b7c0a2f891bebd0"
    assert Digits(draw=0).fingerprint == digits.fingerprint
    assert task_sets.parse("digits[draw=0]").stable == task_sets.parse("digits").stable == "digits"


def test_another_draw_composes_and_splits_the_images_anew(digits, placements, taken_apart):
    other = Digits(draw=1)
    assert other.fingerprint != digits.fingerprint
    trained = {placed[0] for pairs in taken_apart["train"] if len(pairs) == 1 for placed in pairs[0]}
    tested = set()
    for clean in other.splits["test"]["clean"][:SAMPLE].view(-1, HEIGHT, WIDTH).numpy():
        left, right = (placements[side][clean[pure].tobytes()] for side, pure in PURE.items())
        pairs = [(a[0], b[0]) for a in left for b in right if np.array_equal(np.maximum(a[2], b[2]), clean)]
        assert pairs
        tested |= set(pairs[0])
    assert len(tested & trained) > 50


def test_a_draw_below_0_is_refused_by_name():
    with pytest.raises(UsageError, match="draw"):
        task_set("digits[draw=-1]")
