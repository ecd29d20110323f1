"""Trains a share of recorded runs again, and says which of them come out the same.

This module has what can be said before anything slow is imported.
"""

from pathlib import Path

from bench.store import ENDING, FOLDER, NothingToCompareError
from methods.core.names import UsageError

TABLE = "runs.csv"
"""The file that has the runs of a folder without records."""


def require(source: Path, share: float, seed: int) -> None:
    """Raise if nothing can be drawn.

    Raises:
        UsageError: share or seed is out of range.
        NothingToCompareError: the source is no file, and has neither records nor `runs.csv`.
    """
    if not 0 < share <= 1:
        raise UsageError(f"--share {share:g}: write a number above 0, and at most 1 for all runs")
    if seed < 0:
        raise UsageError(f"--seed {seed}: write a whole number from 0 on")
    if not (source.is_file() or (source / TABLE).is_file() or any((source / FOLDER).glob(f"*{ENDING}"))):
        raise NothingToCompareError(
            f"{source} has no records and no {TABLE}: python -m bench run --out {source} makes them"
        )
