"""Equal weights: the reference."""

from torch import Tensor

from methods.core.base import Method


class Equal(Method):
    """Minimise the plain sum of the losses.

    Also called linear or uniform scalarisation. Scale: the sum, every weight 1.
    """

    invariant = frozenset({"permutation"})

    def objective(self, losses: Tensor) -> Tensor:
        return losses.sum()
