"""`arm`: motions of a made-up arm, and the torques that they take."""

import numpy as np
import pytest
import scipy.io
import torch

from bench.catalogue import parse_task_set, task_set
from methods.core.names import UsageError
from tasks.arm import LINKS, SWING, UNIT, WAVES, Arm, motions
from tasks.core.base import modules_with_parameters
from tasks.dynamics.newton_euler import torques

SARCOS = [20.4, 14.9, 9.9, 13.8, 0.97, 1.71, 2.59]
"""The standard deviations of the torques in the test file of SARCOS: N m."""


@pytest.fixture(scope="module")
def arm():
    return Arm()


def targets(arm, split):
    return torch.hstack([arm.splits[split][name] for name in LINKS]).double().numpy()


def test_inputs_are_standardised_and_targets_centred_by_training_alone(arm):
    inputs = arm.splits["train"]["motion"].double()
    torch.testing.assert_close(inputs.mean(0), torch.zeros(21, dtype=torch.float64), atol=1e-5, rtol=0)
    torch.testing.assert_close(inputs.std(0, correction=0), torch.ones(21, dtype=torch.float64))
    assert np.abs(targets(arm, "train").mean(0)).max() < 1e-5
    assert arm.splits["test"]["motion"].mean(0).abs().max() > 1e-3


def test_targets_are_the_torques_of_the_inputs_in_every_split(arm):
    """The inputs are undone by the means and deviations of the training motions, which are drawn again here."""
    train = np.hstack(motions(np.random.default_rng(0), 3_000))
    for split in ("train", "validation", "test"):
        undone = arm.splits[split]["motion"].double().numpy() * train.std(0) + train.mean(0)
        found = torques(list(LINKS.values()), *np.split(undone, 3, axis=1)) / UNIT
        off = found - targets(arm, split)
        assert np.abs(off - off.mean(0)).max() < 1e-4  # all but the training means
        assert off.mean(0)[0] == pytest.approx(1.2, abs=0.2)


def test_velocities_and_accelerations_are_those_of_the_motions(arm):
    """Of waves at one frequency, ω: −q̈/q is ω². Mean squares over the waves of a motion give the same."""
    position, velocity, acceleration = motions(np.random.default_rng(1), 200_000)
    swing = np.array(SWING)[:, None] / WAVES
    squares = swing**2 * 4 / 3 / 2  # of an amplitude drawn from 0 to 2, and of a sine
    slow = (2 * np.pi * np.exp(np.random.default_rng(0).uniform(np.log(0.4), np.log(0.8), 200_000))) ** 2
    assert velocity.var(0) == pytest.approx((squares * WAVES**2).sum(1) * slow.mean(), rel=0.03)
    assert acceleration.var(0) == pytest.approx((squares * WAVES**4).sum(1) * (slow**2).mean(), rel=0.03)
    crossed = -((position - position.mean(0)) * acceleration).mean(0)
    assert crossed == pytest.approx((squares * WAVES**2).sum(1) * slow.mean(), rel=0.05)
    assert np.abs((velocity * acceleration).mean(0)).max() < 0.2


def test_sizes_of_torques_are_those_of_a_real_arm_within_a_factor_of_two(arm):
    spread = targets(arm, "train").std(0) * UNIT
    print("standard deviations, N m:", dict(zip(LINKS, spread.round(2).tolist(), strict=True)))
    assert np.abs(np.log2(spread / SARCOS)).max() < 1
    assert 10 < spread.max() / spread.min() < 40


def test_no_two_motions_are_alike(arm):
    everything = torch.cat([columns["motion"] for columns in arm.splits.values()])
    assert everything.shape == (6_000, 21)
    assert torch.pdist(everything).min() > 0.5  # of inputs whose standard deviation is 1


def test_another_draw_has_other_motions_of_the_same_arm(arm):
    other = Arm(draw=1)
    assert {s: len(c["motion"]) for s, c in other.splits.items()} == {
        s: len(c["motion"]) for s, c in arm.splits.items()
    }
    assert torch.cdist(other.splits["test"]["motion"], arm.splits["test"]["motion"]).min() > 0.5
    assert targets(other, "train").std(0) == pytest.approx(targets(arm, "train").std(0), rel=0.1)


def test_the_first_draw_is_the_default_and_renames_nothing():
    assert parse_task_set("arm[draw=0]") == parse_task_set("arm")
    assert parse_task_set("arm").stable == "arm"
    assert parse_task_set("arm[draw=1]").stable == "arm[draw=1]"


def test_a_draw_below_0_is_refused_by_name():
    with pytest.raises(UsageError, match="draw=-1: the draw of the data is a number from 0 on"):
        task_set("arm[draw=-1]")


def test_a_head_starts_within_reach_of_its_targets(arm):
    """Adam's steps have about the size of the learning rate, so the start may be no large multiple of the target."""
    network = arm.network(list(LINKS))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _, module in modules_with_parameters(network):
            module.reset_parameters()
    starts = network({"motion": arm.splits["train"]["motion"]}).predictions
    spread = dict(zip(LINKS, targets(arm, "train").std(0), strict=True))
    assert all(start.square().mean().sqrt() < spread[name] for name, start in starts.items())


def test_the_made_up_arm_takes_sizes_of_torques_as_the_real_one_in_its_motions(real):
    rows = scipy.io.loadmat(real / "sarcos" / "sarcos_inv_test.mat")["sarcos_inv_test"]
    found = torques(list(LINKS.values()), rows[:, :7], rows[:, 7:14], rows[:, 14:21]).std(0)
    print("on the real arm's motions, N m:", found.round(2).tolist())
    assert rows[:, 21:].std(0) == pytest.approx(SARCOS, rel=0.01)
    assert np.abs(np.log2(found / SARCOS)).max() < 1
