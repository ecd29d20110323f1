"""Chooses a contestant's setting by what its trials score on validation. Test scores never come here."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bench.spec import Frozen, Status, digest
from tasks.core.protocol import Protocol

SEEDS = (1000, 1001)
"""The tuning seeds. They are never reported."""
TINY = 1e-12
"""A reference score that is no larger has no relative gain."""

Floats = NDArray[np.float64]
Scores = Mapping[str, Mapping[str, float | None]]
"""Validation scores by task and metric."""


class Attempt(Frozen):
    """One trial with one seed, as a choice sees it."""

    factor: float
    options: dict[str, str] = {}
    seed: int
    run: str
    """The name of its run."""
    status: Status
    validation: dict[str, dict[str, float | None]]
    """Scores after the last step, by task and metric; empty where the run failed."""


class Choice(Frozen):
    """What a contestant is trained with on a task set under a protocol, and the trials that this was chosen by."""

    schema_version: Literal[1] = 1
    task_set: str
    task_set_label: str
    method: str
    """The contestant, as it was asked for: the stable form of its variant, or `stl`."""
    method_label: str
    variant: str
    """The stable form of what is trained then: the contestant with the chosen options."""
    tasks: tuple[str, ...]
    protocol: Protocol
    """As it was asked for; the chosen rate is `factor` times its own."""
    protocol_label: str
    precision: str
    budget: int
    """How many settings were tried."""
    factor: float
    options: dict[str, str] = {}
    by_seed: dict[int, float]
    """The factor that each tuning seed alone would choose."""
    gains: list[float | None]
    """Of each setting, in the order of the attempts: the mean relative gain on validation over single-task learning,
    in per cent. Single-task learning's own is over its own score at the protocol's rate."""
    edge: bool
    """Whether the chosen factor is the smallest or largest that was tried, so that a better one may lie beyond."""
    attempts: list[Attempt]
    data: str
    """The task set's fingerprint."""
    code: str
    """A digest of the code and the versions that made the trials."""
    commit: str

    @property
    def name(self) -> str:
        """The hash of the question that the choice answers."""
        return identity(self.task_set, self.protocol, self.precision, self.method, self.tasks, self.budget, self.seeds)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The tuning seeds."""
        return tuple(sorted(self.by_seed))

    @property
    def chosen(self) -> Protocol:
        """The protocol of its reported runs."""
        return scaled(self.protocol, self.factor)

    @property
    def found(self) -> tuple[object, ...]:
        """What others build on: the setting, and what it scores at each tuning seed."""
        return self.factor, self.options, [self.validation(seed) for seed in self.seeds]

    @property
    def setting(self) -> str:
        """What was chosen, in words."""
        more = "".join(f", {name}={text}" for name, text in self.options.items())
        return f"learning rate {self.chosen.lr:g} (×{self.factor:g}){more}"

    @property
    def seeds_agree(self) -> bool:
        """Whether each tuning seed alone would have chosen the same factor."""
        return set(self.by_seed.values()) == {self.factor}

    def validation(self, seed: int) -> dict[str, dict[str, float | None]]:
        """Return the validation scores of the chosen setting at a tuning seed."""
        return next(a.validation for a in self.attempts if (a.factor, a.options, a.seed) == self._chosen(seed))

    def run(self, seed: int) -> str:
        """Return the name of the chosen setting's run at a tuning seed."""
        return next(a.run for a in self.attempts if (a.factor, a.options, a.seed) == self._chosen(seed))

    def _chosen(self, seed: int) -> tuple[float, dict[str, str], int]:
        return self.factor, self.options, seed


def identity(
    task_set: str,
    protocol: Protocol,
    precision: str,
    method: str,
    tasks: Sequence[str],
    budget: int,
    seeds: Sequence[int],
) -> str:
    """Return the hash of the question that a choice answers."""
    asked = protocol.model_dump(mode="json")
    return digest([task_set, asked, precision, method, list(tasks), budget, list(seeds)])


def scaled(protocol: Protocol, factor: float) -> Protocol:
    """Return a protocol with a multiple of its learning rate."""
    return protocol if factor == 1 else protocol.model_copy(update={"lr": protocol.lr * factor})


def choose(
    attempts: Sequence[Attempt],
    reference: Mapping[int, Scores],
    higher_is_better: Mapping[tuple[str, str], bool],
    constant: Mapping[tuple[str, str], float | None],
) -> dict[str, Any]:
    """Choose a setting: the highest mean over tuning seeds of the mean relative gain on validation.

    Tasks weigh the same, and so do the metrics of a task. A trial that failed counts with the scores of the constant
    predictor, or as worse than any where these are not known. Of settings of the same gain the one whose factor is
    nearest to ×1 is taken, and of two as near the larger factor.

    Args:
        attempts: each setting at each seed.
        reference: by seed, the validation scores over which gains are measured.
        higher_is_better: by task and metric.
        constant: the constant predictor's scores, by task and metric.

    Returns:
        The fields `factor`, `options`, `by_seed`, `gains` and `edge` of a `Choice`.
    """
    settings = list(dict.fromkeys((a.factor, tuple(sorted(a.options.items()))) for a in attempts))
    seeds = sorted({a.seed for a in attempts})
    found = np.full((len(settings), len(seeds)), -np.inf)
    metrics = [
        metric
        for metric in higher_is_better
        if all(abs(_value(reference[seed], metric, constant) or 0.0) > TINY for seed in seeds)
    ]
    for attempt in attempts:
        place = settings.index((attempt.factor, tuple(sorted(attempt.options.items()))))
        scores = attempt.validation if attempt.status == "ok" else {}
        found[place, seeds.index(attempt.seed)] = _gain(
            scores, reference[attempt.seed], metrics, higher_is_better, constant
        )
    mean = found.mean(1)

    def best(gains: Floats) -> int:
        def order(place: int) -> tuple[float, float, float, tuple[tuple[str, str], ...]]:
            factor, changes = settings[place]
            return -gains[place], abs(math.log(factor)), -factor, changes

        return min(range(len(settings)), key=order)

    factor, options = settings[best(mean)]
    plain = [own for own, changes in settings if not changes]
    return {
        "factor": factor,
        "options": dict(options),
        "by_seed": {seed: settings[best(found[:, s])][0] for s, seed in enumerate(seeds)},
        "gains": [float(gain) if math.isfinite(gain) else None for gain in mean],
        "edge": len(plain) > 2 and not options and factor in (min(plain), max(plain)),
    }


def _gain(
    scores: Scores,
    reference: Scores,
    metrics: Sequence[tuple[str, str]],
    higher_is_better: Mapping[tuple[str, str], bool],
    constant: Mapping[tuple[str, str], float | None],
) -> float:
    """The mean over tasks of the mean relative gain of their metrics, in per cent; −∞ where it is not known."""
    tasks: dict[str, list[float]] = {}
    for metric in metrics:
        value, base = _value(scores, metric, constant), _value(reference, metric, constant)
        if value is None or base is None:
            return -math.inf
        sign = 1 if higher_is_better[metric] else -1
        tasks.setdefault(metric[0], []).append(100 * sign * (value - base) / abs(base))
    if not tasks:  # the reference is not known: all that counts is whether there are scores
        return 0.0 if scores else -math.inf
    return float(np.mean([np.mean(own) for own in tasks.values()]))


def _value(scores: Scores, metric: tuple[str, str], constant: Mapping[tuple[str, str], float | None]) -> float | None:
    """A score; where it is missing or not finite, the constant predictor's."""
    own = scores.get(metric[0], {}).get(metric[1])
    return own if own is not None else constant.get(metric)
