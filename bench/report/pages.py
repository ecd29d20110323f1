"""The table of scores → files in their folder, and the table on a terminal."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.literature import published
from bench.plain import one_line
from bench.records import CostRecord
from bench.report.analyse import analyse
from bench.report.board import USUAL, Board, Comparison, Interval, Report, Rules, metric_name
from bench.report.costs import costs, timings
from bench.report.csv import csv_bytes
from bench.report.findings import number, passes, signed
from bench.report.html import page
from bench.report.scores import Scores, tidy
from bench.report.table import leaderboard
from bench.report.text import latex, markdown
from bench.store import write
from methods.core.names import UsageError
from tasks.core.errors import DataError

WIDEST_NAME = 40
"""Characters of a name that stand on one line of a table, so that a long one pushes no number off the terminal."""
FILES = (
    *("leaderboard.csv", "leaderboard.html", "leaderboard.md", "leaderboard.tex"),
    *("runs.csv", "costs.csv", "timings.csv"),
)


def write_pages(
    scores: Scores,
    folder: Path,
    measured: Sequence[CostRecord] = (),
    *,
    rules: Rules = USUAL,
    figures: bool = True,
) -> Report:
    """Write all pages of a table of scores, and of what steps were measured to cost. Returns what they say."""
    report = analyse(scores, measured, rules)
    contents = (
        csv_bytes(leaderboard(report)),
        page(report, _published(report), figures=figures),
        markdown(report),
        latex(report),
        *map(csv_bytes, (tidy(scores), costs(scores, measured), timings(scores))),
    )
    for name, content in zip(FILES, contents, strict=True):
        write(folder / name, content)
    return report


def _published(report: Report) -> dict[str, pd.DataFrame]:
    """What papers printed of the same task sets, by label."""
    found = {}
    for board in report.boards:
        try:
            found[board.label] = published(board.label.partition("[")[0].partition("@")[0])
        except (UsageError, DataError):  # of no such task set; or they did not come along
            continue
    return found


def print_board(report: Report, console: Console) -> None:
    """Print, per task set and over all of them, gains, verdicts, cost and every metric."""
    for board in sorted(report.boards, key=lambda board: not board.suite):
        gains = _table()
        columns = (
            "delta_task",
            "vs equal",
            "",
            "delta_metric",
            "rank",
            "step ×",
            "total ×",
            "memory ×",
            "passes",
            "seeds",
        )
        for name in (*columns, "failed"):
            gains.add_column(name, justify="left" if name == "" else "right")
        values = _table()
        for metric in board.metrics:
            values.add_column(Text(one_line(metric_name(metric))), justify="right", overflow="fold")
        for row in board.rows:
            ratios = (row.cost.step, row.cost.training, row.cost.memory) if row.cost is not None else (None,) * 3
            gains.add_row(
                *(
                    Text(one_line(row.method)),
                    _interval(row.delta_task),
                    *_verdict(row.vs_equal),
                    _interval(row.delta_metric),
                ),
                *(number(value) for value in (row.mean_rank, *ratios)),
                *(passes(row.passes), str(row.seeds), str(row.failed)),
            )
            values.add_row(Text(one_line(row.method)), *(number(value) for value in row.values))
        _say(console, f"{board.label}: gain over single-task learning, pp (95 % interval)")
        console.print(gains)
        if board.metrics:
            _say(console, f"{board.label}: test metrics, means over seeds")
            console.print(values)
        for line in _below(board):
            _say(console, line)
        console.print()


def _below(board: Board) -> list[str]:
    lines = [f"note: {note}" for note in board.notes]
    return lines + [f"note: {row.method} on {board.label}: {row.note}" for row in board.rows if row.note]


def _say(console: Console, line: str) -> None:
    console.print(one_line(line), markup=False, highlight=False, soft_wrap=True)


def _table() -> Table:
    made = Table(box=None, pad_edge=False, header_style="bold")
    made.add_column("method", max_width=WIDEST_NAME, overflow="fold")
    return made


def _interval(interval: Interval | None) -> str:
    if interval is None:
        return ""
    inside = f" ({signed(interval.low, 1)}, {signed(interval.high, 1)})" if interval.low == interval.low else ""
    return signed(interval.mean) + inside


def _verdict(comparison: Comparison | None) -> tuple[str, str]:
    return ("", "") if comparison is None else (_interval(comparison.difference), comparison.verdict)
