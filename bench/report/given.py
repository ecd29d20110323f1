"""Anybody's tidy file → the table of scores. What is wrong with it is said with its line."""

import csv
import io
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from bench.plain import one_line
from bench.records import FAILURES
from bench.report.pages.csv import as_meant
from bench.report.scores import COLUMNS, LARGEST, NEEDED, OF, ROLE, Role, Run, Scores, distinct
from bench.spec import STL, Score, Status
from bench.store import StoreError

csv.field_size_limit(2**20)
"""A name or a number is shorter than this; a quotation mark that is never closed is not."""


@dataclass(frozen=True)
class _Line:
    """One metric of one run, or of a run that has no scores its status."""

    number: int
    """Where it stands in the file."""
    task_set: str
    method: str
    seed: int
    task: str
    metric: str
    status: Status
    score: Score | None
    """None unless the status is ok."""
    role: Role
    of: str


def read_tidy(file: Path) -> Scores:
    """Read anybody's tidy file: the columns `NEEDED`, and those that it has of `ROLE`, `OF` and the others of
    `COLUMNS`.

    The order of its lines does not matter: tasks and metrics come in the order of their names. A run is ok if all its
    lines are. Names are text, whatever they look like: a method may be called NA.

    Raises:
        StoreError: a column is missing, a line is not what it should be, or two lines contradict each other; says
            which.
    """
    lines = list(_lines(file))
    if not lines:
        raise StoreError(f"{file} has no line of the split 'test': these are the scores that are compared")
    _require_agreement(file, lines)
    if not any(line.method == STL for line in lines):
        raise StoreError(f"{file} has no rows of the method '{STL}': single-task runs are what gains are measured by")
    tasks: dict[str, set[str]] = defaultdict(set)
    runs: dict[tuple[str, str, int], list[_Line]] = defaultdict(list)
    for line in lines:
        runs[line.task_set, line.method, line.seed].append(line)
        if line.status == "ok" or line.method == STL:  # a run that failed as a whole has no task of its own
            tasks[line.task_set].add(line.task)
    return Scores(tuple(run for key in sorted(runs) for run in _runs(runs[key], tuple(sorted(tasks[key[0]])))))


def _lines(file: Path) -> Iterator[_Line]:
    """Read the lines of the test split."""
    rows = _rows(file)
    _, head = next(rows, (1, []))
    names = [name.strip() for name in head]
    if len(names) == 1 and (separator := next((mark for mark in ";\t" if mark in names[0]), None)):
        what = {";": "semicolons", "\t": "tabs"}[separator]
        raise StoreError(f"{file}, line 1: its columns are separated by {what}: write commas, and points in numbers")
    for name in NEEDED:
        if name not in names:
            raise StoreError(f"{file} has no column {name}: it needs {', '.join(NEEDED)}, and may have status")
    for name in (*COLUMNS, ROLE, OF):
        if names.count(name) > 1:
            raise StoreError(f"{file} has {names.count(name)} columns {name}: leave one")
    for number, cells in rows:
        if not cells:
            continue
        try:
            if len(cells) != len(names):
                raise ValueError(f"it has {len(cells)} cells, and the first line {len(names)}")
            fields = dict(zip(names, cells, strict=True))
            if (fields.get("split", "").strip().lower() or "test") == "test":
                yield _line(number, fields)
        except ValueError as problem:
            raise StoreError(f"{file}, line {number}: {problem}") from None


def _rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Read the rows of a CSV file, each with the number of the line on which it begins."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as problem:
        raise StoreError(f"{file} cannot be read: {problem.strerror}") from None
    except UnicodeDecodeError as problem:
        raise StoreError(f"{file} is not a CSV file: its text is not UTF-8 (byte {problem.start})") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    number = 1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as problem:
            raise StoreError(f"{file}, line {number}: it is not a line of a CSV file ({problem})") from None
        yield number, cells
        number = reader.line_num + 1


def _line(number: int, fields: dict[str, str]) -> _Line:
    """Read one line. Raises ValueError: says what is wrong with it."""
    names = {name: as_meant(fields[name]) for name in ("task_set", "method", "task", "metric")}
    for name in ("task_set", "method", "task"):
        if not names[name].strip():
            raise ValueError(f"its {name} is empty")
    seed = _seed(fields["seed"])
    status = fields.get("status", "").strip() or "ok"
    if status not in get_args(Status):
        raise ValueError(f"its status is none of ok, skipped, {', '.join(sorted(FAILURES))}")
    score = _score(fields) if status == "ok" else None
    if score is not None and not names["metric"].strip():
        raise ValueError("its metric is empty")
    role = fields.get(ROLE, "").strip() or "contestant"
    if role not in get_args(Role):
        raise ValueError(f"its role is none of {', '.join(get_args(Role))}")
    if role != "contestant" and names["method"] == STL:
        raise ValueError(f"its role is {role}, and single-task runs are what everything is compared with")
    of = as_meant(fields.get(OF, "")).strip()
    if (role == "remainder") != bool(of):
        raise ValueError(
            "its column of should name the method whose weights are frozen if its role is remainder, and only then"
        )
    return _Line(number, **names, seed=seed, status=status, score=score, role=role, of=of)  # type: ignore[arg-type]


def _seed(text: str) -> int:
    """Read a seed; some programs write whole numbers as 3.0."""
    try:
        return int(text) if text.strip().lstrip("+-").isdecimal() else _whole(_number(text))
    except ValueError:
        raise ValueError("its seed is not a whole number") from None


def _whole(number: float) -> int:
    if not number.is_integer():
        raise ValueError
    return int(number)


def _score(fields: dict[str, str]) -> Score:
    higher = fields["higher_is_better"].strip().lower()
    value = _finite(fields["value"], "value")
    if higher not in ("true", "false"):
        raise ValueError("its higher_is_better is neither True nor False")
    untrained = fields.get("untrained", "").strip()
    return Score(
        value=value,
        higher_is_better=higher == "true",
        untrained=_finite(untrained, "untrained") if untrained else None,
    )


def _finite(text: str, name: str) -> float:
    try:
        value = _number(text)
    except ValueError:
        raise ValueError(f"its {name} is not a number") from None
    if not math.isfinite(value):
        raise ValueError(f"its {name} is not finite")
    if abs(value) > LARGEST:
        raise ValueError(f"its {name} is too large to compute with: write at most {LARGEST:g}")
    return value


def _number(text: str) -> float:
    if "_" in text:  # which Python takes, and no file means
        raise ValueError
    return float(text)


def _require_agreement(file: Path, lines: Iterable[_Line]) -> None:
    """Raise StoreError if a metric of a run is there twice, or if lines disagree on what a metric is."""
    seen: dict[tuple[object, ...], _Line] = {}
    directions: dict[tuple[str, str, str], _Line] = {}
    untrained: dict[tuple[str, str, str], _Line] = {}
    roles: dict[tuple[str, str], _Line] = {}
    for line in lines:
        first = seen.setdefault((line.task_set, line.method, line.seed, line.task, line.metric), line)
        if first is not line:
            raise StoreError(
                f"{file}, line {line.number}: this metric of this run is there twice (line {first.number} has it, too)"
            )
        first = roles.setdefault((line.task_set, line.method), line)
        called = one_line(line.method, 80)
        if first.of != line.of:
            raise StoreError(
                f"{file}, line {line.number}: {called} has the weights of {one_line(line.of, 80) or 'nobody'} here and "
                f"of {one_line(first.of, 80) or 'nobody'} on line {first.number}: write one method for all its runs"
            )
        if first.role != line.role:
            raise StoreError(
                f"{file}, line {line.number}: {called} is a {line.role} here and a {first.role} on line "
                f"{first.number}: write one role for all its runs"
            )
        if line.score is None:
            continue
        metric = line.task_set, line.task, line.metric
        called = one_line(f"{line.metric} of {line.task}", 80)
        first = directions.setdefault(metric, line)
        if first.score is not None and first.score.higher_is_better != line.score.higher_is_better:
            words = ["lower", "higher"]
            here, there = words[line.score.higher_is_better], words[first.score.higher_is_better]
            raise StoreError(
                f"{file}, line {line.number}: {called} is better when {here} here and when {there} on line "
                f"{first.number}: write one higher_is_better for all runs"
            )
        if line.score.untrained is None:
            continue
        first = untrained.setdefault(metric, line)
        if first.score is not None and first.score.untrained != line.score.untrained:
            raise StoreError(
                f"{file}, line {line.number}: the untrained score of {called} is {line.score.untrained:g} here and "
                f"{first.score.untrained:g} on line {first.number}: write one for all runs"
            )


def _runs(lines: Sequence[_Line], tasks: tuple[str, ...]) -> list[Run]:
    """The runs of one method's lines at one seed: of single-task learning one a task that it has."""
    if lines[0].method != STL:
        return [_run(lines, tasks)]
    own = sorted({line.task for line in lines})
    return [_run([line for line in lines if line.task == task], (task,)) for task in own]


def _run(lines: Sequence[_Line], tasks: tuple[str, ...]) -> Run:
    first = lines[0]
    scores: dict[str, dict[str, Score]] = defaultdict(dict)
    for line in sorted(lines, key=lambda line: (line.task, line.metric)):
        if line.score is not None:
            scores[line.task][line.metric] = line.score
    others = {line.status for line in lines} - {"ok"}
    status = min(others & FAILURES, default="skipped") if others else "ok"
    return Run(
        task_set=distinct(first.task_set, first.task_set, ["given"]),
        method=first.method,
        seed=first.seed,
        tasks=tasks,
        status=status,  # type: ignore[arg-type]
        scores=dict(scores) if status == "ok" else {},
        role=first.role,
        of=first.of,
        set_name=first.task_set,
    )
