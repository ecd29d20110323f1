"""FairGrad."""

from torch import Tensor

from methods.core.base import Method
from methods.core.search import Choice
from methods.core.solvers.bargaining import bargain


class FairGrad(Method):
    """Step to the α-fair bargain: weights with M w = w^(−1/α).

    Paper: Ban & Ji, ICML 2024: the update maximises Σ (g_k · d)^(1−α) / (1−α) over a ball. α = 1 is Nash-MTL;
    the larger α, the more the worst-off task counts. The default is 2, as in all run scripts of the authors (their
    class says 1). The weights are the exact solution; the authors' code takes bounded least squares. Scale: the
    equation's own. Orthogonal gradients weigh |g_k|^(−2α/(1+α)). The authors' code multiplies the update by K and clips
    it to 1; nothing is clipped here. Heads get their plain gradients. A zero gradient is left out. If some gradients
    cancel with weights ≥ 0, there is no solution, and the step counts as degenerate. Its update is the limit for a
    small regulariser: those gradients have no say, and the others bargain over what is perpendicular to them.

    Example:
        >>> import torch
        >>> import methods
        >>> trunk = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> losses = [trunk[0] ** 2, 4 * (trunk[0] - trunk[1]) ** 2]
        >>> method = methods.create("fairgrad", num_tasks=2)
        >>> method.backward(losses, shared=[trunk])
        tensor([0.7570, 0.1174])
    """

    invariant = frozenset({"permutation"})
    zero_gradients = "left out"
    nonconflicting = True
    search = {"alpha": Choice(0.5, 1.0, 2.0, 5.0)}

    def __init__(self, num_tasks: int, alpha: float = 2.0) -> None:
        super().__init__(num_tasks)
        if not 0.1 <= alpha < float("inf"):
            raise ValueError(f"alpha={alpha}: write a number from 0.1 on")
        self.alpha = alpha

    def weigh(self, gramian: Tensor) -> Tensor:
        weights = bargain(gramian, self.alpha)
        self.degenerate += bool((weights <= 0).any())
        return weights
