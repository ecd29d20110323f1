"""What trials found: the gain of each setting on validation, and that on test to be expected of the best of so many.

Test scores of trials serve for that expectation alone: choices never see them, and no table of results has them.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench.evidence.delta import delta_mtl, has_relative_gain
from bench.evidence.search import expected_best
from bench.report.board import Board, Floats, Report
from bench.report.scores import Metric, Run
from bench.spec import STL
from bench.tuning.choose import Choice

TUNING = ["task_set", "method", "tasks", "trial", "factor", "options", "gain", "failed", "chosen"]
CURVE = ["task_set", "method", "trials", "expected_delta_task"]

Setting = tuple[float, tuple[tuple[str, str], ...]]
"""A multiple of the protocol's rate, and options with their values."""


@dataclass(frozen=True)
class Trial:
    """One setting that was tried, over the tuning seeds."""

    factor: float
    options: Mapping[str, str]
    gain: float
    """The mean relative gain on validation over single-task learning, in per cent; NaN where it is not known."""
    failed: int
    """At how many of the tuning seeds its run failed."""
    chosen: bool


def trials_of(choice: Choice) -> list[Trial]:
    """Return what a choice was made from, in the order in which it was tried."""
    failed: dict[Setting, int] = {}
    for attempt in choice.attempts:
        key = attempt.factor, tuple(sorted(attempt.options.items()))
        failed[key] = failed.get(key, 0) + (attempt.status != "ok")
    best = choice.factor, tuple(sorted(choice.options.items()))
    return [
        Trial(key[0], dict(key[1]), math.nan if gain is None else gain, count, key == best)
        for (key, count), gain in zip(failed.items(), choice.gains, strict=True)
    ]


def contestants(board: Board) -> list[tuple[str, Choice]]:
    """Return the choices of a board of one task set, each with what the board calls its method.

    They come in the order of the rows. After them come those whose method has no row of its own there.
    """
    found = [(row.method, choice) for row in board.rows for choice in row.choices]
    known = [choice for _, choice in found]
    return found + [(choice.method_label, choice) for choice in board.choices if choice not in known]


def expected(board: Board, trials: Sequence[Run]) -> dict[str, Floats]:
    """Return Δ task `[N]` to be expected of the validation-best of b = 1 … N trials, by method.

    Δ task of a trial is its gain on test over the tuned single-task networks of the same tuning seed, the mean over
    the tuning seeds. A trial that failed counts with the scores of the untrained predictor. A method is left out if a
    record of one of its trials is not there, and all are if one of those networks is not.

    Args:
        board: of one task set, with the choices of its rows.
        trials: the runs of its trials.
    """
    by_name = {run.name: run for run in trials}
    untrained: dict[Metric, float] = {}
    for run in trials:
        for task, own in run.scores.items():
            untrained |= {(task, name): s.untrained for name, s in own.items() if s.untrained is not None}
    single = [choice for row in board.rows if row.method == STL for choice in row.choices]
    if not single or any(metric[0] not in {choice.tasks[0] for choice in single} for metric in board.metrics):
        return {}
    baseline = {}
    for seed in single[0].seeds:
        runs = [by_name.get(choice.run(seed)) for choice in single]
        known = {metric: value for run in runs if run is not None for metric, value in run.values.items()}
        baseline[seed] = np.array([known.get(metric, np.nan) for metric in board.metrics])
    whole = np.array([*baseline.values()])
    if not np.isfinite(whole).all():
        return {}
    has_gain = has_relative_gain(whole, whole)
    if not has_gain.any():
        return {}
    higher = [up for up, has in zip(board.higher_is_better, has_gain, strict=True) if has]
    tasks = [task for (task, _), has in zip(board.metrics, has_gain, strict=True) if has]
    found = {}
    for row in board.rows:
        for choice in row.choices if row.method != STL else ():
            gains: dict[Setting, list[float]] = defaultdict(list)
            for attempt in choice.attempts:
                made = by_name.get(attempt.run)
                scores = {} if made is None else made.values if made.status == "ok" else untrained
                values = np.array([scores.get(metric, np.nan) for metric in board.metrics])
                delta, _ = delta_mtl(values[has_gain], baseline[attempt.seed][has_gain], higher, tasks)
                gains[attempt.factor, tuple(sorted(attempt.options.items()))].append(delta)
            test = np.array([np.mean(own) for own in gains.values()])
            if len(test) and np.isfinite(test).all():
                validation = np.array([-np.inf if gain is None else gain for gain in choice.gains])
                found[row.method] = expected_best(validation, test)
    return found


def tuning(report: Report) -> pd.DataFrame:
    """Return one row per task set, contestant and setting that was tried."""
    rows: list[tuple[object, ...]] = []
    for board in report.boards:
        for method, choice in contestants(board) if not board.suite else ():
            head = board.label, method, "+".join(choice.tasks)
            for place, trial in enumerate(trials_of(choice), 1):
                options = ",".join(f"{name}={text}" for name, text in trial.options.items())
                gain = None if math.isnan(trial.gain) else trial.gain
                chosen = "yes" if trial.chosen else "no"
                rows.append((*head, place, trial.factor, options or None, gain, trial.failed, chosen))
    return pd.DataFrame(rows, columns=TUNING)


def curve(report: Report) -> pd.DataFrame:
    """Return one row per task set, method and number of trials."""
    rows = [
        (board.label, row.method, trials, float(value))
        for board in report.boards
        for row in board.rows
        for trials, value in enumerate(row.expected_best, 1)
    ]
    return pd.DataFrame(rows, columns=CURVE)
