"""Aligned-MTL."""

from torch import Tensor

from methods.core.base import Method
from methods.core.search import Choice
from methods.core.solvers.aligned import Scale, align


class AlignedMTL(Method):
    """Replace the gradients by orthogonal ones of one length, which are nearest to them, and step along their sum.

    Paper: Senushkin et al., CVPR 2023, Algorithm 1; `at="features"` is their Aligned-MTL-UB. With M = V Λ Vᵀ and B = √σ
    V Λ^(−½) Vᵀ over the eigenvalues that are not zero, the update is Σ_k (B G)_k: their preference is 1 for every task.
    Scale: `min`, the paper's, takes the least eigenvalue as σ, so that the update is no longer than √K times the
    weakest direction of G; `median` and `rmse` take the eigenvalues' median (of an even number, the mean of the middle
    two) and mean. An eigenvalue counts as zero up to rounding, relative to the unit gradients; the authors' code does
    so relative to the raw ones. Heads get their plain gradients. A zero gradient weighs 0. Gradients that are dependent
    have a definite update, too.

    Example:
        >>> import torch
        >>> import methods
        >>> trunk = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> losses = [trunk[0] ** 2, 4 * (trunk[0] - trunk[1]) ** 2]
        >>> method = methods.create("alignedmtl", num_tasks=2)
        >>> method.backward(losses, shared=[trunk])
        tensor([1.0957, 0.2465])
    """

    invariant = frozenset({"permutation"})
    search = {"scale": Choice("min", "median", "rmse")}

    def __init__(self, num_tasks: int, scale: Scale = "min") -> None:
        super().__init__(num_tasks)
        self.scale = scale

    def weigh(self, gramian: Tensor) -> Tensor:
        return align(gramian, self.scale).sum(1)
