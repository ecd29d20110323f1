"""`rivals`: two pairs of tasks that share one part and are opposed in another."""

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares

from bench.catalogue import task_set, task_sets
from methods.core.names import UsageError
from tasks.rivals import Rivals

NOISE = 0.7
LIMITS = (-0.6, 0.6)
CLASSES = ("plus_class", "minus_class")


def wave(z):
    """sin 2z over its standard deviation."""
    return np.sin(2 * z) / np.sqrt((1 - np.exp(-8)) / 2)


def numbers(built, split, name):
    """A column as float64, without its last axis if that has one place."""
    return built.splits[split][name].double().numpy().squeeze()


def direction(x, target):
    """The w for which a multiple of wave(w x) fits the target best."""
    start, *_ = np.linalg.lstsq(x, target, rcond=None)
    fitted = least_squares(lambda w: w[0] * wave(x @ w[1:]) - target, [1, *(start / np.linalg.norm(start))])
    return fitted.x[1:]


@pytest.fixture(scope="module")
def rivals():
    return Rivals()


@pytest.fixture(scope="module")
def directions(rivals):
    """Those of c, d and e. Of the second pair only the classes are known, so that of e is an estimate."""
    x, plus, minus = (numbers(rivals, "test", name) for name in ("x", "plus", "minus"))
    above, below = (numbers(rivals, "test", name) for name in CLASSES)
    return {
        "c": np.linalg.lstsq(x, (plus + minus) / np.sqrt(2), rcond=None)[0],
        "d": direction(x, plus - minus),
        "e": direction(x, above - below),
    }


def parts(built, directions, split):
    """c, d and e of each example: `[N]` each."""
    x = numbers(built, split, "x")
    line, first, second = (x @ w for w in directions.values())
    return line, wave(first), wave(second)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_the_regressions_are_c_plus_and_minus_d_without_noise_when_scored(rivals, directions, split):
    c, d, _ = parts(rivals, directions, split)
    assert np.abs(numbers(rivals, split, "plus") - (c + d) / np.sqrt(2)).max() < 1e-4
    assert np.abs(numbers(rivals, split, "minus") - (c - d) / np.sqrt(2)).max() < 1e-4


@pytest.mark.parametrize("split", ["validation", "test"])
def test_the_classes_are_those_of_c_plus_and_minus_e_without_noise_when_scored(rivals, directions, split):
    c, _, e = parts(rivals, directions, split)
    for name, score in zip(CLASSES, ((c + e) / np.sqrt(2), (c - e) / np.sqrt(2)), strict=True):
        wrong = numbers(rivals, split, name) != np.digitize(score, LIMITS)
        assert wrong.mean() < 0.05  # as the direction of e is an estimate
        assert np.abs(np.abs(score[wrong]) - 0.6).max(initial=0) < 0.2


def test_training_scores_have_noise_of_seven_tenths(rivals, directions):
    c, d, e = parts(rivals, directions, "train")
    noises = []
    for name, sign in (("plus", 1), ("minus", -1)):
        noises.append(numbers(rivals, "train", name) - (c + sign * d) / np.sqrt(2))
        assert noises[-1].std() == pytest.approx(NOISE, rel=0.06)
        assert abs(noises[-1].mean()) < 0.06
    assert abs(np.corrcoef(noises)[0, 1]) < 0.1
    draws = np.random.default_rng(5).normal(size=(2_000, 50))
    for name, sign in (("plus_class", 1), ("minus_class", -1)):
        score = (c + sign * e) / np.sqrt(2)
        agree = np.mean(np.digitize(score, LIMITS) == numbers(rivals, "train", name))
        expected = np.digitize(score[:, None] + NOISE * draws, LIMITS) == np.digitize(score, LIMITS)[:, None]
        assert agree == pytest.approx(expected.mean(), abs=0.04)


def test_the_three_directions_are_orthogonal_and_of_length_one(directions):
    rows = np.array(list(directions.values()))
    assert np.abs(rows @ rows.T - np.eye(3)).max() < 0.1
    assert np.abs(rows[:2] @ rows[:2].T - np.eye(2)).max() < 1e-3


def test_a_pair_is_opposed_once_the_common_part_is_known(rivals, directions):
    c, d, e = parts(rivals, directions, "test")
    left = [numbers(rivals, "test", name) - c / np.sqrt(2) for name in ("plus", "minus")]
    assert np.corrcoef(left)[0, 1] < -0.999
    assert abs(np.corrcoef(d, e)[0, 1]) < 0.1


def test_regressions_have_one_scale_and_classes_are_of_like_size(rivals):
    for name in ("plus", "minus"):
        assert numbers(rivals, "test", name).std() == pytest.approx(1, rel=0.05)
    for split, columns in rivals.splits.items():
        for name in CLASSES:
            assert columns[name].dtype == torch.int64
            shares = columns[name].bincount() / len(columns[name])
            assert shares.shape == (3,), split
            assert shares.min() > 0.25


def test_inputs_are_standard_normal_and_no_split_repeats_another(rivals):
    everything = torch.cat([columns["x"] for columns in rivals.splits.values()])
    assert everything.shape == (5000, 8)
    assert everything.mean().item() == pytest.approx(0, abs=0.02)
    assert everything.std().item() == pytest.approx(1, abs=0.02)
    assert len(everything.unique(dim=0)) == 5000


def test_another_draw_is_other_data_of_the_same_kind(rivals, directions):
    other = Rivals(draw=1)
    assert other.fingerprint != rivals.fingerprint
    for split, columns in rivals.splits.items():
        assert (other.splits[split]["x"] == columns["x"]).double().mean() < 0.001
        assert {name: column.shape for name, column in other.splits[split].items()} == {
            name: column.shape for name, column in columns.items()
        }
    x, plus, minus = (numbers(other, "test", name) for name in ("x", "plus", "minus"))
    common = np.linalg.lstsq(x, (plus + minus) / np.sqrt(2), rcond=None)[0]
    assert np.abs((plus + minus) / np.sqrt(2) - x @ common).max() < 1e-4
    assert np.linalg.norm(common) == pytest.approx(1, abs=1e-4)
    assert abs(common @ directions["c"]) < 0.95


def test_the_first_draw_is_the_default_and_renames_nothing():
    assert Rivals().fingerprint == Rivals(draw=0).fingerprint
    assert task_sets.parse("rivals[draw=0]").stable == task_sets.parse("rivals").stable == "rivals"
    assert task_sets.parse("rivals[draw=1]").stable == "rivals[draw=1]"


def test_a_draw_below_0_is_refused_by_name():
    with pytest.raises(UsageError, match="draw"):
        task_set("rivals[draw=-1]")


def test_the_trunk_is_narrow_and_each_task_has_a_head(rivals):
    network = rivals.network([task.name for task in rivals.tasks])
    outputs = network({"x": rivals.splits["test"]["x"][:3]})
    assert [tap.shape[1] for tap in outputs.taps["plus"]] == [16, 4]
    assert {name: prediction.shape[1] for name, prediction in outputs.predictions.items()} == {
        "plus": 1,
        "minus": 1,
        "plus_class": 3,
        "minus_class": 3,
    }
