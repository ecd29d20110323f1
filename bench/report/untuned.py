"""Puts beside each tuned row what the same method does at the protocol's own rate, and what its rate was chosen by."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from bench.records import FINAL
from bench.report.board import Board, Report, Row, Untuned
from bench.report.scores import Run, Scores
from bench.report.trials import expected
from bench.spec import STL
from bench.tuning.choose import Choice


def with_untuned(report: Report, scores: Scores, untuned: Report) -> Report:
    """Return a report whose tuned boards say which of their verdicts hold at the protocol's own rate.

    The verdicts there are a family of their own. That a verdict holds at both is the intersection of two tests, which
    needs no further correction.

    Args:
        report: of the tuned runs, and of runs of protocols under which nothing was tuned.
        scores: of which that report was made.
        untuned: of the runs at the protocol's own rate.
    """
    chosen: dict[str, dict[str, dict[tuple[str, ...], Choice]]] = defaultdict(lambda: defaultdict(dict))
    for run in scores.runs:
        if run.choice is not None:
            chosen[run.task_set][run.method][run.tasks] = run.choice
    metrics = {board.label: board.metrics for board in report.boards}
    # Some runs at the protocol's own rate are tuned ones whose choice it was. They do not make a board of all tasks.
    whole = {board.label for board in untuned.boards if not board.suite and board.metrics == metrics.get(board.label)}
    beside = {
        board.label: board
        for board in untuned.boards
        if (whole >= set(board.members) if board.suite else board.label in whole)
    }
    tried: dict[str, list[Run]] = defaultdict(list)
    for run in scores.trials:
        tried[run.task_set].append(run)
    boards = []
    for board in report.boards:
        own = chosen.get(board.label, {})
        members = [label for label in chosen if board.suite and label in board.members]
        if not own and not members:
            boards.append(board)
            continue
        order = [task for task, _ in board.metrics]
        rows = tuple(_row(row, _sorted(own.get(row.method, {}), order), beside.get(board.label)) for row in board.rows)
        used = [choice for label in members for found in chosen[label].values() for choice in found.values()]
        used += [choice for row in rows for choice in row.choices]
        used += [choice for runs in own.values() for choice in runs.values() if choice not in used]
        notes = () if board.suite else tuple(_notes(used))
        tuned = replace(board, rows=rows, choices=tuple(used), notes=(*board.notes, *notes))
        boards.append(_with_expected(tuned, tried[board.label]) if not board.suite else tuned)
    return replace(report, boards=tuple(boards))


def _sorted(choices: Mapping[tuple[str, ...], Choice], order: Sequence[str]) -> tuple[Choice, ...]:
    """Return choices in the order of their tasks."""
    return tuple(sorted(choices.values(), key=lambda choice: [*order, choice.tasks[0]].index(choice.tasks[0])))


def _row(row: Row, choices: tuple[Choice, ...], beside: Board | None) -> Row:
    other = next((other for other in beside.rows if other.method == row.method), None) if beside is not None else None
    if other is None or row.method == STL:
        return replace(row, choices=choices)
    verdict = other.vs_equal.verdict if other.vs_equal is not None else None
    over_sets = other.sets_vs_equal.verdict if other.sets_vs_equal is not None else None
    return replace(row, choices=choices, untuned=Untuned(other.delta_task, verdict, over_sets))


def _with_expected(board: Board, trials: Sequence[Run]) -> Board:
    """Add what the best of so many trials can be expected to be worth, where their records are there."""
    found = expected(board, trials) if trials else {}
    rows = (replace(row, expected_best=found[row.method]) if row.method in found else row for row in board.rows)
    return replace(board, rows=tuple(rows))


def _notes(choices: Sequence[Choice]) -> list[str]:
    """Say which choices are to be taken with care."""
    found = []
    if edge := [f"{_who(choice)} (×{choice.factor:g})" for choice in choices if choice.edge]:
        found.append(f"the best rate may lie beyond those that were tried: {', '.join(edge)}")
    if apart := [_who(choice) for choice in choices if choice.attempts and not choice.seeds_agree]:
        found.append(f"the two tuning seeds alone would not both choose this rate: {', '.join(apart)}")
    if lost := [_who(choice) for choice in choices if any(a.status not in FINAL for a in choice.attempts)]:
        found.append(
            f"trials that crashed or took too long count as failed, and --retry repeats them: {', '.join(lost)}"
        )
    return found


def _who(choice: Choice) -> str:
    return f"{STL} {choice.tasks[0]}" if choice.method == STL else choice.method_label
