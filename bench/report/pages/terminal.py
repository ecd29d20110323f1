"""Prints boards as tables on a terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.plain import one_line
from bench.report.board import Board, Report
from bench.report.columns import Cell, Column, metric_columns, shown_on
from bench.report.remainders import TITLE, RemainderColumn, remainders_shown

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
        if board.remainders:
            shown = remainders_shown()
            _say(console, f"{board.label}: {TITLE[0].lower()}{TITLE[1:]}, each against its own method")
            console.print(_lines(shown, [[column.cell(row) for column in shown] for row in board.remainders]))
        if (more := len(board.rows) - MOST_ROWS) > 0:
            _say(console, f"{more} more methods are in leaderboard.csv")
        for line in _notes(board):
            _say(console, line)
        console.print()


def _table(board: Board, columns: Sequence[Column]) -> Table:
    cells = [[column.cell(row) for column in columns] for row in board.rows[:MOST_ROWS]]
    return _lines(columns, cells, [column.brief for column in columns])


def _lines(
    columns: Sequence[Column | RemainderColumn], rows: Sequence[Sequence[Cell]], brief: Sequence[bool] = ()
) -> Table:
    made = Table(box=None, pad_edge=False, header_style="bold")
    first, *others = columns
    made.add_column(first.heading, max_width=WIDEST_NAME, overflow="fold")
    for column in others:
        made.add_column(Text(one_line(column.heading)), justify=column.align, overflow="fold")
    for row in rows:
        texts = [cell.line(brief=own) for cell, own in zip(row, brief or [False] * len(row), strict=True)]
        made.add_row(*(Text(one_line(text)) for text in texts))
    return made


def _notes(board: Board) -> list[str]:
    lines = [f"note: {note}" for note in board.notes]
    noted = [(row.method, row.note) for row in board.rows] + [(row.method, row.note) for row in board.remainders]
    return lines + [f"note: {method} on {board.label}: {note}" for method, note in noted if note]


def _say(console: Console, line: str) -> None:
    console.print(one_line(line), markup=False, highlight=False, soft_wrap=True)
