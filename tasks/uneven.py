"""Related regressions of one scale, of which some are hard and some are noisy."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from tasks.core.base import Card, Network, Task, TaskSet
from tasks.core.draw import require_draw
from tasks.core.losses import squared_error
from tasks.core.metrics.regression import normalized_rmse
from tasks.core.protocol import Protocol
from tasks.networks.mlp import MLP

FEATURES = 20
DIFFERENCE = 0.3
QUIET, LOUD = 0.5, 2.0
FUNCTIONS = {"line": 0.0, "bend": 1.0, "wave": 1.5, "loud_line": 0.0, "loud_bend": 1.0}
"""The frequency of each task's function; 0 is a straight line."""
COUNTS = {"train": 2_000, "validation": 1_000, "test": 2_000}


class Uneven(TaskSet):
    """Regressions of one scale that differ in difficulty and in noise: a line, a bend, a wave, and two in loud noise.

    y_i = sin(f_i z_i) / its standard deviation, or z_i itself for a line; z_i = w_i x with similar w_i of length 1. The
    loss of a noisy task stays large though nothing more can be learnt from it.
    """

    inputs = ("x",)
    protocols = {
        "smoke": Protocol(name="smoke", steps=20, batch_size=64, lr=5e-3, steps_per_epoch=5, points=2),
        "quick": Protocol(name="quick", steps=400, batch_size=64, lr=5e-3, steps_per_epoch=40),
        "standard": Protocol(name="standard", steps=1_000, batch_size=64, lr=2e-3, steps_per_epoch=40),
    }
    card = Card(
        origin="Generated",
        licence="MIT, as this project",
        preprocessing=(
            "x standard normal in 20 dimensions; w_i a common standard normal part and 0.3 times one of its own, "
            "scaled to length 1; frequencies 0 (a line), 1 and 1.5, then 0 and 1 again; the functions have the "
            "variance 1 in every task; noise on the training targets only, 0.5 for the first three tasks and 2 for "
            "the two loud ones; 2,000 / 1,000 / 2,000 examples, the same for every seed; another data seed with "
            "`draw`"
        ),
        traps=(
            "The tasks differ in the learning rate that suits them: single-task networks chose from a quarter of the "
            "protocol's (loud tasks) to four times it (wave), so at one rate for all some task does badly before "
            "anything is balanced. At the end of `quick` the training losses of the loud tasks are still between 3.4 "
            "and 4.0, those of the quiet ones between 0.18 and 0.37, near the variances of their noises: a rule that "
            "reads losses as difficulty looks at noise. The lowest, of the wave alone, is partly memorised. "
            "Validation and test targets have no noise."
        ),
        regime=(
            "Made for unequal noise and difficulty on one scale, whatever comes out. At `quick`, at tuned rates, on "
            "seeds 1002–1007, equal weights are 36.3 points below single-task networks (95 % interval 29.2 to 43.3). "
            "Every task loses: the wave most (normalised RMSE 0.44, from 0.27), the bend least (0.30, from 0.24). "
            "Half of the cosines between task gradients at the trunk are negative (51 % of 600), and their mean is "
            "0.00."
        ),
    )

    def __init__(self, draw: int = 0) -> None:
        self.draw = require_draw(draw)

    def load(self) -> dict[str, dict[str, Tensor]]:
        """Draw the functions and the examples."""
        generator = np.random.default_rng(self.draw)
        common = generator.normal(size=FEATURES)
        directions = common + DIFFERENCE * generator.normal(size=(len(FUNCTIONS), FEATURES))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        splits = {}
        for split, count in COUNTS.items():
            x = generator.normal(size=(count, FEATURES))
            columns = {"x": x}
            for (name, frequency), direction in zip(FUNCTIONS.items(), directions, strict=True):
                y = _function(x @ direction, frequency)
                if split == "train":
                    y += (LOUD if name.startswith("loud") else QUIET) * generator.normal(size=count)
                columns[name] = y.reshape(-1, 1)
            splits[split] = {name: torch.from_numpy(column.astype(np.float32)) for name, column in columns.items()}
        return splits

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """The three quiet tasks, from easy to hard, and the two loud ones."""
        train = self.splits["train"]
        return tuple(Task(name, name, squared_error, {"nrmse": normalized_rmse(train[name])}) for name in FUNCTIONS)

    def network(self, tasks: Sequence[str]) -> Network:
        """Return an MLP of two hidden layers of 32."""
        return MLP("x", (FEATURES, 32, 32), dict.fromkeys(tasks, 1))


def _function(z: np.ndarray, frequency: float) -> np.ndarray:
    """A function of standard normal `z` `[N]` whose variance is 1."""
    return np.sin(frequency * z) / np.sqrt((1 - np.exp(-2 * frequency**2)) / 2) if frequency else z
