"""A task set by path, for tests: a second to train all methods on, and it remembers what its network saw."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal

import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from tasks.core.base import Card, Metric, Network, Outputs, Task, TaskSet
from tasks.core.losses import cross_entropy, squared_error
from tasks.core.metrics.regression import normalized_rmse
from tasks.core.protocol import Protocol

EXAMPLES = {"train": 60, "validation": 40, "test": 50}
OUTPUTS = {"size": 1, "kind": 3}


@dataclass
class _Seen:
    """One forward pass."""

    examples: list[int]
    mask: Tensor
    """Which units dropout kept."""
    training: bool
    grad: bool


class _Net(Network):
    """Has dropout and batch normalisation; keeps its first weights and a note of every forward."""

    def __init__(self, tasks: Sequence[str], dropout: float, norm: bool, features: bool) -> None:
        super().__init__()
        first = nn.Linear(
            6,
            16,
            bias=False,
        )  # before a norm a bias has no gradient but noise, which Adam amplifies
        middle = nn.BatchNorm1d(16) if norm else nn.Identity()
        self.trunk = nn.ModuleDict({"first": first, "norm": middle, "second": nn.Linear(16, 8)})
        self.dropout = nn.Dropout(dropout)
        heads = {
            task: nn.Sequential(
                nn.Linear(8, 5),
                nn.Tanh(),
                nn.Linear(5, OUTPUTS[task]),
            )
            for task in tasks
        }
        self.heads = nn.ModuleDict(heads)
        self.features = features
        self.seen: list[_Seen] = []
        self.initial: dict[str, Tensor] = {}

    @property
    def shared(self) -> list[tuple[str, nn.Parameter]]:
        return list(self.trunk.named_parameters(prefix="trunk"))

    @property
    def last(self) -> nn.Parameter:
        return self.trunk["second"].weight

    def forward(self, inputs: Mapping[str, Tensor]) -> Outputs:
        if not self.seen:
            self.initial = {name: value.clone() for name, value in self.state_dict().items()}
        hidden = self.dropout(torch.tanh(self.trunk["norm"](self.trunk["first"](inputs["x"]))))
        self.seen.append(_Seen(inputs["id"].tolist(), hidden != 0, self.training, torch.is_grad_enabled()))
        features = torch.tanh(self.trunk["second"](hidden))
        predictions = {task: head(features) for task, head in self.heads.items()}
        return Outputs(
            predictions,
            features if self.features else None,
            dict.fromkeys(predictions, (hidden, features)),
        )


class Wobbly(TaskSet):
    """A regression, and a classification of which a quarter of the training examples has no label."""

    inputs = ("x", "id")
    protocols = {
        "epochs": Protocol(name="epochs", steps=24, batch_size=8, lr=0.01, steps_per_epoch=8, points=3),
    }
    card = Card("made up", "MIT", "none", "a toy")

    def __init__(
        self,
        dropout: float = 0.5,
        norm: bool = True,
        features: bool = True,
        poison: Literal["none", "train", "test", "inputs"] = "none",
    ) -> None:
        self.dropout, self.norm, self.features, self.poison = dropout, norm, features, poison
        self.built: list[_Net] = []

    def load(self) -> dict[str, dict[str, Tensor]]:
        """Draw the examples; `poison` puts what float32 cannot square into a split's `size`, or the training inputs."""
        generator = torch.Generator().manual_seed(1)
        direction = torch.randn(6, 2, generator=generator)
        splits = {}
        for split, count in EXAMPLES.items():
            x = torch.randn(count, 6, generator=generator)
            size, score = (x @ direction).split(1, dim=1)
            kind = (score[:, 0] > -1).long() + (score[:, 0] > 1)
            ids = torch.arange(count)
            if split == "train":
                kind = kind.where(ids % 4 != 0, -1)
            if split == self.poison:
                size[17] = 1e30
            if split == "train" and self.poison == "inputs":
                x[17] = 3e38
            splits[split] = {"x": x, "id": ids, "size": size, "kind": kind}
        return splits

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        accuracy = partial(MulticlassAccuracy, num_classes=3, average="micro", ignore_index=-1)
        size = self.splits["train"]["size"]
        return (
            Task("size", "size", squared_error, {"nrmse": normalized_rmse(size)}),
            Task(
                "kind",
                "kind",
                cross_entropy,
                {"accuracy": Metric(accuracy, higher_is_better=True, constant_score=0.4)},
            ),
        )

    def network(self, tasks: Sequence[str]) -> Network:
        self.built.append(_Net(tasks, self.dropout, self.norm, self.features))
        return self.built[-1]


class Shifted(Wobbly):
    """Its augmentation adds thousands to the examples' numbers, so that a network tells what was drawn."""

    def augment(self, batch, generator):
        drawn = torch.randint(1, 1000, batch["id"].shape, generator=generator)
        return {**batch, "id": batch["id"] + 1000 * drawn, "x": batch["x"] * (1 + drawn[:, None] / 1000)}
