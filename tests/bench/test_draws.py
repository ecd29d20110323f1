"""A fresh draw of a task set's data is a replication, and no further task set."""

import io
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from made_records import make_choice
from rich.console import Console

from bench.report.analyse import analyse
from bench.report.draws import draws
from bench.report.given import read_tidy
from bench.report.pages.csv import leaderboard
from bench.report.pages.html import page
from bench.report.pages.terminal import print_board
from bench.report.pages.text import markdown
from bench.report.pages.write import DRAW_FILE, write_pages
from bench.report.replications import CAPTION, COLUMNS, TITLE, replications, summary
from bench.report.scores import from_records
from bench.spec import STL

METRIC = [("only", "score", True)]


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (["scales", "scales[draw=1]"], {"scales[draw=1]": "scales"}),
        (["scales[draw=2]", "scales", "scales[draw=1]"], {"scales[draw=1]": "scales", "scales[draw=2]": "scales"}),
        (["a[draw=1,n=2]", "a[n=2]", "a"], {"a[draw=1,n=2]": "a[n=2]"}),
        (["a[draw=10]", "a[draw=9]"], {"a[draw=10]": "a[draw=9]"}),
        (["a[draw=1]@standard", "a@standard", "a"], {"a[draw=1]@standard": "a@standard"}),
        (["a[draw=1]@quick[lr=0.1]", "a@quick[lr=0.1]"], {"a[draw=1]@quick[lr=0.1]": "a@quick[lr=0.1]"}),
        (['"x,y.py:A"[draw=1]', '"x,y.py:A"'], {'"x,y.py:A"[draw=1]': '"x,y.py:A"'}),
        (["mine.py:A[draw=1]", "mine.py:A"], {"mine.py:A[draw=1]": "mine.py:A"}),
        (["a", "a[draw=hard]", "a[draw=-1]", "a[draw=1.5]"], {}),
        (["a", "b[draw=1]", "a[m=1]", "a[draw=1,m=2]"], {}),
        (["a", 'what"ever[', "]", "", "a[draw=1", "draw=1"], {}),
    ],
)
def test_draws_of_the_same_data_differ_in_the_option_draw_alone(labels, found):
    assert draws(labels) == draws(labels[::-1]) == found


@pytest.fixture
def play(runs):
    """Records of made-up methods on one task set, by their offsets from equal weights."""

    def make(label, seeds=8, start=0, **offsets):
        number = np.random.default_rng(len(label) + seeds)
        common = number.normal(size=seeds)
        kind = {"task_set": f"stable {label}", "set_label": label}
        found = runs(STL, {start + s: [100 + common[s]] for s in range(seeds)}, METRIC, **kind)
        for method, offset in {"equal": 0, **offsets}.items():
            values = 95 + offset + common + 0.2 * number.normal(size=seeds)
            found += runs(method, {start + s: [v] for s, v in enumerate(values)}, METRIC, **kind)
        return found

    return make


@pytest.fixture
def records(play):
    first = play("toy", good=3, luck=3, shy=0.2, turned=3, same=0)
    again = play("toy[draw=1]", good=2, luck=0, shy=3, turned=-3, same=0)
    return [*first, *again, *play("other", good=1, luck=1, shy=1, turned=0, same=0)]


def test_a_fresh_draw_has_no_part_in_what_is_over_all_task_sets(records):
    with_draw = leaderboard(analyse(from_records(records)))
    without = leaderboard(analyse(from_records(r for r in records if "draw" not in r.task_set_label)))
    over_all = [frame[frame.task_set == "all"].reset_index(drop=True) for frame in (with_draw, without)]
    assert len(over_all[0]) == 7
    pd.testing.assert_frame_equal(*over_all)
    assert "toy[draw=1]" in set(with_draw.task_set)


def test_costs_over_all_task_sets_leave_it_out_too(play):
    def dear(record):
        slow = record.spec.method == "good" and "draw" in record.task_set_label
        return (
            record.model_copy(update={"cost": record.cost.model_copy(update={"step_seconds": 9.0})}) if slow else record
        )

    made = map(dear, [*play("toy", good=1), *play("other", good=1), *play("toy[draw=1]", good=1)])
    boards = {b.label: {r.method: r.cost for r in b.rows} for b in analyse(from_records(made)).boards}
    assert boards["toy[draw=1]"]["good"].step == pytest.approx(900)
    assert boards["all"]["good"].step == pytest.approx(1)


def test_a_set_and_its_draw_alone_are_no_suite(play):
    report = analyse(from_records([*play("toy", good=3), *play("toy[draw=1]", good=3)]))
    assert [board.label for board in report.boards] == ["toy", "toy[draw=1]"]
    assert [board.draw_of for board in report.boards] == ["", "toy"]
    assert report.boards[1].notes[0].startswith("it is another draw of the data of toy: it has no part in")
    assert not any("draw" in note for note in report.boards[0].notes)


def test_a_draw_without_its_first_is_a_task_set_like_any_other(play):
    report = analyse(from_records([*play("toy[draw=1]", good=3), *play("other", good=3)]))
    assert [board.label for board in report.boards] == ["all", "other", "toy[draw=1]"]
    assert replications(report.boards) == [] and summary(report.boards) == []


def test_a_verdict_holds_if_it_is_the_same_on_both_draws(records):
    found = {one.method: one for one in replications(analyse(from_records(records)).boards)}
    said = {m: (one.first.verdict, one.again.verdict, one.holds) for m, one in found.items()}
    assert said == {
        "good": ("better", "better", True),
        "luck": ("better", "equivalent", False),
        "shy": ("equivalent", "better", False),
        "turned": ("better", "worse", False),
        "same": ("equivalent", "equivalent", True),
    }
    assert {(one.task_set, one.draw) for one in found.values()} == {("toy", "toy[draw=1]")}


def test_with_too_few_seeds_on_a_draw_nothing_is_said_to_hold_or_not(play):
    boards = analyse(from_records([*play("toy", good=3), *play("toy[draw=1]", seeds=4, good=3)])).boards
    [one] = replications(boards)
    assert (one.first.verdict, one.again.verdict, one.holds) == ("better", "not enough seeds", None)


def test_a_verdict_that_was_undecided_is_no_claim_to_hold(play, runs):
    records = []
    for label in ("toy", "toy[draw=1]"):
        spread = {s: [95 + 4 * (-1) ** s] for s in range(8)}
        records += play(label, good=3)
        records += runs("unsure", spread, METRIC, task_set=f"stable {label}", set_label=label)
    boards = analyse(from_records(records)).boards
    found = {one.method: one for one in replications(boards)}
    assert found["unsure"].first.verdict == found["unsure"].again.verdict == "undecided"
    assert found["unsure"].holds is None
    assert ["".join(sentence) for sentence in summary(boards)] == ["toy[draw=1]: 1 of 1 verdicts of toy hold."]


def test_a_draw_whose_rates_nobody_chose_is_said_to_be_another_question(play):
    first, again = analyse(from_records([*play("toy", good=3), *play("toy[draw=1]", good=3)])).boards
    _, choice = make_choice("good", {1: {1000: [1.0], 1001: [1.0]}}, metrics=METRIC)
    [said] = summary([replace(first, choices=(choice,)), again])
    assert "".join(said).endswith("; trials chose the learning rates of toy, and not those of toy[draw=1].")
    [same] = summary([replace(first, choices=(choice,)), replace(again, choices=(choice,))])
    assert "".join(same) == "toy[draw=1]: 1 of 1 verdicts of toy hold."


def test_the_summary_counts_and_says_what_else_is_not_the_same(records, play):
    assert ["".join(s) for s in summary(analyse(from_records(records)).boards)] == [
        "toy[draw=1]: 2 of 5 verdicts of toy hold."
    ]
    others = [*play("toy", good=3, same=0), *play("toy[draw=1]", seeds=6, good=3)]
    assert ["".join(s) for s in summary(analyse(from_records(others)).boards)] == [
        "toy[draw=1]: 1 of 1 verdicts of toy hold; 2 methods are compared with equal weights on toy, and 1 on "
        "toy[draw=1]; 8 seeds are there on toy, and 6 on toy[draw=1]."
    ]


def test_the_files_and_pages_have_the_table_last_and_only_where_there_is_a_draw(records, tmp_path):
    report = write_pages(from_records(records), tmp_path, figures=False)
    table = pd.read_csv(tmp_path / DRAW_FILE).set_index("method")
    assert list(table.reset_index().columns) == [column.name for column in COLUMNS]
    assert table.holds.to_dict() == {"good": "yes", "luck": "no", "shy": "no", "turned": "no", "same": "yes"}
    board = next(board for board in report.boards if board.label == "toy[draw=1]")
    means = {row.method: row.vs_equal.difference.mean for row in board.rows if row.vs_equal is not None}
    assert table.vs_equal_fresh.to_dict() == pytest.approx(means)
    html = page(report, figures=False).decode()
    section = html.split(f'<h2 id="fresh">{TITLE}</h2>')[1].split("</section>")[0]
    assert re.findall(r'<th scope="row" class="first"><bdi>(\w+)</bdi>', section) == list(table.index)
    assert '<a href="#fresh">' in html and CAPTION in html
    last = markdown(report).decode().split("\n## ")[-1]
    assert last.startswith(TITLE) and "**toy\\[draw=1\\]**: 2 of 5 verdicts" in last
    written = io.StringIO()
    print_board(report, Console(file=written, width=200))
    assert "fresh draw: toy[draw=1]: 2 of 5 verdicts of toy hold." in written.getvalue()
    plain = write_pages(from_records(r for r in records if "draw" not in r.task_set_label), tmp_path / "plain")
    assert not (tmp_path / "plain" / DRAW_FILE).exists()
    assert TITLE not in page(plain, figures=False).decode() + markdown(plain).decode()


def test_a_file_of_runs_tells_the_same_of_its_draws(records, tmp_path):
    write_pages(from_records(records), tmp_path, figures=False)
    write_pages(read_tidy(tmp_path / "runs.csv"), tmp_path / "again", figures=False)
    pd.testing.assert_frame_equal(*(pd.read_csv(folder / DRAW_FILE) for folder in (tmp_path, tmp_path / "again")))


def test_a_name_is_no_markup_in_the_table(play):
    report = analyse(from_records([*play("toy", **{"<b>": 3}), *play("toy[draw=1]", **{"<b>": 3})]))
    section = page(report, figures=False).decode().split('id="fresh"')[1].split("</section>")[0]
    assert "&lt;b&gt;" in section and "<b>" not in section
    assert "| \\<b\\> | toy |" in markdown(report).decode()
