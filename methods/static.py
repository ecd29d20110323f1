"""Fixed weights: linear scalarisation."""

import torch
from torch import Tensor

from methods.core.base import DoesNotFitError, Method
from methods.core.search import Simplex


class Static(Method):
    """Minimise Σ w_k l_k for fixed weights: `static[weights=1:2:1]`.

    This is linear scalarisation, the baseline that balancing has to beat (Xin et al., NeurIPS 2022; Kurin et al.,
    NeurIPS 2022). Without weights they are all 1; a harness that tunes draws them, and chooses on the validation split.
    Scale: the weights are used as they are.

    Example:
        >>> import torch
        >>> import methods
        >>> trunk = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> losses = [trunk[0] ** 2, 4 * (trunk[0] - trunk[1]) ** 2]
        >>> method = methods.create("static", num_tasks=2, weights=(1, 2))
        >>> method.backward(losses, shared=[trunk])
        tensor([1., 2.])
    """

    per_task = ("weights",)
    search = {"weights": Simplex()}

    def __init__(self, num_tasks: int, weights: tuple[float, ...] | None = None) -> None:
        super().__init__(num_tasks)
        if weights is not None and len(weights) != num_tasks:
            raise DoesNotFitError(f"{len(weights)} weights were given for {num_tasks} tasks")
        self.register_buffer("weights", torch.ones(num_tasks) if weights is None else torch.tensor(weights))

    def weigh(self, losses: Tensor) -> Tensor:
        return self.get_buffer("weights").to(losses)
