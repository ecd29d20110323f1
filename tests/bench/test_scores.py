"""The table of scores: what is a contestant and what is only drawn, and how many methods it can hold."""

import dataclasses
import gc

import numpy as np
import pytest
from made_records import METRICS, make_record
from made_report import points as made_points

from bench.evidence.delta import delta_mtl
from bench.report.analyse import MOST_IN_PAIRS, analyse
from bench.report.given import read_tidy
from bench.report.scores import Scores, from_records, light, tidy
from bench.spec import STL
from bench.store import Store, StoreError

METRIC = [("only", "score", True)]
SEEDS = 8


@pytest.fixture
def table(runs):
    """The table of made-up methods, each an offset to single-task networks at 100 points, with paired noise."""

    def make(**offsets):
        draw = np.random.default_rng(0)
        common = 100 + draw.normal(size=SEEDS)
        records = runs(STL, {s: [common[s]] for s in range(SEEDS)}, METRIC)
        for method, offset in offsets.items():
            noise = 0.3 * draw.normal(size=SEEDS)
            records += runs(method, {s: [common[s] + offset + noise[s]] for s in range(SEEDS)}, METRIC)
        return from_records(records)

    return make


def with_roles(scores, **roles):
    """The table, the runs of some methods in another role."""
    return Scores(tuple(dataclasses.replace(run, role=roles.get(run.method, run.role)) for run in scores.runs))


def front(runs, count=11, seeds=range(SEEDS), metrics=METRIC):
    """The runs of a front of static weights, far better than any method, with seeds and metrics of their own."""
    records = [
        record
        for k in range(count)
        for record in runs(f"static[weights={k}]", {s: [150.0 + k] * len(metrics) for s in seeds}, metrics)
    ]
    return tuple(dataclasses.replace(run, role="reference") for run in from_records(records).runs)


CONTESTANTS = {"equal": -5, "good": 3, "near": -5.1, "bad": -9}


@pytest.mark.parametrize("seeds", [range(SEEDS), range(3), range(4, 30)])
def test_reference_runs_change_nothing_of_the_contestants(table, runs, seeds):
    alone = table(**CONTESTANTS)
    more = [*METRIC, ("only", "other", False)]
    [before] = analyse(alone).boards
    [after] = analyse(Scores((*front(runs, seeds=seeds, metrics=more), *alone.runs))).boards
    assert repr(dataclasses.replace(after, curves=())) == repr(before)
    assert before.curves == ()
    assert len(after.curves[0].points) == 11


def test_as_contestants_the_same_runs_would_have_changed_them(table, runs):
    """Else the test before could not fail."""
    alone = table(**CONTESTANTS)
    compared = tuple(dataclasses.replace(run, role="contestant") for run in front(runs))
    [before], [after] = analyse(alone).boards, analyse(Scores((*alone.runs, *compared))).boards
    rows = [{row.method: row for row in board.rows} for board in (before, after)]
    assert rows[0]["near"].band != rows[1]["near"].band
    assert after.family == before.family + 11


def test_the_points_of_a_curve_are_means_over_the_seeds_that_have_all_baselines(table, runs):
    scores = table(**CONTESTANTS)
    [board] = analyse(Scores((*scores.runs, *front(runs, count=2, seeds=range(5, 30))))).boards
    [curve] = board.curves
    assert (curve.name, curve.role) == ("static", "reference")
    assert [point.label for point in curve.points] == ["static[weights=0]", "static[weights=1]"]
    baseline = [run.scores["only"]["score"].value for run in scores.runs if run.method == STL and run.seed >= 5]
    for k, point in enumerate(curve.points):
        assert (point.seeds, list(point.values)) == (3, [150.0 + k])
        expected, _ = delta_mtl([[150.0 + k]], [[value] for value in baseline], [True], ["only"])
        assert point.delta_task == pytest.approx(expected)


def test_trials_and_references_of_one_method_are_curves_of_their_own(table):
    scores = with_roles(table(**CONTESTANTS), good="trial", bad="reference")
    [board] = analyse(scores).boards
    assert {(curve.name, curve.role) for curve in board.curves} == {("good", "trial"), ("bad", "reference")}
    assert {row.method for row in board.rows} == {STL, "equal", "near"}


def test_a_curve_whose_point_never_succeeded_has_no_gain_there(table, runs):
    failed = from_records(runs("static[weights=1]", dict.fromkeys(range(SEEDS)), METRIC)).runs
    failed = tuple(dataclasses.replace(run, role="reference") for run in failed)
    [board] = analyse(Scores((*table(**CONTESTANTS).runs, *failed))).boards
    [point] = board.curves[0].points
    assert point.seeds == 0
    assert np.isnan(point.delta_task)


def test_a_role_is_written_into_the_tidy_file_and_read_from_it(table, tmp_path):
    scores = with_roles(table(**CONTESTANTS), good="reference")
    assert "role" not in tidy(table(**CONTESTANTS)).columns
    tidy(scores).to_csv(tmp_path / "mine.csv", index=False)
    [mine], [ours] = analyse(read_tidy(tmp_path / "mine.csv")).boards, analyse(scores).boards
    assert [row.method for row in mine.rows] == [row.method for row in ours.rows]
    assert repr(mine.curves) == repr(ours.curves)


@pytest.mark.parametrize(
    ("where", "role", "said"),
    [
        (lambda f: f.method == "good", "winner", "its role is none of contestant, reference, trial"),
        (lambda f: f.method == STL, "trial", "its role is trial, and single-task runs are what"),
        (lambda f: (f.method == "good") & (f.seed > 2), "trial", "good is a trial here and a contestant on line"),
    ],
)
def test_a_role_that_cannot_be_is_said_with_its_line(table, tmp_path, where, role, said):
    frame = tidy(table(**CONTESTANTS)).assign(role="contestant")
    frame.loc[where(frame), "role"] = role
    frame.to_csv(tmp_path / "mine.csv", index=False)
    with pytest.raises(StoreError, match=said):
        read_tidy(tmp_path / "mine.csv")


def test_what_is_not_known_of_a_files_runs_is_made_up_nowhere(table, tmp_path):
    tidy(table(**CONTESTANTS)).to_csv(tmp_path / "mine.csv", index=False)
    scores = read_tidy(tmp_path / "mine.csv")
    assert {(run.spec, run.parts, run.provenance) for run in scores.runs} == {(None, None, None)}
    assert set(analyse(scores).provenance) == {"seeds of toy"}


def test_of_more_methods_than_can_be_paired_there_are_verdicts_and_a_note(table):
    offsets = {f"m{k}": -5 + k / 100 for k in range(MOST_IN_PAIRS)}
    [board] = analyse(table(equal=-5, **offsets)).boards
    assert board.pairs is None
    assert {(row.letters, row.band) for row in board.rows} == {("", None)}
    assert sum(row.vs_equal is not None for row in board.rows) == MOST_IN_PAIRS
    [note] = board.notes
    assert note.startswith(f"{MOST_IN_PAIRS + 2} methods are too many to test every pair of them (at most 200)")


@pytest.mark.parametrize("enabled", [True, False])
def test_reading_a_folder_leaves_the_garbage_collector_as_it_was(tmp_path, runs, enabled):
    store = Store(tmp_path)
    for record in runs("equal", {0: [1.0], 1: [2.0]}, METRIC):
        store.put(record, None)
    before = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        assert len(store.records()) == 2
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()


def test_the_points_of_a_light_record_are_those_of_the_record():
    points = made_points(np.random.default_rng(0), METRICS, 0.1)
    record = make_record(points=points)
    kept = light(record).result.points
    assert not isinstance(kept, list)
    assert (list(kept), kept[0], kept[-2:], len(kept)) == (points, points[0], points[-2:], len(points))
    assert kept == points
    assert kept != points[1:]
    assert from_records([light(record)]) == from_records([record])
