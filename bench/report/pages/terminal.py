"""Prints boards as tables on a terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.plain import one_line
from bench.report import replications
from bench.report.board import Board, Report
from bench.report.columns import Column, metric_columns, shown_of, shown_on
from bench.report.findings import MARKS, conditions_over_sets, signed
from bench.report.remainders import TITLE, remainders_shown

if TYPE_CHECKING:
    import pandas as pd

WIDEST_NAME = 40
"""Characters of a method's name on one line of a table. A longer name is folded, so that the numbers stay in view."""

SPARE = (
    *("forward_passes", "untuned_delta_task", "with_trials_ratio", "seeds", "failed", "step_ratio", "lr_factor"),
    *("holds_untuned", "sets_vs_equal_verdict"),
)
"""Columns that a terminal leaves out where they have no room, the first of them first. Numbers and their intervals are
not to be cut into lines."""
GAP = 2
"""Spaces between two columns."""

MOST_ROWS = 100
"""How many methods a table lists, the best. The other methods are in the files."""


def print_board(report: Report, console: Console) -> None:
    """Print gains, verdicts, costs and every metric: first over all task sets, then of each."""
    left: dict[str, None] = {}
    for board in sorted(report.boards, key=lambda board: not board.suite):
        columns = shown_of("terminal", board)
        fitting = _fitting(board, columns, console.width)
        left |= {column.heading: None for column in columns if column not in fitting}
        _say(console, f"{board.label}: gain over single-task learning, pp (95 % interval)")
        console.print(_table(board, fitting, console.width))
        if metrics := shown_on("terminal", metric_columns(board)):
            _say(console, f"{board.label}: test metrics, means over seeds")
            console.print(_table(board, [columns[0], *metrics]))
        if board.remainders:
            _say(console, f"{board.label}: {TITLE[0].lower()}{TITLE[1:]}, each against its own method")
            console.print(_remainders(board))
        if (more := len(board.rows) - MOST_ROWS) > 0:
            _say(console, f"{more} more methods are in leaderboard.csv")
        for line in filter(None, [conditions_over_sets(board), *_notes(board)]):
            _say(console, line)
        console.print()
    for sentence in replications.summary(report.boards):
        _say(console, f"fresh draw: {''.join(sentence)}")
    if left:
        _say(console, f"a wider terminal, and the files, have more columns: {'; '.join(left)}")


def print_versus(found: "pd.DataFrame", reference: str, console: Console) -> None:
    """Print what `bench.api.versus` found, a row a method and a column a task set, best first in the first column."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    made.add_column("method", max_width=WIDEST_NAME, overflow="fold")
    cells: dict[str, dict[str, str]] = {}
    labels = list(dict.fromkeys(found["task_set"]))
    for label in labels:
        made.add_column(Text(one_line(label)), justify="right", overflow="fold")
    shown = found[["method", "task_set", "verdict", "difference"]]
    for method, label, verdict, difference in shown.itertuples(index=False, name=None):
        cells.setdefault(method, {})[label] = f"{MARKS[verdict]} {signed(difference, 1)}"
    for method, own in cells.items():
        made.add_row(*(Text(one_line(text)) for text in (method, *(own.get(label, "") for label in labels))))
    _say(console, f"difference from {reference}, pp of Δ task; positive is better than {reference}")
    console.print(made)
    _say(console, ", ".join(f"{mark} {word}" for word, mark in MARKS.items() if word in set(found["verdict"])))


def _table(board: Board, columns: Sequence[Column], width: int | None = None) -> Table:
    """Make a table; where it would not fit into a width, headings get more lines, and cells have one still."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    first, *others = columns
    narrow = [_width(board, column) for column in others]
    total = _total(board, columns)
    whole = sum(max(own, cell_len(column.heading)) - own for own, column in zip(narrow, others, strict=True))
    fixed = width is not None and total <= width < total + whole
    made.add_column(first.heading, max_width=WIDEST_NAME, overflow="fold")
    for column, own in zip(others, narrow, strict=True):
        heading = Text(one_line(column.heading))
        made.add_column(heading, justify=column.align, overflow="fold", width=own if fixed else None)
    for row in board.rows[:MOST_ROWS]:
        cells = [column.cell(row).line(brief=column.brief) for column in columns]
        made.add_row(*(Text(one_line(text)) for text in cells))
    return made


def _remainders(board: Board) -> Table:
    made = Table(box=None, pad_edge=False, header_style="bold")
    columns = remainders_shown()
    for column in columns:
        made.add_column(column.heading, justify=column.align, overflow="fold")
    for row in board.remainders:
        made.add_row(*(Text(one_line(column.cell(row).line())) for column in columns))
    return made


def _fitting(board: Board, columns: Sequence[Column], width: int) -> list[Column]:
    """Leave out columns until the others have room."""
    kept = list(columns)
    for name in SPARE:
        if _total(board, kept) <= width:
            break
        kept = [column for column in kept if column.name != name]
    return kept


def _total(board: Board, columns: Sequence[Column]) -> int:
    """The characters that a table needs."""
    first, *others = columns
    names = max((cell_len(one_line(row.method)) for row in board.rows[:MOST_ROWS]), default=0)
    widths = [max(cell_len(first.heading), min(names, WIDEST_NAME)), *(_width(board, column) for column in others)]
    return sum(widths) + GAP * len(others)


def _width(board: Board, column: Column) -> int:
    """The characters that a column needs, with a heading of several lines."""
    cells = [column.cell(row) for row in board.rows[:MOST_ROWS]]
    parts = column.heading.split()
    for cell in cells:
        text = one_line(cell.line(brief=column.brief))
        parts += text.split() if "wrap" in cell.style else [text]
    return max(map(cell_len, parts), default=0)


def _notes(board: Board) -> list[str]:
    lines = [f"note: {note}" for note in board.notes]
    noted = [(row.method, row.note) for row in board.rows] + [(row.method, row.note) for row in board.remainders]
    return lines + [f"note: {method} on {board.label}: {note}" for method, note in noted if note]


def _say(console: Console, line: str) -> None:
    console.print(one_line(line), markup=False, highlight=False, soft_wrap=True)
