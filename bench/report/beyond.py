"""Compares methods with the task set as the unit: what a board over several task sets says of other sets like these."""

from collections.abc import Collection, Sequence
from typing import Protocol

import numpy as np

from bench.evidence.sets import detectable_over_sets, scaled, verdict_over_sets
from bench.evidence.significance import holm, max_t, sign_flip_test, signed_rank_test, smallest_p, suite_mean
from bench.report.board import ALPHA, Beyond, Floats, Interval, OverSets, Rules


class TaskSet(Protocol):
    """A task set that knows how methods differ on it."""

    def against(self, reference: str, method: str, *, impute: bool = True) -> Floats:
        """Per-seed differences `[S]` of a method from a reference; failed runs have values only with `impute`."""


def compared_over_sets(
    sets: Sequence[TaskSet], methods: Sequence[str], reference: str, failed: Collection[str], rules: Rules
) -> dict[str, tuple[OverSets, str]]:
    """Compare methods with one reference, each task set being one observation.

    Args:
        sets: those that the board is about, D of them.
        methods: the family.
        reference: with which they are compared.
        failed: the methods of which some run has failed.
        rules: how verdicts are judged.

    Returns:
        The comparisons by method, each with what is to be said of it.
    """
    means = _means(sets, methods, reference)
    found = {}
    in_units = _adjusted(scaled(means), rules)
    for place, (method, p) in enumerate(zip(methods, _adjusted(means, rules), strict=True)):
        own, note = means[:, place], ""
        word = verdict_over_sets(own, float(p), rules.margin, ALPHA)
        if word in ("better", "worse") and not {method, reference}.isdisjoint(failed):
            others = means.copy()
            others[:, [place]] = _means(sets, [method], reference, impute=False)
            without = verdict_over_sets(others[:, place], float(_adjusted(others, rules)[place]), rules.margin, ALPHA)
            if without != word:
                note = (
                    f"on sets like these {word} than {reference} only with its failed runs counted "
                    f"(without them: {without})"
                )
                word = "undecided"
        enough = word != "not enough task sets"
        mean, low, high = suite_mean(own)  # one array: the t interval over sets
        alone = signed_rank_test(own)
        found[method] = (
            OverSets(
                difference=Interval(mean, low, high) if enough else Interval(mean, np.nan, np.nan),
                means=own.copy(),
                p=float(p) if enough else np.nan,
                scaled_p=float(in_units[place]) if enough else np.nan,
                signed_rank_p=np.nan if alone is None else alone,
                verdict=word,
            ),
            note,
        )
    return found


def conditions_over_sets(sets: Sequence[TaskSet], methods: Sequence[str], reference: str) -> Beyond:
    """Return what the comparisons of a family with its reference can show at all."""
    return Beyond(
        sets=len(sets),
        smallest_p=smallest_p(len(sets)),
        detectable=detectable_over_sets(_means(sets, methods, reference), ALPHA),
    )


def _means(sets: Sequence[TaskSet], methods: Sequence[str], reference: str, *, impute: bool = True) -> Floats:
    """The mean differences `[D, methods]` over the seeds of each set, NaN where there is no pair of runs."""
    found = np.full((len(sets), len(methods)), np.nan)
    for row, own in enumerate(sets):
        for column, method in enumerate(methods):
            d = own.against(reference, method, impute=impute)
            if not np.isnan(d).all():
                found[row, column] = np.nanmean(d)
    return found


def _adjusted(means: Floats, rules: Rules) -> Floats:
    """p `[methods]`, adjusted for the family, of `[D, methods]`."""
    return max_t(means) if rules.correction == "max-t" else holm(sign_flip_test(means))
