"""ConFIG: conflict-free inverse gradients."""

from torch import Tensor

from methods.core.base import Method
from methods.core.solvers.equal_cosines import are_equal, equal_cosines


class ConFIG(Method):
    """Step along the direction that has the same cosine with all gradients, as far as they reach along it.

    Paper: Liu, Chu & Thuerey, ICLR 2025, Eq. 2: with the unit gradients as rows of U, x = U⁺1 and v = x / |x|,
    the update is (Σ g_k · v) v. All arithmetic is with the Gramian. Scale: the length is that of the projection of Σ
    g_k on v; so it grows with each loss, while v does not change. Heads get their plain gradients. A zero gradient is
    left out. If the unit gradients are dependent in such a way that no direction has the same positive cosine with all
    of them, then U⁺1 is the best by least squares, and the step counts as degenerate. Exact opposites give a zero
    update.

    Example:
        >>> import torch
        >>> import methods
        >>> trunk = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> losses = [trunk[0] ** 2, 4 * (trunk[0] - trunk[1]) ** 2]
        >>> method = methods.create("config", num_tasks=2)
        >>> method.backward(losses, shared=[trunk])
        tensor([3.3284, 0.5884])
    """

    invariant = frozenset({"permutation"})
    zero_gradients = "left out"

    def weigh(self, gramian: Tensor) -> Tensor:
        weights = equal_cosines(gramian)
        self.degenerate += not are_equal(gramian, weights)
        along = gramian @ weights  # g_k · x
        squared = weights @ along
        return weights * (along.sum() / squared) if squared > 0 else weights.new_zeros(len(weights))
