"""The columns of the tables. An entry says what a column is called, what it means, what it holds and where it is shown.

The CSV file, the terminal, the HTML page, Markdown and LaTeX choose from these entries, and the reference in `docs/`
is made of them. To add a column, add an entry.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from bench.report.board import Board, Comparison, Interval, OverSets, Row, metric_name
from bench.report.findings import MARKS, between, number, p_value, passes, signed
from bench.spec import STL

Page = Literal["terminal", "html", "markdown", "latex", "sets"]
"""Where columns are shown. "sets" is the table of the HTML page that speaks of other task sets."""
TERMINAL_AND_HTML: tuple[Page, ...] = ("terminal", "html")
ALL_PAGES: tuple[Page, ...] = ("terminal", "html", "markdown", "latex")


@dataclass(frozen=True)
class Cell:
    """What a page shows in one cell."""

    text: str = ""
    small: str = ""
    """What qualifies the text: an interval, a p-value. HTML puts it below the text, other pages in brackets."""
    sort: float | None = None
    """The number by which HTML sorts the column. A cell without one comes last."""
    mark: str = ""
    """A sign before the text. Screen readers skip it."""
    style: str = ""
    """A class of the HTML page's style sheet."""

    def line(self, *, brief: bool = False) -> str:
        """Return the cell as one line of text; a brief line leaves `small` out."""
        text = f"{self.mark} {self.text}".strip()
        return f"{text} ({self.small})" if self.small and not brief else text


@dataclass(frozen=True)
class Column:
    """A column of the leaderboard."""

    name: str
    """Its name in CSV files."""
    meaning: str
    """What it holds, in a sentence or two: for tooltips, the legend of the page and the reference in `docs/`."""
    value: Callable[[Board, Row], object] | None = None
    """What `leaderboard.csv` holds; nothing is written for None. A column without this function is not in that file."""
    heading: str = ""
    """Its name on pages."""
    legend: str = ""
    """What tooltips and the legend say instead of `meaning`, if a cell on a page holds more than CSV does."""
    cell: Callable[[Row], Cell] = lambda row: Cell()
    """What pages show."""
    shown: tuple[Page, ...] = ()
    """The pages that show it."""
    order: int = 0
    """Pages put their columns in ascending order of this number."""
    best: Literal["highest", "lowest"] = "highest"
    """Which values are on top after the first click on the heading."""
    group: str = ""
    """A key of `GROUPS`, if a reader of the HTML page can hide the column."""
    align: Literal["left", "right"] = "right"
    tuned: bool = False
    """Whether pages show it only where rates were chosen by trials."""
    sets: bool = False
    """Whether pages show it only over task sets, if these are enough to speak of others."""
    brief: bool = False
    """Whether the terminal leaves out what qualifies the cell, because its lines are short."""


GROUPS = {"more": "More columns", "cost": "Cost"}
"""The groups of columns that a reader of the HTML page can hide, with their labels."""


def _number(value: float) -> Cell:
    return Cell() if math.isnan(value) else Cell(number(value), sort=value)


def gain_cell(interval: Interval | None) -> Cell:
    """Return the cell of a gain with its interval."""
    if interval is None or math.isnan(interval.mean):
        return Cell()
    return Cell(signed(interval.mean), between(interval), interval.mean)


def _difference(comparison: Comparison | None) -> Cell:
    return gain_cell(comparison.difference if comparison else None)


def verdict_cell(comparison: Comparison | OverSets | None) -> Cell:
    """Return the cell of a verdict with its p-value."""
    if comparison is None:
        return Cell()
    p = "" if comparison.verdict in ("not enough seeds", "not enough task sets") else f"p {p_value(comparison.p)}"
    place = list(MARKS).index(comparison.verdict)
    return Cell(comparison.verdict, p, -place, MARKS[comparison.verdict], f"v{place}")


def _wins(comparison: Comparison | None) -> Cell:
    if comparison is None or not comparison.pairs:
        return Cell()
    return Cell(f"{comparison.wins}/{comparison.pairs}", sort=comparison.wins / comparison.pairs)


def _sets_wins(row: Row) -> Cell:
    compared = row.sets_vs_equal
    if compared is None:
        return Cell()
    return Cell(f"{compared.wins}/{len(compared.means)}", sort=compared.wins / len(compared.means))


def _sets_range(row: Row) -> Cell:
    if row.sets_vs_equal is None:
        return Cell()
    means = row.sets_vs_equal.means
    ends = Interval(float(means.mean()), float(means.min()), float(means.max()))
    return Cell(between(ends), sort=ends.high - ends.low)


def _companion(which: str) -> Callable[[Row], Cell]:
    """The cell of a p-value over task sets that no verdict depends on."""

    def cell(row: Row) -> Cell:
        p = math.nan if row.sets_vs_equal is None else getattr(row.sets_vs_equal, which)
        return Cell() if math.isnan(p) else Cell(f"p {p_value(p)}", sort=p)

    return cell


def _place(row: Row) -> Cell:
    if row.band is None:
        return Cell()
    best, worst = row.band
    return Cell(str(best) if best == worst else f"{best}–{worst}", sort=best + worst / 1e4)


def _failed(row: Row) -> Cell:
    return Cell(str(row.failed), sort=row.failed, mark="!" if row.failed else "", style="failed" if row.failed else "")


def _ratio(what: str) -> Callable[[Row], Cell]:
    return lambda row: Cell() if row.cost is None else _number(getattr(row.cost, what))


def _factor(board: Board, row: Row) -> object:
    if board.suite or not row.choices:
        return None
    if row.method == STL:
        return " ".join(f"{choice.tasks[0]}={choice.factor:g}" for choice in row.choices)
    return row.choices[0].factor


def _rate(row: Row) -> Cell:
    if not row.choices:
        return Cell()
    what = " ".join(f"×{choice.factor:g}" for choice in row.choices)
    options = ", ".join(f"{name}={text}" for choice in row.choices for name, text in choice.options.items())
    doubts = ["edge"] if any(choice.edge for choice in row.choices) else []
    if not all(choice.seeds_agree for choice in row.choices):
        doubts.append("seeds differ")
    single = row.choices[0].factor if len(row.choices) == 1 else None
    return Cell(what, "; ".join(filter(None, [options, *doubts])), single, style="wrap rate")


def _holds(row: Row) -> Cell:
    if row.holds_untuned is None or row.untuned is None:
        return Cell()
    if row.holds_untuned:
        return Cell("yes", sort=1)
    return Cell(f"no: {row.untuned.verdict}", sort=0)


def changes_cell(row: Row) -> Cell:
    """Return the cell that names the task sets without which the verdict changes, each with the verdict then."""
    said = "; ".join(f"{one.label}: {one.verdict}" for one in row.changes_without)
    return Cell(said or "none" if row.left_out else "", sort=len(row.changes_without), style="text changes")


def _passes(row: Row) -> Cell:
    return Cell(passes(row.passes), sort=sum(row.passes.values()) if row.passes else None)


def _untuned_sets(row: Row) -> Cell:
    word = row.untuned.sets_verdict if row.untuned else None
    if word is None:
        return Cell()
    place = list(MARKS).index(word)
    return Cell(word, "", -place, MARKS[word], f"v{place}")


def _ends(name: str, of: Callable[[Row], Interval | None]) -> tuple[Column, Column]:
    """The two ends of an interval, which CSV shows in columns of their own."""

    def end(which: str) -> Callable[[Board, Row], object]:
        return lambda board, row: getattr(of(row), which, None)

    return (
        Column(f"{name}_low", f"The lower end of the 95 % interval of `{name}`.", end("low")),
        Column(f"{name}_high", f"The upper end of the 95 % interval of `{name}`.", end("high")),
    )


def _compared(name: str, reference: str, of: Callable[[Row], Comparison | OverSets | None]) -> tuple[Column, ...]:
    """What only CSV shows of a comparison with a reference."""

    def fact(which: str) -> Callable[[Board, Row], object]:
        return lambda board, row: getattr(of(row), which, None)

    return (
        *_ends(name, lambda row: getattr(of(row), "difference", None)),
        Column(
            f"{name}_p",
            f"The p-value of the test against {reference}, adjusted for all methods of the table.",
            fact("p"),
        ),
    )


COLUMNS: tuple[Column, ...] = (
    Column(
        "task_set",
        "The task set, with its protocol and precision if they are not the default; `all` is the mean over task sets.",
        lambda board, row: board.label,
    ),
    Column(
        "method",
        "A rule for balancing tasks, with the options that differ from its defaults; stl is single-task learning, one "
        "network per task.",
        lambda board, row: row.method,
        heading="Method",
        cell=lambda row: Cell(row.method),
        shown=(*ALL_PAGES, "sets"),
        order=15,
        best="lowest",
        align="left",
    ),
    Column(
        "seeds",
        "The number of seeds with which the method is compared.",
        lambda board, row: row.seeds,
        heading="Seeds",
        cell=lambda row: Cell(str(row.seeds), sort=row.seeds),
        shown=ALL_PAGES,
        order=150,
    ),
    Column(
        "failed",
        "The number of runs that failed. They count with the scores of an untrained predictor. If these are not known, "
        "or if no run succeeded, the method has no Δ and no verdict.",
        lambda board, row: row.failed,
        heading="Failed",
        cell=_failed,
        shown=ALL_PAGES,
        order=160,
        best="lowest",
    ),
    Column(
        "delta_task",
        "The headline: the mean relative gain over single-task networks of the same seeds, in percentage points. "
        "The mean is taken over the metrics of a task first, then over tasks. Positive is better. Its 95 % t interval "
        "over seeds includes the spread of the single-task networks. There is no interval below three seeds.",
        lambda board, row: getattr(row.delta_task, "mean", None),
        heading="Δ task, pp",
        cell=lambda row: gain_cell(row.delta_task),
        shown=ALL_PAGES,
        order=30,
    ),
    *_ends("delta_task", lambda row: row.delta_task),
    Column(
        "delta_metric",
        "The same gain as Δ task, but all metrics weigh the same, so a task with many metrics weighs more.",
        lambda board, row: getattr(row.delta_metric, "mean", None),
        heading="Δ metric, pp",
        cell=lambda row: gain_cell(row.delta_metric),
        shown=("html",),
        order=70,
        group="more",
    ),
    *_ends("delta_metric", lambda row: row.delta_metric),
    Column(
        "vs_equal",
        "Δ task minus the Δ task of equal weights, paired by seed. Positive is better.",
        lambda board, row: row.vs_equal.difference.mean if row.vs_equal else None,
        heading="vs equal, pp",
        legend="Δ task minus the Δ task of equal weights, paired by seed, with its 95 % interval. Positive is better.",
        cell=lambda row: _difference(row.vs_equal),
        shown=ALL_PAGES,
        order=40,
    ),
    *_compared("vs_equal", "equal weights", lambda row: row.vs_equal),
    Column(
        "vs_equal_verdict",
        "What the test against equal weights shows.",
        lambda board, row: row.vs_equal.verdict if row.vs_equal else None,
        heading="Verdict",
        legend="What the test against equal weights shows, with its p-value, adjusted for all methods of the table.",
        cell=lambda row: verdict_cell(row.vs_equal),
        shown=ALL_PAGES,
        order=50,
        align="left",
        brief=True,
    ),
    Column(
        "changes_without",
        "Over several task sets: those without which the verdict against equal weights is another one, each with the "
        "verdict then; `none` if there are none. It is empty for single task sets, and over fewer than three.",
        lambda board, row: changes_cell(row).text or None,
    ),
    Column(
        "vs_equal_wins",
        "In how many pairs of runs with the same seed (and task set) the method was better than equal weights.",
        lambda board, row: row.vs_equal.wins if row.vs_equal else None,
        heading="Wins",
        cell=lambda row: _wins(row.vs_equal),
        shown=("html",),
        order=60,
    ),
    Column(
        "vs_equal_pairs",
        "The number of these pairs.",
        lambda board, row: row.vs_equal.pairs if row.vs_equal else None,
    ),
    Column(
        "sets",
        "Over task sets: how many they are. On other sets like these they are the sample.",
        lambda board, row: board.beyond.sets if board.beyond else None,
    ),
    Column(
        "sets_vs_equal",
        "`vs_equal`, once more: the mean over task sets of the mean difference on each. Its interval, in the next two "
        "columns, is over sets. Below six sets there is no interval and no p-value.",
        lambda board, row: row.sets_vs_equal.difference.mean if row.sets_vs_equal else None,
        heading="Mean over sets, pp",
        legend="The mean over task sets of the mean difference from equal weights on each, with its 95 % t interval "
        "over sets. Positive is better.",
        cell=lambda row: gain_cell(row.sets_vs_equal.difference if row.sets_vs_equal else None),
        shown=("sets",),
        order=42,
        sets=True,
    ),
    *_compared("sets_vs_equal", "equal weights with the task sets as the sample", lambda row: row.sets_vs_equal),
    Column(
        "sets_vs_equal_verdict",
        "What that test against equal weights shows of other task sets like these.",
        lambda board, row: row.sets_vs_equal.verdict if row.sets_vs_equal else None,
        heading="On sets like these",
        legend="What a test against equal weights shows of other task sets like these, with its p-value, adjusted for "
        "all methods of the table. There the sets are the sample, and not the seeds.",
        cell=lambda row: verdict_cell(row.sets_vs_equal),
        shown=("terminal", "markdown", "latex", "sets"),
        order=52,
        align="left",
        sets=True,
        brief=True,
    ),
    Column(
        "sets_vs_equal_scaled_p",
        "The p-value of the same test, adjusted for all methods of the table, if the differences on each task set are "
        "first divided by their root mean square over the methods, so that no set rules the others. No verdict depends "
        "on it.",
        lambda board, row: row.sets_vs_equal.scaled_p if row.sets_vs_equal else None,
        heading="In units of each set",
        cell=_companion("scaled_p"),
        shown=("sets",),
        order=54,
        best="lowest",
        sets=True,
    ),
    Column(
        "sets_vs_equal_signed_rank_p",
        "The p-value of Wilcoxon's exact signed-rank test over task sets, of this method alone: it is not adjusted for "
        "the other methods, and no verdict depends on it. It is less ruled by one set with large differences.",
        lambda board, row: row.sets_vs_equal.signed_rank_p if row.sets_vs_equal else None,
        heading="Signed ranks, alone",
        cell=_companion("signed_rank_p"),
        shown=("sets",),
        order=56,
        best="lowest",
        sets=True,
    ),
    Column(
        "sets_vs_equal_wins",
        "On how many task sets the method was better than equal weights in the mean over seeds.",
        lambda board, row: row.sets_vs_equal.wins if row.sets_vs_equal else None,
        heading="Sets in favour",
        cell=_sets_wins,
        shown=("sets",),
        order=46,
        sets=True,
    ),
    Column(
        "sets_vs_equal_range",
        "The smallest and the largest mean difference from equal weights on a task set, in percentage points.",
        heading="From set to set, pp",
        cell=_sets_range,
        shown=("sets",),
        order=44,
        sets=True,
    ),
    Column(
        "lr_factor",
        "The multiple of the protocol's learning rate that trials have chosen; of single-task learning for each task. "
        "It is empty where nothing was tuned, and over several task sets.",
        _factor,
        heading="Rate ×",
        legend="The multiple of the protocol's learning rate that trials have chosen on validation; of single-task "
        "learning for each task, in their order. “edge”: the smallest or largest that was tried, so that a better one "
        "may lie beyond. “seeds differ”: of the two tuning seeds, one alone would have chosen another one.",
        cell=_rate,
        shown=TERMINAL_AND_HTML,
        order=62,
        tuned=True,
        brief=True,
    ),
    Column(
        "untuned_delta_task",
        "Δ task where every method, and single-task learning, is trained at the protocol's own learning rate.",
        lambda board, row: row.untuned.delta_task.mean if row.untuned and row.untuned.delta_task else None,
        heading="Δ untuned, pp",
        cell=lambda row: gain_cell(row.untuned.delta_task if row.untuned else None),
        shown=TERMINAL_AND_HTML,
        order=64,
        tuned=True,
        brief=True,
    ),
    Column(
        "untuned_vs_equal_verdict",
        "What the test against equal weights shows at the protocol's own learning rate. Those tests are a family of "
        "their own.",
        lambda board, row: row.untuned.verdict if row.untuned else None,
    ),
    Column(
        "holds_untuned",
        "Whether the verdict against equal weights is the same at the protocol's own learning rate: yes or no. It is "
        "empty where one of the two is missing.",
        lambda board, row: {True: "yes", False: "no", None: None}[row.holds_untuned],
        heading="Holds untuned",
        legend="Whether the verdict against equal weights is the same at the protocol's own learning rate; if not, the "
        "verdict there.",
        cell=_holds,
        shown=ALL_PAGES,
        order=66,
        align="left",
        tuned=True,
    ),
    Column(
        "untuned_sets_vs_equal_verdict",
        "What the test against equal weights shows of other task sets like these at the protocol's own learning rate.",
        lambda board, row: row.untuned.sets_verdict if row.untuned else None,
        heading="Untuned, on sets like these",
        cell=_untuned_sets,
        shown=("sets",),
        order=68,
        align="left",
        tuned=True,
        sets=True,
    ),
    Column(
        "vs_stl",
        "Δ task, once more: the gain over single-task networks is the difference that is tested against them.",
        lambda board, row: row.vs_stl.difference.mean if row.vs_stl else None,
    ),
    *_compared("vs_stl", "single-task networks", lambda row: row.vs_stl),
    Column(
        "vs_stl_verdict",
        "What the test against single-task networks shows.",
        lambda board, row: row.vs_stl.verdict if row.vs_stl else None,
        heading="vs single-task",
        legend="What the test against single-task networks shows, with its p-value, adjusted for all methods of the "
        "table.",
        cell=lambda row: verdict_cell(row.vs_stl),
        shown=("html",),
        order=80,
        group="more",
    ),
    Column(
        "vs_stl_wins",
        "In how many pairs of runs with the same seed (and task set) the method was better than single-task networks.",
        lambda board, row: row.vs_stl.wins if row.vs_stl else None,
    ),
    Column(
        "vs_stl_pairs",
        "The number of these pairs.",
        lambda board, row: row.vs_stl.pairs if row.vs_stl else None,
    ),
    Column(
        "sets_vs_stl",
        "Δ task, once more: the mean over task sets of the gain on each. Its interval, in the next two columns, is "
        "over sets.",
        lambda board, row: row.sets_vs_stl.difference.mean if row.sets_vs_stl else None,
    ),
    *_compared("sets_vs_stl", "single-task networks with the task sets as the sample", lambda row: row.sets_vs_stl),
    Column(
        "sets_vs_stl_verdict",
        "What that test against single-task networks shows of other task sets like these.",
        lambda board, row: row.sets_vs_stl.verdict if row.sets_vs_stl else None,
        heading="vs single-task, on sets like these",
        legend="What a test against single-task networks shows of other task sets like these, with its p-value, "
        "adjusted for all methods of the table.",
        cell=lambda row: verdict_cell(row.sets_vs_stl),
        shown=("sets",),
        order=84,
        align="left",
        sets=True,
    ),
    Column(
        "best_place",
        "The best place that the method can have, given the tests of all pairs: 1 is the best.",
        lambda board, row: row.band[0] if row.band else None,
        heading="Place",
        legend="The best and the worst place that the method can have, given the tests of all pairs: 1 is the best. "
        "The order of methods whose places overlap is not known.",
        cell=_place,
        shown=("html", "markdown", "latex"),
        order=10,
        best="lowest",
    ),
    Column(
        "worst_place",
        "The worst place that the method can have, given the tests of all pairs.",
        lambda board, row: row.band[1] if row.band else None,
    ),
    Column(
        "letters",
        "Two methods share a letter if the tests of all pairs do not show that they differ. A shared letter does not "
        "show that they are equal.",
        lambda board, row: row.letters or None,
        heading="Groups",
        cell=lambda row: Cell(row.letters, style="wrap"),
        shown=("html",),
        order=20,
        best="lowest",
        group="more",
    ),
    Column(
        "mean_rank",
        "The mean over metrics of the rank among the methods, 1 is the best. It depends on which methods are compared, "
        "and it is not tested.",
        lambda board, row: row.mean_rank,
        heading="Mean rank",
        cell=lambda row: _number(row.mean_rank),
        shown=("html",),
        order=90,
        best="lowest",
        group="more",
    ),
    Column(
        "step_ratio",
        "The time of a step, relative to equal weights.",
        heading="Step ×",
        cell=_ratio("step"),
        shown=ALL_PAGES,
        order=100,
        best="lowest",
        group="cost",
    ),
    Column(
        "training_ratio",
        "The time of a training together with that of its teachers, relative to equal weights.",
        heading="Training ×",
        cell=_ratio("training"),
        shown=("html",),
        order=110,
        best="lowest",
        group="cost",
    ),
    Column(
        "with_trials_ratio",
        "The time of a training and of all trials that chose its rate, with those of its teachers, relative to one "
        "training of equal weights.",
        heading="With trials ×",
        cell=_ratio("with_trials"),
        shown=TERMINAL_AND_HTML,
        order=115,
        best="lowest",
        group="cost",
        tuned=True,
    ),
    Column(
        "memory_ratio",
        "The most memory that a step needs at once, beyond parameters and data, relative to equal weights.",
        heading="Memory ×",
        cell=_ratio("memory"),
        shown=("html",),
        order=120,
        best="lowest",
        group="cost",
    ),
    Column(
        "forward_passes",
        "Forward passes in a step.",
        lambda board, row: row.passes.get("forward"),
        heading="Passes",
        legend="The passes of a step: forward / backward through the heads / backward through the trunk, and + forward "
        "passes of teachers.",
        cell=_passes,
        shown=TERMINAL_AND_HTML,
        order=130,
        best="lowest",
        group="cost",
    ),
    Column(
        "heads_passes",
        "Backward passes through the heads in a step.",
        lambda board, row: row.passes.get("heads"),
    ),
    Column(
        "trunk_passes",
        "Backward passes through the trunk in a step.",
        lambda board, row: row.passes.get("trunk"),
    ),
    Column(
        "teacher_passes",
        "Forward passes of teachers in a step.",
        lambda board, row: row.passes.get("teacher"),
    ),
    Column(
        "degenerate",
        "The number of steps, over all runs, at which the rule's definition had no solution.",
        lambda board, row: row.degenerate,
    ),
    Column("note", "What else must be known about the method's runs.", lambda board, row: row.note),
)
"""In the order of `leaderboard.csv`."""


def metric_columns(board: Board) -> list[Column]:
    """Return the columns of a board's test metrics, each followed by that of its gain, which CSV alone shows."""
    made: list[Column] = []
    for place, (metric, higher) in enumerate(zip(board.metrics, board.higher_is_better, strict=True)):
        made += _metric(place, metric_name(metric), higher)
    return made


def _metric(place: int, name: str, higher: bool) -> tuple[Column, Column]:
    def cell(row: Row) -> Cell:
        value, gain = float(row.values[place]), float(row.gains[place])
        small = "" if math.isnan(gain) else f"{signed(gain, 1)} %"
        return Cell(number(value), small, None if math.isnan(value) else value)

    return (
        Column(
            name,
            METRIC,
            lambda board, row: row.values[place],
            heading=f"{name} {'↑' if higher else '↓'}",
            cell=cell,
            shown=TERMINAL_AND_HTML,
            best="highest" if higher else "lowest",
            brief=True,
        ),
        Column(f"{name}.gain", GAIN, lambda board, row: row.gains[place] if row.vs_stl is not None else math.nan),
    )


METRIC = "The mean of a test metric over seeds."
GAIN = "The gain of this metric over single-task networks, in per cent; positive is better."


def shown_on(
    page: Page, columns: Iterable[Column] | None = None, *, tuned: bool = False, sets: bool = False
) -> list[Column]:
    """Return those of the columns that a page shows, in its order.

    Args:
        page: which page.
        columns: of which to choose; all columns but the metrics if none are given.
        tuned: whether rates were chosen by trials in what the page shows.
        sets: whether it has enough task sets to speak of others.
    """
    some = COLUMNS if columns is None else columns
    shown = (c for c in some if page in c.shown and (tuned or not c.tuned) and (sets or not c.sets))
    return sorted(shown, key=lambda column: column.order)


def shown_of(page: Page, board: Board) -> list[Column]:
    """Return the columns that a page shows of a board. What trials have chosen is left out where there is nothing.

    Over several task sets there is no learning rate, say.
    """
    columns = shown_on(page, tuned=bool(board.choices), sets=board.beyond is not None and board.beyond.enough)
    return [column for column in columns if not column.tuned or any(column.cell(row).line() for row in board.rows)]


def in_csv(boards: Iterable[Board]) -> list[str]:
    """Return the names of the columns of `leaderboard.csv`, in the order of the file."""
    columns = [*COLUMNS, *(column for board in boards for column in metric_columns(board))]
    return [*dict.fromkeys(column.name for column in columns if column.value is not None)]


def values(board: Board, row: Row) -> dict[str, object]:
    """Return what `leaderboard.csv` holds of a row, by the names of its columns."""
    found = {c.name: c.value(board, row) for c in (*COLUMNS, *metric_columns(board)) if c.value is not None}
    return {name: value for name, value in found.items() if value is not None}
