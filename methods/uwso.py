"""Soft optimal uncertainty weighting."""

import torch
from torch import Tensor

from methods.core.search import Log as LogRange
from methods.log import Log


class UWSO(Log):
    """Weigh the losses by the softmax of their reciprocals: w = softmax((1 / l) / T).

    Paper: Kirchdorfer et al., GCPR 2024 (UW-SO), Eq. 4. The weights are constants in the derivative. The paper tunes
    the temperature T for each data set. T has the unit of 1 / loss: T = 1 means one reciprocal unit of whatever the
    losses are measured in, and another unit of the losses asks for another T. So no value suits all, and 1 here is no
    recommendation. For large T the weights are equal; for small T the task with the smallest loss has all the weight.
    Scale: Σ w = 1. Heads are weighted. A task whose loss is zero or less weighs 0, the others are weighed without it,
    and the step counts as degenerate. So a task with a rare label takes all the weight in batches without it, where
    its loss is near zero.

    Example:
        >>> import torch
        >>> import methods
        >>> trunk = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> losses = [trunk[0] ** 2, 4 * (trunk[0] - trunk[1]) ** 2]
        >>> method = methods.create("uwso", num_tasks=2)
        >>> method.backward(losses, shared=[trunk])
        tensor([0.6792, 0.3208])
    """

    invariant = frozenset({"permutation"})
    search = {"temperature": LogRange(0.1, 100)}

    def __init__(self, num_tasks: int, temperature: float = 1.0) -> None:
        super().__init__(num_tasks)
        self.temperature = temperature

    def weigh_positive(self, losses: Tensor) -> Tensor:
        return torch.softmax(1 / (losses * self.temperature), dim=0)
