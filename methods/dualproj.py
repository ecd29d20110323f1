"""DualProj: the mean gradient without its conflicts, as in gradient episodic memory."""

from torch import Tensor

from methods.core.base import Method
from methods.core.solvers.cone import project_onto_cone


class DualProj(Method):
    """Step along the vector nearest to the mean gradient that conflicts with no task gradient.

    Paper: Lopez-Paz & Ranzato, NeurIPS 2017 (GEM), Eq. 11, with the mean of the task gradients in place of the
    gradient of the task at hand: d = Gᵀv with v = argmin vᵀMv subject to v ≥ 1/K, so that g_k · d ≥ 0 for every task.
    The paper's code adds 1e-3 to the diagonal of M, and a margin to v. Here nothing is added. Scale: that of the mean
    gradient, which is the update if it conflicts with no gradient. A zero gradient constrains nothing; it counts in the
    mean. Heads get their plain gradients.

    Example:
        >>> import torch
        >>> import methods
        >>> trunk = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> losses = [trunk[0] ** 2, 4 * (trunk[0] - trunk[1]) ** 2]
        >>> method = methods.create("dualproj", num_tasks=2)
        >>> method.backward(losses, shared=[trunk])
        tensor([2.0000, 0.5000])
        >>> trunk.grad
        tensor([0., 4.])
    """

    invariant = frozenset({"permutation"})
    nonconflicting = True

    def weigh(self, gramian: Tensor) -> Tensor:
        return project_onto_cone(gramian, gramian.new_full((len(gramian),), 1 / len(gramian)))
