"""What figures show, read from the tables beside them."""

import math
import re
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_report import made_report
from matplotlib.figure import Figure

from bench.report import figures
from bench.report.board import Pairs, Ratios
from bench.report.figures import FIGURES, STEPS, drawings, shade
from bench.report.figures.axes import Panel, limits
from bench.report.figures.costs import name_points
from bench.report.figures.look import LETTER
from bench.report.figures.rows import MOST, best
from bench.report.figures.svg import FINE, _path, _turned

OF_TRIALS = {"rates", "search"}
"""Figures of boards whose rates were chosen by trials: `test_tuned_pages.py` looks at these."""
OVER_SETS = {"stability"}
"""Figures of boards over several task sets: `test_stability.py` looks at these."""


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


def test_of_many_methods_at_one_point_the_best_are_named(board):
    [row] = [row for row in board.rows if row.method == "kd"]
    crowd = replace(board, rows=tuple(replace(row, method=f"method{i}") for i in range(1000)))
    plot = figures.costs(crowd)
    assert [text.get_text() for text in plot.figure.axes[0].texts] == [f"method{i}" for i in range(20)]
    assert plot.note == "Only the best 20 of these and equal weights are named."


def test_a_method_without_a_measured_cost_is_no_point(board):
    plot = figures.costs(with_rows(board, kd={"cost": None}, equal={"cost": Ratios(math.nan, 1, 1)}))
    assert not {"kd", "equal"} & {line[0] for line in plot.rows}


def test_curves_are_of_the_best_and_of_equal_weights_and_say_so(board):
    rows = [replace(board.rows[0], method=f"m{i}") for i in range(12)]
    rows.append(replace(board.rows[0], method="equal"))
    [points] = list(board.points["kd"].values())[:1]
    many = replace(board, rows=tuple(rows), points={row.method: {0: points} for row in rows}, pairs=None)
    plot = figures.curves(many)
    assert "Only the best 8 methods and equal weights are drawn, 4 are not." in plot.note
    assert {line[0] for line in plot.rows} == {"equal", *(f"m{i}" for i in range(8))}


def test_curves_are_means_over_seeds(board):
    plot = figures.curves(board)
    task, metric = board.metrics[0]
    seeds = board.points["kd"].values()
    means = {
        f"step {points[0].step}": np.mean([point.validation[task][metric] for point in points])
        for points in zip(*seeds, strict=True)
    }
    [line] = [line for line in plot.rows if line[:2] == ["kd", f"{task}.{metric}"]]
    assert [float(cell) for cell in line[2:]] == pytest.approx([means[head] for head in plot.heads[2:]], rel=1e-2)
    assert plot.heads[2] == min(means, key=lambda head: int(head[5:]))
    assert plot.heads[-1] == max(means, key=lambda head: int(head[5:]))


def with_steps(board, count):
    """The board with so many steps written down of two methods at one seed."""
    [point, *_] = board.points["kd"][0]
    points = [point.model_copy(update={"step": step}) for step in range(count)]
    return replace(board, points={"kd": {0: points}, "equal": {0: points}})


@pytest.mark.parametrize(
    ("count", "note"),
    [
        (6, ""),
        (20, "The table has 6 of 20 steps."),
        (999, "100 of 999 steps are drawn. The table has 6 of 999 steps."),
    ],
)
def test_the_caption_says_how_many_of_the_steps_are_shown(board, count, note):
    plot = figures.curves(with_steps(board, count))
    assert plot.note == note
    assert len(plot.heads) == 2 + min(count, 6)


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
    before = dict(matplotlib.rcParams)
    drawings(replace(board, points={}), "x")
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("seed", range(5))
def test_names_beside_points_overlap_no_others_wherever_the_points_are(seed):
    """And end: a name that is put just below another once clashed with it again, by rounding, for ever."""
    draw = np.random.default_rng(seed)
    axes = Figure().subplots()
    axes.set(xlim=(1, 3), ylim=(-3, 3))
    points = {f"method {i}": (draw.uniform(1, 3), round(draw.normal(), int(draw.integers(0, 4)))) for i in range(30)}
    name_points(axes, points)
    boxes = []
    for text in axes.texts:
        x, y = axes.transData.transform(text.xy) + np.array(text.xyann) * axes.figure.dpi / 72
        boxes.append((x, x + LETTER * axes.figure.dpi * len(text.get_text()), y))
    clashes = [
        (one, other)
        for i, one in enumerate(boxes)
        for other in boxes[:i]
        if one[0] < other[1] and other[0] < one[1] and abs(one[2] - other[2]) < 0.9 * axes.figure.dpi / 6
    ]
    assert clashes == []


def thousand(board):
    """The board with a thousand methods, equal weights the last; groups of ten that overlap."""
    row = next(row for row in board.rows if row.vs_equal is not None)
    names = [f"method{i}" for i in range(999)] + ["equal"]
    gains = [replace(row.delta_task, mean=-0.01 * i, low=-0.01 * i - 1, high=1 - 0.01 * i) for i in range(1000)]
    costs = [Ratios(1 + (i * 37 % 101) / 50, 1, 1) for i in range(1000)]
    rows = [
        replace(row, method=name, delta_task=gain, cost=cost)
        for name, gain, cost in zip(names, gains, costs, strict=True)
    ]
    none = np.zeros((0, 0))
    cliques = tuple(tuple(range(i, min(i + 10, 1000))) for i in range(0, 1000, 5))
    pairs = Pairs(tuple(names), *[none] * 5, none.astype(np.int64), none.astype(np.int64), cliques)
    [points, *_] = board.points["kd"].values()
    return replace(board, rows=tuple(rows), pairs=pairs, points={name: {0: points} for name in names})


@pytest.fixture(scope="module")
def crowd(board):
    return {drawing.title: drawing for drawing in drawings(thousand(board), "x")}


@pytest.mark.parametrize("title", ["Gains with their intervals", "Who is shown to differ from whom", "Gains by metric"])
def test_of_a_thousand_methods_the_best_and_equal_weights_are_drawn_and_all_told(crowd, title):
    drawing = crowd[title]
    assert f"Only the best {MOST} methods and equal weights are drawn, {999 - MOST} are not." in drawing.caption
    drawn = re.findall(r">\s*(method\d+|equal)\b", drawing.svg)
    assert set(drawn) == {"equal", *(f"method{i}" for i in range(MOST))}
    assert {row[0] for row in drawing.rows} == {"equal", *(f"method{i}" for i in range(999))}


def test_figures_of_a_thousand_methods_are_small(crowd):
    assert len(crowd) == len(FIGURES) - len(OF_TRIALS | OVER_SETS)
    assert max(len(drawing.svg) for drawing in crowd.values()) < 60_000


def test_groups_that_lie_inside_another_among_the_drawn_are_no_bars(crowd):
    """Methods 0 to 39 and the last: groups start at every fifth, and the one of method 35 lies inside that of 30."""
    paths = re.findall(r'<path d="([^"]*)"', crowd["Who is shown to differ from whom"].svg)
    assert [path for path in paths if path.count("m") == 7] != []


def test_the_cells_of_a_crowded_heat_map_have_no_numbers(board, crowd):
    [few] = [drawing for drawing in drawings(board, "x") if drawing.title == "Gains by metric"]
    assert few.rows[0][1] in few.svg
    many = crowd["Gains by metric"]
    assert "Dots mark gains that differ from 0" in many.caption
    assert not re.search(r">[+−]\d", many.svg)
    assert re.fullmatch(r"[+−]\d+\.\d\*?", many.rows[0][1])


def test_seeds_that_would_smear_are_a_line_from_the_lowest_to_the_highest(board):
    assert "Small dots are seeds" in figures.intervals(board).note
    many = {row.method: {"per_seed": np.linspace(-1, 1, 201)} for row in board.rows}
    note = figures.intervals(with_rows(board, **many)).note
    assert "Thin lines go from the lowest to the highest of the seeds" in note


def test_each_figure_has_a_name_and_a_heading_of_its_own(board):
    assert len({entry.name for entry in FIGURES}) == len({entry.heading for entry in FIGURES}) == len(FIGURES)
    plain = [entry.heading for entry in FIGURES if entry.name not in OF_TRIALS | OVER_SETS]
    assert [drawing.title for drawing in drawings(board, "x")] == plain


def test_the_reference_is_among_the_best_wherever_it_stands():
    assert best(["a", "b", "equal", "c"], 2) == (
        ["a", "b", "equal"],
        "Only the best 2 methods and equal weights are drawn, 1 are not.",
    )
    assert best(["a", "equal", "b"], 2) == (["a", "equal", "b"], "")
    assert best(["a", "b"], 1)[0] == ["a"]


def followed(path):
    """The ends of the parts of a path in relative steps, in points."""
    at = start = np.zeros(2)
    ends = []
    for command, numbers in re.findall(r"([mlcqz])([^mlcqz]*)", path):
        steps = np.array([int(n) for n in re.findall(r"-?\d+", numbers)], float).reshape(-1, 2)
        if command == "z":
            at = start
            continue
        for i, step in enumerate(steps):
            if command in "ml" or (i + 1) % {"c": 3, "q": 2}[command] == 0:
                at = at + step
        start = at if command == "m" else start
        ends.append(at / FINE)
    return np.array(ends)


coordinate = st.floats(-999, 999, width=32)


@given(st.lists(st.tuples(st.sampled_from("ML"), coordinate, coordinate, st.booleans()), min_size=1, max_size=30))
def test_a_path_in_relative_steps_goes_where_it_went(parts):
    """Rounding does not add up along the way."""
    text = " ".join(
        f"{'M' if i == 0 else command} {x:.6f} {y:.6f} {'z' if end else ''}\n"
        for i, (command, x, y, end) in enumerate(parts)
    )
    assert np.abs(followed(_path(text)) - [(x, y) for _, x, y, _ in parts]).max() <= 0.5 / FINE + 1e-5


def test_angles_are_not_lengths():
    assert _turned("translate(54.5 167) rotate(-25)") == "translate(272 835) rotate(-25)"
    assert _turned("rotate(-90 10 20.2)") == "rotate(-90 50 101)"
    assert _turned("rotate(-0 10 20)") == ""


@pytest.mark.parametrize("log", [False, True])
def test_a_panel_shows_all_its_values_between_its_edges(log):
    values = np.array([0.01, 3, 200])
    panel = Panel(1, 2, 4, 6, limits(values), limits(values, log=log), log)
    x, y = panel.x(values), panel.y(values)
    assert (x > 1).all() and (x < 4).all() and (y > 2).all() and (y < 6).all()
    assert (np.diff(x) > 0).all() and (np.diff(y) > 0).all()
    assert y[0] - 2 == pytest.approx(6 - y[-1])
    assert np.isfinite(Panel(1, 2, 4, 6, limits([5.0]), limits([5.0], log=log), log).y([5.0])).all()
