"""The simulation of the statistics: small, but large enough to see the known mistakes fail."""

import csv
from pathlib import Path

import pytest
from simulate_statistics import main, measure, write

COMMITTED = Path(__file__).parents[2] / "results" / "calibration"
UNFAIR = "one run against a constant"
"""Where no test or interval for a mean holds at so few seeds, and noise that is not symmetric."""


@pytest.fixture(scope="module")
def rows():
    return list(measure(200, 40))


def test_every_known_mistake_is_seen_to_fail(rows):
    mistakes = {row.procedure for row in rows if row.wrong}
    assert len(mistakes) == 5
    assert mistakes == {row.procedure for row in rows if row.wrong and row.deviation == "broken"}


def test_the_tests_and_intervals_keep_their_promise_for_runs_alike(rows):
    """Within five standard errors, of which so few repetitions leave many."""
    fair = [row for row in rows if not row.wrong and row.setting != UNFAIR and row.promise != "power"]
    assert len(fair) > 300
    for row in fair:
        assert row.rate <= 0.05 + 5 * (0.05 * 0.95 / row.repetitions) ** 0.5, row


def test_collapses_of_one_run_alone_break_every_test(rows):
    rates = [row.rate for row in rows if (row.setting, row.noise, row.seeds) == (UNFAIR, "collapsing", 10)]
    assert len(rates) == 4
    assert min(rates) > 0.15


def test_below_six_seeds_exact_tests_claim_nothing_and_from_eight_they_find_what_is_detectable(rows):
    exact = [row for row in rows if row.procedure in ("max_t", "holm", "sign_flip_test", "no correction")]
    assert {row.rate for row in exact if row.seeds < 6} == {0}
    power = [row.rate for row in rows if row.promise == "power" and row.seeds >= 8]
    assert sum(power) / len(power) == pytest.approx(0.8, abs=0.08)


def test_the_command_writes_the_same_bytes_each_time(tmp_path):
    for name in "ab":
        main(["--out", str(tmp_path / name), "--singles", "20", "--families", "5"])
    for file in ("calibration.csv", "calibration.md"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_the_tables_mark_what_is_wrong_and_list_what_is_broken(rows, tmp_path):
    write(rows, tmp_path)
    text = (tmp_path / "calibration.md").read_text("utf-8")
    summary, tables = text.split("## Type I error")
    broken = [row for row in rows if row.deviation == "broken" and not row.wrong]
    assert f"{len(broken)} break their promise" in summary
    assert all(f"| {row.promise} | {row.procedure} | {row.setting} | {row.noise} |" in summary for row in broken)
    assert "| tasks as replicates ✗ | 7 tasks a run | 1 | 5 | **" in tables
    assert "✗" not in "".join(line for line in tables.splitlines() if line.startswith("| max_t"))


def test_what_is_committed_is_of_these_cells_and_of_enough_repetitions(rows):
    with (COMMITTED / "calibration.csv").open(encoding="utf-8") as file:
        committed = list(csv.DictReader(file))
    cell = ("promise", "procedure", "wrong", "setting", "noise", "seeds", "methods")
    assert [[one[name] for name in cell] for one in committed] == [
        [str(getattr(r, name)) for name in cell] for r in rows
    ]
    for one, row in zip(committed, rows, strict=True):
        assert int(one["repetitions"]) == (20_000 if row.repetitions == 200 else 2_000)
