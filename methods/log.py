"""The sum of log losses, and what the rules that divide by losses share."""

from abc import abstractmethod

import torch
from torch import Tensor

from methods.core import subset
from methods.core.base import Method


class Log(Method):
    """Minimise Σ log l_k: divide every task's gradient by its loss.

    Paper: the baseline SI (scale-invariant) of Navon et al., ICML 2022. The derivatives are the weights, 1 / l_k.
    Where they are at rest, `uncertainty` and `imtll` have the same update, up to a factor; `gls` has its direction at
    every step. Scale: the weights are used as they are, so the update does not depend on the losses' units. Heads are
    weighted. A loss of zero or less has no logarithm. Such a task weighs 0, the others are weighed without it, and the
    step counts as degenerate. A loss near zero has a huge weight: a task with a rare label has such losses, in batches
    without it.

    Example:
        >>> import torch
        >>> import methods
        >>> trunk = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> losses = [trunk[0] ** 2, 4 * (trunk[0] - trunk[1]) ** 2]
        >>> method = methods.create("log", num_tasks=2)
        >>> method.backward(losses, shared=[trunk])
        tensor([1.0000, 0.2500])
    """

    invariant = frozenset({"permutation", "scale"})

    def weigh(self, losses: Tensor) -> Tensor:
        positive = losses > 0
        if positive.all():
            return self.weigh_positive(losses)
        self.degenerate += 1
        weights = torch.zeros_like(losses)
        tasks = positive.nonzero().flatten().tolist()
        if tasks:
            with subset.only(self, tasks):
                weights[tasks] = self.weigh_positive(losses[tasks]).to(weights)
        return weights

    def weigh_positive(self, losses: Tensor) -> Tensor:
        """Return the weights `[K]` of tasks whose losses are all above zero."""
        return 1 / losses


class _RelativeLog(Log):
    """Minimise Σ log l_k until it is known what each loss was in one epoch; then give the logarithms weights of sum K.

    What a loss was is the task's mean training loss in epoch `epoch` (from 0), or in the first one after it with a mean
    above zero. A step with a task of which that is not known yet is one of `log`.
    """

    invariant = frozenset({"permutation"})
    per_task = ("reference",)

    def __init__(self, num_tasks: int, epoch: int) -> None:
        super().__init__(num_tasks)
        self.epoch = epoch
        self.register_buffer("epochs", torch.zeros((), dtype=torch.int64))
        """How many epochs have ended."""
        self.register_buffer("reference", torch.full((num_tasks,), torch.nan))
        """What each task's loss was `[K]`; NaN before it is known."""

    @abstractmethod
    def logits(self, ratios: Tensor) -> Tensor:
        """Return what softmax turns into weights `[K]`, from each loss in units of what it was."""

    def weigh_positive(self, losses: Tensor) -> Tensor:
        reference = self.get_buffer("reference").to(losses)
        if reference.isnan().any():
            return super().weigh_positive(losses)
        return self.num_tasks * torch.softmax(self.logits(losses / reference), dim=0) / losses

    def after_epoch(self, losses: Tensor) -> None:
        epochs, reference = self.get_buffer("epochs"), self.get_buffer("reference")
        if epochs >= self.epoch:
            new = reference.isnan() & (losses.to(reference) > 0)
            reference.copy_(torch.where(new, losses.to(reference), reference))
        epochs += 1
