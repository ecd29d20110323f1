"""Dual balancing."""

import torch
from torch import Tensor

from methods.core.base import Method
from methods.core.gradients import combine_columns, gramian
from methods.core.search import Choice

EPSILON = 1e-8
"""Added to a loss inside the logarithm."""


class DBMTL(Method):
    """Descend the logarithms of the losses along running averages of their gradients, all as long as the longest.

    Paper: Lin et al., arXiv 2308.12029, Algorithm 1: from y_k = 0, y_k ← β y_k + (1 − β) ∇log(l_k + 1e-8), and the
    update is max_j |y_j| Σ y_k / |y_k|. There is no correction for the start from zero. β = 0.9 is LibMTL's default;
    the paper chooses among 0.1, 0.5 and 0.9 for each data set, with and without a decay over steps, which is left out.
    The paper adds 1e-8 to |y_k|; here an average that is zero adds nothing, and the step counts as degenerate. Scale: K
    times the longest average at most. Heads descend the logarithms, too: their gradients are divided by l_k + 1e-8.

    With β = 0 the update has the direction of the sum of unit gradients. A loss of zero or less has no logarithm: below
    −1e-8 its gradient counts as zero at this step, in the trunk and in its head, and the step counts as degenerate. A
    loss that comes near zero gives its head steps without bound. An average belongs to parameters; at the features it
    would be one of other examples at each step.

    Example:
        >>> import torch
        >>> import methods
        >>> trunk = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> losses = [trunk[0] ** 2, 4 * (trunk[0] - trunk[1]) ** 2]
        >>> method = methods.create("dbmtl", num_tasks=2, beta=0)
        >>> method.backward(losses, shared=[trunk])
        >>> trunk.grad  # the gradients of the logarithms are (2, 0) and (-2, 2); both get the length 2.83
        tensor([0.8284, 2.0000])
    """

    places = ("shared",)
    heads = "own"
    invariant = frozenset({"permutation", "scale"})
    recalls = True
    per_task = ("tracked",)
    search = {"beta": Choice(0.1, 0.5, 0.9)}

    def __init__(self, num_tasks: int, beta: float = 0.9) -> None:
        super().__init__(num_tasks)
        self.beta = beta
        self.register_buffer("tracked", torch.zeros(0, num_tasks))
        """The averages y_k `[P, K]`."""

    def combine(self, jacobian: Tensor, losses: Tensor) -> Tensor:
        defined = losses + EPSILON > 0
        self.head_weights = torch.where(defined, 1 / (losses + EPSILON), 0)
        tracked = self.rows_of("tracked", jacobian).mul_(self.beta)
        tracked.addcmul_(jacobian.T, ((1 - self.beta) * self.head_weights).to(jacobian))
        lengths = gramian(tracked.T).diagonal().sqrt()
        self.degenerate += not bool(defined.all() and lengths.all())
        weights = torch.where(lengths > 0, lengths.max() / lengths, 0)
        return combine_columns(tracked, weights.to(tracked))
