"""NTKMTL."""

from torch import Tensor

from methods.core.base import Method
from methods.core.search import Choice


class NTKMTL(Method):
    """Weigh a task by (mean_j λ_j / λ_k)^exponent, where λ_k = |g_k|² stands for its neural tangent kernel.

    Paper: Qin et al., NeurIPS 2025, Eq. 15, for one batch (n = 1), where the kernel of the losses is |g_k|². The
    exponent is ½; the authors' NYUv2 script has 0.75. At ½ the direction is that of `unit`. Scale: the paper's mean
    over tasks. The authors' code has the sum, multiplies the update by K, and clips it to 1; nothing is clipped here.
    The length follows the largest gradients, so that a loss times a constant changes it. Heads get their plain
    gradients. A zero gradient is left out.

    Example:
        >>> import torch
        >>> import methods
        >>> trunk = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> losses = [trunk[0] ** 2, 4 * (trunk[0] - trunk[1]) ** 2]
        >>> method = methods.create("ntkmtl", num_tasks=2)
        >>> method.backward(losses, shared=[trunk])
        tensor([4.0620, 0.7181])
    """

    invariant = frozenset({"permutation"})
    zero_gradients = "left out"
    search = {"exponent": Choice(0.25, 0.5, 0.75, 1.0)}

    def __init__(self, num_tasks: int, exponent: float = 0.5) -> None:
        super().__init__(num_tasks)
        self.exponent = exponent

    def weigh(self, gramian: Tensor) -> Tensor:
        squared = gramian.diagonal()
        return (squared.mean() / squared) ** self.exponent
