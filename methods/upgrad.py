"""UPGrad: unconflicting projection of gradients."""

import torch
from torch import Tensor

from methods.core.base import Method
from methods.core.solvers.cone import project_onto_cone


class UPGrad(Method):
    """Project each task gradient onto the cone of directions that conflict with no task; the update is their mean.

    Paper: Quinton & Rey 2024 (arXiv 2406.16232): the projection of g_i is Gᵀv with v = argmin vᵀMv subject to v ≥ e_i,
    so that g_k · d ≥ 0 for every task. The authors' code divides M by its trace, adds 1e-4 to its diagonal, and returns
    the mean gradient where the trace is small. Short gradients can then conflict with the update. Here nothing is
    added. Scale: that of the mean gradient, which is the update if no gradients conflict; with two tasks the update is
    half of PCGrad's. A zero gradient constrains nothing and adds nothing. Heads get their plain gradients.

    Example:
        >>> import torch
        >>> import methods
        >>> trunk = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> losses = [trunk[0] ** 2, 4 * (trunk[0] - trunk[1]) ** 2]
        >>> method = methods.create("upgrad", num_tasks=2)
        >>> method.backward(losses, shared=[trunk])
        tensor([2.5000, 0.5625])
        >>> trunk.grad
        tensor([0.5000, 4.5000])
    """

    invariant = frozenset({"permutation"})
    nonconflicting = True

    def weigh(self, gramian: Tensor) -> Tensor:
        tasks = len(gramian)
        return project_onto_cone(gramian, torch.eye(tasks, dtype=gramian.dtype)).mean(dim=0)
