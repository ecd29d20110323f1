"""Random loss weighting."""

from typing import Literal

import torch
from torch import Tensor

from methods.core.base import Method


class RLW(Method):
    """Draw new weights of the losses at every step.

    Paper: Lin et al., TMLR 2022, Algorithm 2 for losses. `normal`: softmax of standard normal numbers; `dirichlet`:
    uniform on the simplex. Every weight has the mean 1/K, so that on average it is equal weights. Scale: Σ w = 1; some
    codes multiply by K. Heads are weighted, as the losses are; `rgw` weighs the trunk alone.

    Example:
        >>> import torch
        >>> import methods
        >>> trunk = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> losses = [trunk[0] ** 2, 4 * (trunk[0] - trunk[1]) ** 2]
        >>> method = methods.create("rlw", num_tasks=2, seed=0)
        >>> method.backward(losses, shared=[trunk]).sum()
        tensor(1.)
    """

    def __init__(self, num_tasks: int, distribution: Literal["normal", "dirichlet"] = "normal") -> None:
        super().__init__(num_tasks)
        self.distribution = distribution

    def weigh(self, losses: Tensor) -> Tensor:
        numbers = torch.empty(self.num_tasks, dtype=torch.float64)
        if self.distribution == "normal":
            return torch.softmax(numbers.normal_(generator=self.generator), dim=0).to(losses)
        numbers.exponential_(generator=self.generator)  # their shares are uniform on the simplex
        return (numbers / numbers.sum()).to(losses)
