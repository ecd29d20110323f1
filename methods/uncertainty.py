"""Uncertainty weighting."""

import torch
from torch import Tensor, nn

from methods.core.base import Method
from methods.core.search import Log


class Uncertainty(Method):
    """Learn a log-variance s_k per task and minimise Σ ½ (exp(−s_k) l_k + s_k).

    Paper: Kendall, Gal & Cipolla, CVPR 2018, Eq. 7, with the Gaussian factor ½ for every task, cross-entropies
    included, as in the code of MTAN (Liu et al. 2019); Kendall's own form has no ½ on classification losses.
    The s_k start at `init`. They have their own Adam without weight decay, at the rate of Nash-MTL's code, because at a
    network's rate they hardly move. The minimum is at s_k = log l_k, where the update is ½ Σ g_k / l_k. The derivatives
    are written out, ½ exp(−s_k) by l_k and ½ (1 − exp(−s_k) l_k) by s_k: autograd would take five times as long.
    For a loss of zero or less (a log-likelihood, for example) the objective has no minimum in s_k, and the weight would
    grow without bound. In such a step s_k gets no gradient and hardly moves, and the step counts as degenerate.

    Example:
        >>> import torch
        >>> import methods
        >>> trunk = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> losses = [trunk[0] ** 2, 4 * (trunk[0] - trunk[1]) ** 2]
        >>> method = methods.create("uncertainty", num_tasks=2, lr=0.1)
        >>> method.backward(losses, shared=[trunk])
        tensor([0.5000, 0.5000])
        >>> method.log_variance.detach()  # learnt a little: that of a loss of 1 is right already
        tensor([0.0000, 0.1000])
    """

    invariant = frozenset({"permutation"})
    per_task = ("log_variance",)
    search = {"lr": Log(1e-3, 0.3)}

    def __init__(self, num_tasks: int, lr: float = 0.025, init: float = 0.0) -> None:
        super().__init__(num_tasks)
        self.log_variance = nn.Parameter(torch.full((num_tasks,), init))
        self.optimizer = torch.optim.Adam([self.log_variance], lr=lr, fused=True)

    def weigh(self, losses: Tensor) -> Tensor:
        weights = 0.5 * torch.exp(-self.log_variance)
        slope = 0.5 - weights * losses
        positive = losses > 0
        if not positive.all():
            self.degenerate += 1
            slope = torch.where(positive, slope, 0)
        self.log_variance.grad = slope.to(self.log_variance)
        return weights
