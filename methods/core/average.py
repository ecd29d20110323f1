"""What a training of one rule leaves for a rule that fixes its weights."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Average:
    """The average weights of another rule's run, and what heads get there."""

    weights: tuple[float, ...]
    """`[K]` the mean over its steps of w / Σ|w|, times the mean of Σ|w|."""
    heads: str
    """What heads get there: their "plain" gradient, or the "weighted" one."""
