"""What the trials of a contestant try: multiples of the protocol's learning rate, and options of the rule's own."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from scipy.stats import qmc

import methods
from methods.core.names import UsageError
from methods.core.registry import Variant
from methods.core.search import Choice, Log, Simplex, Space, from_json

GRID = (1.0, 2.0, 0.5, 4.0, 0.25, 8.0, 0.125)
"""The multiples of the protocol's rate, in the order in which a small budget takes them."""
RATES = Log(min(GRID), max(GRID))
"""Where larger budgets draw further multiples."""
LINE, LATTICE, DRAWS = 12, 7, 30
"""How finely the weights of a front divide their sum for 2 and for 3 tasks, and how many are drawn for more."""
SHARES = 10
"""In how many steps the range of an option is walked to see whether the option takes its values."""
AROUND = (0.5, 1.0, 2.0)
"""The multiples of the chosen rate of equal weights at which fixed weights are drawn, in turn."""


@dataclass(frozen=True)
class Setting:
    """What one trial tries."""

    factor: float = 1.0
    """By which the protocol's learning rate is multiplied."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Options of the rule, as text, where they differ from those of the contestant."""


def settings(budget: int, spaces: Mapping[str, Space], num_tasks: int, start: float = 1.0) -> list[Setting]:
    """Return what the trials of one contestant try: so many different settings.

    The first seven are the multiples of the protocol's rate at the contestant's own options. What a larger budget
    adds are draws: the rate evenly in the logarithm over the same range, and at most two options. The draws of each
    parameter are a Latin hypercube of one dimension, seeded by the parameter's name: a parameter that is added moves
    no other. A rule that fixes weights has no use for a grid: its first trial is equal weights at `start`, the chosen
    multiple of equal weights; the others draw weights, at half of it, at it and at twice of it in turn.
    """
    if any(isinstance(space, Simplex) for space in spaces.values()):
        drawn = _drawn(budget - 1, spaces, num_tasks)
        around = (start * AROUND[i % len(AROUND)] for i in range(budget - 1))
        return [Setting(start), *(Setting(rate, own) for rate, own in zip(around, drawn, strict=True))][:budget]
    more = max(0, budget - len(GRID))
    rates = _rates(more)
    drawn = _drawn(more, spaces, num_tasks)
    return [
        *(Setting(factor) for factor in GRID[:budget]),
        *(Setting(rate, own) for rate, own in zip(rates, drawn, strict=True)),
    ]


def front_weights(num_tasks: int) -> list[str]:
    """Return the fixed weights of a reference front, written as an option; their sum is the number of tasks.

    For 2 tasks they are the 11 multiples of 1/12 of the sum that leave something to the other task. For 3 tasks they
    are the 15 points of the simplex whose weights are multiples, none of them 0, of 1/7 of the sum. For more tasks they
    are 30 draws, evenly spread over the simplex (Dirichlet); each weight's draws are seeded by its name.
    """
    if num_tasks > 3:
        return [own["front"] for own in _drawn(DRAWS, {"front": Simplex()}, num_tasks)]
    parts = {2: LINE, 3: LATTICE}.get(num_tasks, 0)
    steps = range(1, parts)
    points = [own for own in product(steps, repeat=num_tasks) if sum(own) == parts]
    return [_text([round(num_tasks * step / parts, 4) for step in own]) for own in points]


def spaces_of(rule: Variant | None) -> dict[str, Space]:
    """Return where a contestant's options may be searched: those that it leaves at their default, by name.

    Of `kd+mgda` they are named `kd.lr`. Single-task learning (None) has none.
    """
    found: dict[str, Space] = {}
    if rule is None:
        return found
    for part in rule.parts:
        usual = methods.registry.options(part.entry)
        for name, space in from_json(part.facts["search"]).items():
            if part.values[name] == usual[name].default:
                found[name if len(rule.parts) == 1 else f"{part.entry.name}.{name}"] = space
    return found


def require_sound_spaces(rule: Variant) -> None:
    """Refuse a rule that says `search = {…}` with a value that its option does not take, before anything is tried.

    Raises:
        UsageError: names the rule, the option and the value.
    """
    for name, space in spaces_of(rule).items():
        if isinstance(space, Simplex):
            values: Sequence[object] = [(1.0, 1.0)]
        else:
            values = space.values if isinstance(space, Choice) else [space.value(i / SHARES) for i in range(SHARES + 1)]
        for value in values:
            try:
                changed(rule, {name: _text(value)})
            except UsageError as problem:
                raise UsageError(f"{rule.label}: its search of {name} has a wrong value: {problem}") from None


def changed(rule: Variant, options: Mapping[str, str]) -> Variant:
    """Return a rule with some of its options changed, named as in `spaces_of`."""
    parts = []
    for part in rule.parts:
        own = {name.removeprefix(f"{part.entry.name}."): text for name, text in options.items()}
        mine = {
            name: text for name, text in own.items() if len(rule.parts) == 1 or f"{part.entry.name}.{name}" in options
        }
        parts.append(methods.registry.change(part, mine) if mine else part)
    return Variant(tuple(parts))


def _rates(count: int) -> list[float]:
    """Draw so many multiples of the rate, different ones: with more digits where three are of one tried before."""
    found: list[float] = []
    for share in _shares("learning rate", count):
        rate = RATES.value(share)
        exact = RATES.low * (RATES.high / RATES.low) ** share
        found.append(float(f"{exact:.9g}") if rate in GRID or rate in found else rate)
    return found


def _drawn(count: int, spaces: Mapping[str, Space], num_tasks: int) -> list[dict[str, str]]:
    """Draw the options of so many trials, as text."""
    columns: dict[str, list[str]] = {}
    for name, space in spaces.items():
        if isinstance(space, Simplex):
            shares = zip(*(_shares(f"{name} {k}", count) for k in range(num_tasks)), strict=True)
            columns[name] = [_text([max(weight, 1e-4) for weight in space.value(own)]) for own in shares]
        else:
            columns[name] = [_text(space.value(share)) for share in _shares(name, count)]
    return [{name: column[i] for name, column in columns.items()} for i in range(count)]


def _shares(name: str, count: int) -> list[float]:
    """Draw so many numbers in (0, 1), one from each of as many equal parts, in an order that the name seeds."""
    if count < 1:
        return []
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    drawn = qmc.LatinHypercube(d=1, rng=seed).random(count)[:, 0]
    return [min(max(float(share), 1e-9), 1 - 1e-9) for share in drawn]


def _text(value: object) -> str:
    """Write a drawn value as an option is written."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ":".join(f"{item:g}" for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
