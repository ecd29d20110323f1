"""Conflict-averse gradient descent."""

from torch import Tensor

from methods.core.base import Method
from methods.core.search import Choice
from methods.core.solvers.cagrad import conflict_averse
from methods.core.solvers.cone import project_onto_cone
from methods.core.solvers.unit import length_of


class CAGrad(Method):
    """Step along the vector near the mean gradient g_0 that improves the worst task most: |d − g_0| ≤ c |g_0|.

    Paper: Liu et al., NeurIPS 2021, Algorithm 1: d = g_0 + c |g_0| g_w / |g_w|, g_w = Σ w_k g_k, where w on
    the simplex minimises g_w · g_0 + c |g_0| |g_w|. c = 0.4, the paper's value on NYUv2; c = 0 is the mean gradient.
    The update is d / (1 + c²), as in the authors' code; Algorithm 1 does not divide. Their code adds 1e-4 and 1e-8 to
    lengths and stops SLSQP at an absolute tolerance, which goes wrong for short gradients. Here w is exact. Scale: that
    of the mean gradient. If g_w = 0, many vectors do equally well for the worst task, which none can improve. The step
    then follows the one nearest to g_0, its projection onto the cone of `dualproj`, and counts as degenerate. A zero
    gradient is a task that nothing improves: where the others alone could all improve, that is such a case. Heads get
    their plain gradients.

    Example:
        >>> import torch
        >>> import methods
        >>> trunk = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> losses = [trunk[0] ** 2, 4 * (trunk[0] - trunk[1]) ** 2]
        >>> method = methods.create("cagrad", num_tasks=2)
        >>> method.backward(losses, shared=[trunk])
        tensor([1.2931, 0.4310])
        >>> trunk.grad
        tensor([-0.8621,  3.4483])
    """

    invariant = frozenset({"permutation"})
    search = {"c": Choice(0.2, 0.4, 0.6, 0.8)}

    def __init__(self, num_tasks: int, c: float = 0.4) -> None:
        super().__init__(num_tasks)
        if c < 0:
            raise ValueError(f"c={c}: the update stays within c |g_0| of the mean gradient, so that c ≥ 0")
        self.c = c

    def weigh(self, gramian: Tensor) -> Tensor:
        products, lengths = gramian.numpy(), gramian.diagonal().sqrt()
        update = mean = gramian.new_full((len(gramian),), 1 / len(gramian))
        whole = length_of(products, mean.numpy(), float(mean @ lengths))
        if self.c > 0 and whole > 0:
            worst = conflict_averse(gramian, self.c)
            length = length_of(products, worst.numpy(), float(worst @ lengths))
            if length > 0:
                update = mean + self.c * whole / length * worst
            else:
                self.degenerate += 1
                update = project_onto_cone(gramian, mean)
        return update / (1 + self.c**2)
