"""Equal weights: the rule that all others are compared with."""

import torch
from torch import Tensor

from methods.core.base import Method


class Equal(Method):
    """Minimise the plain sum of the losses.

    Also called linear or uniform scalarisation. Scale: the sum, every weight 1.
    """

    invariant = frozenset({"permutation"})

    def weigh(self, losses: Tensor) -> Tensor:
        return torch.ones_like(losses)
