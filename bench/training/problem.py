"""The harness's `methods.core.problem.Problem`: one step of a run, as a whole training rule sees it."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, optim

from bench.spec import RunSpec
from bench.training.model import Batch, Model
from bench.training.streams import dropout_seed, seed_global, stream
from methods.core.base import DivergedError
from methods.core.gradients import is_finite


class StepProblem:
    """The step that a run is about to take, on its own batch.

    Forward passes beside the step's own run on copies of the network's buffers, and draw their dropout from streams of
    their own.
    """

    def __init__(self, model: Model, spec: RunSpec, optimiser: optim.Optimizer, batch: Batch, step: int) -> None:
        self._model, self._spec, self._optimiser, self._step = model, spec, optimiser, step
        self._batches: dict[str, Batch] = {"batch 0": batch}
        self._further = 0
        # Dropout uses the global generator. It is seeded alike for every method at this step.
        seed_global(dropout_seed(spec, step), model.fabric.device)
        self.forward = model.forward(batch)

    @property
    def shared(self) -> Sequence[tuple[str, Tensor]]:
        """The shared parameters that learn, with their names."""
        return self._model.shared

    @property
    def private(self) -> Sequence[Sequence[tuple[str, Tensor]]]:
        """Each task's own parameters that learn, with their names."""
        names = {parameter: name for name, parameter in self._model.network.named_parameters()}
        return [[(names[parameter], parameter) for parameter in own] for own in self._model.private]

    @property
    def lr(self) -> float:
        """The learning rate of this step."""
        rate: float = self._optimiser.param_groups[0]["lr"]
        return rate

    @property
    def optimizer(self) -> optim.Optimizer:
        """The network's optimiser, to read only."""
        return self._optimiser

    def batch(self, i: int = 0) -> Batch:
        """Return batch number `i` of this step: 0 is the step's own, the others come from streams of their own."""
        return self._drawn("train", f"batch {i}")

    def losses(self, batch: Batch, parameters: Mapping[str, Tensor] | None = None) -> list[Tensor]:
        """Return the K losses of a batch, with their graph.

        Raises:
            DivergedError: a loss is NaN or infinite.
        """
        if batch is self._batches["batch 0"] and parameters is None:
            return self.forward.losses
        self._further += 1
        name = f"step {self._step}, pass {self._further}"
        seed_global(stream(self._spec.seed, "dropout", self._spec.task_set, name), self._model.fabric.device)
        losses = self._model.forward(batch, {**self._model.buffers(), **(parameters or {})}).losses
        values = torch.stack([loss.detach() for loss in losses])
        if not is_finite(values):
            raise DivergedError("loss", int((~torch.isfinite(values)).nonzero()[0]), self._step)
        return losses

    def validation_losses(self, parameters: Mapping[str, Tensor] | None = None) -> list[Tensor]:
        """Return the K losses of a batch of the validation split, as `losses` does. There is one batch a step.

        Raises:
            DoesNotFitError: the protocol keeps no examples for validation.
        """
        return self.losses(self._drawn("validation", "validation"), parameters)

    def update(self, direction: Tensor) -> None:
        """Subtract `lr * direction` `[P]` from the shared parameters. The optimiser then leaves them alone."""
        parameters = [parameter for _, parameter in self.shared]
        with torch.no_grad():
            for parameter, part in zip(parameters, direction.split([p.numel() for p in parameters]), strict=True):
                parameter.sub_(part.view_as(parameter), alpha=self.lr)
                parameter.grad = None

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of `Method.backward` at the step's own batch."""
        model, outputs = self._model, self.forward.outputs
        return {
            "losses": self.forward.losses,
            "shared": model.shared,
            "private": model.private,
            "present": self.forward.present,
            "features": outputs.features,
            "last": model.last,
            "inputs": model.inputs(self._batches["batch 0"]),
            "taps": [outputs.taps[task.name] for task in model.tasks] if outputs.taps else None,
            "reduce": model.reduce,
        }

    def _drawn(self, split: str, name: str) -> Batch:
        """This step's batch of a split from the stream `name`."""
        if name not in self._batches:
            order = self._model.order(self._spec, split, name)
            batch: Batch = self._model.batch(split, order[self._step])
            if split == "train":
                batch = self._model.augmented(self._spec, batch, self._step, name)
            self._batches[name] = batch
        return self._batches[name]
