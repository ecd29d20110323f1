"""What remains of a rule when its weights are frozen: compared with that rule alone, and at nobody's cost."""

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from bench import cli
from bench.report.analyse import analyse
from bench.report.given import read_tidy
from bench.report.pages.csv import frozen
from bench.report.pages.html import page
from bench.report.pages.terminal import print_board
from bench.report.scores import from_records, tidy
from bench.report.tuned import from_records_and_choices
from bench.spec import STL
from bench.store import StoreError
from bench.tuning.choose import Choice, scaled

METRIC = [("only", "score", True)]
SEEDS = 8


def reading(records, others):
    """The records, each as one that reads the other with its seed."""
    upstream = {other.spec.seed: {other.name: other.key} for other in others}
    return [
        record.model_copy(
            update={"parts": record.parts.model_copy(update={"upstream": upstream[record.spec.seed]})},
        )
        for record in records
    ]


@pytest.fixture
def make(runs):
    """Records of equal weights, of two rules, and of what has the frozen weights of each: offsets to 100 points."""

    def made(task_set="toy", of_good=1.0, of_bad=0.0, seeds=range(SEEDS)):
        draw = np.random.default_rng(0)
        noise = {seed: draw.normal(size=2) for seed in seeds}

        def some(method, offset):
            values = {s: [100 + offset + noise[s][0] + 0.1 * draw.normal() * (method != STL)] for s in seeds}
            return runs(method, values, METRIC, task_set=task_set)

        found = {method: some(method, offset) for method, offset in {STL: 0, "equal": -5, "good": 4, "bad": -9}.items()}
        found["frozen[of=[good]]"] = reading(some("frozen[of=[good]]", of_good), found["good"])
        found["frozen[of=[bad]]"] = reading(some("frozen[of=[bad]]", of_bad), found["bad"])
        return found

    return made


def joined(made, *without):
    return [record for method, records in made.items() if method not in without for record in records]


def test_rules_with_frozen_weights_change_nothing_of_the_leaderboard(make):
    made = make()
    [after] = analyse(from_records(joined(made))).boards
    [before] = analyse(from_records(joined(made, "frozen[of=[good]]", "frozen[of=[bad]]"))).boards
    assert before.remainders == ()
    assert len(after.remainders) == 2
    assert repr(replace(after, remainders=())) == repr(before)


def test_each_is_compared_with_its_own_rule_seed_by_seed(make):
    made = make()
    [board] = analyse(from_records(joined(made))).boards
    rows = {row.method: row for row in board.remainders}
    assert [*rows] == ["frozen[of=[bad]]", "frozen[of=[good]]"]
    worse, better = rows["frozen[of=[good]]"], rows["frozen[of=[bad]]"]
    assert (worse.of, worse.vs_own.verdict, worse.vs_own.wins) == ("good", "worse", 0)
    assert (better.of, better.vs_own.verdict, better.vs_own.wins) == ("bad", "better", SEEDS)

    def scores(method):
        return np.array([record.result.scores["only"]["score"].value for record in made[method]])

    by_hand = 100 * (scores("frozen[of=[good]]") - scores("good")) / scores(STL).mean()
    assert worse.vs_own.per_seed[0] == pytest.approx(by_hand)
    assert worse.vs_own.difference.mean == pytest.approx(by_hand.mean())
    assert worse.delta_task.mean == pytest.approx(100 * (scores("frozen[of=[good]]").mean() / scores(STL).mean() - 1))


def test_the_family_are_the_frozen_rules_of_the_task_set_alone(make):
    made = make(of_bad=-9)
    both, alone = (
        {row.method: row for row in analyse(from_records(some)).boards[0].remainders}["frozen[of=[good]]"].vs_own.p
        for some in (joined(made), joined(made, "frozen[of=[bad]]"))
    )
    assert alone == 2 ** (1 - SEEDS)  # the smallest that the flips of one comparison can give
    assert both >= alone


def test_over_task_sets_the_differences_are_means_over_those_that_have_the_rule_everywhere(make):
    sets = [make(task_set="toy"), make(task_set="other", of_good=3.0)]
    del sets[1]["frozen[of=[bad]]"]
    over, *boards = analyse(from_records([*joined(sets[0]), *joined(sets[1])])).boards
    [row] = over.remainders
    own = [next(r for r in board.remainders if r.of == "good").vs_own.difference.mean for board in boards]
    assert row.method == "frozen[of=[good]]"
    assert row.vs_own.difference.mean == pytest.approx(np.mean(own))


def test_without_runs_of_its_own_rule_at_its_seeds_there_is_no_verdict(make):
    made = make()
    others = [record for record in made["good"] if record.spec.seed < 2]
    some = joined(make(), "good") + others
    rows = {row.method: row for row in analyse(from_records(some)).boards[0].remainders}
    assert rows["frozen[of=[good]]"].vs_own.verdict == "not enough seeds"


@pytest.fixture
def tuned(make):
    """Records and choices: the rule takes twice the rate, and its frozen weights four times."""
    made = make()
    protocol = made["equal"][0].spec.protocol
    factors = {"good": 2.0, "frozen[of=[good]]": 4.0}
    moved: dict[str, list] = {}
    choices = []
    for method, records in made.items():
        if "bad" in method:
            continue
        factor = factors.get(method, 1.0)
        specs = [r.spec.model_copy(update={"protocol": scaled(protocol, factor)}) for r in records]
        moved[method] = [
            r.model_copy(update={"spec": spec, "name": spec.name}) for r, spec in zip(records, specs, strict=True)
        ]
        choices.append(
            Choice(
                **{"task_set": "toy", "task_set_label": "toy", "method": method, "method_label": method},
                **{"variant": method, "tasks": ("only",), "protocol": protocol, "protocol_label": "quick"},
                **{"precision": "32-true", "budget": 7, "factor": factor, "by_seed": {1000: factor, 1001: factor}},
                **{"gains": [], "edge": False, "attempts": [], "data": "d", "code": "", "commit": ""},
            )
        )
    moved["frozen[of=[good]]"] = reading(moved["frozen[of=[good]]"], moved["good"])
    return joined(moved), choices


def test_on_a_tuned_board_a_rule_is_found_at_its_chosen_rate(tuned):
    records, choices = tuned
    [board] = analyse(from_records_and_choices(records, choices)).boards
    assert {row.method for row in board.rows} == {STL, "equal", "good"}
    [row] = board.remainders
    assert (row.method, row.of, row.vs_own.pairs, row.vs_own.verdict) == ("frozen[of=[good]]", "good", SEEDS, "worse")


def test_a_tidy_file_says_whose_weights_they_are_and_is_read_the_same(make, tmp_path):
    scores = from_records(joined(make()))
    tidy(scores).to_csv(tmp_path / "mine.csv", index=False)
    [mine], [ours] = analyse(read_tidy(tmp_path / "mine.csv")).boards, analyse(scores).boards
    assert repr(mine.remainders) == repr(ours.remainders)
    assert [row.method for row in mine.rows] == [row.method for row in ours.rows]


def test_a_table_without_frozen_weights_has_no_column_for_them(make):
    assert not {"role", "of"} & {*tidy(from_records(joined(make(), "frozen[of=[good]]", "frozen[of=[bad]]"))).columns}


@pytest.mark.parametrize(
    ("where", "of", "said"),
    [
        (
            lambda f: f.method == "frozen[of=[good]]",
            "",
            "its column of should name the method whose weights",
        ),
        (lambda f: f.method == "good", "bad", "its column of should name the method whose weights"),
        (
            lambda f: (f.method == "frozen[of=[good]]") & (f.seed > 2),
            "bad",
            "has the weights of bad here and of good",
        ),
    ],
)
def test_a_file_that_does_not_say_whose_weights_they_are_is_refused_with_its_line(make, tmp_path, where, of, said):
    frame = tidy(from_records(joined(make())))
    frame.loc[where(frame), "of"] = of
    frame.to_csv(tmp_path / "mine.csv", index=False)
    with pytest.raises(StoreError, match=said):
        read_tidy(tmp_path / "mine.csv")


def test_pages_show_the_rows_below_the_leaderboard_and_the_file_has_them(make):
    report = analyse(from_records(joined(make())))
    text = page(report, figures=False).decode()
    assert text.index("What remains when weights are frozen</h3>") > text.index('class="board sortable"')
    console = Console(width=160, record=True, file=io.StringIO())
    print_board(report, console)
    printed = console.export_text()
    assert "what remains when weights are frozen, each against its own method" in printed
    table = frozen(report)
    assert list(table.columns) == [
        *("task_set", "method", "of", "delta_task", "difference", "low", "high", "p", "verdict", "seeds")
    ]
    assert table.set_index("method").verdict.to_dict() == {"frozen[of=[bad]]": "better", "frozen[of=[good]]": "worse"}
    assert set(table.seeds) == {SEEDS}


def test_a_page_without_frozen_weights_says_nothing_of_them(make):
    report = analyse(from_records(joined(make(), "frozen[of=[good]]", "frozen[of=[bad]]")))
    assert "weights are frozen</h3>" not in page(report, figures=False).decode()
    assert frozen(report).empty


def test_the_command_line_compares_frozen_weights_with_their_rule_alone(tmp_path):
    line = ["--methods", "frozen[of=[mgda]]", "--tasks", "scales[tasks=2]", "--seeds", "3", "--protocol", "smoke"]
    with pytest.raises(SystemExit, match=r"^0$"):
        cli.main(["run", *line, "--tuning", "none", "--engine", "inline", "--no-figures", "--out", str(tmp_path)])
    assert set(pd.read_csv(tmp_path / "leaderboard.csv").method) == {STL, "equal", "mgda"}
    [row] = pd.read_csv(tmp_path / "frozen.csv").to_dict("records")
    assert (row["method"], row["of"], row["seeds"]) == ("frozen[of=[mgda]]", "mgda", 3)
