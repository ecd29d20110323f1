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


def gradients(losses, parameters):
    """The gradient of the sum of some losses, by the parameters' names."""
    names = dict(parameters)
    return dict(zip(names, torch.autograd.grad(sum(losses), list(names.values())), strict=True))


def give(parameters, found):
    for name, parameter in parameters:
        parameter.grad = found[name]


def everything(problem):
    return [*problem.shared, *(item for own in problem.private for item in own)]


class Whole(Method):
    """Equal weights, through the wide door."""

    def step(self, problem):
        sum(problem.losses(problem.batch())).backward()


class ThreeBatches(Method):
    """The mean over three batches, in one backward pass."""

    def step(self, problem):
        (sum(sum(problem.losses(problem.batch(i))) for i in range(3)) / 3).backward()


class Bilevel(Method):
    """The gradient on a second batch and on the validation split, after a virtual step on the first."""

    def step(self, problem):
        parameters = everything(problem)
        first = gradients(problem.losses(problem.batch()), parameters)
        virtual = {name: (p - problem.lr * first[name]).detach().requires_grad_() for name, p in parameters}
        losses = [*problem.losses(problem.batch(1), virtual), *problem.validation_losses(virtual)]
        give(parameters, gradients(losses, list(virtual.items())))


class OwnMoments(Method):
    """Heavy-ball momentum of its own on the shared parameters; heads by the optimiser."""

    def __init__(self, num_tasks: int, momentum: float = 0.9) -> None:
        super().__init__(num_tasks)
        self.momentum = momentum
        self.velocity = torch.zeros(())

    def step(self, problem):
        found = gradients(problem.losses(problem.batch()), everything(problem))
        give([item for own in problem.private for item in own], found)
        shared = torch.cat([found[name].flatten() for name, _ in problem.shared])
        self.velocity = self.momentum * self.velocity + shared
        problem.update(self.velocity)


class Peeking(Method):
    """Equal weights, but first it looks at everything that a problem offers, and leaves it as it was."""

    seen: list = []

    def step(self, problem):
        batches = [problem.batch(i) for i in (2, 1)]
        assert problem.batch(1) is batches[1]
        assert all(sum(problem.losses(batch)).isfinite() for batch in batches)
        assert sum(problem.validation_losses()).isfinite()
        self.seen.append(({i: problem.batch(i)["id"].tolist() for i in range(3)}, problem.lr))
        sum(problem.losses(problem.batch())).backward()
