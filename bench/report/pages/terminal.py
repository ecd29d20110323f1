"""Prints boards as tables on a terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.plain import one_line
from bench.report.board import Board, Report
from bench.report.columns import Column, metric_columns, shown_on

WIDEST_NAME = 40
"""Characters of a method's name on one line of a table. A longer name is folded, so that the numbers stay in view."""

MOST_ROWS = 100
"""How many methods a table lists, the best. The other methods are in the files."""


def print_board(report: Report, console: Console) -> None:
    """Print gains, verdicts, costs and every metric: first over all task sets, then of each."""
    for board in sorted(report.boards, key=lambda board: not board.suite):
        method, *columns = shown_on("terminal", tuned=bool(board.choices))
        _say(console, f"{board.label}: gain over single-task learning, pp (95 % interval)")
        console.print(_table(board, [method, *columns]))
        if metrics := shown_on("terminal", metric_columns(board)):
            _say(console, f"{board.label}: test metrics, means over seeds")
            console.print(_table(board, [method, *metrics]))
        if (more := len(board.rows) - MOST_ROWS) > 0:
            _say(console, f"{more} more methods are in leaderboard.csv")
        for line in _notes(board):
            _say(console, line)
        console.print()


def _table(board: Board, columns: Sequence[Column]) -> Table:
    made = Table(box=None, pad_edge=False, header_style="bold")
    first, *others = columns
    made.add_column(first.heading, max_width=WIDEST_NAME, overflow="fold")
    for column in others:
        made.add_column(Text(one_line(column.heading)), justify=column.align, overflow="fold")
    for row in board.rows[:MOST_ROWS]:
        cells = [column.cell(row).line(brief=column.brief) for column in columns]
        made.add_row(*(Text(one_line(text)) for text in cells))
    return made


def _notes(board: Board) -> list[str]:
    lines = [f"note: {note}" for note in board.notes]
    return lines + [f"note: {row.method} on {board.label}: {row.note}" for row in board.rows if row.note]


def _say(console: Console, line: str) -> None:
    console.print(one_line(line), markup=False, highlight=False, soft_wrap=True)
