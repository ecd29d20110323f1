"""Improvable gap balancing, the form without reinforcement learning."""

from torch import Tensor

from methods.log import _RelativeLog


class IGBv1(_RelativeLog):
    """Weigh the log losses by how far each task is from a perfect score: w = K softmax(l / B), Σ w_k log l_k.

    Paper: Dai, Fei & Lu, UAI 2023 (IGBv1). B_k is the task's mean training loss in epoch number `base_epoch`, from 0;
    until then every w_k is 1, which is `log`. The weights w are constants in the derivative, so that the weights of
    the losses are w_k / l_k. As in the code, l is the batch's loss, not a mean. Where a task had no label in that
    epoch, or its mean was not above zero, B_k is that of the first later epoch with one; while B_k is not known of a
    task that is present, the step is one of `log`. Scale: Σ w = K. Heads are weighted. A task whose loss is zero or
    less weighs 0, the others are weighed without it, and the step counts as degenerate. A loss near zero, as of a task
    with a rare label in a batch without it, has a huge weight.

    Example:
        >>> import torch
        >>> import methods
        >>> trunk = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> losses = [trunk[0] ** 2, 4 * (trunk[0] - trunk[1]) ** 2]
        >>> method = methods.create("igbv1", num_tasks=2, base_epoch=0)
        >>> method.end_epoch(losses=lambda: torch.tensor([1.0, 8.0]))  # the means of an epoch
        >>> method.backward(losses, shared=[trunk])
        tensor([1.2449, 0.1888])
    """

    def __init__(self, num_tasks: int, base_epoch: int = 1) -> None:
        super().__init__(num_tasks, epoch=base_epoch)

    def logits(self, ratios: Tensor) -> Tensor:
        return ratios
