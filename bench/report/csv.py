"""Tables → CSV bytes: RFC 4180 quoting, UTF-8, `\\n`, empty where there is nothing."""

import pandas as pd

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Text that begins with one of these is a formula to a spreadsheet."""


def csv_bytes(frame: pd.DataFrame, float_format: str = "%.10g") -> bytes:
    """Write a table; floats in one fixed format, text that a spreadsheet would run as a formula made inert."""
    guarded = frame.rename(columns=_inert)
    for column in guarded.select_dtypes(exclude=["number", "bool"]):
        guarded[column] = guarded[column].map(_inert)
    # With this line end a carriage return inside a cell is quoted, too.
    text = guarded.to_csv(index=False, float_format=float_format, lineterminator="\r\n")
    return text.replace("\r\n", "\n").encode(errors="replace")


def as_meant(text: str) -> str:
    """Return text of a table that `csv_bytes` wrote as it was before it was made inert."""
    return text.removeprefix("'") if text.startswith(tuple(f"'{mark}" for mark in FORMULA)) else text


def _inert(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
