"""Anybody's tidy file gives a right page that says what was left out, or one line that says what is wrong with it."""

import csv
import io
import random
import unicodedata
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from bench.report.analyse import analyse
from bench.report.findings import findings
from bench.report.given import read_tidy
from bench.report.pages.csv import csv_bytes, leaderboard
from bench.report.pages.html import page
from bench.report.pages.terminal import print_board
from bench.report.pages.text import latex, markdown
from bench.report.pages.write import write_pages
from bench.report.power import settling
from bench.report.scores import LARGEST, from_records, tidy
from bench.spec import STL
from bench.store import StoreError

HEAD = ["task_set", "method", "seed", "task", "metric", "value", "higher_is_better", "status", "untrained"]
METRICS = [("seg", "miou", True, 0.5), ("seg", "pixacc", True, 0.7), ("depth", "err", False, 0.6)]
RARE = [("seg", "miou", True, 0.5), ("depth", "err", False, 0.6), ("rare", "f1", True, 0.0)]


def lines_of(seeds=6, metrics=METRICS, task_set="rooms", gain=0.03):
    """Three methods, noise of 1 %; `a` is better by `gain`."""
    draw = np.random.default_rng(0)
    lines = []
    for method in (STL, "equal", "a"):
        for seed in range(seeds):
            for task, metric, up, base in metrics:
                factor = 1 + (gain if up else -gain) * (method == "a") + 0.01 * draw.normal()
                lines.append([task_set, method, seed, task, metric, base * factor, up, "ok", ""])
    return lines


@pytest.fixture
def read(tmp_path):
    """Write a file of some lines, and read it."""

    def call(lines, head=HEAD):
        file = tmp_path / "mine.csv"
        with file.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream, lineterminator="\n").writerows([head, *lines])
        return read_tidy(file)

    return call


@pytest.fixture
def board(read):
    """The board of some lines, and its rows by method."""

    def call(lines, head=HEAD):
        [found] = analyse(read(lines, head)).boards
        return found, {row.method: row for row in found.rows}

    return call


def error(call, *given):
    with pytest.raises(StoreError) as caught:
        call(*given)
    [line] = str(caught.value).splitlines()
    return line


def changed(column, value, where):
    """The usual lines, one cell of those that `where` picks changed."""
    place = HEAD.index(column)
    return [[*line[:place], value, *line[place + 1 :]] if where(line) else line for line in lines_of()]


def third(line):
    return line[1:4] == ["a", 2, "depth"]


# Values ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["inf", "-inf", "nan", "1e999"])
def test_a_value_that_is_not_finite_is_named_with_its_line(read, text):
    lines = changed("value", text, third)
    number = 2 + next(i for i, line in enumerate(lines) if third(line))
    assert error(read, lines).endswith(f"mine.csv, line {number}: its value is not finite")


@pytest.mark.parametrize(("text", "said"), [("1e308", "too large"), ("", "not a number"), ("1_000", "not a number")])
def test_a_value_that_cannot_be_computed_with_is_an_error(read, text, said):
    assert f"its value is {said}" in error(read, changed("value", text, third))


def test_an_untrained_score_is_a_finite_number_and_one_for_all_runs(read):
    assert "its untrained is not finite" in error(read, changed("untrained", "inf", third))
    lines = [[*line[:8], 0.1 if line[1] == "equal" else 0.2] for line in lines_of()]
    assert "the untrained score of miou of seg is 0.1 here and 0.2 on line 2" in error(read, lines)


def test_over_a_baseline_of_zero_there_is_no_gain_and_the_rest_is_reported(board):
    rare = [[*line[:5], 0.01 + 0.001 * line[2], *line[6:]] if line[3] == "rare" and line[1] != STL else line
            for line in lines_of(metrics=RARE)]  # fmt: skip
    found, rows = board(rare)
    _, without = board([line for line in rare if line[3] != "rare"])
    assert rows["a"].delta_task == without["a"].delta_task
    assert rows["a"].delta_metric == without["a"].delta_metric
    assert rows["a"].vs_equal.verdict == without["a"].vs_equal.verdict == "better"
    where = found.metrics.index(("rare", "f1"))
    assert rows["a"].values[where] == pytest.approx(0.0125)
    assert np.isnan(rows["a"].gains[where])
    assert np.isnan(rows[STL].gains[where])
    assert any("rare f1 of single-task learning is 0" in note for note in found.notes)


def test_a_baseline_of_zero_at_the_seeds_of_one_method_alone_is_one_too(board):
    lines = [[*line[:5], 0.3 if line[1] != STL or line[2] == 5 else 0.0, *line[6:]] if line[3] == "rare" else line
             for line in lines_of(metrics=RARE) if line[1:3] != ["a", 5]]  # fmt: skip
    found, rows = board(lines)
    assert any("rare f1 of single-task learning is 0" in note for note in found.notes)
    assert np.isfinite(rows["a"].delta_task.mean)


def test_where_every_baseline_is_zero_nothing_has_a_gain_and_the_page_says_so(board):
    found, rows = board([[*line[:5], 0.0, *line[6:]] if line[1] == STL else line for line in lines_of()])
    assert all(row.delta_task is None and row.vs_equal is None for row in rows.values())
    assert len([note for note in found.notes if "left out of Δ" in note]) == 3
    assert rows["a"].values == pytest.approx([0.584, 0.516, 0.721], abs=0.01)


# Tasks, metrics, directions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rooms", "set0", "set1"])
def test_lines_that_disagree_whether_higher_is_better_are_both_named(read, name):
    lines = [[name, *line[1:6], True, *line[7:]] if line[1] == "a" and line[3] == "depth" else [name, *line[1:]]
             for line in lines_of()]  # fmt: skip
    said = error(read, lines)
    assert "line 40: err of depth is better when higher here and when lower on line 4" in said


@pytest.mark.parametrize("name", ["rooms", "x", "y", "z", "set0", "set1"])
def test_a_method_that_lacks_a_task_is_left_out_and_named_whatever_the_set_is_called(board, name):
    lines = [[name, *line[1:]] for line in lines_of() if not (line[1] == "a" and line[3] == "depth")]
    found, rows = board(lines)
    assert found.metrics == (("depth", "err"), ("seg", "miou"), ("seg", "pixacc"))
    assert rows["a"].delta_task is None
    assert rows["a"].failed == 0
    assert rows["a"].note == "the runs at seeds 0, 1, 2, 3, 4, 5 are left out: they lack depth err"
    assert rows["equal"].seeds == 6


def test_a_run_that_lacks_one_cell_is_left_out_and_named(board):
    _, rows = board([line for line in lines_of(8) if line[1:5] != ["a", 2, "seg", "pixacc"]])
    assert (rows["a"].seeds, rows["equal"].seeds) == (7, 8)
    assert rows["a"].vs_equal.verdict == "better"
    assert rows["a"].note == "the runs at seed 2 are left out: they lack seg pixacc"


@pytest.mark.parametrize("name", ["rooms", "x", "y", "z"])
def test_a_metric_that_single_task_runs_lack_is_left_out_and_named(board, name):
    lines = [[name, *line[1:]] for line in lines_of() if not (line[1] == STL and line[4] == "pixacc")]
    found, rows = board(lines)
    assert found.metrics == (("depth", "err"), ("seg", "miou"))
    assert found.notes == ("seg pixacc is left out: the single-task runs at seeds 0, 1, 2, 3, 4, 5 lack it",)
    assert rows["a"].seeds == 6


def test_a_metric_or_a_task_that_one_method_has_alone_is_left_out_and_named(board):
    more = [["rooms", "a", seed, task, "own", 1.0, True, "ok", ""] for seed in range(6) for task in ("seg", "new")]
    found, rows = board([*lines_of(), *more])
    _, usual = board(lines_of())
    assert rows["a"].delta_task == usual["a"].delta_task
    assert found.notes == (
        "new own is left out: there is no single-task run of new",
        "seg own is left out: the single-task runs at seeds 0, 1, 2, 3, 4, 5 lack it",
    )


def test_a_metric_that_most_runs_lack_is_left_out_and_their_methods_are_named(board):
    more = [["rooms", STL, seed, "seg", "own", 1.0, True, "ok", ""] for seed in range(6)]
    found, rows = board([*lines_of(), *more])
    assert found.notes == ("seg own is left out: 12 of 12 runs lack it (of a, equal)",)
    assert rows["a"].seeds == 6


def test_separators_in_names_are_part_of_the_names(board):
    marks = {"seg": "s+e.g,x", "miou": "m+i;o.u", "a": "a+b[c=1],d"}
    plain, hostile = lines_of(), [[marks.get(cell, cell) for cell in line] for line in lines_of()]
    _, usual = board(plain)
    found, rows = board(hostile)
    assert rows["a+b[c=1],d"].delta_task.mean == pytest.approx(usual["a"].delta_task.mean)
    assert ("s+e.g,x", "m+i;o.u") in found.metrics
    assert all(row.failed == 0 for row in found.rows)


def test_metrics_whose_names_join_to_one_text_keep_their_columns(read):
    alike = [("a.b", "c", True, 0.5), ("a", "b.c", True, 0.7), ("t", "m", True, 0.4), ("t", "m.gain", True, 0.2)]
    table = leaderboard(analyse(read(lines_of(metrics=alike))))
    [line] = table[table.method == "equal"].to_dict("records")
    found = [line[name] for name in ('"a.b".c', "a.b.c", "t.m", 't."m.gain"')]
    assert found == pytest.approx([0.5, 0.7, 0.4, 0.2], rel=0.02)


@pytest.mark.parametrize("name", ["NA", "None", "nan", "null", "N/A", "True", "1.0"])
def test_names_are_text_whatever_they_look_like(board, name):
    found, rows = board([[name if cell in ("a", "miou", "rooms") else cell for cell in line] for line in lines_of()])
    assert rows[name].vs_equal.verdict == "better"
    assert ("seg", name) in found.metrics
    assert found.label == name


# Failed runs ----------------------------------------------------------------------------------------------------


def with_failures(untrained):
    lines = []
    for line in lines_of(12):
        if line[1] == "a" and line[2] >= 7:
            lines.append([*line[:4], "" if line[4] == "miou" else line[4], "", "", "diverged", ""])
        else:
            lines.append([*line[:8], untrained.get(line[4], "")])
    return lines


def test_survivors_get_no_verdict_and_the_page_says_why(board):
    found, rows = board(with_failures({}))
    assert (rows["a"].delta_task, rows["a"].vs_equal, rows["a"].vs_stl, rows["a"].failed) == (None, None, None, 5)
    assert found.rows[-1].method == "a"
    assert "no Δ and no verdict: 5 of its runs failed" in rows["a"].note
    assert not any("count with" in "".join(sentence) for sentence in findings(found))


def test_failures_count_where_it_is_known_what_they_count(board):
    found, rows = board(with_failures({"miou": 0.1, "pixacc": 0.2, "err": 0.9}))
    assert (rows["a"].seeds, rows["a"].imputed) == (12, 5)
    assert rows["a"].delta_task.mean < 0
    assert any("Failed runs (5) count with" in "".join(sentence) for sentence in findings(found))


def test_a_method_whose_only_whole_runs_failed_has_no_gain(board):
    """Else its gain would be that of the untrained predictor."""
    lines = [line for line in with_failures({"miou": 0.1, "pixacc": 0.2, "err": 0.9})
             if line[1] != "a" or line[7] != "ok" or line[4] != "err"]  # fmt: skip
    _, rows = board(lines)
    assert (rows["a"].delta_task, rows["a"].imputed, rows["a"].failed) == (None, 0, 5)
    assert "they lack depth err" in rows["a"].note


def test_a_run_of_which_a_part_failed_has_failed(board):
    _, rows = board([[*line[:5], "", "", "timeout", ""] if third(line) else [*line[:8], 0.1] for line in lines_of()])
    assert (rows["a"].failed, rows["a"].imputed) == (1, 1)


@pytest.mark.parametrize("separator", ["+", ".", " "])
def test_runs_csv_of_a_folder_gives_the_same_report_as_its_records(runs, tmp_path, separator):
    """With a failed run, and names that have separators in them."""
    metrics = [(f"left{separator}x", "accuracy", True), (f"right{separator}", f"l{separator}oss", False)]
    draw = np.random.default_rng(1)

    def scores(seeds=7):
        return {seed: list(1 + 0.1 * draw.random(2)) for seed in range(seeds)}

    made = [*runs(STL, scores(), metrics), *runs("equal", scores(), metrics)]
    made += runs("-x", {**scores(), 3: None}, metrics)
    write_pages(from_records(made), tmp_path, figures=False)
    mine, ours = (leaderboard(analyse(scores)) for scores in (read_tidy(tmp_path / "runs.csv"), from_records(made)))
    kept = [name for name in ours if not name.endswith("_passes") and name != "note"]
    assert list(mine.method) == list(ours.method)
    for name in kept:
        if ours[name].dtype == float:
            assert mine[name].to_numpy(float) == pytest.approx(ours[name].to_numpy(float), rel=1e-6, nan_ok=True), name
        else:
            assert list(mine[name].astype(str)) == list(ours[name].astype(str)), name


# The file itself ------------------------------------------------------------------------------------------------


def test_the_split_may_be_written_in_capitals_and_a_file_without_test_lines_is_named(board, read):
    head = [*HEAD, "split"]
    _, rows = board([[*line, "Test"] for line in lines_of()], head)
    assert rows["a"].vs_equal.verdict == "better"
    assert "no line of the split 'test'" in error(read, [[*line, "train"] for line in lines_of()], head)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (";".join(HEAD) + "\n", "line 1: its columns are separated by semicolons: write commas"),
        ("\t".join(HEAD) + "\n", "line 1: its columns are separated by tabs: write commas"),
        ("", "has no column task_set"),
        (",".join(HEAD) + "\n", "has no line of the split 'test'"),
        (",".join([*HEAD, "seed"]) + "\n", "has 2 columns seed"),
        (",".join(HEAD) + '\na,b,"c\nd\n', "line 2: it is not a line of a CSV file"),
        (",".join(HEAD) + '\n"a\nb",c\n', "line 2: it has 2 cells, and the first line 9"),
        (",".join(HEAD) + "\n\nx,y\n", "line 3: it has 2 cells"),
        (b"\xff\xfe\x00", "its text is not UTF-8"),
    ],
)
def test_a_file_that_is_none_is_one_line(tmp_path, content, said):
    file = tmp_path / "mine.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert said in error(read_tidy, file)


def test_single_task_runs_at_one_seed_leave_that_seed_and_say_so(board):
    _, rows = board([line for line in lines_of() if not (line[1] == STL and line[2] > 0)])
    assert rows["a"].seeds == 1
    assert "no gain at seeds 1, 2, 3, 4, 5: the baseline of task depth is missing" in rows["a"].note


def test_a_method_that_is_missing_on_one_set_is_said_to_be_under_the_table_of_all(read):
    lines = lines_of() + [line for line in lines_of(task_set="streets") if line[1] != "a"]
    suite, *_ = analyse(read(lines)).boards
    assert sorted(row.method for row in suite.rows) == ["equal", STL]
    assert "a has no row here: it cannot be compared on streets" in suite.notes


def test_a_task_set_called_all_is_not_the_table_of_all(read):
    table = leaderboard(analyse(read(lines_of(task_set="all") + lines_of(task_set="rooms"))))
    assert not table.duplicated(["task_set", "method"]).any()


# Whatever is in the file ----------------------------------------------------------------------------------------

NAMES = ["NA", "", "a+b", "all", "stl", "equal", "=x", "\x1b[31mred", "\u202eabc", "two\nlines", "x" * 200, "é", "$a$"]
CELLS = ["", "0", "-0.0", "1e99", "1e308", "5e-324", "1e-200", "nan", "-inf", "x", "-5", "1", "True", "False", "0.1"]
STATUSES = ["", "ok", "diverged", "skipped", "crashed", "fine"]
METHODS = (STL, "equal", "a")
places = st.integers(0, 10**6)
changes = st.lists(
    st.one_of(
        st.tuples(st.just("drop"), places, places),
        st.tuples(st.just("without"), st.tuples(st.sampled_from(METHODS), st.sampled_from(["seg", "depth"])), places),
        st.tuples(
            st.just("column"),
            st.tuples(st.sampled_from(METHODS), st.sampled_from(["miou", "pixacc", "err"])),
            st.sampled_from(CELLS),
        ),
        st.tuples(
            st.just("rename"),
            st.sampled_from(["a", "seg", "miou", "rooms", "streets", "depth"]),
            st.sampled_from(NAMES),
        ),
        st.tuples(st.just("untrained"), st.none(), st.sampled_from(["0.1", "", "0"])),
        st.tuples(st.just("value"), places, st.sampled_from(CELLS)),
        st.tuples(st.just("status"), places, st.sampled_from(STATUSES)),
        st.tuples(st.integers(0, len(HEAD) - 1), places, st.sampled_from(NAMES + CELLS)),
    ),
    max_size=5,
)


def mutated(seeds, sets, wanted):
    lines = [[str(cell) for cell in line] for name in sets for line in lines_of(seeds, task_set=name)]
    for kind, where, what in wanted:
        if kind == "without":
            lines = [line for line in lines if (line[1], line[3]) != where]
        elif kind == "rename":
            lines = [[what if cell == where else cell for cell in line] for line in lines]
        elif kind == "untrained":
            lines = [[*line[:8], what] for line in lines]
        elif kind == "column":
            lines = [[*line[:5], what, *line[6:]] if (line[1], line[4]) == where else line for line in lines]
        elif lines:
            place = where % len(lines)
            if kind == "drop":
                del lines[place : place + 1 + what % 3]
            else:
                column = {"value": 5, "status": 7}.get(kind, kind)
                lines[place] = [*lines[place][:column], what, *lines[place][column + 1 :]]
    return lines


def shown(file, lines):
    """All that is shown of some lines; None if that is an error."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows([HEAD, *lines])
    try:
        scores = read_tidy(file)
    except StoreError:
        return None
    report = analyse(scores)
    terminal = io.StringIO()
    print_board(report, Console(file=terminal, width=120))
    texts = [markdown(report), latex(report), page(report, figures=False), csv_bytes(leaderboard(report))]
    texts += [csv_bytes(tidy(scores)), csv_bytes(settling(report)), csv_bytes(settling(report, pairs=True))]
    seen = terminal.getvalue() + texts[0].decode() + texts[2].decode()
    assert not {c for c in seen if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t\r"}
    assert "\u202e" not in terminal.getvalue()
    named = {word for line in lines for cell in line[:5] for word in cell.split()}
    assert not {"nan", "+nan", "inf", "+inf", "−inf"} & set(terminal.getvalue().split()) - named
    return [terminal.getvalue().encode(), *texts]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seeds=st.sampled_from([1, 2, 6]),
    sets=st.sampled_from([("rooms",), ("rooms", "streets")]),
    wanted=changes,
    order=st.randoms(use_true_random=False),
)
def test_whatever_is_in_a_file_it_is_a_page_or_one_line_and_the_order_of_lines_does_not_matter(
    tmp_path, seeds, sets, wanted, order: random.Random
):
    lines = mutated(seeds, sets, wanted)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = shown(tmp_path / "mine.csv", lines)
        order.shuffle(lines)
        assert shown(tmp_path / "mine.csv", lines) == found


def test_a_value_at_the_limit_is_still_computed_with(board):
    _, rows = board(changed("value", LARGEST, third))
    assert rows["a"].seeds == 6
