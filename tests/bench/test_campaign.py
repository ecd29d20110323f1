"""A campaign makes trials, chooses by them, and makes the runs that are reported."""

import pandas as pd
import pytest

from bench.campaign import Campaign
from bench.planning.request import Request
from bench.store import Store

ASKED = {"methods": "equal", "tasks": "scales[tasks=2]", "protocol": "smoke", "accelerator": "cpu", "engine": "inline"}


class Listener:
    """Writes down what it hears."""

    def __init__(self, folder):
        self.heard, self.folder = [], folder

    def planned(self, runs, forecast):
        self.heard.append(("planned", sorted({run.spec.seed for run in runs})))

    def round(self, name, runs, later):
        pages = (self.folder / "leaderboard.csv").exists()
        self.heard.append((name, sorted({run.spec.seed for run in runs}), sum(run.todo for run in runs), pages))

    def chosen(self, choices):
        self.heard.append(("chosen", [choice.method for choice in choices]))

    def done(self, planned, record):
        pass

    def measuring(self, members):
        self.heard.append(("measuring", len(members)))


@pytest.fixture
def request_(tmp_path):
    return Request(**ASKED, seeds=1, out=tmp_path, figures=False)


def test_without_trials_there_is_one_round(request_, tmp_path):
    listener = Listener(tmp_path)
    report = Campaign(request_, Store(tmp_path), listener).run()
    assert listener.heard == [("planned", [0]), ("runs", [0], 3, False), ("measuring", 3)]
    [board] = report.boards
    assert (board.label, board.seeds) == ("scales[tasks=2]@smoke", 1)


def test_trials_come_before_what_they_choose_for_and_the_protocols_own_rate_comes_last(request_, tmp_path):
    listener = Listener(tmp_path)
    tuned = request_.model_copy(update={"tuning": 2})
    Campaign(tuned, Store(tmp_path), listener).run()
    trials = [1000, 1001]
    assert listener.heard[:5] == [
        ("planned", [0, *trials]),
        ("trials", trials, 8, False),  # two tasks, two rates, two seeds; no page shows them
        ("chosen", ["stl", "stl"]),
        ("trials", trials, 4, False),
        ("chosen", ["equal"]),
    ]
    (tuned_round, *_), measured, (own_round, _, _, pages) = listener.heard[5:]
    assert (tuned_round, measured) == ("runs at the tuned rates", ("measuring", 3))
    assert (own_round, pages) == ("runs at the own rates", True)
    frame = pd.read_csv(tmp_path / "leaderboard.csv")
    assert set(frame.seeds) == {1}
    assert set(frame.method) == {"equal", "stl"}


def test_the_same_command_makes_nothing_again(request_, tmp_path):
    tuned = request_.model_copy(update={"tuning": 2})
    Campaign(tuned, Store(tmp_path)).run()
    before = (tmp_path / "leaderboard.csv").read_bytes()
    listener = Listener(tmp_path)
    Campaign(tuned, Store(tmp_path), listener).run()
    assert [todo for _, _, todo, _ in (heard for heard in listener.heard if len(heard) == 4)] == [0, 0]
    assert (tmp_path / "leaderboard.csv").read_bytes() == before
