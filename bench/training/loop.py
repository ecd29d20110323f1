"""Trains one run with Lightning Fabric: the loop that every method and every single-task baseline goes through.

A seed fixes initial weights, data order, dropout and augmentation by named streams that do not know the method. A
method's own randomness is another stream. Evaluation, probes and second forward passes touch no stream and no running
statistic.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric
from torch import Tensor

from bench.spec import STL, Cost, Point, Result, RunSpec, Score
from bench.training import probe
from bench.training.fabric import Outcome, launch
from bench.training.meters import Clock, MeanWeights, Passes, peak_memory, reset_peak_memory
from bench.training.model import Batch, Model
from bench.training.optimiser import build_optimiser, build_schedule
from bench.training.problem import StepProblem
from bench.training.scoring import Scores, finite, mean
from bench.training.streams import dropout_seed, make_repeatable, seed_global, stream
from bench.training.teachers import Teacher
from methods.core import gradients
from methods.core.base import DivergedError, DoesNotFitError, Method
from tasks.core.base import TaskSet

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
) -> Outcome:
    """Train a run and score it.

    Args:
        spec: what is to be trained.
        task_set: a function that builds the task set. It is called in every process that trains.
        rule: builds the method, or None for single-task learning.
        teachers: states of the single-task networks that the method distils from, in the order of its tasks.
        accelerator: "cpu" or "cuda".
        devices: how many, within this run.
        checkpoint: where the run keeps its state every so many steps, to continue from there (on one device only).

    Returns:
        The result, the cost, and the network's state if the run is a baseline. A run that diverges has a result, too,
        and so has one whose method does not fit the task set. Other failures are raised.
    """
    built = spec, task_set, rule, teachers, checkpoint
    return launch(_train, *built, accelerator=accelerator, precision=spec.precision, devices=devices)


class Run:
    """One training in progress."""

    def __init__(
        self, fabric: Fabric, spec: RunSpec, task_set: TaskSet, rule: Rule | None, teachers: Sequence[State]
    ) -> None:
        self.spec, self.protocol = spec, spec.protocol
        reset_peak_memory(fabric.device)
        self.model = Model(fabric, spec, task_set)
        networks = [
            Teacher(task_set.network((task,)), task, state).to(fabric.device)
            for task, state in zip(spec.tasks, teachers, strict=False)
        ]
        noise = stream(spec.seed, "method", spec.task_set, spec.method)
        # A method moves to the device of the losses by itself. One that reads Gramians stays on the CPU, as they do.
        self.method = rule and rule(num_tasks=len(spec.tasks), seed=noise, teachers=networks or None)
        self.optimiser = build_optimiser(self.protocol, self.model.network.parameters())
        self.schedule = build_schedule(self.protocol, self.optimiser)
        self.passes, self.clock = Passes(self.model.network, networks), Clock(fabric.device)
        self.steps = 0
        self.points: list[Point] = []
        self.tested: list[Scores] = []
        """The test scores at the ends of epochs that the reported mean takes in, before the last step."""
        # The tensors are kept and averaged only when they are needed: no arithmetic between points.
        self.losses_since: dict[str, list[Tensor]] = {"point": [], "epoch": []}
        self.weights_since: list[Tensor] = []
        self.weights = MeanWeights()
        self.hears_steps = self.method is not None and self.method.overrides("after_step")
        self.hears_epochs = self.method is not None and self.method.overrides("after_epoch")

    def train(self, checkpoint: Checkpoint | None = None) -> None:
        """Take every step of the protocol, from where a checkpoint left off if there is one."""
        protocol = self.protocol
        if checkpoint is not None and (state := checkpoint.load()) is not None:
            self.load_state(state)
        order = self.model.order(self.spec, "train")
        points = {-(-protocol.steps * (i + 1) // protocol.points) for i in range(protocol.points)}
        tested = {protocol.steps - i * protocol.steps_per_epoch for i in range(1, protocol.average_last)}
        self.clock.turn("training")
        for step in range(self.steps, protocol.steps):
            self.step(order[step], point=step + 1 in points)
            if self.steps in tested:
                self.tested.append(self.evaluate("test"))
            if checkpoint is not None and self.steps % checkpoint.every == 0 and self.steps < protocol.steps:
                with self.clock.of("checkpoint"):
                    checkpoint.save(self.state())
        self.clock.turn("training")

    def step(self, chosen: Tensor, *, point: bool = False) -> None:
        """Take one step on the `chosen` training examples. With `point`, record diagnostics and a point after it."""
        batch = self.model.augmented(self.spec, self.model.batch("train", chosen), self.steps)
        problem = StepProblem(self.model, self.spec, self.optimiser, batch, self.steps)
        gramian = self._probe(problem) if point else None
        values = self.model.values(problem.forward.losses)
        weights = self._backward(problem, values)
        ratio = self._update_ratio(gramian) if gramian is not None else None
        self.optimiser.step()
        self.schedule.step()
        if not all(problem.forward.present):  # a task without a label in the batch has no loss at this step
            values = values.where(torch.tensor(problem.forward.present, device=values.device), torch.nan)
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

    def end_epoch(self) -> None:
        """Tell the method that an epoch has ended."""
        assert self.method is not None
        since = self.losses_since["epoch"]
        # The validation losses are on the clock and in the counts: the rule asks for them.
        self.method.end_epoch(
            losses=torch.stack(since).nanmean(0).clone, validation=lambda: self.model.score("validation")[1]
        )
        since.clear()

    def evaluate(self, split: str) -> Scores:
        """Return every metric on a whole split, by task. Neither the clock nor the counts of passes include this."""
        with self.clock.of("evaluation"), self.passes.paused():
            return self.model.score(split)[0]

    def state(self) -> dict[str, Any]:
        """Return everything that later steps depend on, except what follows from seed and step.

        That is batches, dropout and augmentation.
        """
        return {
            "steps": self.steps,
            "network": self.model.network.state_dict(),
            "optimizer": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "method": None if self.method is None else self.method.state_dict(),
            "losses_since": self.losses_since,
            "weights_since": self.weights_since,
            "weights": self.weights.state(),
            "points": [point.model_dump() for point in self.points],
            "tested": self.tested,
            "passes": self.passes.counts,
            "seconds": self.clock.seconds,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        device = self.model.fabric.device
        self.steps = state["steps"]
        self.model.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.method is not None:
            self.method.load_state_dict(state["method"])
        self.losses_since = {since: [v.to(device) for v in kept] for since, kept in state["losses_since"].items()}
        self.weights_since = [values.to(device) for values in state["weights_since"]]
        self.weights.load_state(state["weights"])
        self.points = [Point(**point) for point in state["points"]]
        self.tested = state["tested"]
        self.passes.counts = state["passes"]
        self.clock.seconds = state["seconds"]

    def result(self) -> Result:
        """Score the trained network on the test split, and take the mean with earlier epochs that are reported, too."""
        test = mean([*self.tested, self.evaluate("test")])
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
            for task in self.model.tasks
        }
        degenerate = self.method.degenerate if self.method is not None else 0
        return Result(
            status="ok",
            scores=scores,
            points=self.points,
            degenerate=degenerate,
            mean_weights=self.weights.mean(self.spec.tasks),
        )

    def failed(self, status: str, reason: str) -> Result:
        """Return the result of a run that ended early."""
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
            peak_memory=peak_memory(self.model.fabric.device),
        )

    def _backward(self, problem: StepProblem, values: Tensor) -> Tensor | None:
        """Leave this step's gradients in `.grad`; return the weights `[K]` that the method used, if it has any."""
        if self.method is not None:
            if self.method.rule == "step":
                self.optimiser.zero_grad()
            return self.method.step(problem)
        if not gradients.is_finite(values):
            raise DivergedError("loss", 0, self.steps)
        self.optimiser.zero_grad()
        problem.forward.losses[0].backward()
        gradients.average(list(self.model.network.parameters()), self.model.reduce)
        return None

    def _losses_now(self, batch: Batch) -> Tensor:
        """The same batch's losses `[K]` after the step, under the same dropout, leaving running statistics alone."""
        seed_global(dropout_seed(self.spec, self.steps), self.model.fabric.device)
        with torch.no_grad():
            return self.model.values(self.model.forward(batch, self.model.buffers()).losses)

    def _probe(self, problem: StepProblem) -> Tensor | None:
        """Return the Gramian `[K, K]` of the task gradients, off the clock and the counts, or None for a baseline."""
        if self.method is None:
            return None
        with self.clock.of("probe"), self.passes.paused():
            parameters = [parameter for _, parameter in self.model.shared]
            return probe.gradient_gramian(problem.forward.losses, parameters, self.model.reduce)

    def _update_ratio(self, gramian: Tensor) -> float | None:
        with self.clock.of("probe"):
            return probe.update_ratio([parameter for _, parameter in self.model.shared], gramian)

    def _point(self, gramian: Tensor | None, ratio: float | None) -> None:
        """Score the validation split, if there is one, and record what is known after this step."""
        losses, weights = self.losses_since["point"], self.weights_since
        mean_weights = torch.stack(weights).mean(0) if weights else None
        if weights:
            self.weights.add(torch.stack(weights))
        means = torch.stack(losses).nanmean(0)
        validation = self.evaluate("validation") if self.protocol.validation else {}
        self.points.append(probe.point(self.steps, self.spec.tasks, means, mean_weights, gramian, ratio, validation))
        losses.clear()
        weights.clear()


def _train(fabric: Fabric, spec: RunSpec, *built: Any) -> Outcome:
    """Train in this process, which may be one of several ranks."""
    torch.set_num_threads(spec.protocol.threads)
    make_repeatable(fabric.device)
    try:
        return _trained(fabric, spec, *built)
    finally:
        if fabric.world_size > 1:  # a group that is not ended may abort its process on the way out
            torch.distributed.destroy_process_group()


def _trained(
    fabric: Fabric,
    spec: RunSpec,
    task_set: Callable[[], TaskSet],
    rule: Rule | None,
    teachers: Sequence[State],
    checkpoint: Checkpoint | None,
) -> Outcome:
    try:
        run = Run(fabric, spec, task_set(), rule, teachers)
    except DoesNotFitError as problem:
        return Result(status="skipped", reason=str(problem)), Cost(), None
    try:
        run.train(checkpoint)
        result = run.result()
    except DivergedError as problem:
        whose = "" if problem.task is None else f" of task {spec.tasks[problem.task]}"
        result = run.failed("diverged", f"the {problem.what}{whose} is not finite at step {problem.step}")
    except DoesNotFitError as problem:
        result = run.failed("skipped", str(problem))
    state = {name: value.cpu().contiguous() for name, value in run.model.network.state_dict().items()}
    return result, run.cost(), state if spec.method == STL and result.status == "ok" else None
