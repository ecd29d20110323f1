"""Equal weights: the rule that all others are compared with."""

import torch
from torch import Tensor

from methods.core.base import Method


class Equal(Method):
    """Minimise the plain sum of the losses.

    Also called linear or uniform scalarisation. Scale: the sum, every weight 1.

    Example:
        >>> import torch
        >>> import methods
        >>> trunk = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> losses = [trunk[0] ** 2, 4 * (trunk[0] - trunk[1]) ** 2]
        >>> method = methods.create("equal", num_tasks=2)
        >>> method.backward(losses, shared=[trunk])
        tensor([1., 1.])
        >>> trunk.grad
        tensor([-6.,  8.])
    """

    invariant = frozenset({"permutation"})

    def weigh(self, losses: Tensor) -> Tensor:
        return torch.ones_like(losses)
