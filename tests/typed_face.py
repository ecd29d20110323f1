"""Code of an author, as mypy reads it in strict mode: `tox -e types` checks it, and a test runs it."""

from collections.abc import Iterator, Sequence
from functools import cached_property

import torch
from torch import Tensor, nn

import methods
from bench.check import Finding, check
from bench.evidence.delta import delta_mtl, mean_rank, per_seed
from bench.evidence.significance import holm, max_t, sign_flip_test, t_interval, verdict
from methods import DivergedError, DoesNotFitError, Method, UsageError
from tasks import Card, DataError, Metric, Network, Protocol, Task, TaskSet
from tasks.core.losses import squared_error
from tasks.core.metrics.regression import normalized_rmse
from tasks.networks.mlp import MLP

EXPECTED: tuple[type[Exception], ...] = (DataError, DivergedError, DoesNotFitError, UsageError)


class Halved(Method):
    """Weigh every loss by a half."""

    def __init__(self, num_tasks: int, share: float = 0.5) -> None:
        super().__init__(num_tasks)
        self.share = share

    def weigh(self, losses: Tensor) -> Tensor:
        """Return the weights `[K]`."""
        return self.share * torch.ones_like(losses)


class Lines(TaskSet):
    """Two lines."""

    inputs = ("x",)
    protocols = {"quick": Protocol(name="quick", steps=100, batch_size=8, lr=1e-2, steps_per_epoch=10)}
    card = Card(origin="drawn here", licence="MIT", preprocessing="none", traps="none known")

    def load(self) -> dict[str, dict[str, Tensor]]:
        """Return the columns of each split."""
        x = torch.linspace(-1, 1, 32)[:, None]
        return {split: {"x": x, "up": x, "down": -x} for split in ("train", "validation", "test")}

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """Return the tasks."""
        metrics: dict[str, Metric] = {"nrmse": normalized_rmse(self.splits["train"]["up"])}
        return tuple(Task(name, name, squared_error, metrics) for name in ("up", "down"))

    def network(self, tasks: Sequence[str]) -> Network:
        """Return a network for these tasks."""
        return MLP("x", (1, 4, 4), dict.fromkeys(tasks, 1))


def train(steps: int) -> tuple[Method, Tensor | None]:
    """Train a network in a loop of one's own; return the rule and its last weights."""
    trunk, heads = nn.Linear(1, 4), nn.ModuleList([nn.Linear(4, 1), nn.Linear(4, 1)])
    optimizer = torch.optim.SGD([*trunk.parameters(), *heads.parameters()], lr=0.1)
    method: Method = methods.create(Halved, num_tasks=2, share=0.25)
    weights: Tensor | None = None
    for _ in range(steps):
        features = trunk(torch.ones(3, 1))
        losses = [head(features).square().mean() for head in heads]
        weights = method.backward(losses, shared=trunk.parameters())
        optimizer.step()
    return method, weights


def failures(plugin: type[Method] | type[TaskSet]) -> Iterator[Finding]:
    """Yield what a plug-in fails at."""
    return (finding for finding in check(plugin) if finding.outcome == "fails")


def judge(values: Sequence[Sequence[float]], baseline: Sequence[Sequence[float]]) -> tuple[float, str]:
    """Return Δ, and the verdict of a method of one metric on single-task learning."""
    delta, _ = delta_mtl(values, baseline, [True], ["task"])
    gains = per_seed(values, baseline, [True], ["task"], "paired")
    low, high = t_interval(gains)
    assert low <= delta <= high
    p = float(holm(max_t(gains[:, None]))[0])
    assert p == float(sign_flip_test(gains))
    assert mean_rank([[1.0], [2.0]], [True]).tolist() == [2.0, 1.0]
    return delta, verdict(gains, p=p)
