"""Makes the table of `leaderboard.csv`, and writes any table as CSV.

CSV is written with the quoting of RFC 4180, in UTF-8, with `\\n` at the end of lines; missing values are empty.
"""

import pandas as pd

from bench.report.board import Report
from bench.report.columns import in_csv, values
from bench.report.remainders import COLUMNS

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes text that begins with one of these for a formula."""


def leaderboard(report: Report) -> pd.DataFrame:
    """Return one row per task set and method, best first, single-task learning among them; rows over task sets last."""
    boards = sorted(report.boards, key=lambda board: board.suite)
    rows = [values(board, row) for board in boards for row in board.rows]
    return pd.DataFrame(rows).reindex(columns=in_csv(boards))


def frozen(report: Report) -> pd.DataFrame:
    """Return one row per task set and method with frozen weights; rows over task sets last."""
    boards = sorted(report.boards, key=lambda board: board.suite)
    rows = [[column.value(board, row) for column in COLUMNS] for board in boards for row in board.remainders]
    return pd.DataFrame(rows, columns=[column.name for column in COLUMNS])


def csv_bytes(frame: pd.DataFrame, float_format: str = "%.10g") -> bytes:
    """Write a table. Floats have one fixed format; text that a spreadsheet would run as a formula is made inert."""
    guarded = frame.rename(columns=_inert)
    for column in guarded.select_dtypes(exclude=["number", "bool"]):
        guarded[column] = guarded[column].map(_inert)
    # With this line end a carriage return inside a cell is quoted, too.
    text = guarded.to_csv(index=False, float_format=float_format, lineterminator="\r\n")
    return text.replace("\r\n", "\n").encode(errors="replace")


def as_meant(text: str) -> str:
    """Undo what `csv_bytes` did to text that looked like a formula."""
    return text.removeprefix("'") if text.startswith(tuple(f"'{mark}" for mark in FORMULA)) else text


def _inert(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
