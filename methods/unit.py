"""The sum of unit gradients."""

from torch import Tensor

from methods.core.base import Method


class Unit(Method):
    """Step along Σ g_k / |g_k|: every gradient counts with its direction alone.

    This is the control of many rules: with one step DiBS-MTL, NTKMTL with the exponent ½, and for two tasks Nash-MTL
    and FairGrad at α = 1 give this direction, in lengths of their own. Scale: the update is at most K long. Multiplying
    a loss by a constant does not change the update, nor does any increasing function of a loss. Heads get their plain
    gradients. A zero gradient is left out.

    Example:
        >>> import torch
        >>> import methods
        >>> trunk = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> losses = [trunk[0] ** 2, 4 * (trunk[0] - trunk[1]) ** 2]
        >>> method = methods.create("unit", num_tasks=2)
        >>> method.backward(losses, shared=[trunk])
        tensor([0.5000, 0.0884])
    """

    invariant = frozenset({"permutation", "scale"})
    zero_gradients = "left out"

    def weigh(self, gramian: Tensor) -> Tensor:
        return gramian.diagonal().rsqrt()
