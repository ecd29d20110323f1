"""Optimal uncertainty weighting."""

from methods.log import Log


class UWO(Log):
    """Minimise Σ l_k / sg(l_k), where sg stops the gradient: the same weights as `log`.

    Paper: Kirchdorfer et al., GCPR 2024 (UW-O): the objective of uncertainty weighting, with the best uncertainty put
    in at every step. The value of the objective is always K; its derivatives are 1 / l_k, for the trunk and for heads,
    as those of `log`, in which everything else is said. It stands here because papers list it as a rule of its own.

    Example:
        >>> import torch
        >>> import methods
        >>> trunk = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> losses = [trunk[0] ** 2, 4 * (trunk[0] - trunk[1]) ** 2]
        >>> method = methods.create("uwo", num_tasks=2)
        >>> method.backward(losses, shared=[trunk])
        tensor([1.0000, 0.2500])
    """
