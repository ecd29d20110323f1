"""Excess risks."""

import math

import torch
from torch import Tensor

from methods.core.base import Method
from methods.core.gradients import at_once
from methods.core.search import Log

EPSILON = 1e-7
"""Added to the sums of squares."""


class ExcessMTL(Method):
    """Give weight to the tasks that are far from their own optimum, as the curvature of their losses estimates it.

    Paper: He et al., ICML 2024, Eq. 6, 7 and 9. With h_k the sum of the squares of all gradients of task k, entry by
    entry, its excess risk is e_k = Σ_p g_kp² / √(h_kp + 1e-7), relative to that of the first step. Then
    w_k ← w_k exp(η e_k), and w is rescaled to Σ w = K. The first step gives every task the excess 1, so that the
    weights stay 1, as in the authors' code; the paper's appendix takes the mean over three epochs as baseline. η = 1 is
    the authors' command for Office; their parser has 0.01. Whole losses are weighed, heads included, as there. Scale:
    Σ w = K.

    The weights are kept as logarithms, so that none is lost at zero. A task whose gradient has been zero at every step
    has no baseline: its excess counts as 1, and the step counts as degenerate. A sum of squares belongs to a parameter;
    at the features it would be one of other examples at each step.

    Example:
        >>> import torch
        >>> import methods
        >>> trunk = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> method = methods.create("excessmtl", num_tasks=2)
        >>> for factor in (1, 3):  # at the second step the gradient of task 1 is three times as long
        ...     losses = [trunk[0] ** 2, factor * 4 * (trunk[0] - trunk[1]) ** 2]
        ...     method.backward(losses, shared=[trunk])
        tensor([1., 1.])
        tensor([0.2107, 1.7893])
    """

    places = ("shared", "last")
    heads = "weighted"
    invariant = frozenset({"permutation"})
    per_task = ("squares", "first", "logarithms")
    search = {"eta": Log(1e-3, 3)}

    def __init__(self, num_tasks: int, eta: float = 1.0) -> None:
        super().__init__(num_tasks)
        self.eta = eta
        self.register_buffer("squares", torch.zeros(0, num_tasks))
        """The sums h_k `[P, K]`."""
        self.register_buffer("first", torch.full((num_tasks,), torch.nan, dtype=torch.float64))
        """Each task's first excess risk `[K]` that was not zero."""
        self.register_buffer("logarithms", torch.zeros(num_tasks, dtype=torch.float64))
        """log w_k `[K]`."""

    def weigh(self, jacobian: Tensor) -> Tensor:
        squares = self.rows_of("squares", jacobian).addcmul_(jacobian.T, jacobian.T)
        excess = jacobian.new_zeros(len(jacobian), dtype=torch.float64)
        width = at_once(len(jacobian))  # so that nothing as large as the Jacobian is made
        for rows, seen in zip(jacobian.split(width, dim=1), squares.split(width), strict=True):
            excess += (rows.T.square() / (seen + EPSILON).sqrt()).sum(0, dtype=torch.float64)
        excess = excess.cpu()
        first, logarithms = self.get_buffer("first"), self.get_buffer("logarithms")
        first.copy_(torch.where(first.isnan() & (excess > 0), excess, first))
        self.degenerate += bool(first.isnan().any())
        logarithms += self.eta * torch.where(first.isnan(), 1, excess / first)
        logarithms -= logarithms.logsumexp(0) - math.log(self.num_tasks)
        return logarithms.exp()
