"""A task set and rules by path, for tests of tuning."""

import os

import torch
from plugin_sets import Wobbly

from methods.core.base import Method
from tasks.core.protocol import Protocol


class Quarter(Method):
    """Equal weights divided by four: what a learning rate four times as large makes up for."""

    def weigh(self, losses):
        return torch.full_like(losses, 0.25)


class Gentle(Wobbly):
    """Its optimiser has no moments and no decay, so that a factor on the loss is one on the learning rate.

    With the variable PERMUTED the targets of its test split are in another order.
    """

    protocols = {
        "quick": Protocol(
            name="quick", steps=24, batch_size=8, lr=0.2, steps_per_epoch=8, points=3, optimizer="sgd", tuning=7
        )
    }

    def load(self):
        splits = super().load()
        if "PERMUTED" in os.environ:
            order = torch.randperm(len(splits["test"]["id"]), generator=torch.Generator().manual_seed(2))
            for target in ("size", "kind"):
                splits["test"][target] = splits["test"][target][order]
        return splits


class Moody(Method):
    """Equal weights, but it crashes while the variable MOODY is there: as for a reason of the machine."""

    def weigh(self, losses):
        if "MOODY" in os.environ:
            raise OSError("no space left on device")
        return torch.ones_like(losses)
