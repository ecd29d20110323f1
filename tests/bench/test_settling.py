"""How many fresh seeds would settle what is undecided."""

import numpy as np
import pytest

from bench.evidence.power import detectable
from bench.report.analyse import analyse
from bench.report.power import settling
from bench.report.scores import from_records
from bench.spec import STL

METRIC = [("only", "score", True)]


@pytest.fixture
def report(runs):
    """One method clearly better, one alike, one whose differences spread too widely to tell."""
    draw = np.random.default_rng(3).normal(size=(5, 8))
    base = 100 + draw[0]
    offsets = {
        "equal": -5 + 0.1 * draw[1],
        "good": 3 + 0.1 * draw[2],
        "same": -5 + 0.1 * draw[3],
        "wild": -4 + 3 * draw[4],
    }
    records = runs(STL, {s: [base[s]] for s in range(8)}, METRIC)
    for method, offset in offsets.items():
        records += runs(method, {s: [base[s] + offset[s]] for s in range(8)}, METRIC)
    return analyse(from_records(records))


def test_only_what_is_open_is_listed_with_what_would_find_the_target(report):
    [row] = settling(report).to_dict("records")
    assert (row["task_set"], row["method"], row["other"], row["seeds"]) == ("toy", "wild", "equal", 8)
    spread = row["sd"]
    assert detectable(row["needed"], 3) * spread <= 1.0 < detectable(row["needed"] - 1, 3) * spread
    assert row["needed_at_worst"] > row["needed"]


def test_a_larger_difference_needs_fewer_seeds(report):
    assert settling(report, 5.0).needed.item() < settling(report, 1.0).needed.item()


def test_every_pair(report):
    found = settling(report, pairs=True)
    assert {frozenset((row.method, row.other)) for row in found.itertuples()} >= {
        frozenset(("wild", other)) for other in ("equal", "same")
    }
    assert frozenset(("equal", "same")) not in {frozenset((r.method, r.other)) for r in found.itertuples()}
    assert (found.needed > settling(report).needed.item()).all()  # a larger family


def test_with_one_seed_nothing_is_known_of_the_spread(runs):
    records = [
        *runs(STL, {0: [100.0]}, METRIC),
        *runs("equal", {0: [99.0]}, METRIC),
        *runs("mgda", {0: [98.0]}, METRIC),
    ]
    [row] = settling(analyse(from_records(records))).to_dict("records")
    assert np.isnan(row["needed"])
    assert row["difference"] == pytest.approx(-1.0)
