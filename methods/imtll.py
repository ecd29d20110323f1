"""The loss balance of impartial multi-task learning."""

import torch
from torch import Tensor, nn

from methods.core.base import Method
from methods.core.search import Log


class IMTLL(Method):
    """Learn a scale s_k per task and minimise Σ (exp(s_k) l_k − s_k).

    Paper: Liu et al., ICLR 2021 (IMTL-L, the balance of losses; that of gradients is `imtlg`). The s_k start at 0,
    with weights of 1. They have their own Adam without weight decay, at the rate of Nash-MTL's code, because at a
    network's rate they hardly move. The objective is twice that of `uncertainty` at the log-variances −s_k, and Adam
    does not see the factor: with the same rate the weights are twice those of `uncertainty`, at every step. The
    minimum is at s_k = −log l_k, where the update is Σ g_k / l_k, that of `log`. Scale: the weights are used as they
    are. Heads are weighted. For a loss of zero or less the objective has no minimum in s_k. In such a step s_k gets no
    gradient and hardly moves, and the step counts as degenerate. A loss near zero for long lets the weight grow
    without bound.

    Example:
        >>> import torch
        >>> import methods
        >>> trunk = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> losses = [trunk[0] ** 2, 4 * (trunk[0] - trunk[1]) ** 2]
        >>> method = methods.create("imtll", num_tasks=2, lr=0.1)
        >>> method.backward(losses, shared=[trunk])
        tensor([1., 1.])
        >>> method.scale.detach()  # learnt a little: that of a loss of 1 is right already
        tensor([ 0.0000, -0.1000])
    """

    invariant = frozenset({"permutation"})
    per_task = ("scale",)
    search = {"lr": Log(1e-3, 0.3)}

    def __init__(self, num_tasks: int, lr: float = 0.025) -> None:
        super().__init__(num_tasks)
        self.scale = nn.Parameter(torch.zeros(num_tasks))
        self.optimizer = torch.optim.Adam([self.scale], lr=lr, fused=True)

    def weigh(self, losses: Tensor) -> Tensor:
        weights = torch.exp(self.scale)
        slope = weights * losses - 1
        positive = losses > 0
        if not positive.all():
            self.degenerate += 1
            slope = torch.where(positive, slope, 0)
        self.scale.grad = slope.to(self.scale)
        return weights
