"""Rules and task sets with one fault each, for the tests of `check`: each must be found by the check that is for it."""

import random
import time

import numpy as np
import torch
from torch import nn

from methods.core.base import DoesNotFitError, Method
from methods.core.search import Choice
from tasks.core.base import Card, Network, Outputs, Task, TaskSet
from tasks.core.losses import squared_error
from tasks.core.metrics.regression import normalized_rmse
from tasks.core.protocol import Protocol

# Rules -------------------------------------------------------------------------------------------------------


class Unbuilt(Method):
    def __init__(self, num_tasks: int) -> None:
        raise KeyError("no")

    def objective(self, losses):
        return losses.sum()


class Searching(Method):
    search = {"share": Choice(0.5, "half")}

    def __init__(self, num_tasks: int, share: float = 1.0) -> None:
        super().__init__(num_tasks)
        self.share = share

    def weigh(self, losses):
        return torch.full_like(losses, self.share)


class Climbing(Method):
    """Uphill."""

    def weigh(self, losses):
        return -torch.ones_like(losses)


class Twisting(Method):
    """With one task, not along its gradient."""

    def combine(self, jacobian):
        return jacobian.sum(0) + jacobian[0].roll(1)


class Overflowing(Method):
    """Fine for few tasks."""

    def weigh(self, losses):
        return losses.new_full([len(losses)], float("inf") if len(losses) > 30 else 1.0)


class Resting(Method):
    """Does nothing with many tasks."""

    def weigh(self, losses):
        return losses.new_full([len(losses)], 0.0 if len(losses) > 30 else 1.0)


class Dividing(Method):
    """By a gradient's length, which may be zero."""

    def weigh(self, gramian):
        return 1 / gramian.diagonal().sqrt()


class Rude(Method):
    def objective(self, losses):
        torch.rand(1)
        return losses.sum()


class RudeToNumpy(Method):
    def objective(self, losses):
        np.random.rand()  # noqa: NPY002
        return losses.sum()


class RudeToPython(Method):
    def objective(self, losses):
        random.random()
        return losses.sum()


class Whimsical(Method):
    """Draws, and seeds the generator again, so that only the update tells."""

    def weigh(self, losses):
        state = torch.get_rng_state()
        weights = 0.5 + torch.rand_like(losses)
        torch.set_rng_state(state)
        return weights


class Forgetful(Method):
    """Remembers in a plain attribute."""

    def __init__(self, num_tasks: int) -> None:
        super().__init__(num_tasks)
        self.sum = 0.0

    def weigh(self, losses):
        self.sum = self.sum + losses
        return 1 / self.sum


class StepTaker(Method):
    """A whole training rule that steps the network's optimiser itself."""

    def step(self, problem):
        sum(problem.losses(problem.batch())).backward()
        problem.optimizer.step()


class HeadForgetter(Method):
    """A whole training rule that leaves the heads without a gradient."""

    def step(self, problem):
        losses = problem.losses(problem.batch())
        torch.autograd.backward(sum(losses), inputs=[parameter for _, parameter in problem.shared])


class MomentForgetter(Method):
    """A whole training rule with moments of its own, which do not travel in its state."""

    def __init__(self, num_tasks: int) -> None:
        super().__init__(num_tasks)
        self.velocity = torch.zeros(())

    def step(self, problem):
        sum(problem.losses(problem.batch())).backward()
        self.velocity = 0.9 * self.velocity + torch.cat([p.grad.flatten() for _, p in problem.shared])
        problem.update(self.velocity)


class TwoLevels(Method):
    """Learns its weights on the validation split, after a virtual step of the whole network."""

    def __init__(self, num_tasks: int) -> None:
        super().__init__(num_tasks)
        self.logits = nn.Parameter(torch.zeros(num_tasks))
        self.optimizer = torch.optim.Adam([self.logits], lr=0.1)

    def step(self, problem):
        named = [*problem.shared, *(pair for own in problem.private for pair in own)]
        parameters = [parameter for _, parameter in named]
        losses, weights = torch.stack(problem.losses(problem.batch())), self.logits.softmax(0)
        found = torch.autograd.grad(weights @ losses, parameters, create_graph=True)
        virtual = {name: p - problem.lr * gradient for (name, p), gradient in zip(named, found, strict=True)}
        outer = torch.stack(problem.validation_losses(virtual)).sum()
        (self.logits.grad,) = torch.autograd.grad(outer, [self.logits], retain_graph=True)
        self.optimizer.step()
        torch.autograd.backward(weights.detach() @ losses, inputs=parameters)
        return weights.detach()


class Halves(Method):
    """Takes the two halves of the batch and one further batch, and moves the trunk itself."""

    def step(self, problem):
        batch = problem.batch()
        half = len(next(iter(batch.values()))) // 2
        parts = [{n: c[:half] for n, c in batch.items()}, {n: c[half:] for n, c in batch.items()}, problem.batch(1)]
        for part in parts:
            (sum(problem.losses(part)) / len(parts)).backward()
        problem.update(torch.cat([parameter.grad.flatten() for _, parameter in problem.shared]))


class Meddling(Method):
    """Takes the optimiser's step itself."""

    def backward(self, losses, *, shared, **more):
        named = list(shared)
        weights = super().backward(losses, shared=named, **more)
        with torch.no_grad():
            named[0][1].sub_(0.01 * named[0][1].grad)
        return weights

    def objective(self, losses):
        return losses.sum()


class Secretive(Method):
    """Keeps something of each task and does not name it."""

    def __init__(self, num_tasks: int) -> None:
        super().__init__(num_tasks)
        self.register_buffer("scale", torch.ones(num_tasks))

    def weigh(self, losses):
        return self.scale.to(losses)


class Rounding(Method):
    """Remembers nothing, and rounds differently from call to call."""

    def weigh(self, losses):
        return torch.ones_like(losses) * (1 + (id(object()) + time.perf_counter_ns()) % 3 * 1e-16 * 2)


class Boasting(Method):
    """Its weights depend on the tasks' order."""

    invariant = frozenset({"permutation"})

    def weigh(self, losses):
        return 1.0 + torch.arange(len(losses)).to(losses)


class Inflating(Method):
    """Says that scales do not matter, and sums the losses."""

    invariant = frozenset({"scale"})

    def weigh(self, losses):
        return torch.ones_like(losses)


class Quarrelling(Method):
    """Says that it conflicts with no task, and sums the losses."""

    nonconflicting = True

    def weigh(self, losses):
        return torch.ones_like(losses)


class Misnaming(Method):
    invariant = frozenset({"permutatoin"})

    def objective(self, losses):
        return losses.sum()


class Pair(Method):
    """Nothing is wrong with it, but it takes two tasks only."""

    def __init__(self, num_tasks: int) -> None:
        if num_tasks != 2:
            raise DoesNotFitError(f"Pair balances 2 tasks, not {num_tasks}")
        super().__init__(num_tasks)

    def objective(self, losses):
        return losses.sum()


class Leaving(Method):
    """Ends the process, as if all were well."""

    def objective(self, losses):
        raise SystemExit(0)


class Tiring(Method):
    """Raises in its 15th step."""

    def weigh(self, losses):
        if self.steps == 15:
            raise OverflowError("tired")
        return torch.ones_like(losses)


# Task sets ---------------------------------------------------------------------------------------------------


class _Net(Network):
    def __init__(self, tasks):
        super().__init__()
        self.trunk = nn.ModuleList([nn.Linear(4, 6), nn.Linear(6, 6)])
        self.heads = nn.ModuleDict({task: nn.Linear(6, 1) for task in tasks})

    def forward(self, inputs):
        first = torch.tanh(self.trunk[0](inputs["x"]))
        features = torch.tanh(self.trunk[1](first))
        predictions = {task: head(features) for task, head in self.heads.items()}
        return Outputs(predictions, features, dict.fromkeys(predictions, (first, features)))


class Good(TaskSet):
    """Nothing is wrong with it; the others change one thing."""

    inputs = ("x",)
    protocols = {"quick": Protocol(name="quick", steps=40, batch_size=8, lr=0.01, steps_per_epoch=4)}
    card = Card("made up", "MIT", "none", "a toy")
    net = _Net

    def load(self):
        generator = torch.Generator().manual_seed(1)
        direction = torch.randn(4, 2, generator=generator)
        splits = {}
        for split, count in (("train", 64), ("validation", 40), ("test", 40)):
            x = torch.randn(count, 4, generator=generator)
            one, two = (x @ direction).split(1, dim=1)
            splits[split] = {"x": x, "one": one, "two": two}
        return splits

    @property
    def tasks(self):
        train = self.splits["train"]
        return tuple(Task(n, n, squared_error, {"nrmse": normalized_rmse(train[n])}) for n in ("one", "two"))

    def network(self, tasks):
        return self.net(tasks)


class OneTestExample(Good):
    def load(self):
        splits = super().load()
        return splits | {"test": {name: column[:1] for name, column in splits["test"].items()}}


class Holed(Good):
    def load(self):
        splits = super().load()
        splits["test"]["x"][3, 2] = float("nan")
        return splits


class Shifting(Good):
    def load(self):
        splits = super().load()
        state = torch.get_rng_state()
        torch.seed()
        splits["train"]["x"] += torch.randn(64, 4)
        torch.set_rng_state(state)
        return splits


class RudeSet(Good):
    def load(self):
        torch.rand(1)
        return super().load()


class Undescribed(Good):
    card = Card("made up", " ", "none", "a toy")


class Unnamed(Good):
    protocols = {"quick": Protocol(name="quack", steps=40, batch_size=8, lr=0.01, steps_per_epoch=4)}


class Short(Good):
    protocols = {"quick": Protocol(name="quick", steps=40, batch_size=8, lr=0.01, steps_per_epoch=10)}


class Crowded(Good):
    """Predicts all tasks whatever it is asked for."""

    def network(self, tasks):
        return _Net(("one", "two"))


class _Tapless(_Net):
    def forward(self, inputs):
        return super().forward(inputs)._replace(taps={})


class Tapless(Good):
    net = _Tapless


class _AllShared(_Net):
    @property
    def shared(self):
        return list(self.named_parameters())


class AllShared(Good):
    net = _AllShared


class _LastElsewhere(_Net):
    @property
    def last(self):
        return next(iter(self.heads.values())).weight


class LastElsewhere(Good):
    net = _LastElsewhere


class _ByNumber(_Net):
    """Heads called after their place: another head in another network."""

    def __init__(self, tasks):
        super().__init__(tasks)
        self.own = tuple(tasks)
        self.heads = nn.ModuleDict({str(i): nn.Linear(6, 1) for i in range(len(tasks))})
        self.bias = nn.Linear(1, 1)
        self.bias.reset_parameters = lambda: nn.init.constant_(self.bias.weight, len(tasks))

    def private(self, task):
        return list(self.heads[str(self.own.index(task))].parameters())

    def forward(self, inputs):
        found = super().forward(inputs)
        renamed = dict(zip(self.own, found.predictions.values(), strict=True))
        return Outputs(renamed, found.features, dict.fromkeys(renamed, (found.features,)))


class Renaming(Good):
    net = _ByNumber


class Averaging(Good):
    """A loss that is a mean, whose parts do not add up."""

    @property
    def tasks(self):
        def mean(prediction, target):
            return (prediction - target).square().mean(), torch.tensor(1.0)

        return tuple(Task(task.name, task.target, mean, task.metrics) for task in super().tasks)


class _Deaf(_Net):
    def forward(self, inputs):
        found = super().forward(inputs)
        return found._replace(predictions={task: value.detach() + 0 * self.heads[task].bias for task, value in
                                           found.predictions.items()})  # fmt: skip


class Deaf(Good):
    net = _Deaf


class _PastTheFeatures(_Net):
    def forward(self, inputs):
        found = super().forward(inputs)
        first = found.taps[next(iter(found.taps))][0]
        return found._replace(predictions={task: value + first[:, :1] for task, value in found.predictions.items()})


class PastTheFeatures(Good):
    net = _PastTheFeatures


class _Neighbours(_Net):
    def forward(self, inputs):
        x = inputs["x"]
        return super().forward({"x": x - x.mean(0)})


class Neighbours(Good):
    net = _Neighbours


class Unscored(Good):
    """One target is the same for every test example, and so is the mean of the training targets."""

    def load(self):
        splits = super().load()
        splits["train"]["one"][:] = splits["test"]["one"][:] = 1.0
        return splits


class _Overlapping(_Net):
    def private(self, task):
        return [*super().private(task), self.last]


class Overlapping(Good):
    net = _Overlapping


class _FirstLayerFrozen(_Net):
    def __init__(self, tasks):
        super().__init__(tasks)
        self.trunk[0].requires_grad_(False)
        next(iter(self.heads.values())).bias.requires_grad_(False)


class FirstLayerFrozen(Good):
    """Nothing is wrong with it: a part of its trunk was trained before."""

    net = _FirstLayerFrozen


class _AllFrozen(_Net):
    def __init__(self, tasks):
        super().__init__(tasks)
        self.trunk.requires_grad_(False)


class AllFrozen(Good):
    net = _AllFrozen


class RarelyLabelled(Good):
    """Nothing is wrong with it: the first examples have no label, and the loss counts in plain numbers."""

    def load(self):
        splits = super().load()
        for columns in splits.values():
            columns["one"][:-3] = float("nan")
        return splits

    @property
    def tasks(self):
        def labelled(prediction, target):
            there = ~target[:, 0].isnan()
            return prediction[there], target[there]

        def loss(prediction, target):
            prediction, target = labelled(prediction, target)
            return squared_error(prediction, target)[0], len(target)

        nrmse = normalized_rmse(self.splits["train"]["one"][-3:])
        return (Task("one", "one", loss, {"nrmse": nrmse}, labelled), super().tasks[1])


class Unlabelled(RarelyLabelled):
    def load(self):
        splits = super().load()
        splits["validation"]["one"][:] = float("nan")
        return splits


class Flat(Good):
    """Targets without the axis that predictions have."""

    def load(self):
        return {split: own | {"one": own["one"][:, 0]} for split, own in super().load().items()}


class FlatForTorch(Flat):
    """The same, with a loss of torch's, which only warns."""

    @property
    def tasks(self):
        def loss(prediction, target):
            return nn.functional.l1_loss(prediction, target, reduction="sum"), len(target)

        return tuple(Task(task.name, task.target, loss, task.metrics) for task in super().tasks)


class Undeclared(Good):
    """A function in the place of a metric."""

    @property
    def tasks(self):
        return (Task("one", "one", squared_error, {"nrmse": normalized_rmse}),)


class Miscalling(Good):
    @property
    def tasks(self):
        return (Task("one", "one", squared_error, {"nrmse": normalized_rmse()}),)


class NotConstructed(Good):
    def __init__(self):
        self.names = ("one", "two")[2]


class Quitting(Good):
    def network(self, tasks):
        raise SystemExit(0)


class Unattended(Good):
    """A network that cannot be given initial weights."""

    def network(self, tasks):
        network = _Net(tasks)
        network.trunk.append(nn.MultiheadAttention(6, 1))
        return network


class Slow(Good):
    def load(self):
        print("loading", flush=True)
        for _ in range(600):
            time.sleep(0.1)
        return super().load()


class Exploding(Good):
    protocols = {"quick": Protocol(name="quick", steps=40, batch_size=8, lr=1e30, steps_per_epoch=4)}
