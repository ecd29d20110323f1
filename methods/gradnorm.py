"""GradNorm."""

import torch
from torch import Tensor, nn

from methods.core.base import Method
from methods.core.search import Choice, Log


class GradNorm(Method):
    """Learn weights by which the task gradients at the last shared layer get norms that follow training rates.

    Paper: Chen et al., ICML 2018, Eq. 2 and Algorithm 1: with n_k = ‖w_k ∇l_k‖ and r_k = l_k / l_k(0) over its mean,
    minimise Σ |n_k − mean(n) r_k^α| over w alone, with the target held fixed; then rescale to Σ w = K. l(0) is the loss
    of the first batch; α = 1.5, as in the paper's NYUv2 runs. The weights apply to whole losses, heads included. They
    have their own Adam. At a network's rate (1e-4) they would stay at 1, as they do in public codes; 0.025 is the rate
    that Nash-MTL's code gives to what a rule learns. The paper does not keep weights positive; here they are at least
    1e-4. Scale: Σ w = K. A task whose first loss is zero has no training rate, which counts as 1. A rate below zero
    counts as 0. Such steps count as degenerate.

    Example:
        >>> import torch
        >>> import methods
        >>> trunk = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> losses = [trunk[0] ** 2, 4 * (trunk[0] - trunk[1]) ** 2]
        >>> method = methods.create("gradnorm", num_tasks=2)
        >>> method.backward(losses, shared=[trunk], last=trunk)  # last: the last shared layer's weight
        tensor([1., 1.])
        >>> losses = [trunk[0] ** 2, 4 * (trunk[0] - trunk[1]) ** 2]
        >>> method.backward(losses, shared=[trunk], last=trunk)
        tensor([1.0250, 0.9750])
    """

    at = "last"
    heads = "weighted"
    invariant = frozenset({"permutation"})
    per_task = ("weights", "first")
    search = {"alpha": Choice(0.5, 1.5, 3.0), "lr": Log(1e-3, 1)}

    def __init__(self, num_tasks: int, alpha: float = 1.5, lr: float = 0.025) -> None:
        super().__init__(num_tasks)
        self.alpha = alpha
        self.weights = nn.Parameter(torch.ones(num_tasks))
        self.register_buffer("first", torch.full((num_tasks,), torch.nan))
        """Each task's loss `[K]` in the first batch that has a label of it."""
        self.optimizer = torch.optim.Adam([self.weights], lr=lr)

    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        first = self.get_buffer("first")
        if first.isnan().any():
            first.copy_(torch.where(first.isnan(), losses.to(first), first))
        self._renormalise()
        used = self.weights.detach().clone()
        lengths = gramian.diagonal().sqrt()
        norms = used.to(lengths) * lengths
        start = first.to(losses)
        rate = torch.where(start > 0, losses / start, torch.ones_like(losses))
        mean = rate.mean()
        self.degenerate += bool((start <= 0).any() or (losses < 0).any() or mean <= 0)
        relative = rate / mean if mean > 0 else torch.ones_like(rate)
        target = norms.mean() * relative.clamp(min=0) ** self.alpha
        self.weights.grad = (torch.sign(norms - target) * lengths).to(self.weights)
        return used

    def _renormalise(self) -> None:
        """Make the result of Adam's last step positive, with the sum K. (A copy would lose a hook of the optimiser.)"""
        with torch.no_grad():
            self.weights.clamp_(min=1e-4)
            self.weights.mul_(self.num_tasks / self.weights.sum())
