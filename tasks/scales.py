"""Related regressions whose targets have very different scales."""

import math
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
DIFFERENCE = 0.5
NOISE = 0.3
COUNTS = {"train": 1_000, "validation": 1_000, "test": 2_000}
MOST_TASKS = 1_000
"""More would only take memory."""


class Scales(TaskSet):
    """The GradNorm paper's toy: related regressions on raw targets whose scales differ.

    y_i = σ_i tanh((B + E_i) x / √20), scalar, σ_i spaced evenly in the logarithm over `ratio`. With squared errors
    the largest task weighs ratio² times the smallest: what sharing is worth here hangs on the balance.
    """

    inputs = ("x",)
    protocols = {
        "smoke": Protocol(name="smoke", steps=20, batch_size=64, lr=5e-3, steps_per_epoch=5, points=2),
        "quick": Protocol(name="quick", steps=400, batch_size=64, lr=5e-3, steps_per_epoch=40),
        "standard": Protocol(name="standard", steps=1_000, batch_size=64, lr=1e-3, steps_per_epoch=40),
    }
    card = Card(
        origin="Generated, after Chen et al. 2018 (GradNorm), section 4",
        licence="MIT, as this project",
        preprocessing=(
            "x standard normal in 20 dimensions; B standard normal, E_i 0.5 times that (the paper: 0.35); noise of "
            "0.3 σ_i on the training targets only; 1,000 / 1,000 / 2,000 examples, the same for every seed; narrow "
            "trunk (32-32), so that tasks compete; heads start at a tenth of the usual weights"
        ),
        traps=(
            "With ordinary heads a task of scale 0.1 starts far from its targets, and its single-task network stays "
            "worse than the mean predictor: Δ would then measure initialisation. Uncertainty weighting gains a "
            "point over equal weights even where all scales are equal (`scales[ratio=1]`). A thousand noisy "
            "examples are soon memorised: four times the steps of `standard` make single-task networks worse."
        ),
        regime=(
            "Made for tasks that gain from each other if they are balanced; the imbalance is one of scale. At `quick`, "
            "at tuned rates, on seeds 1002–1007, equal weights are 45.9 points below single-task networks (95 % "
            "interval 38.9 to 52.9). Every task loses: y2 most (normalised RMSE 0.52, from 0.27), y5, which has the "
            "largest scale, least (0.23, from 0.20)."
        ),
    )

    def __init__(self, tasks: int = 5, ratio: float = 100.0, draw: int = 0) -> None:
        if tasks < 2:
            raise ValueError(f"tasks={tasks}: scales needs at least 2")
        if tasks > MOST_TASKS:
            raise ValueError(f"tasks={tasks}: scales takes at most {MOST_TASKS}")
        if not 0 < ratio < math.inf:
            raise ValueError(f"ratio={ratio}: the ratio of scales is a number above 0")
        self.draw = require_draw(draw)
        self.sigma = np.geomspace(ratio**-0.5, ratio**0.5, tasks)

    def load(self) -> dict[str, dict[str, Tensor]]:
        """Draw the functions and the examples."""
        generator = np.random.default_rng(self.draw)
        common = generator.normal(size=FEATURES)
        own = DIFFERENCE * generator.normal(size=(len(self.sigma), FEATURES))
        splits = {}
        for split, count in COUNTS.items():
            x = generator.normal(size=(count, FEATURES))
            y = np.tanh(x @ (common + own).T / np.sqrt(FEATURES))
            if split == "train":
                y += NOISE * generator.normal(size=y.shape)
            y *= self.sigma
            columns = {"x": x, **{f"y{i + 1}": y[:, i : i + 1] for i in range(len(self.sigma))}}
            splits[split] = {name: torch.from_numpy(column.astype(np.float32)) for name, column in columns.items()}
        return splits

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """y1, of the smallest scale, to yK."""
        train = self.splits["train"]
        names = [f"y{i + 1}" for i in range(len(self.sigma))]
        return tuple(Task(name, name, squared_error, {"nrmse": normalized_rmse(train[name])}) for name in names)

    def network(self, tasks: Sequence[str]) -> Network:
        """Return an MLP of two hidden layers of 32."""
        return MLP("x", (FEATURES, 32, 32), dict.fromkeys(tasks, 1), head_scale=0.1)
