"""The geometric mean of the losses."""

import torch
from torch import Tensor

from methods.log import Log


class GLS(Log):
    """Minimise the geometric mean of the losses, (Π l_k)^(1/K).

    Paper: Chennupati et al., CVPR Workshops 2019 (MultiNet++). The derivatives are the weights, GLS / (K l_k), so the
    update has the direction of `log`, and a length that shrinks with the losses. To multiply one loss by c multiplies
    the update by c^(1/K). Scale: with equal losses the weights are 1/K. Heads are weighted. A loss of zero or less has
    no part in the mean: the task weighs 0, K is the number of the others, and the step counts as degenerate. A loss
    near zero, as of a task with a rare label in a batch without it, has a huge weight and takes that of the others
    away.

    Example:
        >>> import torch
        >>> import methods
        >>> trunk = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> losses = [trunk[0] ** 2, 4 * (trunk[0] - trunk[1]) ** 2]
        >>> method = methods.create("gls", num_tasks=2)
        >>> method.backward(losses, shared=[trunk])
        tensor([1.0000, 0.2500])
    """

    invariant = frozenset({"permutation"})

    def weigh_positive(self, losses: Tensor) -> Tensor:
        logarithms = losses.log()
        return torch.exp(logarithms.mean() - logarithms) / self.num_tasks
