"""Multi-objective gradient correction."""

from typing import Literal

import torch
from torch import Tensor

from methods.core.base import Method
from methods.core.gradients import combine_columns, gramian
from methods.core.search import Log
from methods.core.solvers.simplex import project_to_simplex


class MoCo(Method):
    """Track each task gradient by a running average, and let weights on the simplex follow the shortest vector of them.

    Paper: Fernando et al., ICLR 2023, Algorithm 1. With Y the rows y_k, from y_k = 0 and λ = 1/K:
    y_k ← y_k − β_t (y_k − g_k), λ ← Π(λ − γ_t Y Yᵀ λ), update Yᵀλ, where Π is the Euclidean projection onto the
    simplex. β_t = β t^−½ and γ_t = γ t^−½ at step t, as in the authors' code for Office, whose β is 0.1, and whose γ of
    0.1 stands with a factor of 2: here γ = 0.2. Their code for Cityscapes has a softmax instead of Π
    (`project="softmax"`), which forgets λ at every step, so that the weights stay near 1/K; it also rescales
    gradients, which is not done here. Other codes start at β = 0.5, or do not decay (`decay=0`). Scale: weights on the
    simplex, of averages that grow from zero. γ is not free of the losses' scale.

    A zero gradient is one to track. Heads get their plain gradients. An average belongs to parameters; at the features
    it would be one of other examples at each step.

    Example:
        >>> import torch
        >>> import methods
        >>> trunk = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> losses = [trunk[0] ** 2, 4 * (trunk[0] - trunk[1]) ** 2]
        >>> method = methods.create("moco", num_tasks=2)
        >>> method.backward(losses, shared=[trunk])
        >>> method.weights  # the first gradient is the shorter one
        tensor([0.5620, 0.4380], dtype=torch.float64)
        >>> trunk.grad  # a tenth of the gradients (2, 0) and (-8, 8), weighted
        tensor([-0.2380,  0.3504])
    """

    places = ("shared",)
    invariant = frozenset({"permutation"})
    recalls = True
    per_task = ("tracked", "weights")
    search = {"beta": Log(0.03, 1), "gamma": Log(1e-3, 10)}

    def __init__(
        self,
        num_tasks: int,
        beta: float = 0.1,
        gamma: float = 0.2,
        decay: float = 0.5,
        project: Literal["simplex", "softmax"] = "simplex",
    ) -> None:
        super().__init__(num_tasks)
        self.beta, self.gamma, self.decay, self.project = beta, gamma, decay, project
        self.register_buffer("tracked", torch.zeros(0, num_tasks))
        """The averages y_k `[P, K]`."""
        self.register_buffer("weights", torch.full((num_tasks,), 1 / num_tasks, dtype=torch.float64))
        """λ `[K]`."""

    def combine(self, jacobian: Tensor) -> Tensor:
        decay = (self.steps + 1) ** -self.decay
        tracked = self.rows_of("tracked", jacobian)
        tracked.lerp_(jacobian.T, self.beta * decay)
        weights = self.get_buffer("weights")
        before = project_to_simplex(weights.double())  # of the tasks that are present
        moved = before - self.gamma * decay * gramian(tracked.T) @ before
        weights.copy_(project_to_simplex(moved) if self.project == "simplex" else moved.softmax(0))
        return combine_columns(tracked, weights.to(tracked))
