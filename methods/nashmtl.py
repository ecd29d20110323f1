"""Nash-MTL."""

from torch import Tensor

from methods.core.base import Method
from methods.core.solvers.bargaining import bargain


class NashMTL(Method):
    """Step to the Nash bargaining solution: weights with M w = 1/w, which maximise Σ log(g_k · d) over a ball.

    Paper: Navon et al., ICML 2022, Algorithm 1. The weights are the exact solution; the authors' code takes 20 convex
    approximations of it. For two tasks the update is the sum of the unit gradients divided by √(1 + cos). Scale: g_k ·
    d = 1/w_k, so that the update's length is always √K. The authors' code clips that to 1; nothing is clipped here.
    Multiplying a loss by a constant does not change the update. Heads get their plain gradients. With every=n the
    weights are those of every n-th step, as in the paper. A zero gradient is left out. If some gradients cancel with
    weights ≥ 0, there is no solution, and the step counts as degenerate. Its update is the limit for a small
    regulariser: those gradients have no say, and the others bargain over what is perpendicular to them. It is zero if
    there are no others.

    Example:
        >>> import torch
        >>> import methods
        >>> trunk = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> losses = [trunk[0] ** 2, 4 * (trunk[0] - trunk[1]) ** 2]
        >>> method = methods.create("nashmtl", num_tasks=2)
        >>> method.backward(losses, shared=[trunk])
        tensor([0.9239, 0.1633])
    """

    invariant = frozenset({"permutation", "scale"})
    zero_gradients = "left out"
    nonconflicting = True

    def weigh(self, gramian: Tensor) -> Tensor:
        weights = bargain(gramian)
        self.degenerate += bool((weights <= 0).any())
        return weights
