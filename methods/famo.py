"""Fast adaptive multitask optimisation."""

import torch
from torch import Tensor, nn

from methods.core.search import Log as LogRange
from methods.log import Log

SHIFT = 1e-8
"""What the paper adds to a loss before it takes the logarithm."""


class FAMO(Log):
    """Learn weights of the log losses, so that all log losses fall at the same rate.

    Paper: Liu et al., NeurIPS 2023, Algorithm 1. With z = softmax(ξ) and D_k = l_k + 1e-8 (losses have the lower bound
    0), minimise c Σ z_k log D_k, where the constant c makes the weights c z_k / D_k sum to 1. After the optimiser's
    step the batch's losses are computed again, and ξ gets the gradient Jᵀδ: J is the Jacobian of the softmax, and δ_k
    how far log D_k has fallen. So a task that falls slower gains weight. ξ starts at 0 and has its own Adam with the
    decay `gamma` in the gradient; 1e-3 is that of the paper's runs on NYUv2, QM9 and CelebA (on Cityscapes 1e-2; the
    official class has 1e-5). The second forward pass is in the same state as the first: the official code draws
    dropout anew, and moves the statistics of batch normalisation twice. Scale: Σ w = 1. Heads are weighted. A task
    whose loss is zero or less weighs 0, the others are weighed without it, and the step counts as degenerate; where
    its loss is so before or after the step, it counts as unchanged. A loss near zero, as of a task with a rare label
    in a batch without it, takes all the weight.

    Example:
        >>> import torch
        >>> import methods
        >>> trunk = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> losses = [trunk[0] ** 2, 4 * (trunk[0] - trunk[1]) ** 2]
        >>> method = methods.create("famo", num_tasks=2)
        >>> method.backward(losses, shared=[trunk])
        tensor([0.8000, 0.2000])
        >>> method.end_step(torch.tensor([0.5, 3.9]))  # the losses after the optimiser's step
        >>> method.logits.detach()
        tensor([-0.0250,  0.0250])
    """

    invariant = frozenset({"permutation"})
    per_task = ("logits", "before")
    search = {"lr": LogRange(1e-3, 0.3), "gamma": LogRange(1e-5, 1e-1)}

    def __init__(self, num_tasks: int, lr: float = 0.025, gamma: float = 1e-3) -> None:
        super().__init__(num_tasks)
        self.logits = nn.Parameter(torch.zeros(num_tasks))
        self.register_buffer("before", torch.full((num_tasks,), torch.nan))
        """The losses of the last step `[K]`, before the optimiser moved."""
        self.optimizer = torch.optim.Adam([self.logits], lr=lr, weight_decay=gamma, fused=True)

    def weigh(self, losses: Tensor) -> Tensor:
        self.get_buffer("before").copy_(losses)
        return super().weigh(losses)

    def weigh_positive(self, losses: Tensor) -> Tensor:
        weights = torch.softmax(self.logits.to(losses), dim=0) / (losses + SHIFT)
        return weights / weights.sum()

    @torch.no_grad()
    def after_step(self, losses: Tensor) -> None:
        before = self.get_buffer("before")
        after = losses.to(before)
        if not len(after):
            return
        both = (before > 0) & (after > 0)
        if not both.all():
            self.degenerate += bool((before > 0).all())  # else the step has been counted
        fall = torch.where(both, torch.log(before + SHIFT) - torch.log(after + SHIFT), 0)
        shares = torch.softmax(self.logits, dim=0)
        self.logits.grad = (shares * (fall - shares @ fall)).to(self.logits)
        assert self.optimizer is not None
        self.optimizer.step()
        self.logits.grad = None
