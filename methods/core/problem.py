"""What a whole training rule may use at one step: the argument of `Method.step`.

Most rules turn K losses into one update and need no more than `backward` gives them. A rule that takes several
batches, makes virtual steps or optimises on two levels overrides `step(problem)` instead. Whoever trains (the harness,
or somebody's own loop) passes an object with the members below.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

Batch = Mapping[str, Tensor]
"""The columns of a batch by name, inputs and targets, with the examples on the first axis."""


class Problem(Protocol):
    """One training step of K tasks, as `Method.step` sees it.

    The step's own forward pass is that of `batch(0)` at the current parameters. Every other forward pass restores
    buffers (running statistics, for example) and draws its dropout from a stream of its own, so that it leaves no
    trace. When `step` is called, no parameter has a gradient.
    """

    @property
    def shared(self) -> Sequence[tuple[str, Tensor]]:
        """The trunk's parameters with their names, as `torch.func.functional_call` takes them."""

    @property
    def private(self) -> Sequence[Sequence[tuple[str, Tensor]]]:
        """The parameters of each task's own part, one list a task, with their names."""

    @property
    def lr(self) -> float:
        """The learning rate of this step."""

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The network's optimiser, to read only: its moments, its weight decay. The loop steps it."""

    def batch(self, i: int = 0) -> Batch:
        """Return the step's batch number `i`.

        Batch 0 is the one that every method sees at this step. The batches 1, 2, … come from streams of their own,
        one batch a step. Asked again within a step, a number gives the same batch.
        """

    def losses(self, batch: Batch, parameters: Mapping[str, Tensor] | None = None) -> list[Tensor]:
        """Return the K losses of a batch, with their graph, in float32.

        With `parameters` (tensors by the names in `shared` and `private`) these stand in for the network's own, and
        gradients flow to them; parameters that are not named keep their values. The losses of `batch(0)` at the
        current parameters are those of the step's own forward pass, which is made once.

        Raises:
            DivergedError: a loss is NaN or infinite.
        """

    def validation_losses(self, parameters: Mapping[str, Tensor] | None = None) -> list[Tensor]:
        """Return the K losses of a batch of the validation split, as `losses` does; one batch a step."""

    def update(self, direction: Tensor) -> None:
        """Subtract `lr * direction` from the shared parameters, in the place of the optimiser's step.

        Args:
            direction: `[P]`, the shared parameters that learn end to end, in the order of `shared`.

        The optimiser then leaves the shared parameters alone at this step: they have no gradient.
        """

    def arguments(self) -> Mapping[str, Any]:
        """Return the keyword arguments of `Method.backward` at `batch(0)`, `losses` among them."""
