"""Trains one run with Lightning Fabric: the loop that every method and every single-task baseline goes through.

A seed fixes initial weights, data order and dropout by named streams that do not know the method. A method's own
randomness is another stream. Evaluation, probes and second forward passes touch no stream and no running statistic.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric
from torch import Tensor

from bench.spec import STL, Cost, Point, Result, RunSpec, Score
from bench.training import probe
from bench.training.meters import Clock, Passes, peak_memory, reset_peak_memory
from bench.training.optimiser import build_optimiser, build_schedule
from bench.training.scoring import Scores, examples_at_once, finite, losses, score
from bench.training.streams import batch_order, build_network, make_repeatable, seed_global, stream
from bench.training.teachers import Teacher
from methods.core import gradients
from methods.core.base import DivergedError, DoesNotFitError, Method, is_finite
from methods.core.gradients import Reduce
from tasks.core.base import Outputs, Task, TaskSet

ON_DEVICE = 8
"""Training data is copied to a GPU before the first step if this many times its size is free there."""

State = dict[str, Tensor]
Rule = Callable[..., Method]
"""`(num_tasks=…, seed=…, teachers=…) -> Method`, where `teachers` is None or a module per task."""


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
    """Train a run and score it.

    Args:
        spec: what is asked.
        task_set: builds the task set. It is called in every process that trains.
        rule: builds the method, or None for single-task learning.
        teachers: states of the single-task networks that the method distils from, in the order of its tasks.
        accelerator: "cpu" or "cuda".
        devices: how many, within this run.
        checkpoint: where the run leaves its state every so many steps, and goes on from (on one device).

    Returns:
        The result, the cost, and the network's state if the run is a baseline. A run that diverges, or whose method
        does not fit its task set, is a result. Other failures are raised.
    """
    strategy = "auto" if devices == 1 else "ddp_spawn"
    fabric = Fabric(accelerator=accelerator, devices=devices, strategy=strategy, precision=spec.precision)  # type: ignore[arg-type]
    outcome: tuple[Result, Cost, State | None] = fabric.launch(_train, spec, task_set, rule, teachers, checkpoint)  # type: ignore[arg-type]  # it passes further arguments on
    return outcome


class Run:
    """One training in progress."""

    def __init__(
        self, fabric: Fabric, spec: RunSpec, task_set: TaskSet, rule: Rule | None, teachers: Sequence[State]
    ) -> None:
        self.fabric, self.spec, self.protocol, self.task_set = fabric, spec, spec.protocol, task_set
        self.tasks: list[Task] = [task_set.task(name) for name in spec.tasks]
        reset_peak_memory(fabric.device)
        self.network = build_network(spec, task_set).to(fabric.device)
        self.shared = [(name, p) for name, p in self.network.shared if p.requires_grad]
        networks = [
            Teacher(task_set.network((task,)), task, state).to(fabric.device)
            for task, state in zip(spec.tasks, teachers, strict=False)
        ]
        noise = stream(spec.seed, "method", spec.task_set, spec.method)
        self.method = rule and rule(num_tasks=len(self.tasks), seed=noise, teachers=networks or None).to(fabric.device)
        self.optimiser = build_optimiser(self.protocol, self.network.parameters())
        self.schedule = build_schedule(self.protocol, self.optimiser)
        self.dropout = stream(spec.seed, "dropout", spec.task_set)
        self.ranks = fabric.world_size
        self.reduce: Reduce | None = fabric.all_reduce if self.ranks > 1 else None  # type: ignore[assignment]
        self.at_once = examples_at_once(self.network, task_set, fabric.device, fabric.autocast)
        self.data = _at_hand(task_set.splits["train"], fabric.device)
        first = next(iter(self.data.values()))
        self.examples = len(first)
        self.order = batch_order(spec, self.examples).to(first.device)
        self.passes, self.clock = Passes(self.network, networks), Clock(fabric.device)
        self.steps = 0
        self.points: list[Point] = []
        # Kept as they come and averaged when asked for: no arithmetic between points.
        self.losses_since: dict[str, list[Tensor]] = {"point": [], "epoch": []}
        self.weights_since: list[Tensor] = []
        self.hears_steps = self.method is not None and self.method.overrides("after_step")
        self.hears_epochs = self.method is not None and self.method.overrides("after_epoch")
        self.network.train()

    def train(self, checkpoint: Checkpoint | None = None) -> None:
        """Take every step of the protocol, from where a checkpoint left off if there is one."""
        protocol = self.protocol
        if checkpoint is not None and (state := checkpoint.load()) is not None:
            self.load_state(state)
        order = self.order[:, self.fabric.global_rank :: self.ranks]
        points = {-(-protocol.steps * (i + 1) // protocol.points) for i in range(protocol.points)}
        self.clock.turn("training")
        for step in range(self.steps, protocol.steps):
            self.step(order[step], point=step + 1 in points)
            if checkpoint is not None and self.steps % checkpoint.every == 0 and self.steps < protocol.steps:
                with self.clock.of("checkpoint"):
                    checkpoint.save(self.state())
        self.clock.turn("training")

    def step(self, chosen: Tensor, *, point: bool = False) -> None:
        """Take one step on the `chosen` training examples; with `point`, probe it and write down what is known then."""
        batch = {name: column[chosen].to(self.fabric.device) for name, column in self.data.items()}
        outputs, losses = self.forward(batch)
        gramian = self._probe(losses) if point else None
        values = self._reduced(losses)
        weights = self._backward(losses, values, outputs, batch)
        ratio = self._update_ratio(gramian) if gramian is not None else None
        self.optimiser.step()
        self.schedule.step()
        self.losses_since["point"].append(values)
        if weights is not None:
            self.weights_since.append(weights)
        if self.method is not None and self.hears_steps:
            self.method.end_step(self._losses_now(batch))
        self.steps += 1
        if self.hears_epochs:
            self.losses_since["epoch"].append(values)
            if self.steps % self.protocol.steps_per_epoch == 0:
                self.end_epoch()
        if point:
            self._point(gramian, ratio)

    def forward(self, batch: Mapping[str, Tensor]) -> tuple[Outputs, list[Tensor]]:
        """Return the outputs on a batch as training sees them, and each task's mean loss in float32."""
        # Dropout takes no generator, so the global one is its alone, and the same at this step for every method.
        seed_global(self.dropout + self.steps, self.fabric.device)
        with self.fabric.autocast():
            outputs: Outputs = self.network({name: batch[name] for name in self.task_set.inputs})
        totals, counts = losses(self.tasks, outputs, batch)
        if self.reduce is not None:  # R · total / Σ count: the mean over ranks is the whole batch's loss
            counts = list((self.reduce(torch.stack(counts).float(), reduce_op="sum") / self.ranks).unbind())
        means = [total / count.clamp(min=1 / self.ranks) for total, count in zip(totals, counts, strict=True)]
        return outputs, means

    def end_epoch(self) -> None:
        """Tell the method of the steps since the last epoch."""
        assert self.method is not None
        since = self.losses_since["epoch"]
        # The validation losses are on the clock and in the counts: the rule asks for them.
        self.method.end_epoch(losses=torch.stack(since).mean(0).clone, validation=lambda: self._score("validation")[1])
        since.clear()

    def evaluate(self, split: str) -> Scores:
        """Return every metric on a whole split, by task, off the clock and the counts."""
        with self.clock.of("evaluation"), self.passes.paused():
            return self._score(split)[0]

    def state(self) -> dict[str, Any]:
        """Return all that later steps depend on. Batches and dropout follow from seed and step."""
        return {
            "steps": self.steps,
            "network": self.network.state_dict(),
            "optimizer": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "method": None if self.method is None else self.method.state_dict(),
            "losses_since": self.losses_since,
            "weights_since": self.weights_since,
            "points": [point.model_dump() for point in self.points],
            "passes": self.passes.counts,
            "seconds": self.clock.seconds,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        device = self.fabric.device
        self.steps = state["steps"]
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.method is not None:
            self.method.load_state_dict(state["method"])
        self.losses_since = {since: [v.to(device) for v in kept] for since, kept in state["losses_since"].items()}
        self.weights_since = [values.to(device) for values in state["weights_since"]]
        self.points = [Point(**point) for point in state["points"]]
        self.passes.counts = state["passes"]
        self.clock.seconds = state["seconds"]

    def result(self) -> Result:
        """Score the trained network on the test split."""
        test = self.evaluate("test")
        lost = [f"{task} {name}" for task, own in test.items() for name, value in own.items() if value is None]
        if lost:
            return self.failed("diverged", f"the test score of {lost[0]} is not finite")
        scores = {
            task.name: {
                name: Score(
                    value=test[task.name][name],
                    higher_is_better=metric.higher_is_better,
                    untrained=finite(metric.constant_score),
                )
                for name, metric in task.metrics.items()
            }
            for task in self.tasks
        }
        degenerate = self.method.degenerate if self.method is not None else 0
        return Result(status="ok", scores=scores, points=self.points, degenerate=degenerate)

    def failed(self, status: str, reason: str) -> Result:
        """Return what is left of a run that ended early."""
        return Result(status=status, reason=reason, points=self.points)  # type: ignore[arg-type]

    def cost(self) -> Cost:
        """Return what the run has taken so far."""
        seconds, steps = self.clock.seconds, self.steps
        return Cost(
            step_seconds=seconds["training"] / steps if steps else None,
            evaluation_seconds=seconds["evaluation"],
            probe_seconds=seconds["probe"],
            total_seconds=sum(seconds.values()),
            passes={what: count / steps for what, count in self.passes.counts.items()} if steps else {},
            peak_memory=peak_memory(self.fabric.device),
        )

    def _backward(
        self, losses: list[Tensor], values: Tensor, outputs: Outputs, batch: Mapping[str, Tensor]
    ) -> Tensor | None:
        """Leave this step's gradients in `.grad`; return the weights `[K]` that the method used, if it has any."""
        if self.method is None:
            if not is_finite(values):
                raise DivergedError("loss", 0, self.steps)
            self.optimiser.zero_grad()
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

    def _losses_now(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The same batch's losses `[K]` after the step, under the same dropout, leaving running statistics alone."""
        before = {name: buffer.clone() for name, buffer in self.network.named_buffers()}
        with torch.no_grad():
            _, losses = self.forward(batch)
            for name, buffer in self.network.named_buffers():
                buffer.copy_(before[name])
        return self._reduced(losses)

    def _reduced(self, losses: Sequence[Tensor]) -> Tensor:
        """The losses `[K]` over all ranks, detached."""
        values = torch.stack([loss.detach() for loss in losses])
        return values if self.reduce is None else self.reduce(values, reduce_op="mean")

    def _probe(self, losses: Sequence[Tensor]) -> Tensor | None:
        """The Gramian `[K, K]` of the task gradients, off the clock and the counts; None for a baseline."""
        if self.method is None:
            return None
        with self.clock.of("probe"), self.passes.paused():
            return probe.gradient_gramian(losses, [parameter for _, parameter in self.shared], self.reduce)

    def _update_ratio(self, gramian: Tensor) -> float | None:
        with self.clock.of("probe"):
            return probe.update_ratio([parameter for _, parameter in self.shared], gramian)

    def _point(self, gramian: Tensor | None, ratio: float | None) -> None:
        """Score the validation split and write down what is known after this step."""
        losses, weights = self.losses_since["point"], self.weights_since
        mean_weights = torch.stack(weights).mean(0) if weights else None
        means = torch.stack(losses).mean(0)
        validation = self.evaluate("validation")
        self.points.append(probe.point(self.steps, self.spec.tasks, means, mean_weights, gramian, ratio, validation))
        losses.clear()
        weights.clear()

    def _score(self, split: str) -> tuple[Scores, Tensor]:
        """Score a whole split, on every rank alike."""
        return score(
            self.network,
            self.task_set,
            self.tasks,
            split,
            at_once=self.at_once,
            device=self.fabric.device,
            autocast=self.fabric.autocast,
        )


def _at_hand(columns: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Return the columns where batches are taken from them: on the device, unless they take too much of its memory."""
    if device.type != "cuda":
        return columns
    free, _ = torch.cuda.mem_get_info(device)
    fits = ON_DEVICE * sum(column.nbytes for column in columns.values()) <= free
    return {name: column.to(device) for name, column in columns.items()} if fits else columns


def _train(
    fabric: Fabric,
    spec: RunSpec,
    task_set: Callable[[], TaskSet],
    rule: Rule | None,
    teachers: Sequence[State],
    checkpoint: Checkpoint | None,
) -> tuple[Result, Cost, State | None]:
    torch.set_num_threads(spec.protocol.threads)
    make_repeatable(fabric.device)
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
