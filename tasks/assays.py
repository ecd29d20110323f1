"""Measurements of one collection of examples that share a hidden structure. Most of their labels are missing."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from tasks.core.base import SPLITS, Card, Network, Task, TaskSet
from tasks.core.draw import require_draw
from tasks.core.losses import binary_cross_entropy, labelled_squared_error
from tasks.core.metrics.binary import auroc, probabilities_and_labels
from tasks.core.metrics.regression import labelled, normalized_rmse
from tasks.core.protocol import Protocol
from tasks.networks.mlp import MLP

FEATURES, LATENT = 40, 3
GAIN = 1.5
"""How far the hidden quantities saturate."""
NOISE = 0.5
"""The standard deviation of the noise of an amount in training. Without noise it has the standard deviation 1."""
SLOPE = 3.0
"""How fast the log-odds of an event rise with its score, which has the standard deviation 1."""
COUNTS = {"train": 6_000, "validation": 1_000, "test": 3_000}
AMOUNTS = {"amount1": 2_000, "amount2": 500, "amount3": 100}
"""How many training labels each regression has."""
EVENTS = {"event1": (2_500, 0.2), "event2": (700, 0.1), "event3": (300, 0.05)}
"""How many training labels each binary outcome has, and how common the outcome is."""


class Assays(TaskSet):
    """Scarce labels: three amounts and three rare events with 100 to 2,500 labels for 6,000 examples.

    Every task is a mixture of the same three hidden quantities. Tasks with few labels need what the others teach the
    trunk, so sharing pays. Many batches have no label of some task.
    """

    inputs = ("x",)
    protocols = {
        "smoke": Protocol(name="smoke", steps=20, batch_size=64, lr=1e-2, steps_per_epoch=5, points=2),
        "quick": Protocol(name="quick", steps=340, batch_size=64, lr=1e-2, steps_per_epoch=34),
        "standard": Protocol(name="standard", steps=1_500, batch_size=64, lr=4e-3, steps_per_epoch=125),
    }
    card = Card(
        origin="Generated here",
        licence="MIT, as this project",
        preprocessing=(
            "x standard normal in 40 dimensions. Three hidden quantities tanh(1.5 a_j·x), each a_j a random direction. "
            "A task's score is a random mixture of them, standardised over all examples. An amount is its score, with "
            "noise of 0.5 on training labels only. An event happens with the log-odds 3 (score − cut), the cut such "
            "that 20, 10 and 5 % of all examples have it. 6,000 / 1,000 / 3,000 examples, the same for every seed of a "
            "run. Of the training labels 2,000, 500 and 100 (amounts) and 2,500, 700 and 300 (events) are known, drawn "
            "at random for each task; in validation and test all are. The option draw makes other data of this kind"
        ),
        traps=(
            "Of batches of 64, 36 % lack a task, nearly always amount3 or event3. A loss is a mean over labels, so the "
            "one or two labels of amount3 in a batch weigh as much as twenty of amount1. Of the 300 labels of event3, "
            "17 are positive, and 83 % of batches have none of them: its loss then falls towards 0, and rules that "
            "divide by a loss, or take its logarithm, give it a weight that grows without bound. Labels are missing at "
            "random, which those of real assays are not. Each hidden quantity serves every task: no task has anything "
            "of its own to learn."
        ),
        regime=(
            "Sharing pays, and is out of balance by the number of labels. Equal weights against single-task networks, "
            "both at tuned rates, `quick`, seeds 1002-1007: Δ task +7.4 points (95 % interval +5.2 to +9.7). Chosen by "
            "single-task learning and equal weights alone. The tasks with fewest labels gain (amount3: 0.596 to 0.405 "
            "of a constant's RMSE; event3: an AUROC of 0.730 to 0.819), those with most lose a little"
        ),
    )

    def __init__(self, draw: int = 0) -> None:
        self.draw = require_draw(draw)

    def load(self) -> dict[str, dict[str, Tensor]]:
        """Draw the hidden structure, the examples, and which training labels are known."""
        generator = np.random.default_rng(self.draw)
        examples, training = sum(COUNTS.values()), COUNTS["train"]
        directions = _unit_columns(generator.normal(size=(FEATURES, LATENT)))
        mixtures = _unit_columns(generator.normal(size=(LATENT, len(AMOUNTS) + len(EVENTS))))
        x = generator.normal(size=(examples, FEATURES))
        scores = np.tanh(GAIN * x @ directions) @ mixtures
        scores = (scores - scores.mean(0)) / scores.std(0)
        columns = dict(zip((*AMOUNTS, *EVENTS), scores.T, strict=True))
        for name in AMOUNTS:
            columns[name][:training] += NOISE * generator.normal(size=training)
        for name, (_, share) in EVENTS.items():
            noisy = columns[name] + generator.logistic(size=examples) / SLOPE
            columns[name] = (noisy > np.quantile(noisy, 1 - share)).astype(float)
        for name, count in (AMOUNTS | {name: count for name, (count, _) in EVENTS.items()}).items():
            columns[name][generator.permutation(training)[count:]] = np.nan
        ends = np.cumsum([COUNTS[split] for split in SPLITS])[:-1]
        parts = {"x": np.split(x, ends), **{name: np.split(own[:, None], ends) for name, own in columns.items()}}
        return {
            split: {name: torch.from_numpy(own[i].astype(np.float32)) for name, own in parts.items()}
            for i, split in enumerate(SPLITS)
        }

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """The amounts, then the events; of each kind the one with most labels first."""
        train = self.splits["train"]
        amounts = (
            Task(name, name, labelled_squared_error, {"nrmse": normalized_rmse(train[name])}, labelled)
            for name in AMOUNTS
        )
        events = (
            Task(name, name, binary_cross_entropy, {"auroc": auroc()}, probabilities_and_labels) for name in EVENTS
        )
        return (*amounts, *events)

    def network(self, tasks: Sequence[str]) -> Network:
        """Return an MLP of two hidden layers of 64."""
        return MLP("x", (FEATURES, 64, 64), dict.fromkeys(tasks, 1))


def _unit_columns(matrix: np.ndarray) -> np.ndarray:
    """The matrix with each column at length 1."""
    scaled: np.ndarray = matrix / np.linalg.norm(matrix, axis=0)
    return scaled
