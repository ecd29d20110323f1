"""Comparisons with a method of the reader's choice."""

import json

import numpy as np
import pandas as pd
import pytest

import bench.api
from bench import cli
from bench.report.analyse import analyse, versus
from bench.report.scores import from_records, tidy
from bench.spec import STL
from methods.core.names import UsageError

METRIC = [("only", "score", True)]
OFFSETS = {"toy": {"equal": 0.0, "up": 4.0, "down": -4.0, "near": 0.1}, "game": {"equal": 0.0, "up": 3.0, "down": 5.0}}


@pytest.fixture(scope="module")
def records(runs):
    """Two task sets of eight seeds, where single-task networks score 100 and methods so many points more."""
    found = []
    for number, (task_set, offsets) in enumerate(OFFSETS.items()):
        found += runs(STL, {seed: [100.0] for seed in range(8)}, METRIC, task_set=task_set)
        for place, (method, offset) in enumerate(offsets.items()):
            own = 100 + offset + 0.2 * np.random.default_rng([number, place]).normal(size=8)
            found += runs(method, {seed: [own[seed]] for seed in range(8)}, METRIC, task_set=task_set)
    return found


@pytest.fixture(scope="module")
def file(records, tmp_path_factory):
    path = tmp_path_factory.mktemp("versus") / "runs.csv"
    tidy(from_records(records)).to_csv(path, index=False)
    return path


def test_versus_equal_is_what_the_leaderboard_says(records):
    scores = from_records(records)
    found = versus(scores, "equal")
    boards = {
        board.label: {row.method: row.vs_equal for row in board.rows if row.vs_equal}
        for board in analyse(scores).boards
    }
    assert list(found) == ["all", "game", "toy"] and found.keys() == boards.keys()
    for label, family in found.items():
        assert family.keys() == boards[label].keys()
        for method, own in family.items():
            shown = boards[label][method]
            assert (own.difference, own.p, own.verdict, own.wins) == (
                shown.difference,
                shown.p,
                shown.verdict,
                shown.wins,
            )


def test_versus_another_method_has_its_own_family_and_signs(file):
    found = bench.api.versus(file, "up").set_index(["task_set", "method"])
    assert list(found.loc["toy"].index) == ["near", "equal", "down"], "best first"
    values = pd.read_csv(file).pivot_table(index=["task_set", "seed"], columns="method", values="value")
    for label, method in found.index.drop([("all", "equal"), ("all", "down")]):
        own = values.loc[label]
        assert found.loc[(label, method), "difference"] == pytest.approx((own[method] - own["up"]).mean())
    # Each difference is far from 0 at all eight seeds, so that only the two flips of all signs are as extreme.
    assert set(found.loc["toy"]["p"]) == {2 / 2**8}
    assert dict(found["verdict"].loc["game"]) == {"down": "better", "equal": "worse"}
    assert found.loc[("all", "down"), "verdict"] == "worse" and ("all", "near") not in found.index
    assert found.loc[("all", "down"), "difference"] == pytest.approx((2 - 8) / 2, abs=0.3)


def test_margin_and_correction_are_those_of_the_report(file):
    usual = bench.api.versus(file, "equal").set_index(["task_set", "method"])["verdict"]
    wide = bench.api.versus(file, "equal", margin=10, correction="holm").set_index(["task_set", "method"])["verdict"]
    assert usual["toy", "up"] == "better" and usual["toy", "near"] == "equivalent"
    assert set(wide) == {"equivalent"}


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("upp", {}, "versus 'upp': there are no runs of it here: did you mean 'up'?"),
        (STL, {}, "versus stl: the leaderboard compares every method with single-task learning"),
        ("up", {"margin": 0}, "--margin 0: write points above 0"),
        ("up", {"correction": "holms"}, "--correction 'holms' is not offered: did you mean 'holm'?"),
    ],
)
def test_what_cannot_be_compared_is_said(file, method, options, message):
    with pytest.raises(UsageError) as caught:
        bench.api.versus(file, method, **options)
    assert str(caught.value).startswith(message)


def test_a_method_that_is_alone_is_compared_with_none(runs, tmp_path):
    alone = runs(STL, {0: [1.0]}, METRIC) + runs("up", {0: [2.0]}, METRIC)
    tidy(from_records(alone)).to_csv(tmp_path / "alone.csv", index=False)
    with pytest.raises(UsageError, match="versus up: on no task set can it be compared with another method"):
        bench.api.versus(tmp_path / "alone.csv", "up")


def test_the_command_prints_a_column_for_each_task_set(file, capsys):
    with pytest.raises(SystemExit) as done:
        cli.main(["versus", "up", str(file)])
    assert not done.value.code
    said, header, *lines = capsys.readouterr().out.splitlines()
    assert said == "difference from up, pp of Δ task; positive is better than up"
    assert header.split() == ["method", "all", "game", "toy"]
    found = {line.split()[0]: line.split()[1:] for line in lines[:-1]}
    assert found.keys() == {"equal", "down", "near"} and found["equal"][0] == "▼"
    assert lines[-1] == "▲ better, ▼ worse"


def test_the_command_prints_json(file, capsys):
    with pytest.raises(SystemExit):
        cli.main(["versus", "up", str(file), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert list(found[0]) == ["task_set", "method", "difference", "low", "high", "p", "verdict", "wins", "pairs"]
    assert len(found) == 7
