"""DiBS-MTL."""

import torch
from torch import Tensor

from methods.core.base import Method


class DiBSMTL(Method):
    """Walk within a ball, drawn to each task's best point in it by the distance from there; step where the walk leads.

    Paper: Murthy et al., arXiv 2509.23948. A task's best point in the ball of radius ρ is −ρ u_k, for the unit gradient
    u_k. From δ = 0, n steps δ ← δ − s Σ r_k u_k with r_k = |δ + ρ u_k|, until δ leaves the ball, give the weights w_k =
    Σ s r_k / |g_k|, over the steps. By default there is one step, as in the authors' code, and the direction is that of
    `unit`. The weights apply to whole losses, heads included, as in the authors' code, where a head's gradient is so
    divided by that of the trunk. Scale: ρ = 1 and s = 1/n. The authors' ρ is the learning rate, and s is 0.01 for one
    step and ρ/5 for five: a common factor for one step. For five steps it would keep δ so near to 0 that all r_k stay
    at ρ, which is `unit` again. Multiplying a loss by a constant does not change the update of the trunk. A zero
    gradient is left out; its head then gets its plain gradient.

    Example:
        >>> import torch
        >>> import methods
        >>> trunk = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> losses = [trunk[0] ** 2, 4 * (trunk[0] - trunk[1]) ** 2]
        >>> method = methods.create("dibsmtl", num_tasks=2)
        >>> method.backward(losses, shared=[trunk])
        tensor([0.5000, 0.0884])
    """

    heads = "weighted"
    invariant = frozenset({"permutation", "scale"})
    zero_gradients = "left out"

    def __init__(self, num_tasks: int, steps: int = 1) -> None:
        super().__init__(num_tasks)
        if steps < 1:
            raise ValueError(f"steps={steps}: write 1 or more")
        self.walk = steps

    def weigh(self, gramian: Tensor) -> Tensor:
        lengths = gramian.diagonal().sqrt()
        cosines = gramian / lengths.outer(lengths)
        walked = torch.zeros_like(lengths)  # δ = −Σ walked_k u_k
        for _ in range(self.walk):
            along = cosines @ walked  # −δ · u_k
            squared = walked @ along
            if squared > 1:
                break
            walked = walked + (squared - 2 * along + 1).clamp(min=0).sqrt() / self.walk
        return walked / lengths
