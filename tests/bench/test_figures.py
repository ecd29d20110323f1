"""What figures show, read from the tables beside them."""

import math
from dataclasses import replace

import numpy as np
import pytest
from made_report import made_report
from matplotlib.figure import Figure

from bench.report import figures
from bench.report.board import Ratios
from bench.report.figures import STEPS, drawings, shade


@pytest.fixture(scope="module")
def board():
    return made_report(4, 1, 6).boards[0]


def with_rows(board, **changes):
    """The board with these fields changed, by method."""
    return replace(board, rows=tuple(replace(row, **changes.get(row.method, {})) for row in board.rows))


def test_shades_are_centred_on_nothing_and_even_on_both_sides():
    values = [-20, -10, -1, 0, 1, 10, 20, math.nan]
    assert [shade(value, 10) for value in values] == [0, 0, 4, 4, 4, STEPS - 1, STEPS - 1, 4]
    assert shade(5, 0) == STEPS // 2
    assert all(shade(v, 10) + shade(-v, 10) == STEPS - 1 for v in np.linspace(0, 15, 40))


def test_every_method_with_a_gain_has_its_interval(board):
    plot = figures.intervals(board)
    rows = {row.method: row for row in board.rows if row.method != "stl"}
    assert [line[0] for line in plot.rows] == list(rows)
    for name, gain, ends, *_ in plot.rows:
        interval = rows[name].delta_task
        assert gain == f"{interval.mean:+.2f}".replace("-", "−")
        assert ends == f"{interval.low:+.2f} to {interval.high:+.2f}".replace("-", "−")


def test_the_line_of_costs_joins_what_nothing_cheaper_beats(board):
    prices = {"equal": 1.0, "uncertainty": 2.0, "mgda[at=features]": 2.0, "kd": 4.0}
    gains = {"equal": -3.0, "uncertainty": -1.0, "mgda[at=features]": -2.0, "kd": -1.5}
    by_hand = {
        method: {"cost": Ratios(price, 1, 1), "delta_task": replace(board.rows[0].delta_task, mean=gains[method])}
        for method, price in prices.items()
    }
    plot = figures.costs(with_rows(board, **by_hand))
    assert {line[0] for line in plot.rows if line[-1] == "yes"} == {"equal", "uncertainty"}


def test_a_method_without_a_measured_cost_is_no_point(board):
    plot = figures.costs(with_rows(board, kd={"cost": None}, equal={"cost": Ratios(math.nan, 1, 1)}))
    assert not {"kd", "equal"} & {line[0] for line in plot.rows}


def test_curves_are_of_the_best_and_of_equal_weights_and_say_so(board):
    rows = [replace(board.rows[0], method=f"m{i}") for i in range(12)]
    rows.append(replace(board.rows[0], method="equal"))
    [points] = list(board.points["kd"].values())[:1]
    many = replace(board, rows=tuple(rows), points={row.method: {0: points} for row in rows}, pairs=None)
    plot = figures.curves(many)
    assert "Only the best 8 methods and equal weights are drawn, 4 are not." in plot.caption
    assert {line[0] for line in plot.rows} == {"equal", *(f"m{i}" for i in range(8))}


def test_curves_are_means_over_seeds(board):
    plot = figures.curves(board)
    task, metric = board.metrics[0]
    means = [
        np.mean([points[step].validation[task][metric] for points in board.points["kd"].values()])
        for step in range(len(next(iter(board.points["kd"].values()))))
    ]
    [line] = [line for line in plot.rows if line[:2] == ["kd", f"{task}.{metric}"]]
    assert [float(cell) for cell in line[2:]] == pytest.approx(means, rel=1e-2)


def test_weights_that_never_change_are_left_out(board):
    still = [point.model_copy(update={"weights": dict.fromkeys(point.weights, 1.0)}) for point in board.points["kd"][0]]
    plot = figures.weights(replace(board, points={**board.points, "kd": {0: still}}))
    assert {line[0] for line in plot.rows} == {"equal", "uncertainty", "mgda[at=features]"}
    assert figures.weights(replace(board, points={"kd": {0: still}})) is None


def test_conflicts_are_pairs_of_tasks_with_a_cosine_below_0(board):
    point = board.points["kd"][0][0]
    cosines = [[1.0, -0.5, 0.2], [-0.5, 1.0, None], [0.2, None, 1.0]]
    points = {"kd": {0: [point.model_copy(update={"cosines": cosines})]}}
    lines = {line[1]: line[2] for line in figures.gradients(replace(board, points=points)).rows}
    assert lines["mean cosine"] == "−0.15"
    assert lines["share of conflicts"] == "0.5"


def test_what_is_not_known_at_a_step_is_left_out(board):
    point = board.points["kd"][0][0]
    nothing = {"weights": None, "cosines": None, "update_ratio": None, "validation": {}}
    bare = [point.model_copy(update={**nothing, "losses": dict.fromkeys(point.losses)})]
    assert [drawing.title for drawing in drawings(replace(board, points={"kd": {0: bare}}), "x")] == [
        drawing.title for drawing in drawings(replace(board, points={}), "x")
    ]


def test_figures_leave_the_settings_of_others_alone(board):
    before = dict(figures.matplotlib.rcParams)
    drawings(replace(board, points={}), "x")
    assert dict(figures.matplotlib.rcParams) == before


@pytest.mark.parametrize("seed", range(5))
def test_names_beside_points_overlap_no_others_wherever_the_points_are(seed):
    """And end: a name that is put just below another once clashed with it again, by rounding, for ever."""
    draw = np.random.default_rng(seed)
    axes = Figure().subplots()
    axes.set(xlim=(1, 3), ylim=(-3, 3))
    points = {f"method {i}": (draw.uniform(1, 3), round(draw.normal(), int(draw.integers(0, 4)))) for i in range(30)}
    figures._name_points(axes, points)
    boxes = []
    for text in axes.texts:
        x, y = axes.transData.transform(text.xy) + np.array(text.xyann) * axes.figure.dpi / 72
        boxes.append((x, x + figures.LETTER * axes.figure.dpi * len(text.get_text()), y))
    clashes = [
        (one, other)
        for i, one in enumerate(boxes)
        for other in boxes[:i]
        if one[0] < other[1] and other[0] < one[1] and abs(one[2] - other[2]) < 0.9 * axes.figure.dpi / 6
    ]
    assert clashes == []
