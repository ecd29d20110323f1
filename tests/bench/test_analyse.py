"""What the comparison says: verdicts, families, failures, bands, warnings; and anybody's tidy file."""

import dataclasses
import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bench.evidence.power import detectable
from bench.report.analyse import analyse
from bench.report.board import Rules
from bench.report.findings import conditions, findings
from bench.report.given import read_tidy
from bench.report.scores import Scores, from_records, tidy
from bench.spec import STL
from bench.store import StoreError

METRIC = [("only", "score", True)]


def noise(seed, seeds=8, scale=1.0):
    return scale * np.random.default_rng(seed).normal(size=seeds)


@pytest.fixture
def play(runs):
    """Records of made-up methods, each an offset to single-task networks at 100 points, with paired noise."""

    def make(seeds=8, task_set="toy", failed=(), start=0, **offsets):
        common = noise(0, seeds)
        found = runs(STL, {start + s: [100 + common[s]] for s in range(seeds)}, METRIC, task_set=task_set)
        for number, (method, offset) in enumerate(offsets.items()):
            own = common + noise(number + 1, seeds, 0.3)
            rows = {start + s: None if (method, s) in failed else [100 + offset + own[s]] for s in range(seeds)}
            found += runs(method, rows, METRIC, task_set=task_set)
        return found

    return make


def rows(made, label="toy"):
    """The board of some records, or of a table of scores, and its rows by method."""
    scores = made if isinstance(made, Scores) else from_records(made)
    [board] = [board for board in analyse(scores).boards if board.label == label]
    return board, {row.method: row for row in board.rows}


def test_verdicts_against_equal_weights_and_against_single_task_networks(play):
    board, found = rows(play(equal=-5, good=0.1, bad=-9, same=-5.05))
    words = {
        method: (row.vs_equal and row.vs_equal.verdict, row.vs_stl and row.vs_stl.verdict)
        for method, row in found.items()
    }
    assert words == {
        STL: (None, None),
        "equal": (None, "worse"),
        "good": ("better", "equivalent"),
        "bad": ("worse", "worse"),
        "same": ("equivalent", "worse"),
    }  # fmt: skip
    assert (board.family, board.seeds, board.smallest_p) == (3, 8, 1 / 128)
    assert found["good"].vs_equal.wins == found["good"].vs_equal.pairs == 8
    assert found["bad"].vs_equal.wins == 0
    assert found["good"].vs_equal.difference.mean == pytest.approx(
        found["good"].delta_task.mean - found["equal"].delta_task.mean
    )


def test_p_is_that_of_all_sign_flips_of_the_family_jointly(play):
    """Worked out here by brute force: step-down, the largest |t| of those not yet rejected."""
    _, found = rows(play(seeds=6, equal=-5, good=-4.2, other=-5.3))
    d = np.stack([found[m].vs_equal.per_seed[0] for m in ("good", "other")], 1)

    def t(x):
        return np.abs(x.mean(0)) / (x.std(0, ddof=1) / np.sqrt(len(x)))

    flips = [t(d * np.array(signs)[:, None]) for signs in itertools.product((-1, 1), repeat=6)]
    observed = t(d)
    first, second = np.argsort(-observed)
    p_first = np.mean([flip.max() >= observed[first] - 1e-9 for flip in flips])
    p_second = max(p_first, np.mean([flip[second] >= observed[second] - 1e-9 for flip in flips]))
    names = ("good", "other")
    assert found[names[first]].vs_equal.p == pytest.approx(p_first)
    assert found[names[second]].vs_equal.p == pytest.approx(p_second)


@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
def test_at_five_seeds_or_fewer_nothing_is_better_or_worse(play, seeds):
    board, found = rows(play(seeds=seeds, equal=-5, good=5, same=-5))
    assert found["good"].vs_equal.verdict == "not enough seeds"
    assert found["same"].vs_equal.verdict == ("equivalent" if seeds == 5 else "not enough seeds")
    assert board.detectable == float("inf") or seeds == 1
    assert {row.letters for row in found.values()} == {"a"}
    assert {row.band for row in found.values()} == {(1, 4)}


def test_the_same_numbers_are_called_identical(runs, play):
    records = play(equal=-5)
    twin = [r for r in records if r.spec.method == "equal"]
    values = {r.spec.seed: [r.result.scores["only"]["score"].value] for r in twin}
    _, found = rows([*records, *runs("alias", values, METRIC)])
    assert found["alias"].vs_equal.verdict == "identical"


def test_bands_and_letters_go_with_the_pairwise_tests(play):
    board, found = rows(play(equal=-5, good=3, near=-5.1))
    assert [(row.method, row.letters, row.band) for row in board.rows] == [
        ("good", "a", (1, 1)),
        (STL, "b", (2, 2)),
        ("equal", "c", (3, 4)),
        ("near", "c", (3, 4)),
    ]
    pairs = board.pairs
    i, j = pairs.methods.index("good"), pairs.methods.index("equal")
    assert pairs.difference[i, j] == -pairs.difference[j, i] == pytest.approx(found["good"].vs_equal.difference.mean)
    assert (pairs.wins[i, j], pairs.count[i, j]) == (8, 8)
    assert [{pairs.methods[k] for k in clique} for clique in pairs.cliques] == [{"good"}, {STL}, {"equal", "near"}]


def test_what_could_have_been_detected_is_at_the_median_spread(play):
    board, found = rows(play(equal=-5, good=3, bad=-9))
    spreads = [found[m].vs_equal.per_seed[0].std(ddof=1) for m in ("good", "bad")]
    assert board.detectable == pytest.approx(detectable(8, 2) * np.median(spreads))


def test_a_failed_run_counts_as_the_untrained_predictor(play):
    _, found = rows(play(equal=-5, shaky=1, failed=[("shaky", 2)]))
    per_seed = found["shaky"].vs_equal.per_seed[0]
    assert found["shaky"].failed == 1
    assert found["shaky"].seeds == 8
    assert per_seed[2] < -90  # untrained: 0.1 of 100
    assert (np.delete(per_seed, 2) > 4).all()


def test_a_verdict_that_hangs_on_failed_runs_alone_is_withdrawn_and_said(play):
    """Without its failures it would be like equal weights; with them worse."""
    failed = [("shaky", s) for s in (0, 2, 3, 4, 5, 6, 7)]
    _, found = rows(play(equal=-5, shaky=-5.3, other=3, failed=failed))
    assert found["shaky"].vs_equal.verdict == "undecided"
    assert "worse than equal only with its failed runs counted (without them: " in found["shaky"].note
    assert found["other"].vs_equal.verdict == "better"


def test_a_skipped_run_is_missing_and_no_outcome(runs, play):
    records = play(equal=-5)
    some = {s: [100.0 + noise(7)[s]] for s in range(6)}
    skipped = runs("picky", {6: None, 7: None}, METRIC, status="skipped")
    _, found = rows([*records, *runs("picky", some, METRIC), *skipped])
    assert (found["picky"].seeds, found["picky"].failed) == (6, 0)
    assert found["picky"].vs_equal.pairs == 6
    assert np.isnan(found["picky"].vs_equal.per_seed[0][6:]).all()
    assert found["picky"].vs_equal.verdict == "better"


def test_over_task_sets_differences_are_averaged_and_tested_jointly(play):
    records = [*play(equal=-5, good=3, flat=-5), *play(task_set="other", equal=-1, good=0, flat=-1, extra=0)]
    board, found = rows(records, "all")
    assert set(found) == {STL, "equal", "good", "flat"}
    assert found["good"].vs_equal.difference.mean == pytest.approx(
        np.mean([rows(records, name)[1]["good"].vs_equal.difference.mean for name in ("toy", "other")])
    )
    assert found["good"].vs_equal.verdict == "better"
    assert found["flat"].vs_equal.verdict == "equivalent"
    assert found["good"].vs_equal.pairs == 16
    assert board.suite
    assert board.family == 2


def test_a_mean_over_task_sets_that_hides_opposites_says_so(play):
    records = [*play(equal=-5, mixed=5, good=3), *play(task_set="other", equal=-1, mixed=-4, good=3)]
    found = rows(records, "all")[1]
    assert found["mixed"].note == "better than equal weights on toy, worse on other"
    assert found["good"].note == ""


def test_over_task_sets_too_few_seeds_on_one_are_too_few(play):
    records = [*play(equal=-5, good=3), *play(seeds=5, task_set="other", equal=-1, good=3)]
    board, found = rows(records, "all")
    assert found["good"].vs_equal.verdict == "not enough seeds"
    assert {row.letters for row in found.values()} == {"a"}
    assert {row.band for row in found.values()} == {(1, 3)}
    assert not any("leads" in "".join(sentence) for sentence in findings(board))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seeds", [1, 2])
def test_one_or_two_seeds_on_several_sets_warn_of_nothing(play, seeds):
    records = [*play(seeds=seeds, equal=-5, good=3), *play(seeds=seeds, task_set="other", equal=-5, good=3)]
    board, found = rows(records, "all")
    assert found["good"].vs_equal.verdict == "not enough seeds"
    assert not board.detectable < float("inf")


def test_seeds_that_were_not_asked_for_together_are_noted(play):
    first, later = play(equal=-5, seeds=5), play(equal=-5, seeds=3, start=5)
    ask = lambda records, seeds: [  # noqa: E731
        r.model_copy(update={"provenance": r.provenance.model_copy(update={"seeds": tuple(seeds)})}) for r in records
    ]
    board, _ = rows([*ask(first, range(5)), *ask(later, range(8))])
    [note] = board.notes
    assert note.startswith("its seeds were not asked for together (0-4 and 0-7): if some were added after a look")
    assert rows([*ask(first, range(8)), *ask(later, range(8))])[0].notes == ()
    [far] = rows([*ask(first, range(5)), *ask(later, [0, 10**30])])[0].notes  # nobody counts what is between
    assert f"(seeds 0, {10**30} and 0-4)" in far
    [short] = rows(ask(first, range(8)))[0].notes
    assert short == "3 of the 8 seeds that were asked for are not there yet"


def test_a_baseline_near_zero_is_warned_of(runs):
    values = {s: [float(v)] for s, v in enumerate(noise(3))}
    board, _ = rows([*runs(STL, values, METRIC), *runs("equal", values, METRIC)])
    [note] = board.notes
    assert note.startswith("only score of single-task learning is ")


def test_gains_by_metric_are_tested_for_exploring(play):
    _, found = rows(play(equal=-5, same=0))
    assert found["equal"].gain_p[0] <= 0.05
    values = found["equal"].vs_stl.per_seed[0]
    assert found["equal"].gain_p[0] >= stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=np.inf
    ).pvalue  # fmt: skip


def test_holm_is_that_of_each_methods_own_flips(play):
    """Worked out from the exact test of each column; more careful than max-T where methods go together."""
    records = play(equal=-5, good=-4.4, other=-5.3, third=-4.6)
    found = {row.method: row for row in analyse(from_records(records), rules=Rules(correction="holm")).boards[0].rows}
    names = ("good", "other", "third")
    alone = [
        stats.permutation_test(
            (found[m].vs_equal.per_seed[0],), np.mean, permutation_type="samples", n_resamples=np.inf
        ).pvalue
        for m in names
    ]
    order = np.argsort(alone)
    expected = np.minimum(np.maximum.accumulate([alone[i] * (3 - k) for k, i in enumerate(order)]), 1)
    assert [found[names[i]].vs_equal.p for i in order] == pytest.approx(expected)
    assert "Holm" in conditions(analyse(from_records(records), rules=Rules(correction="holm")).boards[0])


def test_the_margin_of_equivalence_is_a_choice(play):
    records = play(equal=-5, near=-6.5)
    words = [
        {row.method: row for row in analyse(from_records(records), rules=Rules(margin=m)).boards[0].rows}[
            "near"
        ].vs_equal.verdict
        for m in (1.0, 2.0)
    ]
    assert words == ["worse", "equivalent"]


# Anybody's file ----------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path, play):
    """Write a tidy file of some runs, after a change to it."""

    def write(change=lambda frame: frame, **given):
        path = tmp_path / "mine.csv"
        records = play(**(given or {"equal": -5, "good": 3, "shaky": 1, "failed": [("shaky", 2)]}))
        change(tidy(from_records(records))).to_csv(path, index=False)
        return path, records

    return write


def strip(board):
    """A board without what a tidy file does not tell."""
    plain = dataclasses.replace(board, recipe="", points={})
    return repr(
        dataclasses.replace(
            plain, rows=tuple(dataclasses.replace(r, cost=None, passes={}, note="") for r in plain.rows)
        )
    )


def test_a_tidy_file_gives_the_same_evidence_as_the_records(file):
    path, records = file()
    [mine], [ours] = analyse(read_tidy(path)).boards, analyse(from_records(records)).boards
    assert strip(mine) == strip(ours)
    assert "not known" in mine.recipe


def test_only_what_is_needed_need_be_there(file):
    path, _ = file(lambda frame: frame.drop(columns=["split", "status", "untrained"]), equal=-5, good=3)
    assert rows(read_tidy(path))[1]["good"].vs_equal.verdict == "better"


def test_without_untrained_scores_a_method_with_a_failed_run_has_no_gain_and_no_verdict(file):
    path, _ = file(lambda frame: frame.drop(columns=["untrained"]))
    board, found = rows(read_tidy(path))
    row = found["shaky"]
    assert (row.failed, row.imputed, row.delta_task, row.vs_equal, row.vs_stl) == (1, 0, None, None, None)
    assert row.note == (
        "no Δ and no verdict: 1 of its runs failed, and the untrained scores with which they would count are not known"
    )
    said = ["".join(sentence) for sentence in findings(board)]
    assert not any("untrained" in sentence for sentence in said)
    assert "Failed runs (1) have no part in the numbers, as the notes say: shaky." in said
    assert board.rows[-1].method == "shaky"


def test_rows_of_other_splits_are_left_out(file):
    path, _ = file(lambda f: pd.concat([f, f.assign(split="train", value=0)]), equal=-5, good=3)
    assert rows(read_tidy(path))[1]["good"].vs_equal.verdict == "better"


def changed(column, value, line=3):
    def change(frame):
        frame = frame.astype({column: object})
        frame.loc[line, column] = value
        return frame

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f.drop(columns="seed"), "mine.csv has no column seed: it needs task_set, method, seed"),
        (changed("value", "high"), "mine.csv, line 5: its value is not a number"),
        (changed("seed", 1.5), "mine.csv, line 5: its seed is not a whole number"),
        (changed("method", None), "mine.csv, line 5: its method is empty"),
        (changed("status", "fine"), "mine.csv, line 5: its status is none of ok, skipped, crashed"),
        (changed("higher_is_better", "up"), "mine.csv, line 5: its higher_is_better is neither True nor False"),
        (lambda f: pd.concat([f, f.tail(1)]), "this metric of this run is there twice"),
        (lambda f: f[f.method != STL], "mine.csv has no rows of the method 'stl'"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_line(file, change, said):
    path, _ = file(change)
    with pytest.raises(StoreError) as caught:
        read_tidy(path)
    assert said in str(caught.value)
