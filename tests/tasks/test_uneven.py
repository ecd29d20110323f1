"""`uneven`: regressions of one scale that differ in how hard their function is and in how noisy their targets are."""

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares

from bench.catalogue import task_set, task_sets
from methods.core.names import UsageError
from tasks.uneven import Uneven

FREQUENCIES = {"line": 0, "bend": 1, "wave": 1.5, "loud_line": 0, "loud_bend": 1}
NOISE = {"line": 0.5, "bend": 0.5, "wave": 0.5, "loud_line": 2, "loud_bend": 2}


def function(z, frequency):
    """A sine of standard normal numbers over its standard deviation; frequency 0 is a line."""
    return np.sin(frequency * z) / np.sqrt((1 - np.exp(-2 * frequency**2)) / 2) if frequency else z


def numbers(built, split, name):
    """A column as float64, without its last axis if that has one place."""
    return built.splits[split][name].double().numpy().squeeze()


@pytest.fixture(scope="module")
def uneven():
    return Uneven()


@pytest.fixture(scope="module")
def directions(uneven):
    """Each task's direction in the space of x, fitted to the test split."""
    x = numbers(uneven, "test", "x")
    found = {}
    for name, frequency in FREQUENCIES.items():
        y = numbers(uneven, "test", name)
        start, *_ = np.linalg.lstsq(x, y, rcond=None)  # of a function of one direction this is along that direction
        start /= np.linalg.norm(start)
        found[name] = least_squares(lambda w, f=frequency, y=y: function(x @ w, f) - y, start).x
    return found


def residuals(built, directions, split, name):
    """What the formula leaves of a task's targets: `[N]`."""
    z = numbers(built, split, "x") @ directions[name]
    return numbers(built, split, name) - function(z, FREQUENCIES[name])


@pytest.mark.parametrize("name", FREQUENCIES)
def test_a_target_is_a_sine_of_the_declared_frequency_without_noise_when_scored(uneven, directions, name):
    assert np.abs(residuals(uneven, directions, "validation", name)).max() < 1e-4
    assert np.abs(residuals(uneven, directions, "test", name)).max() < 1e-4


@pytest.mark.parametrize("name", FREQUENCIES)
def test_training_targets_have_noise_of_half_or_of_twice_the_signal(uneven, directions, name):
    noise = residuals(uneven, directions, "train", name)
    assert noise.std() == pytest.approx(NOISE[name], rel=0.06)
    assert abs(noise.mean()) < 0.1 * NOISE[name]


def test_noises_are_unrelated(uneven, directions):
    noise = [residuals(uneven, directions, "train", name) for name in FREQUENCIES]
    assert np.abs(np.corrcoef(noise) - np.eye(5)).max() < 0.1


@pytest.mark.parametrize("name", FREQUENCIES)
def test_what_is_to_be_learnt_has_the_same_scale_in_every_task(uneven, name):
    assert numbers(uneven, "test", name).std() == pytest.approx(1, rel=0.05)
    assert abs(numbers(uneven, "test", name).mean()) < 0.08


def test_directions_have_length_one_are_related_and_differ(directions):
    """Each is the common part plus 0.3 times one of its own: correlated by about 1 / (1 + 0.3²)."""
    rows = np.array(list(directions.values()))
    assert np.linalg.norm(rows, axis=1) == pytest.approx(np.ones(5), abs=1e-4)
    cosines = (rows @ rows.T)[np.triu_indices(5, 1)]
    assert cosines.min() > 0.8
    assert cosines.max() < 0.98


def test_inputs_are_standard_normal_and_no_split_repeats_another(uneven):
    everything = torch.cat([columns["x"] for columns in uneven.splits.values()])
    assert everything.shape == (5000, 20)
    assert everything.mean().item() == pytest.approx(0, abs=0.02)
    assert everything.std().item() == pytest.approx(1, abs=0.02)
    assert len(everything.unique(dim=0)) == 5000


def test_another_draw_is_other_data_of_the_same_kind(uneven):
    other = Uneven(draw=1)
    assert other.fingerprint != uneven.fingerprint
    for split, columns in uneven.splits.items():
        for name, column in columns.items():
            assert other.splits[split][name].shape == column.shape
            assert (other.splits[split][name] == column).double().mean() < 0.001
    for name, noise in NOISE.items():
        spread = other.splits["train"][name].std().item()
        assert spread == pytest.approx((1 + noise**2) ** 0.5, rel=0.06)


def test_the_first_draw_is_the_default_and_renames_nothing():
    assert Uneven().fingerprint == Uneven(draw=0).fingerprint
    assert task_sets.parse("uneven[draw=0]").stable == task_sets.parse("uneven").stable == "uneven"
    assert task_sets.parse("uneven[draw=1]").stable == "uneven[draw=1]"


def test_a_draw_below_0_is_refused_by_name():
    with pytest.raises(UsageError, match="draw"):
        task_set("uneven[draw=-1]")


def test_the_network_has_two_hidden_layers_of_32_and_a_head_per_task(uneven):
    outputs = uneven.network(["wave", "line"])({"x": uneven.splits["test"]["x"][:3]})
    assert {name: tuple(prediction.shape) for name, prediction in outputs.predictions.items()} == {
        "wave": (3, 1),
        "line": (3, 1),
    }
    assert [tap.shape[1] for tap in outputs.taps["wave"]] == [32, 32]
