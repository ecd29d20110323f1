"""Tables and pages are pure functions of the records: of made-up ones, with numbers worked out here."""

import csv
import io
import math
import random
import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bench.report.analyse import analyse
from bench.report.costs import timings
from bench.report.groups import groups, mixtures
from bench.report.pages.csv import csv_bytes
from bench.report.pages.csv import leaderboard as frame_of
from bench.report.pages.write import FILES, write_pages
from bench.report.scores import from_records, tidy
from bench.spec import STL, Cost

STL_VALUES = {0: [0.50, 0.40, 2.0], 1: [0.60, 0.50, 2.5], 2: [0.70, 0.30, 1.5]}
EQUAL_VALUES = {0: [0.55, 0.44, 1.0], 1: [0.66, 0.40, 2.0], 2: [0.59, 0.36, 1.2]}
MGDA_VALUES = {0: [0.45, 0.44, 2.0], 1: [0.50, 0.60, 2.4], 2: [0.61, 0.52, 2.2]}
"""Metrics of `left` (accuracy, error) and of `right` (loss), by seed."""
HIGHER = np.array([1, -1, -1])
HOSTILE = [
    "<script>alert(1)</script>",
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    'a "quoted" one',
    "a,b;c",
    "two\nlines",
    "carriage\rreturn",
    "\ttab",
    "<!-- {{ 7*7 }} {% x %} -->",
    "café Δ ‮",
]


def report(records):
    return analyse(from_records(records))


def leaderboard(records):
    return frame_of(report(records))


def notes(records):
    return mixtures(groups(from_records(records)))


def lines(records):
    return tidy(from_records(records))


@pytest.fixture
def records(runs):
    return [*runs(STL, STL_VALUES), *runs("equal", EQUAL_VALUES), *runs("mgda", MGDA_VALUES)]


def row(board, method, task_set="toy"):
    """The one row of a method on a task set."""
    [found] = board[(board.method == method) & (board.task_set == task_set)].to_dict("records")
    return found


def by_hand(values, baseline, weights):
    """Δ and its interval: per seed sign · [(R − 1) + (M − R B) / B̄], weighted over metrics, t over seeds."""
    m, b = np.array(list(values.values())), np.array(list(baseline.values()))
    ratio = m.mean(0) / b.mean(0)
    d = 100 * (HIGHER * ((ratio - 1) + (m - ratio * b) / b.mean(0))) @ weights
    half = stats.t.ppf(0.975, len(d) - 1) * d.std(ddof=1) / np.sqrt(len(d))
    return [d.mean(), d.mean() - half, d.mean() + half]


BY_TASK, BY_METRIC = np.array([1, 1, 2]) / 4, np.ones(3) / 3


@pytest.mark.parametrize(("method", "values"), [("equal", EQUAL_VALUES), ("mgda", MGDA_VALUES)])
@pytest.mark.parametrize(("name", "weights"), [("delta_task", BY_TASK), ("delta_metric", BY_METRIC)])
def test_gains_and_intervals_are_those_worked_out_by_hand(records, method, values, name, weights):
    found = row(leaderboard(records), method)
    expected = by_hand(values, STL_VALUES, weights)
    assert [found[name], found[f"{name}_low"], found[f"{name}_high"]] == pytest.approx(expected)


def test_every_metric_is_the_mean_over_seeds_with_its_own_gain(records):
    found = row(leaderboard(records), "equal")
    assert found["left.accuracy"] == pytest.approx(0.6)
    assert found["left.error"] == pytest.approx(0.4)
    assert found["right.loss"] == pytest.approx(1.4)
    assert [found[f"{m}.gain"] for m in ("left.accuracy", "left.error", "right.loss")] == pytest.approx(
        [0, 0, 30],
    )


def test_the_baseline_is_a_row_without_gain_and_without_rank(records):
    found = row(leaderboard(records), STL)
    assert (found["delta_task"], found["delta_metric"], found["seeds"]) == (0, 0, 3)
    assert math.isnan(found["mean_rank"])
    assert found["left.accuracy"] == pytest.approx(0.6)


def test_mean_ranks_are_among_the_methods_and_ties_share_the_best(runs):
    """Accuracy ranks 1 1 3, error 2 3 1, loss 1 2 3 (equal, mgda, uncertainty)."""
    values = {"equal": [0.9, 0.3, 1.0], "mgda": [0.9, 0.4, 2.0], "uncertainty": [0.8, 0.2, 3.0]}
    made = [*runs(STL, {0: [0.99, 0.01, 0.01]})]
    for method, one in values.items():
        made += runs(method, {0: one})
    board = leaderboard(made)
    ranks = [row(board, method)["mean_rank"] for method in values]
    assert ranks == pytest.approx([4 / 3, 2, 7 / 3])


def test_rows_are_best_first(records):
    assert list(leaderboard(records).method) == ["equal", STL, "mgda"]


@pytest.mark.parametrize("seeds", [1, 2])
def test_below_three_seeds_there_is_a_gain_and_no_interval(runs, seeds):
    some = {seed: EQUAL_VALUES[seed] for seed in range(seeds)}
    found = row(leaderboard([*runs(STL, STL_VALUES), *runs("equal", some)]), "equal")
    assert found["seeds"] == seeds
    assert not math.isnan(found["delta_task"])
    assert math.isnan(found["delta_task_low"])
    assert math.isnan(found["delta_task_high"])


def test_a_seed_without_its_baseline_is_left_out(runs):
    short = {seed: STL_VALUES[seed] for seed in (0, 1)}
    found = row(leaderboard([*runs(STL, short), *runs("equal", EQUAL_VALUES)]), "equal")
    expected = by_hand({s: EQUAL_VALUES[s] for s in short}, short, BY_TASK)
    assert found["seeds"] == 2
    assert found["delta_task"] == pytest.approx(expected[0])
    assert found["left.accuracy"] == pytest.approx((0.55 + 0.66) / 2)


def test_a_seed_with_one_tasks_baseline_missing_is_left_out(runs, records):
    missing = next(r for r in records if (r.spec.method, r.spec.tasks, r.spec.seed) == (STL, ("right",), 1))
    board = leaderboard([r for r in records if r is not missing])
    assert (row(board, "equal")["seeds"], row(board, STL)["seeds"]) == (2, 2)


def test_a_seed_whose_baseline_failed_is_left_out_and_the_failure_counted(runs):
    board = leaderboard([*runs(STL, {**STL_VALUES, 2: None}), *runs("equal", EQUAL_VALUES)])
    assert row(board, "equal")["seeds"] == 2
    assert row(board, STL)["failed"] == 2


def test_failed_runs_are_counted_and_their_reasons_shown(runs):
    failed = runs(
        "mgda",
        {3: None},
        status="diverged",
        reason="the loss of task left is not finite at step 7",
    )
    board = leaderboard([*runs(STL, {**STL_VALUES, 3: [1, 1, 1]}), *runs("mgda", MGDA_VALUES), *failed])
    found = row(board, "mgda")
    assert (found["seeds"], found["failed"]) == (4, 1)
    assert found["note"] == "diverged: the loss of task left is not finite at step 7"
    counted = {**MGDA_VALUES, 3: [0.1, 0.1, 0.1]}  # as the untrained predictor
    assert found["delta_task"] == pytest.approx(by_hand(counted, {**STL_VALUES, 3: [1, 1, 1]}, BY_TASK)[0])


def test_a_method_that_always_failed_stays_in_the_table_last_and_without_gain(runs, records):
    board = leaderboard([*records, *runs("aaa", dict.fromkeys(range(3)), reason="ValueError: no")])
    found = row(board, "aaa")
    assert (found["seeds"], found["failed"], found["note"]) == (0, 3, "crashed: ValueError: no")
    assert math.isnan(found["delta_task"])
    assert math.isnan(found["mean_rank"])
    assert board.method.iloc[-1] == "aaa"


def test_a_skipped_run_is_no_failure(runs, records):
    """A rule that does not fit a task set has not failed on it (reference, preface: skipped is missing)."""
    board = leaderboard([*records, *runs("pair", {0: None}, status="skipped", reason="needs the features")])
    found = row(board, "pair")
    assert (found["failed"], found["note"]) == (0, "skipped: needs the features")


def test_degenerate_steps_are_added_up(records):
    counted = [
        r.model_copy(
            update={"result": r.result.model_copy(update={"degenerate": 4})},
        )
        for r in records
    ]
    assert row(leaderboard(counted), "mgda")["degenerate"] == 12


def test_passes_are_those_that_were_counted(runs):
    cost = Cost(step_seconds=1, passes={"forward": 2.0, "heads": 3.0, "trunk": 1.0, "teacher": 0.0})
    board = leaderboard([*runs(STL, STL_VALUES), *runs("kd", EQUAL_VALUES, cost=cost)])
    found = row(board, "kd")
    assert [found[f"{what}_passes"] for what in ("forward", "heads", "trunk")] == [2, 3, 1]


@pytest.fixture
def two_sets(runs, records):
    other = {STL: STL_VALUES, "equal": MGDA_VALUES, "uncertainty": EQUAL_VALUES}
    doubled = {m: {s: [2 * v for v in values] for s, values in own.items()} for m, own in other.items()}
    return [*records, *(r for method, own in doubled.items() for r in runs(method, own, task_set="other"))]


def test_over_task_sets_a_gain_is_the_mean_of_the_sets_with_a_welch_interval(two_sets):
    board = leaderboard(two_sets)
    found, sets = row(board, "equal", "all"), [row(board, "equal", name) for name in ("toy", "other")]
    assert found["delta_task"] == pytest.approx(np.mean([own["delta_task"] for own in sets]))
    errors = [(own["delta_task_high"] - own["delta_task_low"]) / 2 / stats.t.ppf(0.975, 2) for own in sets]
    squares = np.square(errors) / 4
    half = stats.t.ppf(0.975, squares.sum() ** 2 / (squares**2 / 2).sum()) * np.sqrt(squares.sum())
    assert found["delta_task_high"] - found["delta_task"] == pytest.approx(half)
    assert found["delta_task"] - found["delta_task_low"] == pytest.approx(half)
    assert found["mean_rank"] == pytest.approx(np.mean([own["mean_rank"] for own in sets]))
    assert found["seeds"] == 3


def test_only_methods_that_are_everywhere_have_a_row_over_task_sets(two_sets):
    board = leaderboard(two_sets)
    assert set(board[board.task_set == "all"].method) == {"equal", STL}


def test_a_method_that_failed_on_one_set_has_no_row_over_task_sets(two_sets, runs):
    board = leaderboard([*two_sets, *runs("mgda", dict.fromkeys(range(3)), task_set="other")])
    assert "mgda" not in list(board[board.task_set == "all"].method)


def test_of_one_task_set_there_is_no_row_over_task_sets(records):
    assert set(leaderboard(records).task_set) == {"toy"}


@pytest.mark.parametrize("changed", [{"protocol": "standard"}, {"precision": "bf16-mixed"}])
def test_runs_of_another_protocol_or_precision_are_another_table(runs, records, changed):
    board = leaderboard(
        [*records, *runs(STL, MGDA_VALUES, **changed), *runs("equal", MGDA_VALUES, **changed)],
    )
    [other] = set(board.task_set) - {"toy"}
    assert other == f"toy@{next(iter(changed.values()))}"
    assert row(board, "equal")["delta_task"] == pytest.approx(by_hand(EQUAL_VALUES, STL_VALUES, BY_TASK)[0])
    assert row(board, "equal", other)["delta_task"] == pytest.approx(0)


def test_a_protocol_that_was_edited_under_its_name_is_not_mixed_in(runs, records):
    """A folder keeps records of before the edit: they may not appear as second rows of the same name."""
    before = [*runs(STL, MGDA_VALUES, steps=50), *runs("equal", MGDA_VALUES, steps=50)]
    board = leaderboard([*records, *before])
    assert not board.duplicated(["task_set", "method"]).any()


def test_a_variant_whose_default_was_edited_loses_no_record(runs, records):
    """Its two forms have one label; the numbers of both must be somewhere, whichever the label then says."""
    before = runs("uncertainty[lr=0.025]", EQUAL_VALUES, label="uncertainty")
    after = runs("uncertainty[lr=0.05]", MGDA_VALUES, label="uncertainty")
    frame = lines([*records, *before, *after])
    assert len(frame[frame.method != STL]) == 3 * (len(EQUAL_VALUES) + len(MGDA_VALUES)) * 2


def test_two_plug_ins_of_one_file_name_do_not_replace_each_other(runs, records):
    one = runs("/a/rule.py:Mine", EQUAL_VALUES, label="rule.py:Mine")
    two = runs("/b/rule.py:Mine", MGDA_VALUES, label="rule.py:Mine")
    assert len(lines([*records, *one, *two])) == len(lines(records)) + 18


def test_runs_csv_has_a_line_per_test_metric_of_every_run(records):
    frame = lines(records)
    columns = ["task_set", "method", "seed", "task", "metric", "split", "value", "higher_is_better", "status"]
    columns.append("untrained")
    assert list(frame.columns) == columns
    assert len(frame) == 3 * 3 * 3
    [one] = frame[(frame.method == "mgda") & (frame.seed == 1) & (frame.metric == "error")].to_dict("records")
    assert one == {
        **{
            "task_set": "toy",
            "method": "mgda",
            "seed": 1,
            "task": "left",
            "metric": "error",
            "split": "test",
        },
        **{"value": 0.6, "higher_is_better": False, "status": "ok", "untrained": 0.1},
    }


def test_a_failed_run_has_a_line_per_task_with_its_status_alone(runs):
    found = lines(runs("mgda", {3: None}, status="diverged")).to_dict("records")
    assert [(line["method"], line["seed"], line["task"], line["status"]) for line in found] == [
        ("mgda", 3, "left", "diverged"),
        ("mgda", 3, "right", "diverged"),
    ]
    assert all(pd.isna(line["value"]) for line in found)


def test_timings_have_a_line_per_run(records):
    assert len(timings(from_records(records))) == 3 * 2 + 3 + 3


@pytest.fixture
def pages(tmp_path):
    """Write the pages of records; return them by name."""

    def write(records):
        write_pages(from_records(records), tmp_path, figures=False)  # they take seconds
        return {name: (tmp_path / name).read_bytes() for name in FILES}

    return write


def test_pages_do_not_depend_on_the_order_of_the_records(pages, two_sets):
    first = pages(two_sets)
    for seed in range(3):
        shuffled = random.Random(seed).sample(two_sets, len(two_sets))
        assert pages(shuffled) == first


def test_the_csv_reads_back_as_the_table(pages, two_sets):
    board = leaderboard(two_sets)
    back = pd.read_csv(io.BytesIO(pages(two_sets)["leaderboard.csv"]))
    assert list(back.columns) == list(board.columns)
    assert list(back.method) == list(board.method)
    for column in board.select_dtypes("number"):
        np.testing.assert_allclose(back[column].astype(float), board[column].astype(float), rtol=1e-9)


def test_lines_end_in_a_line_feed_and_what_is_missing_is_empty(pages, records):
    text = pages(records)["leaderboard.csv"].decode()
    assert text.endswith("\n")
    assert "\r" not in text
    assert not re.search(r"(?i)\bnan\b|\bnone\b|\binf\b", text)


def test_negative_numbers_stay_numbers():
    lines = csv_bytes(
        pd.DataFrame({"text": ["-a", "b"], "number": [-1.5, math.nan], "whole": [-3, 4]}),
    ).decode()
    assert lines == "text,number,whole\n'-a,-1.5,-3\nb,,4\n"


def hostile(runs, name):
    """Records in which a user's text is hostile: method, task set, task, metric, reason."""
    metrics = [(name, name, True), ("right", "loss", False)]
    return [
        *runs(STL, {0: [0.5, 2.0], 1: [0.5, 2.0]}, metrics, task_set=name),
        *runs("equal", {0: [0.4, 1.0]}, metrics, task_set=name),
        *runs(name, {0: [0.3, 1.0]}, metrics, task_set=name),
        *runs(name, {1: None}, metrics, task_set=name, reason=name),
    ]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("file", ["leaderboard.csv", "runs.csv", "costs.csv", "timings.csv"])
def test_no_text_in_a_csv_is_a_formula(pages, runs, name, file):
    rows = list(csv.reader(io.StringIO(pages(hostile(runs, name))[file].decode(), newline="")))
    assert len({len(cells) for cells in rows}) == 1
    for cell in (cell for cells in rows for cell in cells):
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r")) or re.fullmatch(
            r"-[\d.e+-]+",
            cell,
        ), cell


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_reads_back_from_the_csv(pages, runs, name):
    back = pd.read_csv(io.BytesIO(pages(hostile(runs, name))["runs.csv"]))
    methods = {text.removeprefix("'") for text in back.method}
    assert methods == {STL, "equal", name}


def test_a_baseline_that_failed_takes_away_the_gain_at_its_seed_and_the_row_says_so(runs, made):
    values = {seed: [0.5 + seed / 10, 0.2, 1.0] for seed in range(4)}
    records = [*runs("stl", values), *runs("equal", values)]
    lost = [r for r in records if r.spec.method == "stl" and r.spec.tasks == ("right",) and r.spec.seed in (1, 3)]
    crashed = [made("stl", r.spec.seed, tasks=("right",), reason="boom") for r in lost]
    missing = [r for r in records if r.spec.method == "stl" and r.spec.tasks == ("left",) and r.spec.seed == 3]
    kept = [r for r in records if r not in lost + missing]
    row = leaderboard([*kept, *crashed]).set_index("method").loc["equal"]
    assert (row.seeds, row.failed) == (2, 0)
    assert row.note == (
        "no gain at seeds 1, 3: the baseline of task right is crashed; "
        "no gain at seed 3: the baseline of task left is missing"
    )


def test_runs_made_with_differing_code_data_or_versions_are_noted(runs):
    old = {"sources": {"bench.training": "before"}, "data": "e", "versions": {"torch": "1"}}
    [[note]] = notes(
        [
            *runs(STL, STL_VALUES),
            *runs("equal", {0: EQUAL_VALUES[0]}),
            *runs("equal", {1: EQUAL_VALUES[1]}, parts=old),
        ]
    ).values()
    assert note.startswith("the runs were not all made with the same ")
    assert all(part in note for part in ("the code of bench.training", "the data", "torch"))


def test_runs_of_the_same_code_are_not_noted_and_own_code_of_each_rule_is_no_difference(runs):
    own = {"sources": {"bench.training": "s", "methods.mgda": "m"}}
    assert (
        notes(
            [*runs(STL, STL_VALUES), *runs("equal", EQUAL_VALUES), *runs("mgda", MGDA_VALUES, parts=own)],
        )
        == {}
    )


def test_one_rules_code_that_differs_between_seeds_is_noted(runs):
    versions = [{"sources": {"bench.training": "s", "methods.mgda": m}} for m in ("before", "after")]
    made = [runs("mgda", {seed: MGDA_VALUES[seed]}, parts=parts) for seed, parts in enumerate(versions)]
    [[note]] = notes([record for own in made for record in own]).values()
    assert "the code of methods.mgda" in note


def test_a_note_is_on_the_page(pages, runs, records):
    stale = runs("mgda", {7: MGDA_VALUES[0]}, parts={"data": "e"})
    assert b"not all made with the same the data" in pages([*records, *stale])["leaderboard.html"]


def test_no_record_at_all_is_an_empty_table(pages):
    assert leaderboard([]).empty
    assert set(pages([])) == set(FILES)


# Runs that do not agree -----------------------------------------------------------------------------------------


def rescored(record, left):
    """A record with other scores of the task `left`."""
    result = record.result.model_copy(update={"scores": {**record.result.scores, "left": left}})
    return record.model_copy(update={"result": result})


def without_error(records, where):
    """The records as they were before `left` had the metric `error`, those that `where` picks."""
    return [
        rescored(r, {"accuracy": r.result.scores["left"]["accuracy"]}) if "left" in r.result.scores and where(r) else r
        for r in records
    ]


@pytest.mark.parametrize("old", [[0], [2], [1, 2]])
def test_a_metric_that_some_single_task_runs_lack_is_left_out_whatever_comes_last(pages, records, old):
    made = without_error(records, lambda record: record.spec.seed in old)
    board = leaderboard(made)
    assert "left.error" not in board
    expected = by_hand(EQUAL_VALUES, STL_VALUES, np.array([1, 0, 1]) / 2)
    assert row(board, "equal")["delta_task"] == pytest.approx(expected[0])
    contents = pages(made)
    seeds = f"seed{'s' * (len(old) > 1)} {', '.join(map(str, old))}"
    said = f"left error is left out: the single-task runs at {seeds} lack it"
    assert said in contents["leaderboard.html"].decode()
    assert len(contents["runs.csv"].splitlines()) == 1 + 27 - 3 * len(old)  # nothing is lost there
    random.Random(0).shuffle(made)
    again = pages(made)
    assert {name: again[name] for name in contents} == contents


def test_a_run_that_lacks_a_metric_is_left_out_and_its_method_says_so(records):
    made = without_error(records, lambda record: (record.spec.method, record.spec.seed) == ("mgda", 1))
    found = row(leaderboard(made), "mgda")
    assert (found["seeds"], found["failed"]) == (2, 0)
    assert found["note"] == "the runs at seed 1 are left out: they lack left error"


def test_a_score_that_is_not_finite_is_none(records):
    """Older records have such scores in runs that are ok."""
    made = [
        rescored(r, {k: s.model_copy(update={"value": None}) for k, s in r.result.scores["left"].items()})
        if (r.spec.method, r.spec.seed) == ("mgda", 1)
        else r
        for r in records
    ]
    found = row(leaderboard(made), "mgda")
    assert found["seeds"] == 2
    assert found["note"] == "the runs at seed 1 are left out: they lack left accuracy, left error"


def test_a_metric_whose_direction_was_turned_around_is_left_out(records):
    made = [
        rescored(r, {k: s.model_copy(update={"higher_is_better": True}) for k, s in r.result.scores["left"].items()})
        if r.spec.method == "mgda"
        else r
        for r in records
    ]
    [board] = report(made).boards
    assert board.metrics == (("left", "accuracy"), ("right", "loss"))
    assert "left error is left out: in some runs higher is better, in others lower" in board.notes
    assert report(made[::-1]).boards[0].notes == board.notes


def test_a_long_reason_is_cut_and_stays_on_one_line(runs, pages, records):
    made = [*records, *runs("mgda", {7: None}, reason="a very long message\n\x1b[31m" * 10_000)]
    note = row(leaderboard(made), "mgda")["note"]
    assert note.startswith("crashed: a very long message [31ma very long")
    assert len(note) < 400
    assert all(len(content) < 200_000 and b"\x1b" not in content for content in pages(made).values())


def test_a_step_that_took_no_time_has_no_ratio(runs):
    cost = Cost(step_seconds=0.0)
    made = [*runs(STL, STL_VALUES), *runs("equal", EQUAL_VALUES, cost=cost), *runs("mgda", MGDA_VALUES, cost=cost)]
    assert all(math.isnan(found.cost.step) for found in report(made).boards[0].rows if found.cost is not None)
