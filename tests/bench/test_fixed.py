"""The front of static weights: which runs it is, that it costs nobody anything, and what is said and drawn of it."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from made_report import made_report

from bench import cli
from bench.planning.plan import Planner
from bench.planning.request import Request
from bench.report import figures
from bench.report.analyse import analyse
from bench.report.board import Curve, CurvePoint
from bench.report.figures.fixed import _against
from bench.report.findings import findings
from bench.report.fixed import better_on_every_task, front_points
from bench.report.scores import from_records
from bench.report.tuned import from_records_and_choices
from bench.spec import STL
from bench.store import Store
from bench.tuning.choose import Choice, scaled
from bench.tuning.space import front_weights

METRICS = [("left", "score", True), ("right", "score", True)]
ASKED = {"methods": "mgda", "protocol": "smoke", "seeds": "4", "accelerator": "cpu"}


def weights(num_tasks):
    return np.array([[float(item) for item in text.split(":")] for text in front_weights(num_tasks)])


@pytest.mark.parametrize(("num_tasks", "count"), [(1, 0), (2, 11), (3, 15), (4, 30), (7, 30)])
def test_a_front_has_so_many_different_weights_above_0_whose_sum_is_the_number_of_tasks(num_tasks, count):
    found = weights(num_tasks)
    assert len(found) == len(set(front_weights(num_tasks))) == count
    if count:
        assert (found > 0).all()
        assert found.sum(1) == pytest.approx(num_tasks, abs=1e-3)


def test_for_three_tasks_the_weights_are_sevenths_of_their_sum():
    sevenths = weights(3) * 7 / 3
    assert sevenths == pytest.approx(sevenths.round(), abs=1e-3)


def test_for_two_tasks_they_are_evenly_spaced():
    assert np.diff(np.sort(weights(2)[:, 0])) == pytest.approx(1 / 6, abs=1e-3)


@pytest.fixture
def planner(tmp_path):
    def make(**changed):
        return Planner(Request(**{**ASKED, **changed}), Store(tmp_path))

    return make


def test_a_front_is_planned_only_where_it_is_asked_for(planner):
    assert planner(tasks="scales[tasks=2]", tuning="none").rounds == ("own",)
    assert not planner(tasks="scales[tasks=2]", tuning="none").reported("front")


def test_a_front_comes_after_the_tuned_board_and_before_the_untuned_runs(planner):
    assert planner(tasks="scales[tasks=2]", tuning=2, static_front=True).rounds == ("tuned", "front", "own")


def test_a_front_is_made_with_the_first_two_seeds_as_reference(planner):
    front = planner(tasks="scales[tasks=3]", tuning="none", seeds="5-9", static_front=True).reported("front")
    assert {run.spec.seed for run in front} == {5, 6}
    assert {run.role for run in front} == {"reference"}
    assert len({run.spec.method for run in front}) == 15
    assert len(front) == 30


def test_a_front_waits_for_the_choice_of_equal_weights_and_takes_its_rate(planner, choice):
    own = planner(tasks="scales[tasks=2]", tuning=2, static_front=True)
    assert not own.reported("front")
    [contest] = own.contests
    [equal] = [c for c in own.contestants() if c.method == "equal"]
    chosen = choice("equal", 4.0, contest.variant.stable, contest.protocol, contest.tasks, contest.built.fingerprint)
    own.choices[equal.choice] = chosen
    assert {run.spec.protocol.lr for run in own.reported("front")} == {4 * contest.protocol.lr}


@pytest.fixture
def choice():
    """Make up a contestant's choice."""

    def make(method, factor, task_set, protocol, tasks, data="d", variant=None):
        return Choice(
            **{"task_set": task_set, "task_set_label": task_set, "method": method, "method_label": method},
            **{"variant": variant or method, "tasks": tasks, "protocol": protocol, "protocol_label": "quick"},
            **{"precision": "32-true", "budget": 7, "factor": factor, "by_seed": {1000: factor, 1001: factor}},
            **{"gains": [], "edge": False, "attempts": [], "data": data, "code": "", "commit": ""},
        )

    return make


def as_reference(records):
    return [r.model_copy(update={"provenance": r.provenance.model_copy(update={"role": "reference"})}) for r in records]


def records_of(runs, **offsets):
    """Runs of single-task learning at 100 points and of methods, each with the same offset on all metrics."""
    draw = np.random.default_rng(0)
    found = []
    for method, offset in {STL: 0.0, **offsets}.items():
        values = {seed: [100 + offset + draw.normal() for _ in METRICS] for seed in range(8)}
        found += runs(method, values, METRICS)
    return found


def a_front(runs, count=4, seeds=(0, 1)):
    """The records of a front, far better than any method."""
    return as_reference(
        record
        for k in range(count)
        for record in runs(f"static[weights={k}]", {s: [150.0 + k, 190.0 - k] for s in seeds}, METRICS)
    )


def test_records_of_a_front_change_nothing_of_the_contestants(runs):
    alone = records_of(runs, equal=-5, good=3)
    [before], [after] = (analyse(from_records(some)).boards for some in (alone, [*a_front(runs), *alone]))
    assert len(after.curves[0].points) == 4
    assert repr(replace(after, curves=())) == repr(before)


def test_a_static_variant_that_somebody_named_is_a_contestant(runs):
    named = runs("static[weights=1]", {seed: [100.0, 100.0] for seed in range(2, 8)}, METRICS)
    [board] = analyse(from_records([*records_of(runs, equal=-5), *a_front(runs), *named])).boards
    [row] = [row for row in board.rows if row.method == "static[weights=1]"]
    assert row.seeds == 8
    assert len(board.curves[0].points) == 3


def with_protocol(records, protocol):
    """The records as if they had been trained under another protocol, and so under other names."""
    found = []
    for record in records:
        spec = record.spec.model_copy(update={"protocol": protocol})
        found.append(record.model_copy(update={"spec": spec, "name": spec.name}))
    return found


@pytest.fixture
def tuned(runs, choice):
    """Records and choices of a board where everyone takes twice the rate."""
    own = records_of(runs, equal=-5, good=3)
    protocol = own[0].spec.protocol
    contestants = {(r.spec.method, r.spec.tasks) for r in own}
    choices = [choice(method, 2.0, "toy", protocol, tasks) for method, tasks in sorted(contestants)]
    return [*own, *with_protocol(own, scaled(protocol, 2))], choices, protocol


def test_a_tuned_board_has_the_front_at_the_rate_of_equal_weights(runs, tuned):
    records, choices, protocol = tuned
    front = a_front(runs)
    at_equals = with_protocol(front[:4], scaled(protocol, 2))
    elsewhere = with_protocol(front[4:], scaled(protocol, 4))
    scores = from_records_and_choices([*records, *at_equals, *elsewhere], choices)
    [board] = analyse(scores).boards
    [curve] = board.curves
    assert [point.label for point in curve.points] == ["static[weights=0]", "static[weights=1]"]
    assert {row.method for row in board.rows} == {STL, "equal", "good"}


@pytest.mark.parametrize("factor", [1, 2])
def test_on_a_tuned_board_a_front_changes_nothing_of_either_family(runs, tuned, factor):
    records, choices, protocol = tuned
    front = with_protocol(a_front(runs), scaled(protocol, factor))
    [before] = analyse(from_records_and_choices(records, choices)).boards
    [after] = analyse(from_records_and_choices([*records, *front], choices)).boards
    assert repr(replace(after, curves=())) == repr(before)
    assert bool(after.curves) == (factor == 2)


def test_a_static_variant_with_a_choice_of_its_own_is_a_contestant_also_if_the_front_made_it_first(runs, tuned, choice):
    records, choices, protocol = tuned
    front = with_protocol(a_front(runs), scaled(protocol, 2))
    named = choice("static[weights=1]", 2.0, "toy", protocol, ("left", "right"))
    [board] = analyse(from_records_and_choices([*records, *front], [*choices, named])).boards
    assert "static[weights=1]" in {row.method for row in board.rows}
    assert len(board.curves[0].points) == 3


@pytest.fixture
def board():
    """A board of three tasks with a front of two points: the first is better than one method on every task."""
    [made] = made_report(3, 1, 8, curves=False).boards
    tasks = [task for task, _ in made.metrics]
    by_task = {"segmentation": 0, "depth": 1, "normals": 2}
    gains = {"equal": [-5, -5, -5], "uncertainty": [1, 1, 1], "mgda[at=features]": [9, -9, -9]}
    rows = [replace(r, gains=np.array([gains.get(r.method, [0, 0, 0])[by_task[t]] for t in tasks])) for r in made.rows]
    points = {"static[weights=1:1:1]": [-4, -4, -4], "static[weights=2:0.5:0.5]": [8, -8, -8]}
    values = {label: np.array([own[by_task[task]] for task in tasks], np.float64) for label, own in points.items()}
    found = tuple(CurvePoint(label, 2, 0.0, own, own) for label, own in values.items())
    return replace(made, rows=tuple(rows), curves=(Curve("static", "reference", found),))


def test_how_many_points_are_better_than_a_method_on_every_task(board):
    assert better_on_every_task(board) == {"equal": 1, "uncertainty": 0, "mgda[at=features]": 0}


def test_the_findings_say_which_methods_fixed_weights_beat_on_every_task(board):
    [said] = [text for text in map("".join, findings(board)) if "fixed weights" in text]
    assert said.startswith("Of 2 fixed weights (shown, not tested), none is better on every task than ")
    assert said.endswith("; some are better on every task than equal (1).")


def test_without_a_front_nothing_is_said_or_drawn_of_fixed_weights(board):
    alone = replace(board, curves=())
    assert not [text for text in map("".join, findings(alone)) if "fixed weights" in text]
    assert figures.fixed(alone) is None


def test_trials_are_no_front(board):
    trials = replace(board, curves=tuple(replace(curve, role="trial") for curve in board.curves))
    assert not front_points(trials)


def test_the_figure_tells_gains_by_task_of_methods_and_of_points(board):
    plot = figures.fixed(board)
    table = {row[0]: row[1:] for row in plot.rows}
    assert plot.heads[1:4] == ["segmentation, %", "depth, %", "normals, %"]
    assert table["equal"] == ["−5.0", "−5.0", "−5.0", "1"]
    assert table["static[weights=2:0.5:0.5]"] == ["+8.0", "−8.0", "−8.0", "0"]


def test_a_panel_has_a_task_against_the_mean_of_the_others():
    assert _against(np.array([[1.0, 2.0, 6.0]]), 0).tolist() == [[4.0, 1.0]]
    assert _against(np.array([[1.0, 2.0, 6.0]]), 2).tolist() == [[1.5, 6.0]]


def test_the_caption_says_that_nobody_is_tested_against_the_front(board):
    [drawing] = [d for d in figures.drawings(board, "s") if d.title == "What fixed weights reach"]
    assert "means over at most two seeds, tested against nobody" in drawing.caption


def test_the_command_line_makes_a_front_draws_it_and_ranks_it_nowhere(tmp_path):
    out = tmp_path / "out"
    line = [
        "--methods",
        "mgda",
        "--tasks",
        "scales[tasks=2]",
        "--seeds",
        "3",
        "--protocol",
        "smoke",
        "--tuning",
        "none",
    ]
    with pytest.raises(SystemExit, match=r"^0$"):
        cli.main(["run", *line, "--tuning", "none", "--static-front", "--engine", "inline", "--out", str(out)])
    assert set(pd.read_csv(out / "leaderboard.csv").method) == {STL, "equal", "mgda"}
    runs = pd.read_csv(out / "runs.csv")
    front = runs[runs.role == "reference"]
    assert front.method.nunique() == 11
    assert set(front.seed) == {0, 1}
    assert "What fixed weights reach" in (out / "leaderboard.html").read_text("utf-8")
