"""The average weights of another rule, fixed: what remains of that rule if it may not adapt?"""

import torch
from torch import Tensor

from methods.core.average import Average
from methods.core.base import DoesNotFitError, Method


class Frozen(Method):
    """Minimise Σ w_k l_k, where w is the average of what another rule used: `frozen[of=[mgda]]`.

    Asked for by the critics of balancing (Gama & Grassi 2025; Royer et al., NeurIPS 2023): if a rule still wins with
    its average weights, then its weights matter and its adapting does not. The weights are fixed from the start, to
    the mean over the other rule's run of the same seed of w / Σ|w|, times the mean of Σ|w|. Heads get what they get
    there: the weighted gradient or, where that rule does not weigh it, their plain one. `of` is a whole variant in
    brackets. A harness trains it first. In a loop of your own, fix weights with `static`.

    Example:
        >>> import methods
        >>> methods.create("frozen", num_tasks=2, of="[mgda]")  # without a harness, nobody knows the average
        Traceback (most recent call last):
        ...
        methods.core.errors.DoesNotFitError: frozen needs the average weights of another rule's run,
            which a harness provides; here fix them with static
        >>> method = methods.create("static", num_tasks=2, weights=(1.5, 0.5))
    """

    per_task = ("weights",)

    def __init__(self, num_tasks: int, of: str, average: Average) -> None:
        super().__init__(num_tasks)
        if len(average.weights) != num_tasks:
            raise DoesNotFitError(f"{of} had {len(average.weights)} weights, and there are {num_tasks} tasks")
        self.of = of
        self.register_buffer("weights", torch.tensor(average.weights))
        self.heads = average.heads

    def weigh(self, losses: Tensor) -> Tensor:
        return self.get_buffer("weights").to(losses)
