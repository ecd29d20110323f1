"""Verdicts over task sets: the tests, what a board has of them, and what every page says of the two questions."""

import csv
import io
import itertools
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from made_records import make_choice, make_runs
from rich.console import Console
from scipy import stats

from bench.evidence.power import detectable
from bench.evidence.sets import detectable_over_sets, scaled, verdict_over_sets
from bench.evidence.significance import max_t, signed_rank_test, smallest_p
from bench.report.analyse import analyse
from bench.report.board import Report, Rules
from bench.report.columns import COLUMNS, shown_on
from bench.report.findings import conditions_over_sets, findings
from bench.report.pages.csv import csv_bytes, leaderboard
from bench.report.pages.html import page
from bench.report.pages.terminal import print_board
from bench.report.pages.text import latex, markdown
from bench.report.scores import Scores, from_records
from bench.spec import STL
from bench.tuning.choose import SEEDS

METRIC = [("only", "score", True)]
AHEAD = [3.0, 15.0, 1.0, 2.0, 0.5, 4.0, 2.5, 0.7]
EVENLY = [3.0, 4.0, 1.0, 2.0, 2.5, 3.5, 2.2, 1.7]
NAN = float("nan")


def by_all_flips(d):
    """Step-down max-T of `[D, methods]` by listing every sign flip of whole sets, with the usual t."""

    def t(x):
        return np.abs(x.mean(0)) / (x.std(0, ddof=1) / math.sqrt(len(x)))

    found, order = t(d), np.argsort(-t(d))
    flips = [t(d * np.array(signs)[:, None]) for signs in itertools.product((1, -1), repeat=len(d))]
    p, running = np.empty(len(found)), 0.0
    for place, method in enumerate(order):
        left = order[place:]
        share = np.mean([flipped[left].max() >= found[method] - 1e-9 for flipped in flips])
        p[method] = running = max(running, share)
    return p


# The evidence ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sets", [6, 8])
def test_p_over_sets_is_that_of_all_flips_of_whole_sets_of_the_family_jointly(sets):
    d = np.random.default_rng(sets).normal([2.0, 0.5, -1.0], [1.0, 1.0, 3.0], size=(sets, 3))
    np.testing.assert_allclose(max_t(d), by_all_flips(d))


@settings(max_examples=25, deadline=None)
@given(arrays(float, st.integers(6, 9), elements=st.integers(-40, 40).map(float), unique=True))
def test_p_of_one_method_over_sets_is_scipys(d):
    expected = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    assert max_t(d[:, None])[0] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("d", "p", "expected"),
    [
        (AHEAD, 0.04, "better"),
        (np.negative(AHEAD), 0.04, "worse"),
        (AHEAD, 0.06, "undecided"),
        (AHEAD[:6], 0.04, "better"),
        (AHEAD[:5], 0.001, "not enough task sets"),  # whatever is claimed for it
        ([*AHEAD[:5], NAN, NAN], 0.001, "not enough task sets"),
        ([0.1, -0.2, 0.3, 0.0, 0.2, 0.1], 0.001, "equivalent"),
        ([0.1, -0.2, 0.3], 0.25, "not enough task sets"),  # a t test of three sets would call it equivalent
        ([0.0] * 6, 1.0, "identical"),
        ([0.0] * 3, 1.0, "not enough task sets"),
        ([], 1.0, "not enough task sets"),
    ],
)
def test_the_verdict_over_sets(d, p, expected):
    assert verdict_over_sets(d, p) == expected


def test_the_margin_and_the_level_over_sets_are_the_callers():
    assert verdict_over_sets(AHEAD, 0.01, margin=10) == "equivalent"
    assert verdict_over_sets(AHEAD, 0.01, alpha=0.005) == "not enough task sets"
    assert verdict_over_sets([*AHEAD, 1.0], 0.006, alpha=0.005) == "undecided"


@settings(max_examples=40, deadline=None)
@given(arrays(float, st.integers(6, 10), elements=st.floats(-5, 5)), st.floats(0.5, 5))
def test_equivalence_over_sets_is_two_one_sided_t_tests(d, margin):
    if d.std(ddof=1) < 1e-3:
        return
    below = stats.ttest_1samp(d, -margin, alternative="greater").pvalue
    above = stats.ttest_1samp(d, margin, alternative="less").pvalue
    if abs(max(below, above) - 0.05) > 1e-9:
        assert (verdict_over_sets(d, 0.5, margin=margin) == "equivalent") == (max(below, above) <= 0.05)


def test_one_set_that_rules_the_mean_leaves_a_method_undecided_where_it_is_against_the_others():
    d = np.array([15.0, -1, -1.1, -0.9, -1.2, -0.8, -1.05, -0.95])
    assert verdict_over_sets(d, max_t(d[:, None])[0]) == "undecided"
    assert signed_rank_test(d) == stats.wilcoxon(d, method="exact").pvalue


def test_in_units_of_each_set_no_set_is_larger_than_another_and_the_size_of_one_changes_nothing():
    d = np.random.default_rng(0).normal(1.0, 1.0, size=(8, 4))
    found = scaled(d)
    np.testing.assert_allclose((found**2).mean(1), 1)
    np.testing.assert_array_equal(np.sign(found), np.sign(d))
    np.testing.assert_allclose(scaled(d * np.array([1, 1, 50, 1, 0.01, 1, 1, 1])[:, None]), found)
    np.testing.assert_array_equal(scaled(d[:, :1]), np.sign(d[:, :1]))  # of one method the signs are left
    assert max_t(scaled(d)) == pytest.approx(by_all_flips(found))


@pytest.mark.filterwarnings("error")
def test_in_units_of_a_set_what_is_missing_stays_so_and_a_set_without_difference_is_zero():
    np.testing.assert_array_equal(scaled([[NAN, 3.0], [0.0, 0.0], [NAN, NAN]]), [[NAN, 1.0], [0.0, 0.0], [NAN, NAN]])


def test_what_could_be_found_is_the_median_spread_over_sets_times_what_power_says():
    d = np.random.default_rng(0).normal(0, [1.0, 2.0, 9.0], size=(8, 3))
    spread = sorted(stats.tstd(d[:, j]) for j in range(3))
    assert detectable_over_sets(d) == pytest.approx(spread[1] * detectable(8, 3))
    assert detectable_over_sets(d[:5]) == math.inf
    assert math.isnan(detectable_over_sets(np.zeros((8, 0))))


# The board ---------------------------------------------------------------------------------------------------


def made(sets=8, seeds=3, failed=(), start=0, **offsets):
    """Records on so many sets. An offset is one number, or one a set: the points from single-task networks at 100."""
    found = []
    for place in range(sets):
        common = np.random.default_rng(place).normal(size=seeds)
        found += make_runs(STL, {s: [100 + common[s]] for s in range(seeds)}, METRIC, task_set=f"set{place}")
        for number, (method, offset) in enumerate(offsets.items()):
            own = 0.1 * np.random.default_rng([place, number]).normal(size=seeds) + np.broadcast_to(offset, sets)[place]
            values = {s: None if (method, place, s) in failed else [100 + common[s] + own[s]] for s in range(seeds)}
            found += make_runs(method, values, METRIC, task_set=f"set{place}")
    return found


OFFSETS = {
    "equal": -5.0,
    "good": np.add(-5, EVENLY),
    "bad": np.subtract(-5, EVENLY),
    "near": -5.1,
    "mixed": [-2.0, -8.0, -1, -9, -5, -3, -7, -5],
}


def over_all(records, rules=None):
    scores = records if isinstance(records, Scores) else from_records(records)
    [board] = [board for board in analyse(scores, rules=rules or Rules()).boards if board.suite]
    return board, {row.method: row for row in board.rows}


@pytest.fixture(scope="module")
def eight():
    return made(**OFFSETS)


def test_a_board_over_eight_sets_has_a_verdict_for_others_like_them(eight):
    board, found = over_all(eight)
    words = {m: row.sets_vs_equal and row.sets_vs_equal.verdict for m, row in found.items()}
    assert words == {
        "equal": None, STL: None, "good": "better", "bad": "worse", "near": "equivalent", "mixed": "undecided"
    }  # fmt: skip
    assert {m: row.sets_vs_stl.verdict for m, row in found.items() if m != STL} == {
        "equal": "worse", "good": "worse", "bad": "worse", "near": "worse", "mixed": "worse"
    }  # fmt: skip
    assert found[STL].sets_vs_stl is None
    assert (board.beyond.sets, board.beyond.smallest_p, board.beyond.enough) == (8, 1 / 128, True)


def test_its_numbers_are_those_of_the_means_of_each_set(eight):
    board, found = over_all(eight)
    methods = ["good", "bad", "near", "mixed"]
    means = np.stack([[np.mean(d) for d in found[m].vs_equal.per_seed] for m in methods], 1)
    p, in_units = by_all_flips(means), by_all_flips(means / np.sqrt((means**2).mean(1, keepdims=True)))
    for place, method in enumerate(methods):
        own = found[method].sets_vs_equal
        np.testing.assert_allclose(own.means, means[:, place])
        interval = stats.ttest_1samp(own.means, 0).confidence_interval(0.95)
        assert (own.difference.low, own.difference.high) == pytest.approx(interval)
        assert own.difference.mean == pytest.approx(found[method].vs_equal.difference.mean)
        assert own.p == pytest.approx(p[place])
        assert own.scaled_p == pytest.approx(in_units[place])
        assert own.signed_rank_p == pytest.approx(stats.wilcoxon(own.means, method="exact").pvalue)
        assert own.wins == (means[:, place] > 0).sum()
    spread = np.median(means.std(0, ddof=1))
    assert board.beyond.detectable == pytest.approx(spread * detectable(8, 4))


def test_seeds_make_a_method_better_on_these_sets_that_is_undecided_on_others():
    """It wins by far on one set, a little on others, and loses on the rest: surely so, with any seeds."""
    _, found = over_all(made(seeds=8, equal=-5.0, one=np.add(-5, [20, 1, 1, 1, -1, -1, -1, -1])))
    assert found["one"].vs_equal.verdict == "better"
    assert found["one"].sets_vs_equal.verdict == "undecided"


def test_a_set_with_a_large_gain_can_leave_a_method_undecided_that_is_ahead_on_every_set():
    """The others of the family have as large a t after some flips. In units of each set it is ahead, and by ranks."""
    _, found = over_all(made(**{**OFFSETS, "good": np.add(-5, AHEAD)}))
    good = found["good"].sets_vs_equal
    assert (good.wins, good.verdict, good.signed_rank_p) == (8, "undecided", 1 / 128)
    assert good.scaled_p <= 0.05 < good.p


def test_holms_correction_is_of_each_methods_own_flips(eight):
    _, found = over_all(eight, Rules(correction="holm"))
    alone = {m: max_t(found[m].sets_vs_equal.means[:, None])[0] for m in ("good", "bad", "near", "mixed")}
    assert found["good"].sets_vs_equal.p == pytest.approx(min(1, 4 * alone["good"]))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seeds", [1, 3])
def test_below_six_sets_there_are_not_enough_and_no_number_that_speaks_of_others(seeds):
    board, found = over_all(made(5, seeds, equal=-5, good=-1, same=-5))
    for row in (found["good"], found["same"]):
        assert row.sets_vs_equal.verdict == "not enough task sets"
        numbers = row.sets_vs_equal
        assert np.isnan([numbers.p, numbers.scaled_p, numbers.signed_rank_p, numbers.difference.low]).all()
    assert not board.beyond.enough
    assert conditions_over_sets(board) == (
        "On sets like these: not enough task sets. An exact test over task sets needs 6, which is 1 more than these 5."
    )
    assert smallest_p(5) > 0.05


def test_a_verdict_for_other_sets_that_only_failed_runs_make_is_not_given():
    lost = [("bad", place, 0) for place in range(8)]
    _, found = over_all(made(failed=lost, equal=-5.0, bad=-5.05, worse=-9.0))
    assert found["bad"].sets_vs_equal.verdict == "undecided"
    assert "on sets like these worse than equal only with its failed runs counted" in found["bad"].note
    assert "(without them: equivalent)" in found["bad"].note
    assert found["worse"].sets_vs_equal.verdict == "worse"


def test_a_board_of_one_set_says_nothing_of_others(eight):
    for board in analyse(from_records(eight)).boards:
        if not board.suite:
            assert board.beyond is None
            assert conditions_over_sets(board) == ""
            assert all(row.sets_vs_equal is None and row.sets_vs_stl is None for row in board.rows)


def test_beside_a_tuned_verdict_for_other_sets_stands_the_untuned_one(eight):
    _, choice = make_choice("good", {1.0: dict.fromkeys(SEEDS, [0.5] * 3)}, [])
    scores = from_records(eight)
    tuned = tuple(replace(run, choice=choice) for run in scores.runs)
    untuned = from_records(made(equal=-5.0, good=-5.1, bad=-9.0, near=-5.1, mixed=-5.0))
    board, found = over_all(replace(scores, runs=tuned, untuned=untuned))
    assert {m: row.untuned and row.untuned.sets_verdict for m, row in found.items()} == {
        STL: None, "equal": None, "good": "equivalent", "bad": "worse", "near": "equivalent", "mixed": "equivalent"
    }  # fmt: skip
    assert found["good"].sets_vs_equal.verdict == "better"
    assert "Untuned, on sets like these" in texts(Report((board,), {}))["html"]
    assert leaderboard(Report((board,), {})).set_index("method")["untuned_sets_vs_equal_verdict"]["bad"] == "worse"


# The pages ---------------------------------------------------------------------------------------------------


def texts(report):
    written = io.StringIO()
    print_board(report, Console(file=written, width=250))
    return {
        "terminal": written.getvalue(),
        "html": page(report, figures=False).decode(),
        "markdown": markdown(report).decode(),
        "latex": latex(report).decode(),
    }


@pytest.fixture(scope="module")
def pages(eight):
    return texts(analyse(from_records(eight)))


def test_every_page_has_the_verdict_for_other_sets_and_its_conditions(pages):
    for name, text in pages.items():
        assert "On sets like these" in text, name
        assert "sign flips of whole sets" in text, name
    assert "better: **good**" in pages["markdown"].split("On other task sets like these 8")[1].splitlines()[0]


def test_only_boards_over_sets_have_the_column(eight):
    report = analyse(from_records(eight))
    one = texts(Report(report.boards[1:], {}))
    assert not any("On sets like these" in text for text in one.values())


def test_the_html_page_asks_both_questions_and_has_a_row_for_each_method_with_what_it_can_show(pages):
    heading = "<h3>On these sets, and on sets like these</h3>"
    [part] = re.findall(rf'{heading}.*?<p class="conditions">.*?</p>', pages["html"], re.S)
    assert "The seeds are the sample" in part
    assert "The task sets are the sample" in part
    assert "sample of convenience" in part
    rows = {}
    for row in re.findall(r'<tr><th scope="row".*?</tr>', part, re.S):
        method, *cells = re.sub(r"\s*<[^>]*>\s*", "|", row).strip("|").split("||")
        rows[method.strip("|")] = " ".join(" ".join(cells).replace("|", " ").split())
    assert set(rows) == {"equal", "good", "bad", "near", "mixed"}
    assert re.search(r"\+1\.\d to \+4\.\d 8/8 ▲ better p = \.0\d\d p = \.0\d\d p = \.008 ▼ worse", rows["good"])
    assert re.search(r"−4\.\d to −0\.\d 0/8 ▼ worse p = \.0\d\d p = \.0\d\d p = \.008 ▼ worse", rows["bad"])


def test_below_six_sets_the_html_page_asks_both_questions_and_says_what_is_missing():
    text = texts(analyse(from_records(made(3, equal=-5, good=-1))))
    assert "On sets like these</dt>" in text["html"]
    assert "Sets in favour" not in text["html"]
    for name in ("html", "markdown", "terminal"):
        assert "not enough task sets. An exact test over task sets needs 6, which is 3 more than these 3" in re.sub(
            r"\s+", " ", text[name]
        ), name


def test_a_reader_is_told_what_each_column_of_the_table_means(pages):
    legend = pages["html"].split("The columns of the leaderboard:")[1]
    for column in shown_on("sets", sets=True):
        assert f"<dt>{column.heading}</dt>" in legend


def test_the_sentences_below_six_sets_speak_of_these_sets_alone():
    board, _ = over_all(made(5, equal=-5, good=-1))
    assert not any("like these" in "".join(sentence) for sentence in findings(board))


def test_the_file_has_the_numbers_in_the_rows_over_task_sets_alone(eight):
    report = analyse(from_records(eight))
    lines = list(csv.DictReader(io.StringIO(csv_bytes(leaderboard(report)).decode())))
    names = [c.name for c in COLUMNS if c.name.startswith("sets") and c.value is not None]
    for line in lines:
        if line["task_set"] != "all":
            assert not any(line[name] for name in names)
    [good] = [line for line in lines if (line["task_set"], line["method"]) == ("all", "good")]
    assert (good["sets"], good["sets_vs_equal_verdict"], good["sets_vs_equal_wins"]) == ("8", "better", "8")
    assert float(good["sets_vs_equal"]) == pytest.approx(float(good["vs_equal"]))
    assert float(good["sets_vs_equal_low"]) < float(good["vs_equal_low"])
    assert float(good["sets_vs_equal_signed_rank_p"]) == 1 / 128
    assert good["sets_vs_stl_verdict"] == "worse"
