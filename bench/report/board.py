"""The result types of a report: Board, Row, Comparison, OverSets, Pairs, Curve, Report.

All that a page says is in them; pages only write it down.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bench.evidence.significance import Verdict
from bench.spec import Point
from bench.tuning.choose import Choice

Floats = NDArray[np.float64]

ALPHA = 0.05
CORRECTIONS = ("max-t", "holm")


def metric_name(metric: tuple[str, str]) -> str:
    """Return what a metric is called in a table: `task.metric`, with quotation marks where that is unclear."""
    task, name = metric
    if "." in task or '"' in task:
        task = json.dumps(task, ensure_ascii=False)
    return f"{task}.{json.dumps(name, ensure_ascii=False) if name.endswith('.gain') else name}"


@dataclass(frozen=True)
class Rules:
    """How verdicts are judged."""

    margin: float = 1.0
    """Percentage points of Δ within which two methods are called equivalent."""
    correction: str = "max-t"
    """For the family of all methods: "max-t" (joint sign flips, step-down) or "holm" (of each method's own flips)."""


USUAL = Rules()


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval, NaN where there are too few seeds."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """A method with one reference, over the seeds (and task sets) that both have."""

    difference: Interval
    """In percentage points of Δ task; positive is better than the reference."""
    per_seed: tuple[Floats, ...]
    """The differences `[S]` by task set, NaN where a pair is missing."""
    p: float
    """Adjusted for the family of all methods compared with this reference here."""
    verdict: Verdict
    wins: int
    pairs: int


@dataclass(frozen=True)
class OverSets:
    """A method with one reference, each task set being one observation: what holds on other sets like these."""

    difference: Interval
    """In percentage points of Δ task: the mean over sets, with its t interval over sets; positive is better. NaN where
    there are too few sets, as is each p."""
    means: Floats
    """The mean difference `[D]` on each set, in the order of the board's members."""
    p: float
    """Adjusted for the family of all methods compared with this reference here."""
    scaled_p: float
    """Adjusted, too, of differences in units of each set, so that none rules the others."""
    signed_rank_p: float
    """Wilcoxon's, of this method alone."""
    verdict: Verdict

    @property
    def wins(self) -> int:
        """In how many sets the mean difference is above 0."""
        return int((self.means > 0).sum())


@dataclass(frozen=True)
class Beyond:
    """Under which conditions a board over several task sets speaks of other sets like these."""

    sets: int
    smallest_p: float
    """That an exact test over so many sets could give."""
    detectable: float
    """The smallest difference from equal weights, in points of Δ task, that would be found with a power of 80 %: at the
    median over methods of the spread over sets; infinite where no test can find anything."""

    @property
    def enough(self) -> bool:
        """Whether there are enough sets for verdicts."""
        return self.smallest_p <= ALPHA


@dataclass(frozen=True)
class Ratios:
    """A method's cost relative to that of equal weights."""

    step: float
    """The time of a step."""
    training: float
    """The time of a training, with that of its teachers."""
    memory: float
    """The most that a step needs at once, beyond parameters and data; NaN where it was not measured."""
    with_trials: float = math.nan
    """The time of a training and of all trials that chose its rate, with those of its teachers, relative to one
    training of equal weights; NaN where nothing was tuned."""


NONE: Floats = np.array([])


@dataclass(frozen=True)
class Untuned:
    """The same method at the protocol's own rate, compared with everyone else there."""

    delta_task: Interval | None
    verdict: Verdict | None
    """Against equal weights."""
    sets_verdict: Verdict | None = None
    """Against equal weights, on sets like these."""


@dataclass(frozen=True)
class LeftOut:
    """A method against equal weights over all task sets but one."""

    label: str
    """Of the task set that is left out."""
    difference: float
    """The mean over the others, in percentage points of Δ task; positive is better."""
    verdict: Verdict


@dataclass(frozen=True)
class Row:
    """One method on one task set, or over all of them."""

    method: str
    seeds: int
    """With which it is compared."""
    failed: int = 0
    """Runs that ended in another way than ok or skipped."""
    imputed: int = 0
    """Of those, the ones that count with the untrained predictor's scores; the others have no part in the numbers."""
    delta_task: Interval | None = None
    """Gain over single-task learning, tasks weighing the same; None where there is no seed to compare."""
    delta_metric: Interval | None = None
    per_seed: Floats = field(default_factory=lambda: NONE)
    """Δ task `[S]`, linearised; empty over several task sets."""
    vs_equal: Comparison | None = None
    """None for equal weights themselves, and where nothing can be compared."""
    vs_stl: Comparison | None = None
    """None for single-task learning itself, and where nothing can be compared."""
    sets_vs_equal: OverSets | None = None
    """On other sets like these; None on one task set, as is the next."""
    sets_vs_stl: OverSets | None = None
    letters: str = ""
    """Two methods share a letter unless they are shown to differ."""
    band: tuple[int, int] | None = None
    """Best and worst place that the pairwise tests leave open, 1 the best."""
    mean_rank: float = math.nan
    """Over metrics, single-task learning not ranked; NaN where there is none."""
    values: Floats = field(default_factory=lambda: NONE)
    """Test metrics `[M]`, means over seeds; empty over several task sets, as are the next two."""
    gains: Floats = field(default_factory=lambda: NONE)
    """Of each metric over single-task learning `[M]`, in per cent."""
    gain_p: Floats = field(default_factory=lambda: NONE)
    """Of those gains being 0 `[M]`, adjusted for the false discovery rate over the table: for exploring."""
    cost: Ratios | None = None
    passes: Mapping[str, float] = field(default_factory=dict)
    degenerate: int = 0
    note: str = ""
    choices: tuple[Choice, ...] = ()
    """By which its learning rate was chosen: one on a task set, of single-task learning one a task."""
    untuned: Untuned | None = None
    """None where nothing was tuned, and where it has no runs at the protocol's own rate."""
    expected_best: Floats = field(default_factory=lambda: NONE)
    """Δ task `[N]` to be expected on test, at the tuning seeds, of the validation-best of b = 1 … N of its trials, in
    percentage points; empty where the records of the trials are not there, and over several task sets."""
    left_out: tuple[LeftOut, ...] = ()
    """Over several task sets, what remains of `vs_equal` without each of them; empty where that is not worked out."""

    @property
    def changes_without(self) -> tuple[LeftOut, ...]:
        """The task sets without which the verdict against equal weights is another one."""
        return tuple(o for o in self.left_out if self.vs_equal is not None and o.verdict != self.vs_equal.verdict)

    @property
    def holds_untuned(self) -> bool | None:
        """Whether the verdict against equal weights is the same at the protocol's own rate; None if one is missing."""
        if self.vs_equal is None or self.untuned is None or self.untuned.verdict is None:
            return None
        verdicts = self.vs_equal.verdict, self.untuned.verdict
        return None if "not enough seeds" in verdicts else verdicts[0] == verdicts[1]


@dataclass(frozen=True)
class CurvePoint:
    """One variant on a reference curve."""

    label: str
    seeds: int
    """At which it and all single-task runs are there."""
    delta_task: float
    """Gain over single-task learning, in percentage points; NaN where there is none."""
    values: Floats
    """Test metrics `[M]`, means over seeds; NaN where it has none."""
    gains: Floats = field(default_factory=lambda: NONE)
    """Of each metric over single-task learning `[M]`, in per cent."""


@dataclass(frozen=True)
class Curve:
    """Points that are only drawn: they are in no family, rank or pair, and so cost no method power."""

    name: str
    """What its variants have in common: the method without its options."""
    role: str
    """Of its runs, "reference" or "trial"."""
    points: tuple[CurvePoint, ...]


@dataclass(frozen=True)
class Remainder:
    """What remains of a method when its weights are frozen. It is tested against that method alone."""

    method: str
    of: str
    """The method whose average weights it has."""
    seeds: int
    delta_task: Interval | None = None
    """Gain over single-task learning; None where there is no seed to compare."""
    vs_own: Comparison | None = None
    """With the method itself, positive where the frozen weights are better; the family are the remainders of the board.
    None where nothing can be compared."""
    note: str = ""


@dataclass(frozen=True)
class Pairs:
    """Every method with every other: row minus column, in percentage points of Δ task."""

    methods: tuple[str, ...]
    values: Floats
    """What the differences are of `[S, methods]`, on one task set; none over several."""
    difference: Floats
    low: Floats
    high: Floats
    p: Floats
    """Adjusted jointly for all pairs; 1 where a task set has too few seeds."""
    wins: NDArray[np.int64]
    """Pairs of runs in which the row's was better."""
    count: NDArray[np.int64]
    """Pairs of runs."""
    cliques: tuple[tuple[int, ...], ...]
    """Largest groups of methods (places in `methods`) none of which is shown to differ from another."""


@dataclass(frozen=True)
class Board:
    """What is shown of one task set, or over all that may be averaged."""

    label: str
    suite: bool
    metrics: tuple[tuple[str, str], ...]
    """(task, metric) `[M]`; none over several task sets."""
    higher_is_better: tuple[bool, ...]
    rows: tuple[Row, ...]
    """Best first by Δ task, single-task learning among them."""
    pairs: Pairs | None
    seeds: int
    """The most that any method has."""
    family: int
    """How many methods are compared with equal weights."""
    smallest_p: float
    """That an exact test could give here."""
    detectable: float
    """The smallest difference from equal weights, in points of Δ task, that would be found with a power of 80 %: at
    the median spread over methods; NaN where it is not known, infinite where no test can find anything."""
    recipe: str
    """How the runs were trained."""
    notes: tuple[str, ...]
    rules: Rules = USUAL
    members: tuple[str, ...] = ()
    """Of a board over several task sets, the labels of their boards."""
    draw_of: str = ""
    """The label of the board whose task set is the same but for another draw of its data; empty if there is none, and
    for the first draw."""
    agreement: float = math.nan
    """Over several task sets, Kendall's W of the orders in which they put the methods."""
    beyond: Beyond | None = None
    """Whether such a board speaks of other sets, too."""
    choices: tuple[Choice, ...] = ()
    """By which the rates of its runs were chosen; none if they are the protocol's own."""
    points: Mapping[str, Mapping[int, Sequence[Point]]] = field(default_factory=dict)
    """By method and seed, what was written down while training."""
    curves: tuple[Curve, ...] = ()
    """Of the runs that are only drawn."""
    remainders: tuple[Remainder, ...] = ()
    """Of methods whose weights were frozen, best first by the difference."""


@dataclass(frozen=True)
class Report:
    """All boards, those over several task sets first."""

    boards: tuple[Board, ...]
    provenance: Mapping[str, str]
    """Of commit, versions, hardware, protocol: what is to be known of where the numbers are from."""
    rules: Rules = USUAL
