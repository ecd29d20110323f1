"""The simulation of tuning: a part of what is committed is made again, and it chooses and errs as it says."""

import csv
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from simulate_tuning import (
    RATES,
    SETTINGS,
    Errors,
    Setting,
    choices,
    errors,
    main,
    measure_errors,
    measure_losses,
    responses,
    stream,
)

from bench.tuning.choose import Attempt, choose
from bench.tuning.space import GRID

COMMITTED = Path(__file__).parents[2] / "results" / "calibration"


@pytest.fixture(scope="module")
def committed():
    with (COMMITTED / "tuning.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def written(row):
    return {name: f"{value:.6g}" if isinstance(value, float) else str(value) for name, value in vars(row).items()}


def test_what_choosing_loses_is_what_is_committed(committed):
    losses = [row for row in committed if row["regret"]]
    for found, row in zip(measure_losses(int(losses[0]["draws"])), losses, strict=True):
        for name, value in written(found).items():
            assert row[name] == value or float(row[name]) == pytest.approx(float(value), rel=1e-4), name


def test_the_first_error_rates_are_those_that_are_committed(committed):
    families = [row for row in committed if row["any_claim"]]
    assert len(families) == len(list(measure_errors(1)))
    for found, row in zip(islice(measure_errors(int(families[0]["draws"])), 4), families, strict=False):
        for name, value in written(found).items():
            assert row[name] == value or float(row[name]) == pytest.approx(float(value), rel=1e-4), name


def test_the_tests_keep_their_promise_given_the_chosen_rates(committed):
    """Within four standard errors of a rate of 5 %."""
    families = [row for row in committed if row["any_claim"]]
    for row in families:
        allowed = 0.05 + 4 * np.sqrt(0.05 * 0.95 / int(row["draws"]))
        assert float(row["false_given_rates"]) <= allowed
        assert float(row["held_untuned"]) <= allowed
        if row["tuning_seeds"] == "0":
            assert row["any_claim"] == row["false_given_rates"]


def test_without_noise_the_best_rate_is_chosen_and_nothing_is_claimed():
    quiet = Setting("quiet", curvature=1.0, noise=1e-9, offset=0.0, tasks=3)
    response = responses(stream("quiet"), quiet, 50)
    assert (choices(stream("quiet"), quiet, response, quiet.noise, 2) == response.argmax(1)).all()
    assert errors(SETTINGS[0], "equal", 6, 0, 20).other_rate == 0


def test_more_tuning_seeds_lose_less():
    for own in zip(*[iter(measure_losses(2000))] * 4, strict=True):
        regrets = [row.regret for row in own]
        assert regrets == sorted(regrets, reverse=True)


def test_it_chooses_as_the_project_does():
    """One metric, a reference of 100, two seeds: gains in per cent are the points of the simulation."""
    setting = SETTINGS[0]
    response = responses(stream("same"), setting, 30)
    chosen = choices(stream("again"), setting, response, setting.noise, 2)
    generator = stream("again")
    offset = setting.offset * generator.standard_normal(response.shape)
    scores = response + offset + setting.noise / np.sqrt(2) * generator.standard_normal(response.shape)
    for draw, own in enumerate(scores):
        attempts = [
            Attempt(factor=2.0**rate, seed=seed, run="", status="ok", validation={"t": {"m": 100 + value + side}})
            for rate, value in zip(RATES, own, strict=True)
            for seed, side in ((1000, 0.1), (1001, -0.1))
        ]
        reference = {seed: {"t": {"m": 100.0}} for seed in (1000, 1001)}
        found = choose(attempts, reference, {("t", "m"): True}, {})
        assert found["factor"] == 2.0 ** RATES[chosen[draw]]
    assert sorted(2.0**RATES) == sorted(GRID)


def test_it_sees_what_given_these_rates_leaves_out():
    found = errors(SETTINGS[0], "equal", 6, 2, 300)
    assert isinstance(found, Errors)
    assert found.any_claim > 0.1 > found.false_given_rates


def test_the_command_writes_the_same_bytes_each_time(tmp_path):
    for name in "ab":
        main(["--out", str(tmp_path / name), "--draws", "20", "--families", "5"])
    for file in ("tuning.csv", "tuning.md"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
