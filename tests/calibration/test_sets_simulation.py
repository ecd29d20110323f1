"""The simulation of verdicts over task sets: small, but large enough to see that the two questions differ."""

import csv
from pathlib import Path

import pytest
from simulate_sets import ALIKE, ITSELF, main, measure, write

COMMITTED = Path(__file__).parents[2] / "results" / "calibration"


@pytest.fixture(scope="module")
def rows():
    return list(measure(200, 40))


@pytest.fixture(scope="module")
def committed():
    with (COMMITTED / "sets.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_where_differences_are_symmetric_the_errors_are_those_that_were_promised(rows):
    """Within five standard errors, of which so few repetitions leave many."""
    fair = [row for row in rows if row.setting.startswith((ALIKE, "half")) and not row.wrong]
    assert len(fair) > 80
    for row in fair:
        assert row.rate <= 0.05 + 5 * (0.05 * 0.95 / row.repetitions) ** 0.5, row


def test_verdicts_whose_sample_are_the_seeds_err_about_other_sets_the_more_the_sets_differ(rows):
    asked = [row.rate for row in rows if (row.promise, row.procedure) == ("interval misses", "seeds as the sample")]
    assert len(asked) == 4
    assert asked == sorted(asked)
    assert asked[-1] > 0.5
    over_sets = [row for row in rows if row.procedure == "sets as the sample"]
    assert len(over_sets) == 8
    assert not any(row.broken for row in over_sets)


def test_differences_with_one_sided_collapses_break_the_promise_and_are_marked(rows, tmp_path):
    broken = [r for r in rows if r.promise == "family-wise error" and r.setting == ITSELF and r.noise == "collapsing"]
    assert all(row.broken for row in broken if row.sets >= 8)
    write(rows, tmp_path)
    text = (tmp_path / "sets.md").read_text("utf-8")
    assert all(row.text in text and row.text.startswith("**") for row in broken if row.sets >= 8)


def test_more_sets_find_more_and_adjusted_ranks_find_nothing_at_six(rows):
    found = {(r.procedure, r.sets, r.methods, r.setting): r.rate for r in rows if r.promise == "found"}
    assert found["max_t over sets", 6, 6, "2 sd"] < found["max_t over sets", 12, 6, "2 sd"]
    assert found["signed ranks, adjusted", 6, 6, "2 sd"] == 0


def test_where_sets_are_unlike_more_is_found_in_units_of_each_set(rows):
    found = {(r.procedure, r.sets): r.rate for r in rows if r.setting == "2 sd on each set, sets unlike"}
    for sets in (6, 8, 12):
        assert found["max_t in units of each set", sets] > found["max_t over sets", sets]


def test_the_command_writes_the_same_bytes_each_time(tmp_path):
    for name in "ab":
        main(["--out", str(tmp_path / name), "--singles", "20", "--families", "5"])
    for file in ("sets.csv", "sets.md"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_what_is_committed_is_of_these_cells_and_of_enough_repetitions(rows, committed):
    cell = ("promise", "procedure", "wrong", "setting", "noise", "sets", "methods")
    assert [[one[name] for name in cell] for one in committed] == [
        [str(getattr(row, name)) for name in cell] for row in rows
    ]
    for one, row in zip(committed, rows, strict=True):
        assert int(one["repetitions"]) == (20_000 if row.repetitions == 200 else 2_000)
