"""Projecting conflicting gradients."""

import numpy as np
import torch
from torch import Tensor

from methods.core.base import Method


class PCGrad(Method):
    """Take from each task gradient what conflicts with the others, one after the other, and add up the results.

    Paper: Yu et al., NeurIPS 2020, Algorithm 1: v_i starts as g_i and meets every other g_j, as it was measured, in an
    order drawn for each i; if v_i · g_j < 0, v_i loses its part along g_j. The update is Σ v_i. All products come from
    the Gramian. Public codes add 1e-8 to |g_j|², which is wrong for short gradients; here nothing is added. Scale:
    gradients without conflict have the weights 1. With a zero gradient nothing conflicts, so its weight is 1, too.
    From three tasks on the update depends on the orders. Heads get their plain gradients.

    Example:
        >>> import torch
        >>> import methods
        >>> trunk = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> losses = [trunk[0] ** 2, 4 * (trunk[0] - trunk[1]) ** 2]
        >>> method = methods.create("pcgrad", num_tasks=2)
        >>> method.backward(losses, shared=[trunk])
        tensor([5.0000, 1.1250])
        >>> trunk.grad
        tensor([1., 9.])
    """

    def weigh(self, gramian: Tensor) -> Tensor:
        tasks = np.arange(len(gramian))
        lengths = gramian.diagonal().sqrt().numpy()
        lengths = np.where(lengths > 0, lengths, 1)
        cosines = gramian.numpy() / lengths / lengths[:, np.newaxis]
        orders = torch.rand(gramian.shape, generator=self.generator).argsort(1).numpy()
        # Row i is v_i / |g_i|, as a sum of unit gradients; and its products with each of them.
        parts, products = np.eye(len(tasks)), cosines.copy()
        for others in orders.T:
            step = np.where(others == tasks, 0, -np.minimum(products[tasks, others], 0))
            parts[tasks, others] += step
            products += step[:, np.newaxis] * cosines[others]
        return torch.from_numpy(lengths @ parts / lengths)
