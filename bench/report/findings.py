"""Says in a few sentences what a board shows. The sentences claim no more than the verdicts do."""

import math
from collections.abc import Iterable, Iterator, Mapping

from bench.evidence.significance import MINIMUM_SETS, Verdict
from bench.report.board import ALPHA, Board, Comparison, Interval, Row, metric_name
from bench.report.fixed import better_on_every_task, front_points
from bench.spec import STL

MARKS: dict[Verdict, str] = {
    "better": "▲",
    "equivalent": "≈",
    "identical": "=",
    "undecided": "?",
    "not enough seeds": "–",
    "not enough task sets": "–",
    "worse": "▼",
}
"""The sign of each verdict, best first. Many readers cannot tell verdicts by colour alone."""
NAMED = 5
"""How many names a sentence lists; it counts the others."""
MOST_NAMED = 15
"""How many it lists of those that are better or worse than equal weights: that is what a reader came for."""


class Name(str):
    """A piece of a sentence that is a name from outside. Pages must not read it as markup."""


Sentence = list[str]
"""The pieces of a sentence. Those that are names have the type `Name`."""


def signed(value: float | None, digits: int = 2) -> str:
    """Write a number with its sign, with a true minus; empty if there is no number."""
    return "" if value is None or math.isnan(value) else f"{value:+z.{digits}f}".replace("-", "−")


def number(value: float | None, digits: int = 3) -> str:
    """Write a number with so many significant digits; empty if there is no number."""
    return "" if value is None or math.isnan(value) else f"{value:.{digits}g}".replace("-", "−")


def p_value(p: float) -> str:
    """Write a p-value with three decimals and its relation: `= .008`, `< .001`."""
    return "= 1" if p > 0.9995 else "< .001" if p < 0.001 else f"= {p:.3f}".replace("0.", ".", 1)


def between(interval: Interval, digits: int = 1) -> str:
    """Write the two ends of an interval; empty if there is no interval."""
    return "" if math.isnan(interval.low) else f"{signed(interval.low, digits)} to {signed(interval.high, digits)}"


def passes(counts: Mapping[str, float]) -> str:
    """Write the forward, head and trunk passes of a step, and those of any teachers; empty if not known."""
    if not counts:
        return ""
    own = "/".join(number(counts[what]) for what in ("forward", "heads", "trunk"))
    return own + (f" +{number(counts['teacher'])}" if counts.get("teacher") else "")


def title(board: Board) -> str:
    """Return the name of a board on a page."""
    if not board.suite:
        return board.label
    _, at, protocol = board.label.partition("@")
    return f"Over all task sets{f' ({protocol})' if at else ''}"


def leaders(board: Board) -> tuple[Row | None, list[str]]:
    """Return the method with the highest Δ task, and the methods that are not shown to differ from it."""
    ranked = [r for r in board.rows if r.method != STL and r.delta_task and not math.isnan(r.delta_task.mean)]
    if not ranked:
        return None, []
    first, others = ranked[0], [row.method for row in ranked[1:]]
    if board.pairs is None or first.method not in board.pairs.methods:
        return first, others
    at = {method: i for i, method in enumerate(board.pairs.methods)}
    p = board.pairs.p[at[first.method]]
    return first, [method for method in others if method not in at or not p[at[method]] <= ALPHA]


def findings(board: Board) -> list[Sentence]:
    """Return the sentences about a board, the most important first."""
    parts = (_lead, _stl, _equal, _stability, _over_sets, _untuned, _fixed, _metrics, _failures, _power)
    return [sentence for part in parts for sentence in part(board)]


def conditions(board: Board) -> str:
    """Return the conditions under which the verdicts of a board hold, in one line."""
    power = (
        f"smallest difference found with a power of 80 %: {number(board.detectable, 2)} pp"
        if math.isfinite(board.detectable)
        else "so few seeds find no difference"
        if math.isinf(board.detectable)
        else "smallest difference that would be found: not known"
    )
    correction = "step-down max-T" if board.rules.correction == "max-t" else "Holm's correction"
    return (
        f"α {ALPHA:g}; sign flips, {correction} over a family of {board.family}; seeds: {board.seeds}; smallest "
        f"attainable p {p_value(board.smallest_p)}; equivalence within ±{board.rules.margin:g} pp; {power}."
        f"{_rates(board)}"
    )


def conditions_over_sets(board: Board) -> str:
    """Return in one line what a board over several task sets can say of other sets like these; empty for one set."""
    if board.beyond is None:
        return ""
    sets, fewest = board.beyond.sets, MINIMUM_SETS
    if not board.beyond.enough:
        return (
            f"On sets like these: not enough task sets. An exact test over task sets needs {fewest}, which is "
            f"{fewest - sets} more than these {sets}."
        )
    correction = "step-down max-T" if board.rules.correction == "max-t" else "Holm's correction"
    power = (
        f"; smallest difference found with a power of 80 %: {number(board.beyond.detectable, 2)} pp"
        if math.isfinite(board.beyond.detectable)
        else ""
    )
    return (
        f"On sets like these: α {ALPHA:g}; sign flips of whole sets, {correction} over a family of {board.family}; "
        f"task sets: {sets}; smallest attainable p {p_value(board.beyond.smallest_p)}; equivalence within "
        f"±{board.rules.margin:g} pp{power}."
    )


def _rates(board: Board) -> str:
    """Say how learning rates were chosen; nothing where they are the protocol's own."""
    if not board.choices:
        return ""
    budgets = sorted({choice.budget for choice in board.choices})
    seeds = sorted({seed for choice in board.choices for seed in choice.seeds})
    return (
        " Learning rates: for each method, and for the single-task network of each task, the best on validation of "
        f"{' or '.join(map(str, budgets))} trials (seeds {' and '.join(map(str, seeds))}); the verdicts are given "
        "these rates."
    )


def _lead(board: Board) -> Iterator[Sentence]:
    first, alike = leaders(board)
    if first is None or first.delta_task is None:
        yield ["No method can be compared with single-task learning yet."]
        return
    gain = between(first.delta_task)
    inside = f"95 % {gain}" if gain else "no interval below three seeds"
    others = [row for row in board.rows if row.method not in (STL, first.method)]
    shown = (
        "is the only method; its Δ task is"
        if not others
        else "has the highest mean Δ task:"
        if alike
        else "leads in Δ task:"
    )
    said: Sentence = [Name(first.method), f" {shown} {signed(first.delta_task.mean)} pp ({inside})."]
    if first.vs_equal is not None:
        said.append(f" {_against(first.vs_equal, 'equal weights')}{_at_own_rate(first)}.")
        if first.cost is not None and not math.isnan(first.cost.step):
            said.append(f" Its step takes {number(first.cost.step)} times as long as that of equal weights.")
    yield said
    if alike:
        yield ["It is not shown to differ from ", *_names(alike), "."]


def _against(comparison: Comparison, reference: str) -> str:
    difference = f"{signed(comparison.difference.mean)} pp"
    ends = between(comparison.difference)
    difference += f", 95 % {ends}" if ends else ""
    match comparison.verdict:
        case "better" | "worse":
            return f"It is {comparison.verdict} than {reference} ({difference}, p {p_value(comparison.p)})"
        case "equivalent" | "identical":
            return f"It is {comparison.verdict} to {reference} ({difference})"
        case "undecided":
            return f"Whether it differs from {reference} is undecided ({difference}, p {p_value(comparison.p)})"
    return f"There are not enough seeds to compare it with {reference} ({difference})"


def _at_own_rate(row: Row) -> str:
    """Say whether the verdict against equal weights is the same where nothing is tuned, if that is known."""
    if row.holds_untuned is None or row.untuned is None:
        return ""
    if row.holds_untuned:
        return "; this holds at the protocol's own learning rate, too"
    there = row.untuned.verdict
    return f"; at the protocol's own learning rate {'it is' if there != 'not enough seeds' else 'there are'} {there}"


def _stl(board: Board) -> Iterator[Sentence]:
    compared = [(row.method, row.vs_stl.verdict) for row in board.rows if row.vs_stl is not None]
    if not compared:
        return
    none = "" if any(verdict == "better" for _, verdict in compared) else "no method is shown to be better; "
    yield [f"Against single-task learning: {none}", *_grouped(compared)]


def _equal(board: Board) -> Iterator[Sentence]:
    compared = [(r.method, r.vs_equal.verdict) for r in board.rows if r.vs_equal is not None and r.method != STL]
    if compared:
        yield ["Against equal weights: ", *_grouped(compared, MOST_NAMED)]


def _stability(board: Board) -> Iterator[Sentence]:
    if not any(row.left_out for row in board.rows):
        return
    changing = [row for row in board.rows if row.changes_without]
    said: Sentence = ["If one task set is left out, "]
    if not changing:
        yield [*said, "each verdict against equal weights is the same."]
        return
    of = sum(bool(row.left_out) for row in board.rows)
    said.append(f"{len(changing)} of {of} verdicts against equal weights can change: ")
    for i, row in enumerate(changing[:NAMED]):
        said += [
            "; " if i else "",
            Name(row.method),
            " (without ",
            *_names([o.label for o in row.changes_without]),
            ")",
        ]
    yield [*said, f"; and {len(changing) - NAMED} more." if len(changing) > NAMED else "."]


def _over_sets(board: Board) -> Iterator[Sentence]:
    if board.beyond is None or not board.beyond.enough:
        return
    compared = [(row.method, row.sets_vs_equal.verdict) for row in board.rows if row.sets_vs_equal is not None]
    if compared:
        yield [
            f"On other task sets like these {board.beyond.sets}, against equal weights: ",
            *_grouped(compared, MOST_NAMED),
        ]


def _fixed(board: Board) -> Iterator[Sentence]:
    counts, points = better_on_every_task(board), len(front_points(board))
    if not counts:
        return
    none = [method for method, count in counts.items() if not count]
    some = {method: count for method, count in counts.items() if count}
    said: Sentence = [f"Of {points} fixed weights (shown, not tested), "]
    if none:
        said += ["none is better on every task than ", *_names(none)]
    for i, (method, count) in enumerate([*some.items()][:NAMED]):
        said += [", " if i else f"{'; ' * bool(none)}some are better on every task than ", Name(method), f" ({count})"]
    if len(some) > NAMED:
        said.append(f" and {len(some) - NAMED} more")
    yield [*said, "."]


def _untuned(board: Board) -> Iterator[Sentence]:
    known = [row for row in board.rows if row.holds_untuned is not None]
    if not known:
        return
    same = [row.method for row in known if row.holds_untuned]
    other = [(row.method, row.untuned.verdict) for row in known if not row.holds_untuned and row.untuned is not None]
    said: Sentence = ["Where every method is trained at the protocol's own learning rate, "]
    if not other:
        yield [*said, "each of these verdicts is the same."]
        return
    if same:
        said += ["the verdict is the same for ", *_names(same), "; it is different for "]
    else:
        said.append("each verdict is another one: ")
    for i, (method, verdict) in enumerate(other[:NAMED]):
        said += [", " if i else "", Name(method), f" ({verdict})"]
    yield [*said, f" and {len(other) - NAMED} more." if len(other) > NAMED else "."]


def _grouped(compared: list[tuple[str, Verdict]], decided: int = NAMED) -> Sentence:
    """List methods by verdict; of those that are better or worse, so many are named."""
    parts: Sentence = []
    for verdict in MARKS:
        names = [method for method, own in compared if own == verdict]
        if names:
            count = f" ({len(names)})" if len(names) > NAMED else ""
            most = decided if verdict in ("better", "worse") else NAMED
            parts += ["; " if parts else "", f"{verdict}{count}: ", *_names(names, most)]
    return [*parts, "."]


def _names(names: list[str], most: int = NAMED) -> Iterable[str]:
    for i, name in enumerate(names[:most]):
        yield from (", ", Name(name)) if i else (Name(name),)
    if len(names) > most:
        yield f" and {len(names) - most} more"


def _metrics(board: Board) -> Iterator[Sentence]:
    first, _ = leaders(board)
    if first is None:
        return
    gains = [(float(g), metric_name(m)) for m, g in zip(board.metrics, first.gains, strict=True) if not math.isnan(g)]
    if len(gains) < 2:
        return
    (low, worst), (high, best) = min(gains), max(gains)
    yield [
        *("Compared with single-task learning, ", Name(first.method), " gains most on ", Name(best)),
        *(f" ({signed(high, 1)} %) and least on ", Name(worst), f" ({signed(low, 1)} %)."),
    ]


def _failures(board: Board) -> Iterator[Sentence]:
    counted = {row.method: row.imputed for row in board.rows if row.imputed}
    if counted:
        said = f"Failed runs ({sum(counted.values())}) count with the scores of an untrained predictor: "
        yield [said, *_names([*counted]), "."]
    others = {row.method: row.failed - row.imputed for row in board.rows if row.failed > row.imputed}
    if others:
        said = f"Failed runs ({sum(others.values())}) have no part in the numbers, as the notes say: "
        yield [said, *_names([*others]), "."]


def _power(board: Board) -> Iterator[Sentence]:
    if board.seeds and (math.isinf(board.detectable) or board.smallest_p > ALPHA):
        yield [f"There are not enough seeds ({board.seeds}): no exact test can call a method better or worse."]
    elif math.isfinite(board.detectable):
        yield [f"A difference from equal weights below about {number(board.detectable, 2)} pp may go unnoticed."]
