"""IMTL-G: impartial multi-task learning by gradients."""

from torch import Tensor

from methods.core.base import Method
from methods.core.solvers.equal_cosines import impartial


class IMTLG(Method):
    """Step along the direction that has the same cosine with all gradients, with weights whose sum is 1.

    Paper: Liu et al., ICLR 2021 (IMTL-G): d = Σ w_k g_k has one projection on all unit gradients, and Σ w_k = 1.
    Scale: Σ w = 1. Weights may be negative, of any size, and large where gradients conflict. Where the weights of the
    direction add up to less than zero, the sum of 1 turns the update against all gradients, as the paper's formula
    does. Such a step counts as degenerate. Heads get their plain gradients. A zero gradient is left out. If no
    direction has the same positive cosine with all gradients, the best by least squares is taken, and the step counts
    as degenerate. If the weights add up to zero, the sum cannot be 1, and the update is zero. So it is for exact
    opposites.

    Example:
        >>> import torch
        >>> import methods
        >>> trunk = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> losses = [trunk[0] ** 2, 4 * (trunk[0] - trunk[1]) ** 2]
        >>> method = methods.create("imtlg", num_tasks=2)
        >>> method.backward(losses, shared=[trunk])
        tensor([0.8498, 0.1502])
    """

    invariant = frozenset({"permutation"})
    zero_gradients = "left out"

    def weigh(self, gramian: Tensor) -> Tensor:
        weights, sound = impartial(gramian)
        self.degenerate += not sound
        return weights
