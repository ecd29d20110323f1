"""What the board over all task sets says of each of them, and of itself without each of them."""

import io
import math
import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bench.report import analyse as analysis
from bench.report import figures
from bench.report.analyse import analyse
from bench.report.board import Rules
from bench.report.findings import MARKS, findings, signed
from bench.report.pages.csv import csv_bytes, leaderboard
from bench.report.pages.html import page
from bench.report.pages.text import markdown
from bench.report.scores import from_records
from bench.report.stability import agreement
from bench.spec import STL

METRIC = [("only", "score", True)]
SETS = ("ants", "bees", "crabs", "dogs")
OFFSETS = {
    "steady": [3, 3, 3, 3],
    "lucky": [4, -0.1, 0.2, 0.0],
    "mixed": [2, -2, 2, -2],
    "same": [0, 0, 0, 0],
}
"""Of Δ task from equal weights on each set, about."""


@pytest.fixture
def play(runs):
    """Records of made-up methods on some task sets, by their offsets from equal weights on each set."""

    def make(offsets, sets=SETS, seeds=6, failed=()):
        found = []
        for place, task_set in enumerate(sets):
            draw = np.random.default_rng(place)
            common = draw.normal(size=seeds)
            found += runs(STL, {s: [100 + common[s]] for s in range(seeds)}, METRIC, task_set=task_set)
            for method, own in {"equal": [0] * len(sets), **offsets}.items():
                values = 95 + own[place] + common + 0.3 * draw.normal(size=seeds)
                rows = {s: None if (method, task_set, s) in failed else [v] for s, v in enumerate(values)}
                found += runs(method, rows, METRIC, task_set=task_set)
        return found

    return make


def suite(records, **rules):
    [board] = [board for board in analyse(from_records(records), rules=Rules(**rules)).boards if board.suite]
    return board


def by_method(board):
    return {row.method: row for row in board.rows}


@pytest.mark.parametrize("correction", ["max-t", "holm"])
def test_what_is_said_without_a_set_is_what_an_analysis_of_the_others_says(play, correction):
    """Also of a rule whose verdict may hang on failed runs."""
    failed = [("mixed", "bees", s) for s in (1, 2, 4)]
    records = play(OFFSETS, failed=failed)
    found = by_method(suite(records, correction=correction))
    assert {one.label for one in found["lucky"].left_out} == set(SETS)
    for out in SETS:
        others = by_method(suite([r for r in records if r.spec.task_set != out], correction=correction))
        for method in OFFSETS:
            [own] = [one for one in found[method].left_out if one.label == out]
            assert own.verdict == others[method].vs_equal.verdict
            assert own.difference == pytest.approx(others[method].vs_equal.difference.mean)


def test_a_mean_without_a_set_is_that_of_the_other_sets(play):
    row = by_method(suite(play(OFFSETS)))["lucky"]
    means = np.array([d.mean() for d in row.vs_equal.per_seed])
    for place, one in enumerate(row.left_out):
        assert one.difference == pytest.approx(np.delete(means, place).mean())


def test_a_verdict_that_hangs_on_one_set_is_said_to_change_without_it(play):
    found = by_method(suite(play(OFFSETS)))
    assert found["lucky"].vs_equal.verdict == "better"
    assert [(one.label, one.verdict) for one in found["lucky"].changes_without] == [("ants", "equivalent")]
    assert found["steady"].changes_without == found["same"].changes_without == ()
    assert found["equal"].left_out == found[STL].left_out == ()


def test_the_family_stays_the_same_without_a_set(play, monkeypatch):
    """A method that is missing on one set alone has no row over all, and does not come back without that set."""
    elsewhere = [
        r for r in play({**OFFSETS, "guest": [9] * 4}) if (r.spec.method, r.spec.task_set) != ("guest", "ants")
    ]
    sizes = []
    whole = analysis.max_t
    monkeypatch.setattr(analysis, "max_t", lambda *sets: (sizes.append((len(sets), sets[0].shape[1])), whole(*sets))[1])
    board = suite(elsewhere)
    assert "guest" not in by_method(board)
    assert sizes.count((3, len(OFFSETS))) == len(SETS)
    assert {size for sets, size in sizes if sets == 3} == {len(OFFSETS)}


def test_of_two_sets_none_is_left_out(play):
    board = suite(play({method: own[:2] for method, own in OFFSETS.items()}, sets=SETS[:2]))
    assert all(row.left_out == () for row in board.rows)
    assert figures.stability(board) is None
    assert b"When one task set is left out" not in page(analyse(from_records(play(OFFSETS, sets=SETS[:2]))))


def test_of_too_many_methods_none_is_left_out_and_a_note_says_so(play, monkeypatch):
    monkeypatch.setattr(analysis, "MOST_IN_PAIRS", 3)
    board = suite(play(OFFSETS))
    assert all(row.left_out == () for row in board.rows)
    assert any(
        note.endswith("there are no bands and no letters here, and no task set is left out") for note in board.notes
    )


def test_the_agreement_of_the_sets_is_friedmans(play):
    report = analyse(from_records(play(OFFSETS)))
    [board] = [board for board in report.boards if board.suite]
    gains = [{r.method: r.delta_task.mean for r in b.rows if r.method != STL} for b in report.boards if not b.suite]
    chi2, _ = stats.friedmanchisquare(*([own[method] for own in gains] for method in gains[0]))
    assert board.agreement == pytest.approx(chi2 / (len(SETS) * (len(gains[0]) - 1)))
    said = agreement(board)
    assert said.startswith(
        f"Kendall's W is {board.agreement:.2g}. It says how far these 4 task sets agree on the order"
    )
    assert "of the 5 methods" in said and "W would be 0.25 on average" in said
    assert all(math.isnan(own.agreement) and agreement(own) == "" for own in report.boards if not own.suite)


def test_the_column_of_the_file_names_the_sets_and_what_is_said_without_them(play):
    frame = pd.read_csv(io.BytesIO(csv_bytes(leaderboard(analyse(from_records(play(OFFSETS)))))))
    over_all = frame[frame.task_set == "all"].set_index("method").changes_without
    assert over_all["lucky"] == "ants: equivalent"
    assert over_all["steady"] == "none"
    assert over_all[["equal", STL]].isna().all()
    assert frame[frame.task_set != "all"].changes_without.isna().all()


def test_the_page_has_a_section_and_a_figure_of_it(play):
    text = page(analyse(from_records(play(OFFSETS)))).decode()
    assert text.count("<h3>When one task set is left out</h3>") == 1
    section = text.split("<h3>When one task set is left out</h3>")[1].split("<figure")[0]
    assert "Kendall&#39;s W is" in section
    assert "ants: equivalent" in section and "1 of 4" in section
    assert text.count("<strong>When one task set is left out.</strong>") == 1


def test_the_short_sentences_name_what_changes(play):
    board = suite(play(OFFSETS))
    changing = [row for row in board.rows if row.changes_without]
    [said] = ["".join(s) for s in findings(board) if s[0].startswith("If one task set")]
    assert said.startswith(
        f"If one task set is left out, {len(changing)} of 4 verdicts against equal weights can change: "
    )
    assert "lucky (without ants)" in said
    calm = suite(play({"steady": [3] * 4, "same": [0] * 4}))
    assert ["If one task set is left out, ", "each verdict against equal weights is the same."] in findings(calm)
    assert "can change: " in markdown(analyse(from_records(play(OFFSETS)))).decode()


def test_the_figure_tells_every_difference_and_names_the_sets_that_matter(play):
    board = suite(play(OFFSETS))
    plot = figures.stability(board)
    assert plot.heads == ["Method", "All sets", "Verdict", *(f"without {label}" for label in SETS)]
    rows = {row[0]: row for row in plot.rows}
    assert set(rows) == set(OFFSETS)
    numbers = [f"{one.difference:+.2f}".replace("-", "−") for one in by_method(board)["lucky"].left_out]
    assert rows["lucky"][3:] == [f"{numbers[0]} equivalent", *numbers[1:]]
    written = [text.get_text() for text in plot.figure.axes[0].texts]
    place = {method: written.index(method) for method in OFFSETS}
    assert written[place["lucky"] + 1] == "ants"
    assert written[place["steady"] + 1] == ""


def test_the_page_has_the_verdicts_of_every_set_side_by_side(play):
    made = [record for record in play(OFFSETS) if (record.spec.method, record.spec.task_set) != ("lucky", "dogs")]
    report = analyse(from_records(made))
    single = {board.label: by_method(board) for board in report.boards if not board.suite}
    text = page(report, figures=False).decode()
    table = text[text.index("<h3>On each task set</h3>") :].split("</table>")[0]
    heads, *rows = re.findall("<tr>(.*?)</tr>", table, re.DOTALL)
    assert re.findall("<bdi>(.*?)</bdi>", heads) == list(SETS)
    found = {re.search("<bdi>(.*?)</bdi>", row)[1]: re.findall("<td class=.*?>(.*?)</td>", row) for row in rows}
    assert found.keys() == {"steady", "mixed", "same"}, (
        "equal weights are the reference, and one method is not everywhere"
    )
    for method, cells in found.items():
        assert cells == [
            f"{MARKS[own.verdict]} {signed(own.difference.mean, 1)}"
            for own in (single[label][method].vs_equal for label in SETS)
        ]


def test_a_page_of_one_set_has_no_such_table(play):
    assert "On each task set" not in page(analyse(from_records(play(OFFSETS, sets=("ants",)))), figures=False).decode()
