"""Random gradient weighting."""

from methods.rlw import RLW


class RGW(RLW):
    """Draw new weights of the task gradients at every step, for the trunk alone.

    Paper: Lin et al., TMLR 2022, Algorithm 2 for gradients: the weights of `rlw`, and heads get their plain gradients.
    The trunk's gradient is a sum, so that one backward of the weighted losses makes it; one more, through the heads
    alone, makes theirs. Scale: Σ w = 1.

    Example:
        >>> import torch
        >>> import methods
        >>> trunk = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> head = torch.tensor(1.0, requires_grad=True)
        >>> losses = [trunk[0] ** 2, head * (trunk[0] - trunk[1]) ** 2]
        >>> method = methods.create("rgw", num_tasks=2, seed=0)
        >>> method.backward(losses, shared=[trunk]).sum()
        tensor(1.)
        >>> head.grad
        tensor(1.)
    """

    heads = "plain"
