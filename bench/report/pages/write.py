"""Writes all pages of a folder of records."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from bench.literature import published
from bench.records import CostRecord
from bench.report.analyse import analyse
from bench.report.board import USUAL, Report, Rules
from bench.report.costs import costs, timings
from bench.report.pages.csv import csv_bytes, frozen, leaderboard
from bench.report.pages.html import page
from bench.report.pages.text import latex, markdown
from bench.report.replications import fresh
from bench.report.scores import Scores, tidy
from bench.report.trials import curve, tuning
from bench.store import write
from methods.core.names import UsageError
from tasks.core.errors import DataError

FILES = (
    *("leaderboard.csv", "leaderboard.html", "leaderboard.md", "leaderboard.tex"),
    *("frozen.csv", "runs.csv", "costs.csv", "timings.csv"),
)
TRIAL_FILES = ("tuning.csv", "curve.csv")
"""Of a folder that has the records of trials."""
DRAW_FILE = "draws.csv"
"""Of a folder that has fresh draws of a task set."""


def write_pages(
    scores: Scores,
    folder: Path,
    measured: Sequence[CostRecord] = (),
    *,
    rules: Rules = USUAL,
    figures: bool = True,
) -> Report:
    """Write every page into a folder and return the report that they show.

    Args:
        scores: of the runs.
        folder: where the files go.
        measured: what steps cost, where that was measured side by side.
        rules: how verdicts are judged.
        figures: whether the HTML page has figures, which take most of the time.
    """
    report = analyse(scores, measured, rules)
    contents = (
        csv_bytes(leaderboard(report)),
        page(report, _published(report), figures=figures),
        markdown(report),
        latex(report),
        *map(csv_bytes, (frozen(report), tidy(scores), costs(scores, measured), timings(scores))),
    )
    for name, content in zip(FILES, contents, strict=True):
        write(folder / name, content)
    if scores.trials:
        for name, frame in zip(TRIAL_FILES, (tuning(report), curve(report)), strict=True):
            write(folder / name, csv_bytes(frame))
    if any(board.draw_of for board in report.boards):
        write(folder / DRAW_FILE, csv_bytes(fresh(report.boards)))
    return report


def _published(report: Report) -> dict[str, pd.DataFrame]:
    """Return what papers printed about the task sets of a report, by the label of the board."""
    found = {}
    for board in report.boards:
        try:
            found[board.label] = published(board.label.partition("[")[0].partition("@")[0])
        except (UsageError, DataError):  # no paper has this task set, or the tables are not installed
            continue
    return found
