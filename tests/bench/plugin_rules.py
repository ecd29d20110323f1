"""Balancing rules by path, for tests: most weigh all tasks alike, and so must train what `equal` trains."""

import torch

from methods.core.base import DoesNotFitError, Method


class Noisy(Method):
    """Weights drawn from the rule's own generator."""

    def weigh(self, losses):
        return 0.5 + torch.rand(self.num_tasks, generator=self.generator)


class Rude(Method):
    """Equal weights, but it draws from the global generator, which is not its own."""

    def objective(self, losses):
        torch.rand(3)
        return losses.sum()


class AfterStep(Method):
    """Equal weights, and a second forward pass after every step."""

    heard: list = []

    def objective(self, losses):
        return losses.sum()

    def after_step(self, losses):
        self.heard.append(losses.clone())


class Validating(Method):
    """Equal weights, and an evaluation after every epoch."""

    heard: list = []

    def objective(self, losses):
        return losses.sum()

    def after_epoch(self, losses, validation):
        self.heard.append((losses.clone(), validation.clone()))


class Inflating(Method):
    """At its third step a weight that no network survives."""

    def weigh(self, losses):
        return torch.full_like(losses, float("inf") if self.steps == 2 else 1.0)


class Raising(Method):
    """A bug in somebody's rule."""

    def weigh(self, losses):
        raise KeyError("no such thing\nand a second line")


class Hungry(Method):
    """Takes more memory than there is."""

    def weigh(self, losses):
        raise MemoryError("cannot allocate 3 TB")


class Pair(Method):
    """A rule for two tasks only."""

    def __init__(self, num_tasks: int) -> None:
        if num_tasks != 2:
            raise DoesNotFitError(f"Pair balances 2 tasks, not {num_tasks}")
        super().__init__(num_tasks)

    def objective(self, losses):
        return losses.sum()


class Stated(Method):
    """A rule with an option that must be given."""

    def __init__(self, num_tasks: int, strength: float) -> None:
        super().__init__(num_tasks)
        self.strength = strength

    def objective(self, losses):
        return self.strength * losses.sum()
