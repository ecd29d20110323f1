"""Gradient sign dropout."""

import torch
from torch import Tensor

from methods.core.base import Method
from methods.core.gradients import at_once
from methods.core.search import Choice


class GradDrop(Method):
    """Draw a sign for each coordinate of the features, and drop the task gradients of the other sign there.

    Paper: Chen et al., NeurIPS 2020, Algorithm 1. With x_k = Σ over the batch of sign(z) ∇_z l_k, the purity of a
    coordinate is P = ½ (1 + Σ x_k / Σ |x_k|). Its sign is positive with the probability P, and a task whose x_k has the
    other sign keeps only the share `leak` of its gradient there, in every example. One number is drawn for each
    coordinate, for all tasks. The paper has a leak for each task, 0 by default; here it is one for all. `at="shared"`
    is the version for parameters, x_k = g_k, whose update is Σ g_k in the mean.

    sign(0) is 0, so an example at which a ReLU is off has no part in the purity. A task whose x_k is 0 has no sign, and
    is dropped as the losing sign is. Where no task has a sign there is nothing to choose, and every gradient passes.
    Scale: that of Σ g_k. Heads get their plain gradients.

    Example:
        >>> import torch
        >>> import methods
        >>> trunk = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> losses = [trunk[0] ** 2, 4 * (trunk[0] - trunk[1]) ** 2]
        >>> method = methods.create("graddrop", num_tasks=2, at="shared")
        >>> method.backward(losses, shared=[trunk])  # the gradients are (2, 0) and (-8, 8)
        >>> trunk.grad
        tensor([-8.,  8.])
    """

    at = "features"
    invariant = frozenset({"permutation"})
    search = {"leak": Choice(0.0, 0.25, 0.5)}

    def __init__(self, num_tasks: int, leak: float = 0.0) -> None:
        super().__init__(num_tasks)
        self.leak = leak

    def combine(self, jacobian: Tensor, features: Tensor | None = None) -> Tensor:
        examples, signed = 1, jacobian
        if self.at == "features":
            assert features is not None  # a loop that measures there has passed them
            examples, signs = len(features), features.sign().reshape(len(features), -1).to(jacobian)
            signed = torch.stack([(row.view_as(signs) * signs).sum(0) for row in jacobian])
        parts = signed.split(at_once(len(signed)), dim=1)  # so that nothing as large as the Jacobian is made
        size = torch.cat([part.abs().sum(0) for part in parts])
        purity = 0.5 + 0.5 * signed.sum(0) / torch.where(size > 0, size, 1)
        drawn = torch.rand(len(purity), generator=self.generator).to(purity)
        sign = torch.where(drawn < purity, 1.0, -1.0)
        without = size == 0
        update = jacobian.new_zeros(examples, len(purity))
        for row, own in zip(jacobian, signed, strict=True):
            share = torch.where((own * sign > 0).logical_or_(without), 1.0, self.leak)
            update.addcmul_(row.view_as(update), share.to(update))
        return update.flatten()
