"""Multiple-gradient descent."""

from typing import Literal

from torch import Tensor

from methods.core.base import Method
from methods.core.search import Choice
from methods.core.solvers.min_norm import min_norm_point


class MGDA(Method):
    """Step along the shortest vector in the convex hull of the task gradients.

    Paper: Désidéri 2012; Sener & Koltun, NeurIPS 2018, Eq. 3; `at="features"` is their MGDA-UB. With `normalize` the
    hull is that of the gradients divided by their norm (`l2`), their loss (`loss`), or both (`loss+`, the official
    sample); the weights then apply to the gradients as they are. Scale: weights on the simplex. A zero gradient is
    itself the shortest vector, so the shared update is zero. A gradient that cannot be divided (its norm or loss is not
    positive) gets the weight 0, the others are balanced without it, and the step counts as degenerate. Heads get their
    plain gradients, as in the paper's Algorithm 2. The authors' code weighs whole losses instead: `heads="weighted"`.

    Example:
        >>> import torch
        >>> import methods
        >>> trunk = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> losses = [trunk[0] ** 2, 4 * (trunk[0] - trunk[1]) ** 2]
        >>> method = methods.create("mgda", num_tasks=2)
        >>> method.backward(losses, shared=[trunk])
        tensor([0.8780, 0.1220])
        >>> trunk.grad
        tensor([0.7805, 0.9756])
    """

    invariant = frozenset({"permutation"})
    search = {"normalize": Choice("none", "l2", "loss", "loss+")}

    def __init__(self, num_tasks: int, normalize: Literal["none", "l2", "loss", "loss+"] = "none") -> None:
        super().__init__(num_tasks)
        self.normalize = normalize
        if normalize in ("l2", "loss+"):
            self.zero_gradients = "left out"

    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        divisor = gramian.new_ones(len(gramian))
        if self.normalize in ("l2", "loss+"):
            divisor = divisor * gramian.diagonal().sqrt()
        if self.normalize in ("loss", "loss+"):
            divisor = divisor * losses
        weights = gramian.new_zeros(len(gramian))
        usable = (divisor > 0).nonzero().flatten()
        self.degenerate += len(usable) < len(gramian)
        if len(usable):
            scaled = gramian[usable][:, usable] / divisor[usable].outer(divisor[usable])
            weights[usable] = min_norm_point(scaled)
        return weights
