"""Gradient vaccine."""

import numpy as np
import torch
from torch import Tensor

from methods.core.base import Method
from methods.core.search import Log

PARALLEL = 1 - 1e-12
"""A cosine above it is 1 but for rounding: gradients in float32 know their angles to about 1e-6."""
LOST = 1e-14
"""A vector whose squared length is below this share of that of its parts is zero but for rounding."""


class GradVac(Method):
    """Turn each task gradient towards the others until its cosine with each is what it has been on average.

    Paper: Wang et al., ICLR 2021: v_i starts as g_i and meets every other g_j in an order drawn for each i. If its
    cosine φ with g_j is below the target t_ij, v_i gets the multiple of g_j with which the cosine is t_ij. Then
    t_ij ← (1 − β) t_ij + β φ, whether it was below or not, from t_ij = 0. The update is Σ v_i. With β = 0 this is
    PCGrad. β = 0.5 is LibMTL's default; the value that the paper used was not found. There is one target for each pair
    of tasks, for the whole trunk. Scale: gradients whose cosines are not below their targets have the weights 1.

    A zero gradient has no cosine, and is left out. A v_i that the others have cancelled is left as it is, and a target
    of 1 is out of reach of a gradient that is not parallel: such pairs are passed by, and the step counts as
    degenerate. Near 1 a target asks for multiples without bound. Heads get their plain gradients.

    Example:
        >>> import torch
        >>> import methods
        >>> trunk = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> losses = [trunk[0] ** 2, 4 * (trunk[0] - trunk[1]) ** 2]
        >>> method = methods.create("gradvac", num_tasks=2)
        >>> method.backward(losses, shared=[trunk])  # the targets are 0: PCGrad's weights
        tensor([5.0000, 1.1250])
        >>> method.targets  # half of the cosine that was found
        tensor([[ 0.0000, -0.3536],
                [-0.3536,  0.0000]], dtype=torch.float64)
    """

    zero_gradients = "left out"
    per_task = ("numbers",)
    search = {"beta": Log(1e-3, 1)}

    def __init__(self, num_tasks: int, beta: float = 0.5) -> None:
        super().__init__(num_tasks)
        self.beta = beta
        self.register_buffer("targets", torch.zeros(num_tasks, num_tasks, dtype=torch.float64))
        """The cosine `[K, K]` that v_i should have with g_j."""
        self.register_buffer("numbers", torch.arange(num_tasks), persistent=False)
        """The numbers of the tasks that take part: the rows and columns of `targets` that are used."""

    def weigh(self, gramian: Tensor) -> Tensor:
        tasks = np.arange(len(gramian))
        lengths = gramian.diagonal().sqrt().numpy()
        cosines = gramian.numpy() / lengths / lengths[:, np.newaxis]
        orders = torch.rand(gramian.shape, generator=self.generator).argsort(1).numpy()
        numbers, targets = self.get_buffer("numbers"), self.get_buffer("targets")
        wanted = targets[numbers][:, numbers].numpy()
        # Row i is v_i / |g_i|, as a sum of unit gradients; and its products with each of them.
        parts, products = np.eye(len(tasks)), cosines.copy()
        undefined = False
        for others in orders.T:
            squares = (parts * products).sum(1)
            alive = squares > LOST * np.abs(parts).sum(1) ** 2
            length = np.sqrt(np.where(alive, squares, 1))
            cosine = np.clip(products[tasks, others] / length, -1, 1)
            target = wanted[tasks, others]
            below = alive & (others != tasks) & (cosine < np.minimum(target, PARALLEL))
            turned = below & (target < PARALLEL)
            undefined |= bool((below & ~turned).any() or (~alive & (others != tasks)).any())
            ratio = np.sqrt((1 - cosine**2) / np.where(turned, 1 - target**2, 1))
            step = np.where(turned, length * (target * ratio - cosine), 0)
            parts[tasks, others] += step
            products += step[:, np.newaxis] * cosines[others]
            seen = np.where(alive & (others != tasks), cosine, target)
            wanted[tasks, others] = (1 - self.beta) * target + self.beta * seen
        targets[numbers[:, None], numbers] = torch.from_numpy(wanted)
        self.degenerate += undefined
        return torch.from_numpy(lengths @ parts / lengths)
