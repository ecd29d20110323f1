"""What the pages of tuned runs say: of trials, of chosen rates, and of what holds at the protocol's own rate."""

import io
import math
import re
from dataclasses import replace
from functools import partial
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from made_records import make_choice, make_runs
from rich.console import Console

from bench.evidence.delta import delta_mtl
from bench.report import figures
from bench.report.analyse import analyse
from bench.report.board import Report
from bench.report.columns import shown_of
from bench.report.figures import FIGURES
from bench.report.figures.rates import near_the_best
from bench.report.figures.svg import draw
from bench.report.findings import conditions, findings
from bench.report.pages.html import page
from bench.report.pages.terminal import print_board
from bench.report.pages.write import TRIAL_FILES, write_pages
from bench.report.trials import contestants, curve, trials_of, tuning
from bench.report.tuned import from_records_and_choices
from bench.spec import STL
from bench.tuning.choose import SEEDS, scaled

METRICS = [("left", "accuracy", True), ("right", "share", True)]
MORE = "What more trials bring"
"""The heading of a figure."""
LEVELS = {
    # The score at each rate, of both tasks; None is a run that failed.
    "stl": {1.0: 0.50, 2.0: 0.55, 0.5: 0.40, 4.0: 0.30},
    "equal": {1.0: 0.40, 2.0: 0.42, 0.5: 0.30, 4.0: 0.41},
    "mgda": {1.0: 0.38, 2.0: 0.44, 0.5: 0.30, 4.0: 0.48},
    "kd": {1.0: 0.43, 2.0: 0.425, 0.5: 0.36, 4.0: None},
}
STATIC = {
    1.0: 0.42,
    (2.0, (("weights", "3:1"),)): 0.44,
    (4.0, (("weights", "1:3"),)): 0.33,
    (1.0, (("weights", "1:2"),)): 0.41,
}


def row(level, seed):
    """Both metrics at a seed."""
    noise = 0.004 * math.sin(7 * seed + 90 * level)
    return [level + noise, level - 0.8 * noise]


def tried(levels):
    return {
        setting: {seed: None if level is None else row(level, seed) for seed in SEEDS}
        for setting, level in levels.items()
    }


@pytest.fixture(scope="module")
def folder():
    """The records and choices of a folder: trials, runs at the chosen rates, runs at the protocol's own."""
    records, choices = [], []
    for place, metric in enumerate(METRICS):
        own = {rate: {s: [row(level, s)[place]] for s in SEEDS} for rate, level in LEVELS["stl"].items()}
        made, choice = make_choice(STL, own, metrics=[metric], tasks=(metric[0],))
        records += made
        choices.append(choice)
    single = list(choices)
    for method, levels in {**{m: own for m, own in LEVELS.items() if m != STL}, "static": STATIC}.items():
        made, choice = make_choice(method, tried(levels), single, METRICS)
        records += made
        choices.append(choice)
    seeds = range(8)
    for choice in choices:
        method = choice.method
        levels = STATIC if method == "static" else LEVELS[method]
        options = tuple(sorted(choice.options.items()))
        level = levels[(choice.factor, options) if options else choice.factor]
        metrics = [metric for metric in METRICS if metric[0] in choice.tasks]
        for own, rate in ((level, choice.chosen.lr), (levels[1.0], choice.protocol.lr)):
            if method == "static" and rate == choice.protocol.lr:
                continue
            values = {s: [row(own, s)[METRICS.index(metric)] for metric in metrics] for s in seeds}
            for record in make_runs(choice.variant, values, metrics, lr=rate, label=choice.method_label):
                records.append(record)
    return list({record.name: record for record in records}.values()), choices


@pytest.fixture(scope="module")
def scores(folder):
    return from_records_and_choices(*folder)


@pytest.fixture(scope="module")
def board(scores):
    [board] = analyse(scores).boards
    return board


def said(board):
    return [("".join(sentence)) for sentence in findings(board)]


def by_hand(folder, method):
    """Δ task on test of each of a method's trials, and its gain on validation."""
    records, choices = folder
    named = {record.name: record for record in records}

    def values(*names):
        scores = {
            (task, metric): score.value
            for name in names
            for task, own in named[name].result.scores.items()
            for metric, score in own.items()
        }
        return [scores.get((task, metric), 0.1) for task, metric, _ in METRICS]

    single = [choice for choice in choices if choice.method == STL]
    [choice] = [choice for choice in choices if choice.method == method]
    gains = {}
    for attempt in choice.attempts:
        baseline = values(*(own.run(attempt.seed) for own in single))
        delta, _ = delta_mtl(values(attempt.run), baseline, [up for *_, up in METRICS], [task for task, *_ in METRICS])
        gains.setdefault((attempt.factor, tuple(attempt.options.items())), []).append(delta)
    return np.array([np.mean(own) for own in gains.values()]), np.array(choice.gains)


@pytest.mark.parametrize("method", ["equal", "mgda", "kd", "static"])
def test_the_curve_is_the_mean_over_all_choices_of_so_many_trials(folder, board, method):
    """kd has a trial that failed: it counts with the untrained predictor's scores."""
    test, validation = by_hand(folder, method)
    [found] = [row.expected_best for row in board.rows if row.method == method]
    assert len(found) == 4
    for b, value in enumerate(found, 1):
        picked = [test[max(some, key=lambda i: validation[i])] for some in combinations(range(4), b)]
        assert value == pytest.approx(np.mean(picked))


def test_the_last_point_of_the_curve_is_what_was_chosen(folder, board):
    for row in board.rows:
        if row.method != STL:
            test, validation = by_hand(folder, row.method)
            assert row.expected_best[-1] == pytest.approx(test[np.argmax(validation)])


def test_without_all_records_of_a_methods_trials_it_has_no_curve(folder):
    records, choices = folder
    gone = next(choice.attempts[0].run for choice in choices if choice.method == "mgda")
    [board] = analyse(from_records_and_choices([r for r in records if r.name != gone], choices)).boards
    assert {row.method for row in board.rows if len(row.expected_best)} == {"equal", "kd", "static"}


def test_without_the_tuned_single_task_networks_there_is_no_curve(folder):
    records, choices = folder
    gone = next(choice.run(SEEDS[1]) for choice in choices if choice.method == STL)
    [board] = analyse(from_records_and_choices([r for r in records if r.name != gone], choices)).boards
    assert [len(row.expected_best) for row in board.rows] == [0] * 5


def test_trials_change_nothing_of_the_results(folder, scores):
    records, choices = folder
    [board] = analyse(scores).boards
    [without] = analyse(from_records_and_choices([r for r in records if r.provenance.role == "run"], choices)).boards
    bare = replace(board, rows=tuple(replace(row, expected_best=without.rows[0].expected_best) for row in board.rows))
    assert repr(bare) == repr(without)


def test_tuning_csv_has_a_row_for_each_setting(board, folder):
    found = tuning(Report((board,), {}))
    assert len(found) == 4 * (2 + 4)
    kd = found[found["method"] == "kd"].set_index("factor")
    assert kd["failed"].to_dict() == {1.0: 0, 2.0: 0, 0.5: 0, 4.0: 2}
    assert kd["chosen"].to_dict() == {1.0: "yes", 2.0: "no", 0.5: "no", 4.0: "no"}
    [choice] = [choice for choice in folder[1] if choice.method == "kd"]
    assert list(kd["gain"]) == choice.gains
    assert list(found[found["method"] == "static"]["options"].dropna()) == ["weights=3:1", "weights=1:3", "weights=1:2"]
    single = found[found["method"] == STL]
    assert dict(single.groupby("tasks")["trial"].max()) == {"left": 4, "right": 4}
    assert (found.groupby(["method", "tasks"])["chosen"].apply(lambda own: (own == "yes").sum()) == 1).all()


def test_curve_csv_has_a_row_for_each_number_of_trials(board):
    found = curve(Report((board,), {}))
    assert {(m, tuple(own["trials"])) for m, own in found.groupby("method")} == {
        (method, (1, 2, 3, 4)) for method in ("equal", "mgda", "kd", "static")
    }
    for row in board.rows:
        assert list(found[found["method"] == row.method]["expected_delta_task"]) == list(row.expected_best)


def test_a_folder_with_trials_has_their_files_and_one_with_shipped_choices_has_not(folder, scores, tmp_path):
    records, choices = folder
    write_pages(scores, tmp_path / "made", figures=False)
    assert list(pd.read_csv(tmp_path / "made" / "tuning.csv")["task_set"].unique()) == ["toy@tuning=4"]
    assert len(pd.read_csv(tmp_path / "made" / "curve.csv")) == 16
    tried = {attempt.run for choice in choices for attempt in choice.attempts}
    shipped = from_records_and_choices([r for r in records if r.name not in tried], choices)
    report = write_pages(shipped, tmp_path / "shipped")
    assert not any((tmp_path / "shipped" / name).exists() for name in TRIAL_FILES)
    text = (tmp_path / "shipped" / "leaderboard.html").read_text("utf-8")
    assert MORE not in text
    assert "Gain against learning rate" in text  # which a choice alone can tell
    assert report.boards[0].choices


def test_the_figure_of_rates_tells_every_trial_and_marks_the_chosen(board, folder):
    plot = figures.rates(board)
    assert len(plot.rows) == 24
    [edge] = [line for line in plot.rows if line[0] == "mgda" and line[-1]]
    assert edge[1:3] == ["4", ""]
    assert edge[-1] == "yes (edge)"
    assert [line[-2] for line in plot.rows if line[0] == "kd"] == ["", "", "", "2 of 2"]
    assert {line[0] for line in plot.rows if "yes" in line[-1]} == {line[0] for line in plot.rows}
    assert {"stl left", "stl right"} <= {line[0] for line in plot.rows}


def test_the_figure_of_rates_is_there_where_rates_were_chosen_alone(board):
    untuned = replace(board, rows=tuple(replace(row, choices=()) for row in board.rows), choices=())
    assert figures.rates(untuned) is None
    assert figures.rates(replace(board, suite=True)) is None


def test_of_a_thousand_methods_a_few_have_panels_and_lines_and_the_tables_have_all(board):
    some = next(row for row in board.rows if row.method == "mgda")
    many = tuple(replace(some, method=f"method{i}") for i in range(999))
    equal = next(row for row in board.rows if row.method == "equal")
    crowd = replace(board, rows=(*many, equal), choices=(), points={})
    made = [(entry.heading, entry.caption, partial(entry.plot, crowd)) for entry in FIGURES]
    rates, lines = draw([entry for entry in made if entry[0] in ("Gain against learning rate", MORE)], "x")
    assert "The table has the chosen settings, and not all 4000 trials." in rates.caption
    for drawing, most in ((rates, 7), (lines, 8)):
        assert f"Only the best {most} methods and equal weights are drawn, {999 - most} are not." in drawing.caption
        assert {row[0] for row in drawing.rows} == {"equal", *(f"method{i}" for i in range(999))}
        assert len(drawing.rows) == 1000
        assert len(drawing.svg) < 20_000


def test_a_setting_at_which_nothing_is_learnt_does_not_press_the_others_together(board):
    gains = [-12.0, -10.0, -15.0, -900.0]
    rows = tuple(
        replace(row, choices=tuple(c.model_copy(update={"gains": gains}) for c in row.choices)) for row in board.rows
    )
    low, high = near_the_best(gains)
    assert -50 < low < -15
    assert high > -10
    plot = figures.rates(replace(board, rows=rows, choices=()))
    assert "−900.00" in {line[3] for line in plot.rows}


def test_a_gain_that_is_not_known_is_drawn_and_told_as_such(board):
    rows = tuple(
        replace(row, choices=tuple(c.model_copy(update={"gains": [1.0, None, 2.0, 3.0]}) for c in row.choices))
        for row in board.rows
    )
    plot = figures.rates(replace(board, rows=rows, choices=()))
    assert [line[3] for line in plot.rows if line[0] == "equal"] == ["+1.00", "", "+2.00", "+3.00"]


def test_the_figure_of_more_trials_has_the_numbers_of_the_curve(board):
    plot = figures.search(board)
    assert plot.heads == ["Method", "1 trial", "2 trials", "3 trials", "4 trials"]
    for line in plot.rows:
        [row] = [row for row in board.rows if row.method == line[0]]
        assert line[1:] == [f"{value:+.2f}".replace("-", "−") for value in row.expected_best]


def test_findings_say_what_holds_at_the_protocols_own_rate(board):
    """Tuned, mgda is better than equal weights; at the protocol's own rate it is worse."""
    verdicts = {
        row.method: (row.vs_equal and row.vs_equal.verdict, row.untuned and row.untuned.verdict) for row in board.rows
    }
    assert verdicts["mgda"] == ("better", "worse")
    assert verdicts["kd"] == ("better", "better")
    first, *others = said(board)
    assert first.startswith("mgda has the highest") or first.startswith("mgda leads")
    assert "; at the protocol's own learning rate it is worse." in first
    assert (
        "Where every method is trained at the protocol's own learning rate, the verdict is the same for kd; it is "
        "different for mgda (worse)." in others
    )


def test_findings_of_a_leader_whose_verdict_holds_say_so(board):
    rows = sorted(board.rows, key=lambda row: row.method != "kd")
    first, *others = said(replace(board, rows=tuple(row for row in rows if row.method != "mgda"), pairs=None))
    assert first.startswith("kd")
    assert "; this holds at the protocol's own learning rate, too." in first
    assert (
        "Where every method is trained at the protocol's own learning rate, each of these verdicts is the same."
        in others
    )


def test_findings_say_nothing_of_the_protocols_rate_where_there_are_no_runs_at_it(board):
    rows = tuple(replace(row, untuned=None) for row in board.rows)
    assert not any("own learning rate" in sentence for sentence in said(replace(board, rows=rows)))


def test_runs_of_some_tasks_at_the_protocols_rate_make_no_untuned_board(folder):
    """Without the runs at that rate there are those whose choice it was, perhaps of one task alone."""
    records, choices = folder
    own = choices[0].protocol.lr
    kept = [r for r in records if not (r.spec.tasks == ("left",) and r.spec.seed < 8 and r.spec.protocol.lr == own)]
    assert len(records) - len(kept) == 8
    [board] = analyse(from_records_and_choices(kept, choices)).boards
    assert all(row.untuned is None for row in board.rows)
    assert all(row.vs_equal is not None for row in board.rows if row.method not in (STL, "equal"))


def test_the_conditions_say_how_rates_were_chosen(board):
    line = conditions(board)
    assert "the best on validation of 4 trials (seeds 1000 and 1001)" in line
    assert "Learning rates" not in conditions(replace(board, choices=()))


def test_the_page_explains_what_tuned_means_only_where_something_is(scores, board):
    tuned = page(analyse(scores), figures=False).decode()
    how = tuned[tuned.index('id="how"') :]
    for word in ("Tuned:", "Untuned:", "Edge:", "Seeds differ:", "With trials:"):
        assert word in how
    plain = page(Report((replace(board, choices=()),), {}), figures=False).decode()
    assert "Untuned:" not in plain


def terminal(report, width):
    written = io.StringIO()
    print_board(report, Console(file=written, width=width))
    return written.getvalue()


@pytest.mark.parametrize("width", [200, 140, 110])
def test_the_terminals_table_cuts_no_interval_and_no_number(scores, width):
    report = analyse(scores)
    text = terminal(report, width)
    assert max(map(len, text.splitlines()[:10])) <= width
    for row in report.boards[0].rows:
        [line] = [line for line in text.splitlines() if re.match(rf"{row.method} .*[+−]", line)]
        if row.vs_equal is not None and row.method != STL:
            assert len(re.findall(r"\([+−][\d.]+ to [+−][\d.]+\)", line)) == 2


def test_the_terminal_says_which_columns_had_no_room(scores):
    report = analyse(scores)
    assert "a wider terminal" not in terminal(report, 200)
    assert re.search(r"a wider terminal, and the files, have more columns: .*Passes", terminal(report, 100))
    assert "With trials ×" in terminal(report, 200)


def test_notes_name_choices_in_the_order_of_the_board(board):
    [edge] = [note for note in board.notes if note.startswith("the best rate may lie beyond")]
    assert edge.endswith(": mgda (×4)")
    [stl] = [row for row in board.rows if row.method == STL]
    assert board.choices[: len(stl.choices)] == stl.choices


def test_over_task_sets_there_is_no_column_of_rates(board):
    rows = tuple(replace(row, choices=()) for row in board.rows)
    headings = [column.heading for column in shown_of("html", replace(board, rows=rows))]
    assert "Rate ×" not in headings
    assert "Holds untuned" in headings
    assert "Rate ×" in [column.heading for column in shown_of("html", board)]
    assert "Holds untuned" not in [column.heading for column in shown_of("html", replace(board, choices=()))]


def test_single_task_choices_come_in_the_order_of_the_tasks(board):
    [stl] = [row for row in board.rows if row.method == STL]
    assert [choice.tasks for choice in stl.choices] == [("left",), ("right",)]
    assert [choice for method, choice in contestants(board) if method == STL] == list(stl.choices)


def test_a_choice_whose_method_has_no_row_of_its_own_is_told_last(board):
    rows = tuple(row for row in board.rows if row.method != "mgda")
    bare = replace(board, rows=rows)
    assert [method for method, _ in contestants(bare)][-1] == "mgda"
    assert len(tuning(Report((bare,), {}))) == 24
    assert len(figures.rates(bare).rows) == 24


def test_trials_of_a_choice_come_in_the_order_in_which_they_were_tried(folder):
    [choice] = [choice for choice in folder[1] if choice.method == "static"]
    found = trials_of(choice)
    assert [trial.factor for trial in found] == [1.0, 2.0, 4.0, 1.0]
    assert [trial.chosen for trial in found] == [False, True, False, False]
    assert scaled(choice.protocol, 2.0) == choice.chosen
