"""What a rule says about where its options may be searched: `search = {"lr": Log(1e-3, 1), "alpha": Choice(0.5, 3)}`.

A space turns a number between 0 and 1 into a value. Whoever searches draws the numbers.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Log:
    """Numbers from `low` to `high`, evenly spread in the logarithm."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < math.inf:
            raise ValueError(f"Log({self.low}, {self.high}): write two numbers above 0, the smaller one first")

    def value(self, share: float) -> float:
        """Return the value at a share of the way, in `[0, 1]`, rounded to three digits."""
        return float(f"{self.low * (self.high / self.low) ** share:.3g}")


@dataclass(frozen=True, init=False)
class Choice:
    """One of some values, each as likely as the others."""

    values: tuple[Any, ...]

    def __init__(self, *values: Any) -> None:
        if not values:
            raise ValueError("Choice(): name the values")
        object.__setattr__(self, "values", values)

    def value(self, share: float) -> Any:
        """Return the value at a share of the way, in `[0, 1]`."""
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]


@dataclass(frozen=True)
class Simplex:
    """K weights above 0 whose sum is K, evenly spread (Dirichlet): the option is a list with a number for each task.

    A rule with such an option is nothing without its weights, so that they are drawn in every trial but the first.
    """

    def value(self, shares: Sequence[float]) -> tuple[float, ...]:
        """Turn K numbers in `(0, 1)` into K weights, rounded to four digits after the point."""
        lengths = [-math.log(share) for share in shares]  # exponential variables, whose shares are uniform
        return tuple(round(len(shares) * length / sum(lengths), 4) for length in lengths)


Space = Log | Choice | Simplex


def as_json(search: Mapping[str, Space]) -> dict[str, Any]:
    """Describe spaces in JSON."""
    return {name: [type(space).__name__, *vars(space).values()] for name, space in search.items()}


def from_json(described: Mapping[str, Any]) -> dict[str, Space]:
    """Return the spaces that `as_json` described."""
    found: dict[str, Space] = {}
    for name, (kind, *values) in described.items():
        found[name] = Choice(*values[0]) if kind == "Choice" else {"Log": Log, "Simplex": Simplex}[kind](*values)
    return found
