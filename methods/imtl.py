"""IMTL: impartial multi-task learning, by losses and by gradients."""

import torch
from torch import Tensor, nn

from methods.core.base import Method
from methods.core.search import Log
from methods.core.solvers.equal_cosines import impartial


class IMTL(Method):
    """Learn scales exp(s_k) that bring all losses to 1, and step along the equal-cosine direction of what they make.

    Paper: Liu et al., ICLR 2021, Algorithm 1. The s_k minimise Σ (exp(s_k) l_k − s_k) (IMTL-L); heads get the gradient
    of exp(s_k) l_k; the trunk gets the IMTL-G update of these scaled losses. Scale: the weights of the scaled gradients
    have the sum 1; those that are returned are of the gradients as they are. The s_k start at 0. They have their own
    Adam without weight decay, at the rate of Nash-MTL's code, because at a network's rate they hardly move. For a loss
    of zero or less the objective has no minimum in s_k. In such a step s_k gets no gradient and hardly moves, and the
    step counts as degenerate. A zero gradient has the weight 0 in the trunk, and its head and s_k learn as ever; such a
    step and those that `imtlg` counts are degenerate, too.

    Example:
        >>> import torch
        >>> import methods
        >>> trunk = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> losses = [trunk[0] ** 2, 4 * (trunk[0] - trunk[1]) ** 2]
        >>> method = methods.create("imtl", num_tasks=2, lr=0.1)
        >>> method.backward(losses, shared=[trunk])
        tensor([0.8498, 0.1502])
        >>> method.log_scale.detach()  # learnt a little: that of a loss of 1 is right already
        tensor([ 0.0000, -0.1000])
    """

    heads = "own"
    invariant = frozenset({"permutation"})
    per_task = ("log_scale",)
    search = {"lr": Log(1e-3, 0.3)}

    def __init__(self, num_tasks: int, lr: float = 0.025) -> None:
        super().__init__(num_tasks)
        self.log_scale = nn.Parameter(torch.zeros(num_tasks))
        self.optimizer = torch.optim.Adam([self.log_scale], lr=lr, fused=True)

    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        scales = self.log_scale.detach().to(gramian).exp()
        positive, usable = losses > 0, gramian.diagonal() > 0
        self.log_scale.grad = torch.where(positive, scales * losses - 1, 0).to(self.log_scale)
        self.head_weights = scales
        weights, sound = torch.zeros_like(scales), False
        if usable.any():
            scaled = (gramian * scales.outer(scales))[usable][:, usable]
            weights[usable], sound = impartial(scaled)
        self.degenerate += not (sound and bool(usable.all()) and bool(positive.all()))
        return weights * scales
