"""Uncertainty weighting with a regulariser that is never negative."""

import torch
from torch import Tensor, nn

from methods.core.base import Method
from methods.core.search import Log


class UWRevised(Method):
    """Learn a variance v_k per task and minimise Σ (l_k / (2 v_k) + log(1 + v_k)).

    Paper: Liebel & Körner, arXiv 1805.06334, 2018, with v_k = σ_k². The variances start at 1. What is learnt here is
    their logarithm: σ_k itself, as in public codes, can be carried past zero by a step of Adam, with a weight without
    bound on the way. It has its own Adam without weight decay, at the rate of Nash-MTL's code. The minimum is at v_k =
    (l_k + √(l_k² + 8 l_k)) / 4: large losses are divided by themselves, as in `uncertainty`, small ones by about √(2
    l_k), so that a loss near zero weighs less than there. The derivatives are written out, 1 / (2 v_k) by l_k and v_k
    / (1 + v_k) − l_k / (2 v_k) by log v_k. Scale: the weights are used as they are. Heads are weighted. For a loss of
    zero or less the objective has no minimum. In such a step log v_k gets no gradient and hardly moves, and the step
    counts as degenerate.

    Example:
        >>> import torch
        >>> import methods
        >>> trunk = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> losses = [trunk[0] ** 2, 4 * (trunk[0] - trunk[1]) ** 2]
        >>> method = methods.create("uwrevised", num_tasks=2, lr=0.1)
        >>> method.backward(losses, shared=[trunk])
        tensor([0.5000, 0.5000])
        >>> method.log_variance.detach()  # learnt a little: that of a loss of 1 is right already
        tensor([0.0000, 0.1000])
    """

    invariant = frozenset({"permutation"})
    per_task = ("log_variance",)
    search = {"lr": Log(1e-3, 0.3)}

    def __init__(self, num_tasks: int, lr: float = 0.025) -> None:
        super().__init__(num_tasks)
        self.log_variance = nn.Parameter(torch.zeros(num_tasks))
        self.optimizer = torch.optim.Adam([self.log_variance], lr=lr, fused=True)

    def weigh(self, losses: Tensor) -> Tensor:
        weights = 0.5 * torch.exp(-self.log_variance)
        slope = torch.sigmoid(self.log_variance) - weights * losses
        positive = losses > 0
        if not positive.all():
            self.degenerate += 1
            slope = torch.where(positive, slope, 0)
        self.log_variance.grad = slope.to(self.log_variance)
        return weights
