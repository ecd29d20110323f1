"""Computes gains, tests, verdicts and rank ranges from the table of scores; the result types are in `board.py`."""

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.evidence.agreement import kendall_w
from bench.evidence.delta import delta_mtl, has_relative_gain, mean_rank, per_seed, task_gains
from bench.evidence.power import detectable
from bench.evidence.ranks import cliques, letters, rank_bands
from bench.evidence.significance import (
    benjamini_hochberg,
    holm,
    max_t,
    pairwise_max_t,
    sign_flip_test,
    smallest_p,
    suite_mean,
    suite_means,
    t_interval,
    verdict,
)
from bench.plain import one_line
from bench.records import FAILURES, REFERENCE, CostRecord
from bench.report.beyond import compared_over_sets, conditions_over_sets
from bench.report.board import (
    ALPHA,
    NONE,
    USUAL,
    Board,
    Comparison,
    Curve,
    CurvePoint,
    Floats,
    Interval,
    LeftOut,
    Pairs,
    Ratios,
    Remainder,
    Report,
    Row,
    Rules,
)
from bench.report.costs import relative_costs
from bench.report.groups import Group, groups, mixtures, seed_text
from bench.report.scores import SUITE, Run, Scores
from bench.report.stability import FEWEST_SETS, without_each
from bench.report.untuned import with_untuned
from bench.spec import STL

MOST_SAID = 300
"""Characters of a failed run's reason that a page shows; the record has it whole."""
MOST_IN_PAIRS = 200
"""Of more methods not every pair is tested: the time grows with their square, to minutes at a thousand."""
NOWHERE = ("", None)
"""Letters and band where no pairs are tested."""
ZERO = Interval(0.0, np.nan, np.nan)
"""Single-task learning's gain over itself."""
SAFE = 10.0
"""A baseline's mean should be so many standard errors from 0, or gains relative to it mean little."""


def analyse(scores: Scores, measured: Sequence[CostRecord] = (), rules: Rules = USUAL) -> Report:
    """Compare all methods with single-task learning, with equal weights and with each other.

    Args:
        scores: of runs, those of different protocols among them: each protocol has boards of its own.
        measured: what steps cost, where that was measured side by side.
        rules: how verdicts are judged.
    """
    found = groups(scores)
    costs = relative_costs(found, measured)
    notes = mixtures(found)
    boards: list[Board] = []
    for suite, members in _by_suite(found):
        own = [_set_board(member, costs, notes, rules) for member in members]
        averaged = _averaged(members)
        if len(averaged) > 1 and _everywhere(averaged):
            of_them = [board for board in own if not board.draw_of]
            boards.append(_suite_board(SUITE + suite, averaged, of_them, costs, rules))
        elif len(averaged) > 1:
            why = "there is no table over all task sets, because no method can be compared on each of them"
            own = [replace(board, notes=(*board.notes, why)) for board in own]
        boards += own
    report = Report(tuple(boards), _provenance(scores), rules)
    return report if scores.untuned is None else with_untuned(report, scores, analyse(scores.untuned, (), rules))


def versus(scores: Scores, reference: str, rules: Rules = USUAL) -> dict[str, dict[str, Comparison]]:
    """Compare all methods with a method of the reader's choice: by board, then by method, those over task sets first.

    The family of a board are all its other methods. A board without the reference, or without another, is left out.

    Args:
        scores: of runs.
        reference: a method that has runs; single-task learning is none.
        rules: how verdicts are judged.
    """
    found: dict[str, dict[str, Comparison]] = {}
    for suite, members in _by_suite(groups(scores)):
        averaged = _averaged(members)
        compared = {member.group.label: _family([member], reference, rules) for member in members}
        if len(averaged) > 1 and _everywhere(averaged):
            compared = {SUITE + suite: _family(averaged, reference, rules)} | compared
        found |= {label: {m: own for m, (own, _) in family.items()} for label, family in compared.items() if family}
    return found


def _by_suite(found: Sequence[Group]) -> list[tuple[str, list["_Set"]]]:
    """The task sets that may stand in one table over task sets, under what tells it from others."""
    sets: dict[str, list[_Set]] = defaultdict(list)
    for group in found:
        sets[group.suite].append(_Set(group))
    return sorted(sets.items())


def _averaged(members: Sequence["_Set"]) -> list["_Set"]:
    """Those that count in a table over task sets: a second draw of the same set does not."""
    return [member for member in members if not member.group.draw_of]


class _Set:
    """One task set's arrays: S seeds with all baselines, M metrics; NaN where a method has no run."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self.seeds = group.seeds
        self.stl = group.stl_values()
        self.values = {method: group.values(method) for method in group.runs}
        self.scored = [method for method, rows in self.values.items() if not np.isnan(rows).all()]
        """Those that have values."""
        self.has_gain = np.ones(len(group.metrics), bool)
        """The metrics `[M]` that have a relative gain, at the seeds of every method: Δ is the mean of these."""
        for method in self.scored:
            there = self.there(method)
            self.has_gain &= has_relative_gain(self.values[method][there], self.stl[there])
        self.methods = self.scored if self.has_gain.any() else []
        """Those that can be compared with anything."""
        self.higher = [up for up, has in zip(group.higher_is_better, self.has_gain, strict=True) if has]
        self.tasks = [task for task, has in zip(group.tasks, self.has_gain, strict=True) if has]
        """The direction and the task of each metric that has a gain."""
        self._gains: dict[tuple[str, str, bool], Floats] = {}

    def there(self, method: str) -> NDArray[np.bool_]:
        """The seeds `[S]` at which a method has values."""
        return np.asarray(~np.isnan(self.values[method]).any(1))

    def per_seed(self, method: str, kind: str, *, impute: bool = True, by_metric: bool = False) -> Floats:
        """Per-seed gains `[S]` over single-task learning."""
        if not impute and method != STL:
            return self._per_seed(self.group.values(method, impute=False), kind, by_metric)
        key = method, kind, by_metric
        if key not in self._gains:
            self._gains[key] = self._per_seed(self.stl if method == STL else self.values[method], kind, by_metric)
        return self._gains[key]

    def _per_seed(self, rows: Floats, kind: str, by_metric: bool) -> Floats:
        rows, stl = rows[:, self.has_gain], self.stl[:, self.has_gain]
        tasks = range(len(self.tasks)) if by_metric else self.tasks
        if kind == "linearised":  # the ratio of means is over the seeds that are there
            there = ~np.isnan(rows).any(1)
            whole = np.full(len(rows), np.nan)
            whole[there] = per_seed(rows[there], stl[there], self.higher, tasks, "linearised")
            return whole
        return per_seed(rows, stl, self.higher, tasks, kind)  # type: ignore[arg-type]

    def against(self, reference: str, method: str, *, impute: bool = True) -> Floats:
        """Per-seed differences `[S]` that a test of "no difference" flips."""
        if reference == STL:
            return self.per_seed(method, "paired", impute=impute)
        return self.per_seed(method, "fixed", impute=impute) - self.per_seed(reference, "fixed", impute=impute)


def _everywhere(sets: Sequence[_Set]) -> list[str]:
    """The methods that can be compared on every set."""
    return [method for method in sets[0].methods if all(method in own.methods for own in sets)]


def _compared(sets: Sequence[_Set], reference: str) -> list[str]:
    """The methods of a family: all that are there on every set, but for the reference."""
    everywhere = _everywhere(sets)
    has_reference = reference == STL or reference in everywhere
    return [method for method in everywhere if method != reference] if has_reference else []


def _family(
    sets: Sequence[_Set], reference: str, rules: Rules, intervals: Mapping[str, Interval] | None = None
) -> dict[str, tuple[Comparison, str]]:
    """Compare every method with one reference; with each comparison comes what is to be said of it.

    The intervals are of the differences' means, unless others are given.
    """
    return _compare(sets, dict.fromkeys(_compared(sets, reference), reference), rules, intervals)


def _compare(
    sets: Sequence[_Set],
    references: Mapping[str, str],
    rules: Rules,
    intervals: Mapping[str, Interval] | None = None,
) -> dict[str, tuple[Comparison, str]]:
    """Compare each method of a family with its reference, as `_family` does."""
    if not references:
        return {}
    found = {}
    cases = [np.stack([own.against(reference, m) for m, reference in references.items()], 1) for own in sets]
    p = _adjusted(cases, rules)
    means = np.stack(suite_means(*cases), 1).tolist()
    for place, (method, reference) in enumerate(references.items()):
        differences = tuple(case[:, place].copy() for case in cases)
        word = _verdict(differences, float(p[place]), rules)
        note = ""
        if any(_has_failed(own, method) or _has_failed(own, reference) for own in sets) and word in ("better", "worse"):
            others = [case.copy() for case in cases]
            for own, case in zip(sets, others, strict=True):
                case[:, place] = own.against(reference, method, impute=False)
            without = _verdict([case[:, place] for case in others], float(_adjusted(others, rules)[place]), rules)
            if without != word:
                note = f"{word} than {reference} only with its failed runs counted (without them: {without})"
                word = "undecided"
        joined = np.concatenate(differences)
        comparison = Comparison(
            difference=Interval(*means[place]) if intervals is None else intervals[method],
            per_seed=differences,
            p=float(p[place]),
            verdict=word,  # type: ignore[arg-type]
            wins=int((joined > 0).sum()),
            pairs=_count(joined),
        )
        found[method] = comparison, note
    return found


def _adjusted(sets: Sequence[Floats], rules: Rules) -> Floats:
    """p `[methods]`, adjusted for the family, of differences `[S, methods]` on each task set."""
    if rules.correction == "max-t":
        return max_t(*sets)
    alone = [max_t(*(d[:, [i]] for d in sets))[0] for i in range(sets[0].shape[1])]
    return holm(alone)


def _opposed(rows: Mapping[str, Row]) -> list[str]:
    """Say of one method's rows, by task set, where their mean hides opposites."""
    words = {label: row.vs_equal.verdict for label, row in rows.items() if row.vs_equal is not None}
    better, worse = ([label for label, word in words.items() if word == kind] for kind in ("better", "worse"))
    both = f"better than equal weights on {', '.join(better)}, worse on {', '.join(worse)}"
    return [both] if better and worse else []


def _verdict(differences: Sequence[Floats], p: float, rules: Rules) -> str:
    """The word; no set may have too few seeds for an exact test of its own."""
    fewest = min(map(_count, differences))
    return verdict(*differences, p=np.nan if smallest_p(fewest) > ALPHA else p, margin=rules.margin, alpha=ALPHA)


def _has_failed(own: _Set, method: str) -> bool:
    return _failed(own.group.runs.get(method, {})) > 0


def _pairs(sets: Sequence[_Set], deltas: Mapping[str, Interval]) -> Pairs | None:
    """Compare all methods, single-task learning among them, with each other; best first by their Δ."""
    methods = sorted(deltas, key=lambda method: (-deltas[method].mean, method))
    if not 2 <= len(methods) <= MOST_IN_PAIRS:
        return None
    values = [np.stack([own.per_seed(m, "fixed") for m in methods], 1) for own in sets]
    p = pairwise_max_t(*values)
    size = len(methods)
    difference, low, high = (np.zeros((size, size)) for _ in range(3))
    wins, count = np.zeros((size, size), np.int64), np.zeros((size, size), np.int64)
    for i in range(size - 1):
        others = slice(i + 1, size)
        between = [v[:, [i]] - v[:, others] for v in values]
        difference[i, others], low[i, others], high[i, others] = suite_means(*between)
        joined = np.concatenate(between)
        wins[i, others], wins[others, i] = (joined > 0).sum(0), (joined < 0).sum(0)
        count[i, others] = count[others, i] = (~np.isnan(joined)).sum(0)
    # The other half is the same from the other side.
    difference, low, high = difference - difference.T, low - high.T, high - low.T
    fewest = np.min([_present(v).T @ _present(v) for v in values], axis=0)
    for seeds in np.unique(fewest):
        if smallest_p(int(seeds)) > ALPHA:
            p[fewest == seeds] = 1.0  # a set with too few seeds for an exact test of its own
    groups = tuple(tuple(clique) for clique in cliques(p <= ALPHA, range(size)))
    own = values[0] if len(values) == 1 else np.zeros((0, size))
    return Pairs(tuple(methods), own, difference, low, high, p, wins, count, groups)


def _too_many(methods: Collection[str], *, suite: bool = False) -> list[str]:
    """Say why there are no pairs, and over several task sets no verdicts without each of them."""
    if len(methods) <= MOST_IN_PAIRS:
        return []
    return [
        f"{len(methods)} methods are too many to test every pair of them (at most {MOST_IN_PAIRS}): "
        f"there are no bands and no letters here{', and no task set is left out' * suite}"
    ]


def _present(values: Floats) -> np.ndarray:
    """Which of `[S, methods]` are there, as 0 and 1."""
    return (~np.isnan(values)).astype(np.int64)


def _placed(pairs: Pairs | None, deltas: Mapping[str, Interval]) -> dict[str, tuple[str, tuple[int, int]]]:
    """Letters and bands."""
    if pairs is None:
        return {}
    shown = pairs.p <= ALPHA
    best, worst = rank_bands([deltas[method].mean for method in pairs.methods], shown)
    marks = letters(shown, range(len(pairs.methods)))
    return {m: (marks[i], (int(best[i]), int(worst[i]))) for i, m in enumerate(pairs.methods)}


def _set_board(
    own: _Set, costs: Mapping[tuple[str, str], Ratios], notes: Mapping[str, list[str]], rules: Rules
) -> Board:
    group = own.group
    size = len(group.metrics)
    deltas: dict[str, Interval] = {}
    by_metric: dict[str, Interval] = {}
    for method in own.methods:
        part = np.ix_(own.there(method), own.has_gain)
        task, metric = delta_mtl(own.values[method][part], own.stl[part], own.higher, own.tasks)
        deltas[method] = Interval(task, *t_interval(own.per_seed(method, "linearised")))
        by_metric[method] = Interval(metric, *t_interval(own.per_seed(method, "linearised", by_metric=True)))
    equal, stl = _family([own], REFERENCE, rules), _family([own], STL, rules, deltas)
    has_stl = len(own.stl) > 0 and bool(own.has_gain.any())
    everyone = deltas | ({STL: ZERO} if has_stl else {})
    pairs = _pairs([own], everyone)
    placed = _placed(pairs, everyone)
    means = {method: np.nanmean(own.values[method], 0) for method in own.scored}
    ranks = dict(zip(means, mean_rank(list(means.values()), group.higher_is_better), strict=True)) if means else {}
    gain_p = _gain_p(own)
    nothing = np.full(size, np.nan)
    rows = []
    for method, runs in group.runs.items():
        there = own.there(method)
        gains = np.full(size, np.nan)
        if method in deltas:
            part = np.ix_(there, own.has_gain)
            gains[own.has_gain] = task_gains(own.values[method][part], own.stl[part], own.higher)
        said = [note for family in (equal, stl) for _, note in [family.get(method, (None, ""))] if note]
        some = next((run for run in runs.values() if run.cost.passes), None)
        rows.append(
            Row(
                method=method,
                seeds=int(there.sum()),
                failed=_failed(runs),
                imputed=group.counted_failures(method),
                delta_task=deltas.get(method),
                delta_metric=by_metric.get(method),
                per_seed=own.per_seed(method, "linearised") if method in deltas else NONE,
                vs_equal=equal[method][0] if method in equal else None,
                vs_stl=stl[method][0] if method in stl else None,
                letters=placed.get(method, NOWHERE)[0],
                band=placed.get(method, NOWHERE)[1],
                mean_rank=float(ranks.get(method, np.nan)),
                values=means.get(method, nothing),
                gains=gains,
                gain_p=gain_p.get(method, nothing),
                cost=costs.get((group.label, method)),
                passes=dict(some.cost.passes) if some is not None else {},
                degenerate=sum(run.degenerate for run in runs.values()),
                note="; ".join([*_reasons(group, method), *said]),
            )
        )
    if len(own.stl) or group.baselines:
        own_values = own.stl.mean(0) if len(own.stl) else nothing
        gains = np.where(own.has_gain, 0.0, np.nan) if len(own.stl) else nothing
        row = _stl_row(len(own.stl), placed, sum(map(_failed, group.baselines.values())), has_stl)
        rows.append(replace(row, values=own_values, gains=gains, gain_p=nothing))
    spread = [_spread(comparison) for comparison, _ in equal.values() if comparison.pairs > 1]
    return Board(
        label=group.label,
        suite=False,
        metrics=tuple(group.metrics),
        higher_is_better=tuple(group.higher_is_better),
        rows=tuple(sorted(rows, key=_best_first)),
        pairs=pairs,
        seeds=max((row.seeds for row in rows), default=0),
        family=len(equal),
        smallest_p=smallest_p(len(own.seeds)),
        detectable=_detectable(len(own.seeds), len(equal), spread),
        recipe=_recipe(group),
        notes=(*notes.get(group.label, ()), *group.notes, *_warnings(own), *_too_many(everyone)),
        rules=rules,
        draw_of=group.draw_of,
        curves=_curves(own),
        remainders=_remainders([own], rules),
        points={m: {s: run.points for s, run in sorted(runs.items())} for m, runs in group.runs.items()},
    )


def _remainders(sets: Sequence[_Set], rules: Rules) -> tuple[Remainder, ...]:
    """Compare the methods with frozen weights, each with its own: those that are there on every task set."""
    found = {method: next(iter(runs.values())).of for method, runs in sets[0].group.frozen.items()}
    of = {method: other for method, other in found.items() if all(method in one.group.frozen for one in sets)}
    if not of:
        return ()
    own = [_Set(one.group.with_frozen) for one in sets]
    there = _everywhere(own)
    compared = _compare(own, {m: other for m, other in of.items() if m in there and other in there}, rules)
    rows = []
    for method, other in of.items():
        comparison, note = compared.get(method, (None, ""))
        gains = [one.per_seed(method, "linearised") for one in own] if method in there else []
        reasons = [said for one in own for said in _reasons(one.group, method)]
        rows.append(
            Remainder(
                method=method,
                of=other,
                seeds=min(int(one.there(method).sum()) for one in own),
                delta_task=Interval(*suite_mean(*gains)) if gains else None,
                vs_own=comparison,
                note="; ".join(filter(None, [*reasons, note])),
            )
        )
    return tuple(sorted(rows, key=lambda row: (-row.vs_own.difference.mean if row.vs_own else math.inf, row.method)))


def _curves(own: _Set) -> tuple[Curve, ...]:
    """The runs that are only drawn, each variant a point on the curve of its method."""
    found: dict[tuple[str, str], list[CurvePoint]] = defaultdict(list)
    for (role, variant), runs in own.group.drawn.items():
        rows = np.full((len(own.seeds), len(own.group.metrics)), np.nan)
        for row, seed in zip(rows, own.seeds, strict=True):
            if seed in runs and runs[seed].status == "ok":
                row[:] = own.group.row(runs[seed])
        there = ~np.isnan(rows).any(1)
        seeds, delta, values = int(there.sum()), math.nan, np.full(rows.shape[1], np.nan)
        gains = values.copy()
        if seeds:
            values = rows[there].mean(0)
            part = np.ix_(there, own.has_gain)
            if own.has_gain.any() and has_relative_gain(rows[part], own.stl[part]).all():
                delta, _ = delta_mtl(rows[part], own.stl[part], own.higher, own.tasks)
                gains[own.has_gain] = task_gains(rows[part], own.stl[part], own.higher)
        found[role, variant.partition("[")[0]].append(CurvePoint(variant, seeds, delta, values, gains))
    return tuple(Curve(name, role, tuple(points)) for (role, name), points in found.items())


def _suite_board(
    label: str, sets: list[_Set], boards: Sequence[Board], costs: Mapping[tuple[str, str], Ratios], rules: Rules
) -> Board:
    """The mean over task sets: differences from their seeds, all else from their rows."""
    methods = _everywhere(sets)
    deltas = {m: Interval(*suite_mean(*(own.per_seed(m, "linearised") for own in sets))) for m in methods}
    by_metric = {
        m: Interval(*suite_mean(*(own.per_seed(m, "linearised", by_metric=True) for own in sets))) for m in methods
    }
    equal, stl = _family(sets, REFERENCE, rules), _family(sets, STL, rules, deltas)
    everyone = deltas | {STL: ZERO}
    pairs = _pairs(sets, everyone)
    placed = _placed(pairs, everyone)
    failed = {method for method in methods if any(_has_failed(own, method) for own in sets)}
    sets_equal, sets_stl = (
        compared_over_sets(sets, _compared(sets, reference), reference, failed, rules) for reference in (REFERENCE, STL)
    )
    by_set = {board.label: {row.method: row for row in board.rows} for board in boards}
    left_out: dict[str, tuple[LeftOut, ...]] = {}
    if len(sets) >= FEWEST_SETS and len(everyone) <= MOST_IN_PAIRS:
        family = dict.fromkeys(equal, REFERENCE)
        left_out = without_each([*by_set], lambda kept: _compare([sets[place] for place in kept], family, rules))
    rows = []
    for method in methods:
        said = [found[method][1] for found in (equal, stl, sets_equal, sets_stl) if method in found]
        own = {where: found[method] for where, found in by_set.items()}
        passes = [row.passes for row in own.values()]
        rows.append(
            Row(
                method=method,
                seeds=min(row.seeds for row in own.values()),
                failed=sum(row.failed for row in own.values()),
                imputed=sum(row.imputed for row in own.values()),
                delta_task=deltas[method],
                delta_metric=by_metric[method],
                vs_equal=equal[method][0] if method in equal else None,
                vs_stl=stl[method][0] if method in stl else None,
                sets_vs_equal=sets_equal[method][0] if method in sets_equal else None,
                sets_vs_stl=sets_stl[method][0] if method in sets_stl else None,
                letters=placed.get(method, NOWHERE)[0],
                band=placed.get(method, NOWHERE)[1],
                mean_rank=float(np.mean([row.mean_rank for row in own.values()])),
                cost=costs.get((label, method)),
                passes={what: float(np.mean([p[what] for p in passes])) for what in passes[0]} if all(passes) else {},
                degenerate=sum(row.degenerate for row in own.values()),
                note="; ".join([*filter(None, said), *_opposed(own)]),
                left_out=left_out.get(method, ()),
            )
        )
    fewest = min(len(own.seeds) for own in sets)
    rows.append(_stl_row(fewest, placed, sum(found[STL].failed for found in by_set.values())))
    pooled = sum(len(own.seeds) for own in sets) if smallest_p(fewest) <= ALPHA else fewest
    spreads = [_spread(comparison) for comparison, _ in equal.values() if min(map(_count, comparison.per_seed)) > 1]
    return Board(
        label=label,
        suite=True,
        members=tuple(by_set),
        agreement=kendall_w([[found[m].delta_task.mean for m in methods] for found in by_set.values()]),  # type: ignore[union-attr]
        beyond=conditions_over_sets(sets, _compared(sets, REFERENCE), REFERENCE),
        metrics=(),
        higher_is_better=(),
        rows=tuple(sorted(rows, key=_best_first)),
        pairs=pairs,
        seeds=fewest,
        family=len(equal),
        smallest_p=smallest_p(pooled),
        detectable=_detectable(fewest, len(equal), spreads),
        recipe=f"Means over {', '.join(by_set)}, each weighing the same.",
        notes=(*_not_everywhere(sets, methods), *_too_many(everyone, suite=True)),
        rules=rules,
        remainders=_remainders(sets, rules),
    )


def _not_everywhere(sets: Sequence[_Set], methods: Sequence[str]) -> list[str]:
    """Say which methods have no row over all task sets, and on which set they cannot be compared."""
    missing = {
        method: [own.group.label for own in sets if method not in own.methods]
        for method in sorted({method for own in sets for method in own.group.runs} - set(methods))
    }
    return [
        f"{method} has no row here: it cannot be compared on {', '.join(where)}" for method, where in missing.items()
    ]


def _stl_row(seeds: int, placed: Mapping[str, tuple[str, tuple[int, int]]], failed: int, has_gain: bool = True) -> Row:
    """Single-task learning's row: the zero of all gains, if there are any."""
    letters, band = placed.get(STL, NOWHERE)
    zero = ZERO if has_gain else None
    return Row(STL, seeds, failed, delta_task=zero, delta_metric=zero, letters=letters, band=band)


def _failed(runs: Mapping[Any, Run]) -> int:
    return sum(run.status in FAILURES for run in runs.values())


def _gain_p(own: _Set) -> dict[str, Floats]:
    """The p of each metric's gain being 0, adjusted for the false discovery rate over the whole table."""
    if smallest_p(len(own.seeds)) > ALPHA or not own.methods:
        return {}
    found = np.full((len(own.methods), len(own.has_gain)), np.nan)
    columns = [
        per_seed(own.values[method][:, [m]], own.stl[:, [m]], [up], [0], "paired")
        for method in own.methods
        for m, up in zip(np.flatnonzero(own.has_gain), own.higher, strict=True)
    ]
    found[:, own.has_gain] = sign_flip_test(np.stack(columns, 1)).reshape(len(own.methods), -1)
    adjusted = benjamini_hochberg(found.ravel()).reshape(found.shape)
    return dict(zip(own.methods, adjusted, strict=True))


def _spread(comparison: Comparison) -> float:
    """The standard deviation over seeds of the mean over task sets."""
    variances = [np.nanvar(d, ddof=1) for d in comparison.per_seed]
    return float(np.sqrt(np.sum(variances)) / len(variances))


def _count(d: Floats) -> int:
    return int((~np.isnan(d)).sum())


def _detectable(seeds: int, family: int, spread: Sequence[float]) -> float:
    if not family or not len(spread):
        return float("nan")
    if smallest_p(seeds) > ALPHA:
        return float("inf")
    return detectable(seeds, family, ALPHA) * float(np.median(spread))


def _reasons(group: Group, method: str) -> list[str]:
    reasons = {(run.status, run.reason) for run in group.runs[method].values() if run.reason}
    said = sorted({f"{status}: {one_line(reason, MOST_SAID)}" for status, reason in reasons})
    return [*said, *group.left_out(method)]


def _warnings(own: _Set) -> list[str]:
    """What a reader must know before trusting the numbers of a task set."""
    group, found = own.group, []
    for (task, metric), has_gain in zip(group.metrics, own.has_gain, strict=True):
        if not has_gain:
            found.append(
                f"{task} {metric} of single-task learning is 0 or next to it, at all seeds or at those of some method: "
                "nothing has a relative gain over it, and it is left out of Δ"
            )
    if group.draw_of:
        found.append(
            f"it is another draw of the data of {group.draw_of}: it has no part in a table over all task sets, and the "
            "table of fresh draws says which verdicts hold on both"
        )
    if own.methods and REFERENCE not in own.methods:
        found.append(f"nothing is compared with equal weights: {REFERENCE} has no runs here that can be compared")
    if len(own.stl) > 1:
        error = own.stl.std(0, ddof=1) / np.sqrt(len(own.stl))
        means = own.stl.mean(0)
        for (task, metric), mean, se, has_gain in zip(group.metrics, means, error, own.has_gain, strict=True):
            if has_gain and abs(mean) < SAFE * se:
                found.append(
                    f"{task} {metric} of single-task learning is {mean:.3g} ± {se:.2g} (standard error): gains "
                    "relative to a number so uncertain mean little"
                )
    known = [run.provenance for run in group.members if run.provenance is not None]
    asked = {made.seeds for made in known if made.seeds and made.role != "trial"}  # a trial may be a teacher here
    if len(asked) > 1:
        which = " and ".join(_seed_text(seeds) for seeds in sorted(asked, key=lambda seeds: (len(seeds), seeds)))
        found.append(
            f"its seeds were not asked for together ({which}): if some were added after a look at the others, the "
            "tests here do not hold; run fresh seeds alone into another folder to confirm"
        )
    elif asked and (lost := set(next(iter(asked))) - {s for runs in group.runs.values() for s in runs}):
        found.append(f"{len(lost)} of the {len(next(iter(asked)))} seeds that were asked for are not there yet")
    return found


def _seed_text(seeds: Sequence[int]) -> str:
    together = all(after - seed == 1 for seed, after in pairwise(seeds))
    return f"{seeds[0]}-{seeds[-1]}" if together and len(seeds) > 1 else seed_text(seeds)


def _recipe(group: Group) -> str:
    run = next(iter(group.members), None)
    if run is None or run.protocol is None:
        return "Read from a file: how the runs were trained is not known here."
    p = run.protocol
    rate = f"learning rate {p.lr:g}" if run.choice is None else f"learning rate {p.lr:g} times what trials have chosen"
    schedule = f"halved every {p.halve_every} epochs" if p.schedule == "halving" else p.schedule
    changes = ", augmented" if p.augment else ""
    held_out = "" if p.validation else "; what would validate is trained on, too"
    reported = (
        "the test split after the last step"
        if p.average_last == 1
        else f"the mean of the test scores at the ends of the last {p.average_last} epochs"
    )
    return (
        f"Protocol {p.name}: {p.steps} steps of {p.batch_size} examples{changes}, {p.optimizer}, {rate} "
        f"({schedule}), weight decay {p.weight_decay:g}{held_out}; {reported}."
    )


def _best_first(row: Row) -> tuple[bool, float, str]:
    return row.delta_task is None, -row.delta_task.mean if row.delta_task is not None else 0.0, row.method


def _provenance(scores: Scores) -> dict[str, str]:
    """What made the runs: each fact with its values."""
    facts: dict[str, set[str]] = defaultdict(set)
    for run in scores.runs:
        facts[f"seeds of {run.set_name}"].add(str(run.seed))
        if run.provenance is not None:
            facts["commit"].add(run.provenance.commit)
            for name, value in [*run.provenance.versions.items(), *run.provenance.hardware.items()]:
                facts[name].add(value)
        if run.parts is not None:
            facts["device"].add(run.parts.device)
            facts["threads a run"].add(str(run.parts.threads))
            facts[f"data of {run.set_name}"].add(run.parts.data[:12])
    found = {name: ", ".join(sorted(values - {""}, key=_by_number)) for name, values in facts.items()}
    return {name: text for name, text in sorted(found.items()) if text}


def _by_number(text: str) -> tuple[bool, int, str]:
    return (False, len(text), text) if text.isdecimal() else (True, 0, text)
