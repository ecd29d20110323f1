"""Compares recorded runs with the same runs trained again: by bytes, or statistically where arithmetic may differ.

The same code, libraries and processor give the same bytes: there a run that differs does not reproduce. Elsewhere a
processor or a library rounds in another way, training amplifies that, and no byte can be expected to agree. Such runs
are compared statistically, and what that shows is less: that runs agree on average, within a margin, and that no score
lies further from its record than another seed would. How small a fault would have been seen is a part of the result.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Literal

import numpy as np

from bench.evidence.power import detectable
from bench.evidence.significance import holm, sign_flip_test, smallest_p, t_interval, verdict
from bench.records import RunRecord
from bench.report.board import USUAL
from bench.verify.pairs import ENOUGH, Pair, Recorded, divide, grouped
from bench.verify.spread import Change, changes, gain, is_nearest

ALPHA = 0.05
"""The probability of a false alarm, of all means together."""
MARGIN = USUAL.margin
"""Per cent within which a mean change has to be shown to lie, as two methods are called equivalent within so much."""

Way = Literal["bytes", "ten digits", "statistics"]
Word = Literal["the same", "differs", "agrees on average", "shifted", "not shown"]
"""What was found: by bytes or digits one of the first two, statistically one of the last three."""


@dataclass(frozen=True)
class Fault:
    """A run that does not reproduce."""

    run: Recorded
    why: str


@dataclass(frozen=True)
class Line:
    """What was found of one task set, or of one method over the task sets that were compared statistically.

    Numbers are in per cent of scores, and NaN where nothing was compared statistically.
    """

    name: str
    way: Way
    word: Word
    runs: int
    same: int
    """How many runs are the same, to the last byte or digit."""
    mean: float = math.nan
    """The mean change of the runs; positive is better."""
    low: float = math.nan
    high: float = math.nan
    """The ends of its 90 % interval: runs agree on average if both are within the margin."""
    p: float = math.nan
    """That of no change on average, adjusted for all lines."""
    shift: float = math.nan
    """The mean change that would have been found with a power of 80 %. Infinite: no test of so few runs finds any."""
    edit: float = math.nan
    """The change of one score alone from which on it would have been named: the median over scores."""
    worst_edit: float = math.nan
    """The largest of them. Infinite: the recorded seeds are too few to know how they spread."""
    nearest: int = 0
    """How many runs lie nearer to their own record than to those of their method's other seeds."""
    seeded: int = 0
    """Of how many runs that can be told."""
    chance: float = math.nan
    """How many it would be by chance, if records had nothing to do with their seeds."""
    largest: str = ""
    """Which score differs most, and by how much."""


@dataclass(frozen=True)
class Judged:
    """What the comparison has found."""

    sets: tuple[Line, ...]
    methods: tuple[Line, ...]
    """Empty if nothing was compared statistically."""
    faults: tuple[Fault, ...]
    excuses: Mapping[str, int]
    """What may have moved the numbers of runs that were compared statistically, with how many of them."""
    is_unalike: bool
    """Whether not one run came out the same of those whose code, libraries and processor have the same names."""

    @property
    def fails(self) -> bool:
        """Whether something does not reproduce."""
        return bool(self.faults) or any(line.word in ("differs", "shifted") for line in (*self.sets, *self.methods))

    @property
    def shows(self) -> bool:
        """Whether some task set was shown to reproduce."""
        return any(line.word in ("the same", "agrees on average") for line in self.sets)


def judge(recorded: Sequence[Recorded], again: Mapping[str, RunRecord]) -> Judged:
    """Compare runs with their records.

    Args:
        recorded: all recorded runs of a folder. Those that were not trained again tell how seeds spread.
        again: the records of runs that were trained again, by name.
    """
    pairs = [Pair(run, again[run.name]) for run in recorded if run.name in again]
    exact, loose = divide(pairs)
    faults = [Fault(pair.was, pair.change) for pair in exact if not pair.same]
    faults += [Fault(pair.was, pair.change) for pair in loose if _has_another_outcome(pair)]
    both = [pair for pair in loose if not _has_another_outcome(pair) and pair.was.status == "ok"]
    found = changes(both, recorded)
    faults += _beyond(found)
    by_run = grouped(found, lambda change: change.pair.was.name)
    gains = {name: gain(own) for name, own in by_run.items()}
    cells = grouped((run for run in recorded if run.status == "ok"), lambda run: run.cell)
    near = {pair.was.name: (is_nearest(pair, cells[pair.was.cell]), 1 / len(cells[pair.was.cell])) for pair in both}
    near = {name: found for name, found in near.items() if found[0] is not None}
    sets = grouped(pairs, lambda pair: pair.was.task_set)
    methods = grouped(both, lambda pair: pair.was.method)
    own = [*sets.values(), *methods.values()]
    measured = [[gains[pair.was.name] for pair in group if pair.was.name in gains] for group in own]
    adjusted = holm([float(sign_flip_test(d)) if d else math.nan for d in measured])
    family = sum(map(bool, measured))
    lines = []
    for (name, group), d, p in zip([*sets.items(), *methods.items()], measured, adjusted, strict=True):
        if any(pair in loose for pair in group):
            scores = [change for pair in group for change in by_run.get(pair.was.name, [])]
            line = _statistical(name, group, d, float(p), family, scores, len(found))
            own_seed = [near[pair.was.name] for pair in group if pair.was.name in near]
            nearest, chance = sum(bool(is_own) for is_own, _ in own_seed), sum(chance for _, chance in own_seed)
            lines.append(replace(line, nearest=nearest, seeded=len(own_seed), chance=chance))
        else:
            lines.append(_exact(name, group))
    same_names = [pair for pair in pairs if not pair.excuses]
    return Judged(
        sets=tuple(lines[: len(sets)]),
        methods=tuple(lines[len(sets) :]),
        faults=tuple(sorted(faults, key=lambda fault: fault.run.label)),
        excuses=Counter(excuse for pair in loose for excuse in pair.excuses),
        is_unalike=len(same_names) >= ENOUGH and not any(pair.same for pair in same_names),
    )


def _has_another_outcome(pair: Pair) -> bool:
    """Whether a run ended in another way than recorded, or one of its scores is a number in one of the two alone."""
    was, now = pair.was, pair.now.result
    if was.status != now.status:
        return True
    return any(
        name not in now.scores.get(task, {}) or (score.value is None) != (now.scores[task][name].value is None)
        for task, own in was.scores.items()
        for name, score in own.items()
    )


def _beyond(found: Sequence[Change]) -> list[Fault]:
    """Name the runs of which a score has changed by more than the spread of seeds explains, each once."""
    faults: dict[str, Fault] = {}
    for change in sorted(found, key=lambda change: -abs(change.share)):
        limit = change.limit(len(found))
        if abs(change.share) > limit:
            why = f"{_written(change)}, and the spread of seeds explains at most {100 * limit:.2g} %"
            faults.setdefault(change.pair.was.name, Fault(change.pair.was, why))
    return list(faults.values())


def _written(change: Change) -> str:
    return f"{'.'.join(change.metric)} {change.was:.6g} → {change.now:.6g} ({100 * change.share:+.2g} %)"


def _exact(name: str, group: Sequence[Pair]) -> Line:
    same = sum(pair.same for pair in group)
    way: Way = "ten digits" if any(pair.was.record is None for pair in group) else "bytes"
    return Line(name, way, "the same" if same == len(group) else "differs", len(group), same)


def _statistical(
    name: str, group: Sequence[Pair], d: Sequence[float], p: float, family: int, scores: Iterable[Change], count: int
) -> Line:
    """Judge the mean change of some runs.

    Args:
        name: of the task set or method.
        group: the runs, also those of which bytes were compared.
        d: the changes of those that were compared statistically.
        p: the adjusted p of their mean.
        family: how many means are tested.
        scores: the changes of their single scores.
        count: how many scores are compared in all.
    """
    found = verdict(d, p=p, margin=MARGIN, alpha=ALPHA) if d else "undecided"
    words: dict[str, Word] = {"equivalent": "agrees on average", "identical": "agrees on average"}
    words |= {"better": "shifted", "worse": "shifted"}
    low, high = t_interval(d, level=1 - 2 * ALPHA) if d else (math.nan, math.nan)
    can = len(d) > 1 and smallest_p(len(d)) * family <= ALPHA
    scores = sorted(scores, key=lambda change: abs(change.share))
    limits = [100 * change.limit(count) for change in scores]
    largest = scores[-1] if scores else None
    return Line(
        name,
        "statistics",
        words.get(found, "not shown"),
        len(group),
        sum(pair.same for pair in group),
        float(np.mean(d)) if d else math.nan,
        low,
        high,
        p,
        detectable(len(d), family, ALPHA) * float(np.std(d, ddof=1)) if can else math.inf,
        median(limits) if limits else math.nan,
        max(limits, default=math.nan),
        largest=f"{largest.pair.was.label.rpartition(' (')[0]}, {_written(largest)}" if largest is not None else "",
    )
