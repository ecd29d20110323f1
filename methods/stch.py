"""Smooth Tchebycheff scalarisation."""

from torch import Tensor

from methods.core.search import Log as LogRange
from methods.log import _RelativeLog


class STCH(_RelativeLog):
    """Minimise a smooth maximum of the log losses relative to an early epoch: K μ log Σ (l_k / n_k)^(1/μ).

    Paper: Lin et al., ICML 2024, with the choices of its code for deep networks: the preferences are 1; for `warmup` =
    5 epochs Σ log l_k is minimised, as `log` does, and n_k is the task's mean training loss in the last of them. The
    weights are the derivatives, K p_k / l_k with p = softmax(log(l / n) / μ). **At μ = 1, the default of the code,
    they are fixed weights 1 / n_k times a factor common to all tasks**, K / Σ (l_j / n_j): under Adam hardly more than
    `static` with these weights. Small μ follows the worst task. Where a task had no label in that epoch, or its mean
    was not above zero, n_k is that of the first later epoch with one; while n_k is not known of a task that is
    present, the step is one of `log`. Scale: Σ w_k l_k = K. Heads are weighted. A task whose loss is zero or less
    weighs 0, the others are weighed without it, and the step counts as degenerate. During warm-up a loss near zero, as
    of a task with a rare label in a batch without it, has a huge weight; afterwards only for μ > 1.

    Example:
        >>> import torch
        >>> import methods
        >>> trunk = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> losses = [trunk[0] ** 2, 4 * (trunk[0] - trunk[1]) ** 2]
        >>> method = methods.create("stch", num_tasks=2, warmup=1)
        >>> method.end_epoch(losses=lambda: torch.tensor([1.0, 8.0]))  # the means of an epoch
        >>> method.backward(losses, shared=[trunk])
        tensor([1.3333, 0.1667])
    """

    search = {"mu": LogRange(0.01, 1)}

    def __init__(self, num_tasks: int, mu: float = 1.0, warmup: int = 5) -> None:
        super().__init__(num_tasks, epoch=warmup - 1)
        self.mu = mu

    def logits(self, ratios: Tensor) -> Tensor:
        return ratios.log() / self.mu
