"""Trains one run with Lightning Fabric: the loop that every method and every single-task baseline goes through.

A seed fixes initial weights, data order and dropout by named streams that do not know the method; a method's own
randomness is another stream. Evaluation, probes and second forward passes touch no stream and no running statistic.
"""

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from bench.records import STL, Cost, Point, Result, RunSpec, Score
from methods.core import gradients
from methods.core.base import DivergedError, DoesNotFitError, Method, is_finite
from methods.core.gradients import Reduce
from tasks.core.base import Network, Outputs, Task, TaskSet

EVALUATION_BATCH = 1024
PARTS = ("training", "probe", "evaluation", "checkpoint")
"""Of a run's time."""

State = dict[str, Tensor]
Rule = Callable[..., Method]
"""Builds a rule: `(num_tasks=…, seed=…, teachers=…) -> Method`."""


class Checkpoint(Protocol):
    """Where a run keeps its state (`bench.checkpoint`)."""

    @property
    def every(self) -> int:
        """After how many steps it is kept."""

    def load(self) -> dict[str, Any] | None:
        """Return what was kept, if anything was."""

    def save(self, state: dict[str, Any]) -> None:
        """Keep a state."""


def train(
    spec: RunSpec,
    task_set: Callable[[], TaskSet],
    rule: Rule | None,
    teachers: Sequence[State] = (),
    *,
    accelerator: str = "cpu",
    devices: int = 1,
    checkpoint: Checkpoint | None = None,
) -> tuple[Result, Cost, State | None]:
    """Train a run and score it. Returns its result, its cost, and the network's state if it is a baseline's.

    `teachers` are the states of the single-task networks that its method distils from, in the order of its tasks.
    With a `checkpoint` the run goes on from there, and leaves one every so many steps (on one device).

    A run that diverges, or whose method does not fit its task set, is a result. Other failures are raised.
    """
    strategy = "auto" if devices == 1 else "ddp_spawn"
    fabric = Fabric(accelerator=accelerator, devices=devices, strategy=strategy, precision=spec.precision)  # type: ignore[arg-type]
    outcome: tuple[Result, Cost, State | None] = fabric.launch(_train, spec, task_set, rule, teachers, checkpoint)  # type: ignore[arg-type]  # it passes further arguments on
    return outcome


def stream(seed: int, *names: str) -> int:
    """Return the seed of a named stream of random numbers: 63 bits of a sha256."""
    text = "\0".join([str(seed), *names])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def build_network(spec: RunSpec, tasks: TaskSet) -> Network:
    """Build the network of a run. Initial weights are drawn per parameter name: whatever the method, whatever the
    other heads, a parameter of one name starts alike."""
    network = tasks.network(spec.tasks)
    for name, module in network.named_modules():
        if next(module.parameters(recurse=False), None) is None:
            continue
        if not hasattr(module, "reset_parameters"):
            raise TypeError(f"{type(module).__name__} ({name}) has parameters but no reset_parameters()")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream(spec.seed, "init", spec.task_set, name))
            module.reset_parameters()
    return network


def seed_global(seed: int, device: torch.device) -> None:
    """Seed the generators that dropout on this device draws from.

    `torch.manual_seed` seeds every backend there might be, each with a stack trace: a sixth of a small step.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def batch_order(spec: RunSpec, examples: int) -> Tensor:
    """Return the examples of every batch `[steps, batch_size]`: shuffled passes over the data, end to end."""
    wanted = spec.protocol.steps * spec.protocol.batch_size
    generator = torch.Generator().manual_seed(stream(spec.seed, "order", spec.task_set))
    passes = [torch.randperm(examples, generator=generator) for _ in range(-(-wanted // examples))]
    return torch.cat(passes)[:wanted].view(spec.protocol.steps, spec.protocol.batch_size)


@dataclass
class _Clock:
    """Seconds spent in the parts of a run; one part at a time."""

    fabric: Fabric
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    part: str = "training"
    since: float = field(default_factory=time.perf_counter)

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        """Charge what is done inside to `part`."""
        before = self.part
        self.turn(part)
        yield
        self.turn(before)

    def turn(self, part: str) -> None:
        """End the current part and begin another."""
        if self.fabric.device.type == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.seconds[self.part] += now - self.since
        self.part, self.since = part, now


class _Passes:
    """Counts passes from outside, by hooks, whatever a method does."""

    def __init__(self, network: Network, teachers: Sequence[nn.Module]) -> None:
        self.counts = {"forward": 0, "heads": 0, "trunk": 0, "teacher": 0}
        self.counting = True
        self.last_backward = -1
        network.register_forward_hook(self._forward)
        # The gradient of the first shared parameter takes a backward through the whole trunk.
        network.shared[0][1].register_hook(lambda _: self._count("trunk"))

        for teacher in teachers:
            teacher.register_forward_hook(lambda *_: self._count("teacher"))

    def _forward(self, network: nn.Module, inputs: object, outputs: Outputs) -> None:
        self._count("forward")
        for prediction in outputs.predictions.values():
            if prediction.requires_grad:
                prediction.register_hook(self._through_a_head)

    def _through_a_head(self, gradient: Tensor) -> None:
        # One backward may come through several heads.
        this = torch._C._current_graph_task_id()
        if this != self.last_backward:
            self._count("heads")
        self.last_backward = this

    def _count(self, what: str) -> None:
        self.counts[what] += self.counting


class _Teacher(nn.Module):
    """A trained single-task network, as distillation reads it: inputs to taps."""

    def __init__(self, network: Network, task: str, state: State) -> None:
        super().__init__()
        network.load_state_dict(state)
        self.network, self.task = network, task

    def forward(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        taps: dict[str, tuple[Tensor, ...]] = self.network(inputs).taps
        return taps[self.task]


class Run:
    """One training in progress."""

    def __init__(
        self, fabric: Fabric, spec: RunSpec, task_set: TaskSet, rule: Rule | None, teachers: Sequence[State]
    ) -> None:
        self.fabric, self.spec, self.protocol = fabric, spec, spec.protocol
        self.task_set = task_set
        self.tasks: list[Task] = [self.task_set.task(name) for name in spec.tasks]
        self.network: Network = build_network(spec, self.task_set).to(fabric.device)
        self.shared = self.network.shared
        self.dropout = stream(spec.seed, "dropout", spec.task_set)
        self.method: Method | None = None
        networks: list[_Teacher] = []
        if rule is not None:
            noise = stream(spec.seed, "method", spec.task_set, spec.method)
            networks = [
                _Teacher(self.task_set.network((task,)), task, state).to(fabric.device)
                for task, state in zip(spec.tasks, teachers, strict=False)
            ]
            self.method = rule(num_tasks=len(self.tasks), seed=noise, teachers=networks or None).to(fabric.device)
        self.optimizer = torch.optim.Adam(
            self.network.parameters(), lr=self.protocol.lr, weight_decay=self.protocol.weight_decay, fused=True
        )
        self.schedule = (
            torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, self.protocol.steps)
            if self.protocol.schedule == "cosine"
            else torch.optim.lr_scheduler.ConstantLR(self.optimizer, factor=1.0)
        )
        self.ranks = fabric.world_size
        self.reduce: Reduce | None = fabric.all_reduce if self.ranks > 1 else None  # type: ignore[assignment]
        self.passes = _Passes(self.network, networks)
        self.clock = _Clock(fabric)
        self.points: list[Point] = []
        self.steps = 0
        self.train_split = self.task_set.splits["train"]
        self.examples = len(next(iter(self.train_split.values())))
        # Kept as they come and averaged when asked for: no arithmetic between points.
        self.since_point: list[Tensor] = []
        self.since_epoch: list[Tensor] = []
        self.weights_since: list[Tensor] = []
        self.hears_steps = self.method is not None and self.method.overrides("after_step")
        self.hears_epochs = self.method is not None and self.method.overrides("after_epoch")
        self.network.train()

    def train(self, checkpoint: Checkpoint | None = None) -> None:
        """Take every step of the protocol, from where a checkpoint left off if there is one."""
        protocol = self.protocol
        if checkpoint is not None and (state := checkpoint.load()) is not None:
            self.load_state(state)
        order = batch_order(self.spec, self.examples)[:, self.fabric.global_rank :: self.ranks]
        ends = {-(-protocol.steps * (i + 1) // protocol.points) for i in range(protocol.points)}
        self.clock.turn("training")
        for step in range(self.steps, protocol.steps):
            self.step(order[step], point=step + 1 in ends)
            if checkpoint is not None and self.steps % checkpoint.every == 0 and self.steps < protocol.steps:
                with self.clock.of("checkpoint"):
                    checkpoint.save(self.state())
        self.clock.turn("training")

    def step(self, chosen: Tensor, *, point: bool = False) -> None:
        """Take one step on the `chosen` training examples; with `point`, probe it and write down what is known then."""
        method, step = self.method, self.steps
        batch = {name: column[chosen].to(self.fabric.device) for name, column in self.train_split.items()}
        outputs, losses = self._forward(batch, step)
        probe = self._probe(losses) if point else None
        values = torch.stack([loss.detach() for loss in losses])
        if self.reduce is not None:
            values = self.reduce(values, reduce_op="mean")
        weights = self._backward(losses, outputs, batch, values, step)
        ratio = self._update_ratio(probe) if probe is not None else None
        self.optimizer.step()
        self.schedule.step()
        self.steps += 1
        self.since_point.append(values)
        if weights is not None:
            self.weights_since.append(weights)
        if method is not None and self.hears_steps:
            method.end_step(self._losses_now(batch, step))
        if method is not None and self.hears_epochs:
            self.since_epoch.append(values)
            if self.steps % self.protocol.steps_per_epoch == 0:
                self.end_epoch()
        if point:
            mean_weights = torch.stack(self.weights_since).mean(0) if self.weights_since else None
            self._point(torch.stack(self.since_point).mean(0), mean_weights, probe, ratio)
            self.since_point.clear()
            self.weights_since.clear()

    def end_epoch(self) -> None:
        """Tell the method of the steps since the last epoch."""
        assert self.method is not None
        epoch = torch.stack(self.since_epoch).mean(0)
        self.method.end_epoch(losses=epoch.clone, validation=self._validation_losses)
        self.since_epoch.clear()

    def state(self) -> dict[str, Any]:
        """All that later steps depend on; batches and dropout follow from seed and step."""
        return {
            "steps": self.steps,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "method": None if self.method is None else self.method.state_dict(),
            "since_point": self.since_point,
            "since_epoch": self.since_epoch,
            "weights_since": self.weights_since,
            "points": [point.model_dump() for point in self.points],
            "passes": self.passes.counts,
            "seconds": self.clock.seconds,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        self.steps = state["steps"]
        for part in ("network", "optimizer", "schedule"):
            getattr(self, part).load_state_dict(state[part])
        if self.method is not None:
            self.method.load_state_dict(state["method"])
        for kept in ("since_point", "since_epoch", "weights_since"):
            setattr(self, kept, [values.to(self.fabric.device) for values in state[kept]])
        self.points = [Point(**point) for point in state["points"]]
        self.passes.counts = state["passes"]
        self.clock.seconds = state["seconds"]

    def _forward(self, batch: Mapping[str, Tensor], step: int) -> tuple[Outputs, list[Tensor]]:
        """One training forward: outputs, and each task's mean loss, in float32."""
        # Dropout takes no generator, so the global one is its alone, and the same at this step for every method.
        seed_global(self.dropout + step, self.fabric.device)
        with self.fabric.autocast():
            outputs: Outputs = self.network({name: batch[name] for name in self.task_set.inputs})
        totals, counts = self._totals(outputs, batch)
        if self.reduce is not None:  # R · total / Σ count: the mean over ranks is the whole batch's loss
            counts = list((self.reduce(torch.stack(counts).float(), reduce_op="sum") / self.ranks).unbind())
        losses = [total / count.clamp(min=1 / self.ranks) for total, count in zip(totals, counts, strict=True)]
        return outputs, losses

    def _totals(self, outputs: Outputs, batch: Mapping[str, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        pairs = [task.loss(outputs.predictions[task.name].float(), batch[task.target]) for task in self.tasks]
        return [total for total, _ in pairs], [count for _, count in pairs]

    def _backward(
        self, losses: list[Tensor], outputs: Outputs, batch: Mapping[str, Tensor], values: Tensor, step: int
    ) -> Tensor | None:
        if self.method is None:
            if not is_finite(values):
                raise DivergedError("loss", 0, step)
            self.optimizer.zero_grad()
            losses[0].backward()
            gradients.average(list(self.network.parameters()), self.reduce)
            return None
        return self.method.backward(
            losses,
            shared=self.shared,
            features=outputs.features,
            last=self.network.last,
            inputs={name: batch[name] for name in self.task_set.inputs},
            taps=[outputs.taps[task.name] for task in self.tasks] if outputs.taps else None,
            reduce=self.reduce,
        )

    def _losses_now(self, batch: Mapping[str, Tensor], step: int) -> Tensor:
        """The same batch's losses `[K]` after the step, under the same dropout, leaving running statistics alone."""
        before = {name: buffer.clone() for name, buffer in self.network.named_buffers()}
        with torch.no_grad():
            _, losses = self._forward(batch, step)
            for name, buffer in self.network.named_buffers():
                buffer.copy_(before[name])
        values = torch.stack(losses)
        return values if self.reduce is None else self.reduce(values, reduce_op="mean")

    def _probe(self, losses: Sequence[Tensor]) -> Tensor | None:
        """The Gramian `[K, K]` of the task gradients at the shared parameters, off the clock and the counts."""
        if self.method is None:
            return None
        self.passes.counting = False
        with self.clock.of("probe"):
            matrix, _ = gradients.rows(losses, [parameter for _, parameter in self.shared], keep_graph=True)
            if self.reduce is not None:
                matrix = self.reduce(matrix, reduce_op="mean")
            gramian = gradients.gramian(matrix)
        self.passes.counting = True
        return gramian

    def _update_ratio(self, gramian: Tensor) -> float | None:
        with self.clock.of("probe"):
            update = torch.cat([p.grad.reshape(-1) for _, p in self.shared if p.grad is not None])
            ratio = torch.linalg.vector_norm(update).double().cpu() / gramian.sum().sqrt()
        return _number(ratio)

    def _point(self, losses: Tensor, weights: Tensor | None, gramian: Tensor | None, ratio: float | None) -> None:
        scores, _ = self.evaluate("validation")
        names = self.spec.tasks
        norms = cosines = None
        if gramian is not None:
            length = gramian.diagonal().sqrt()
            norms = dict(zip(names, map(_number, length), strict=True))
            cosines = [[_number(value) for value in row] for row in gramian / length.outer(length)]
        self.points.append(
            Point(
                step=self.steps,
                losses=dict(zip(names, map(_number, losses), strict=True)),
                validation=scores,
                weights=None if weights is None else dict(zip(names, map(_number, weights), strict=True)),
                gradient_norms=norms,
                cosines=cosines,
                update_ratio=ratio,
            )
        )

    def evaluate(self, split: str) -> tuple[dict[str, dict[str, float | None]], Tensor]:
        """Return every metric on the whole split, by task, and the mean losses `[K]`, off the clock and the counts."""
        self.passes.counting = False
        with self.clock.of("evaluation"):
            found = self._score(split)
        self.passes.counting = True
        return found

    def _score(self, split: str) -> tuple[dict[str, dict[str, float | None]], Tensor]:
        """Score the whole split, on every rank alike."""
        columns = self.task_set.splits[split]
        metrics = {t.name: {n: m.factory().to(self.fabric.device) for n, m in t.metrics.items()} for t in self.tasks}
        total = count = torch.zeros(len(self.tasks), device=self.fabric.device)
        self.network.eval()
        with torch.no_grad():
            for start in range(0, len(next(iter(columns.values()))), EVALUATION_BATCH):
                chunk = {name: column[start : start + EVALUATION_BATCH] for name, column in columns.items()}
                batch = {name: column.to(self.fabric.device) for name, column in chunk.items()}
                with self.fabric.autocast():
                    outputs = self.network({name: batch[name] for name in self.task_set.inputs})
                totals, counts = self._totals(outputs, batch)
                total, count = total + torch.stack(totals), count + torch.stack(counts)
                for task in self.tasks:
                    elements = task.metric_inputs(outputs.predictions[task.name].float(), batch[task.target])
                    for metric in metrics[task.name].values():
                        metric.update(*elements)
            scores = {
                task: {name: _number(metric.compute()) for name, metric in own.items()} for task, own in metrics.items()
            }
        self.network.train()
        return scores, total / count.clamp(min=1)

    def _validation_losses(self) -> Tensor:
        """The mean validation losses `[K]`, for a rule that asks for them: on the clock and in the counts."""
        return self._score("validation")[1]

    def result(self) -> Result:
        """Score the trained network on the test split."""
        test, _ = self.evaluate("test")
        scores = {
            task.name: {
                name: Score(
                    value=test[task.name][name],
                    higher_is_better=m.higher_is_better,
                    untrained=_finite(m.constant_score),
                )
                for name, m in task.metrics.items()
            }
            for task in self.tasks
        }
        lost = [f"{task} {name}" for task, own in test.items() for name, value in own.items() if value is None]
        if lost:
            return self.failed("diverged", f"the test score of {lost[0]} is not finite")
        degenerate = self.method.degenerate if self.method is not None else 0
        return Result(status="ok", scores=scores, points=self.points, degenerate=degenerate)

    def failed(self, status: str, reason: str) -> Result:
        """What is left of a run that ended early."""
        return Result(status=status, reason=reason, points=self.points)  # type: ignore[arg-type]

    def cost(self) -> Cost:
        """What the run has taken so far."""
        seconds, steps = self.clock.seconds, self.steps
        cuda = self.fabric.device.type == "cuda"
        return Cost(
            step_seconds=seconds["training"] / steps if steps else None,
            evaluation_seconds=seconds["evaluation"],
            probe_seconds=seconds["probe"],
            total_seconds=sum(seconds.values()),
            passes={what: count / steps for what, count in self.passes.counts.items()} if steps else {},
            peak_memory=torch.cuda.max_memory_allocated() if cuda else None,
        )


def _train(
    fabric: Fabric,
    spec: RunSpec,
    task_set: Callable[[], TaskSet],
    rule: Rule | None,
    teachers: Sequence[State],
    checkpoint: Checkpoint | None,
) -> tuple[Result, Cost, State | None]:
    torch.set_num_threads(spec.protocol.threads)
    torch.backends.cudnn.deterministic = True
    try:
        run = Run(fabric, spec, task_set(), rule, teachers)
    except DoesNotFitError as problem:
        return Result(status="skipped", reason=str(problem)), Cost(), None
    try:
        run.train(checkpoint)
        result = run.result()
    except DivergedError as problem:
        what = f"the {problem.what} of task {spec.tasks[problem.task]} is not finite at step {problem.step}"
        result = run.failed("diverged", what)
    except DoesNotFitError as problem:
        result = run.failed("skipped", str(problem))
    state = {name: value.cpu().contiguous() for name, value in run.network.state_dict().items()}
    return result, run.cost(), state if spec.method == STL and result.status == "ok" else None


def _number(value: Tensor) -> float | None:
    return _finite(value.item())


def _finite(number: float) -> float | None:
    """The number, or None for what is none: JSON knows neither NaN nor infinity."""
    return number if math.isfinite(number) else None
