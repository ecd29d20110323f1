"""A campaign makes the runs of each round, then plans the next round with what the store holds."""

import pandas as pd
import pytest

from bench.campaign import ROUNDS, Campaign, Round
from bench.planning.plan import make_plan
from bench.planning.request import Request
from bench.store import Store

ASKED = {"methods": "equal", "tasks": "scales[tasks=2]", "protocol": "smoke", "accelerator": "cpu", "engine": "inline"}


class Listener:
    """Writes down what it hears."""

    def __init__(self):
        self.heard = []

    def planned(self, runs, forecast):
        self.heard.append(("planned", sorted({run.spec.seed for run in runs})))

    def round(self, name, runs):
        self.heard.append((name, sorted({run.spec.seed for run in runs})))

    def done(self, planned, record):
        self.heard.append(("done", planned.spec.seed))

    def measuring(self, members):
        self.heard.append(("measuring", len(members)))


@pytest.fixture
def request_(tmp_path):
    return Request(**ASKED, seeds=1, out=tmp_path, figures=False)


def seeded(request, seed):
    return request.model_copy(update={"seeds": [seed]})


def test_a_later_round_is_planned_with_what_the_store_holds_by_then(request_, tmp_path):
    stored = []

    def later(request, store):
        stored.append(len(store.records()))
        return make_plan(seeded(request, 5 if store.records() else 9), store)

    listener = Listener()
    rounds = (Round("first", make_plan), Round("later", later))
    Campaign(request_, Store(tmp_path), listener, rounds).run()
    assert stored == [0, 3]
    assert listener.heard == [
        ("planned", [0, 9]),  # of the later round, what was known before the first
        *[("first", [0]), *[("done", 0)] * 3],
        *[("later", [5]), *[("done", 5)] * 3],
        ("measuring", 3),
    ]
    assert set(pd.read_csv(tmp_path / "leaderboard.csv").seeds) == {2}


def test_pages_are_written_for_reported_rounds_only(request_, tmp_path):
    written = []

    class Looks(Listener):
        def round(self, name, runs):
            written.append((name, (tmp_path / "leaderboard.csv").exists()))

    def other(request, store):
        return make_plan(seeded(request, 4), store)

    rounds = (Round("trials", make_plan, reported=False), Round("reported", other), Round("end", make_plan))
    Campaign(request_, Store(tmp_path), Looks(), rounds).run()
    assert written == [("trials", False), ("reported", False), ("end", True)]


def test_it_returns_what_the_pages_say(request_, tmp_path):
    report = Campaign(request_, Store(tmp_path)).run()
    [board] = report.boards
    assert (board.label, board.seeds) == ("scales[tasks=2]@smoke", 1)


def test_one_round_is_what_run_does():
    assert [(round.name, round.reported) for round in ROUNDS] == [("reported", True)]
