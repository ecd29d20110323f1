"""Group optimisation for multi-task alignment."""

import torch
from torch import Tensor

from methods.core.search import Choice
from methods.core.search import Log as LogRange
from methods.core.solvers.clusters import cluster_means
from methods.log import Log


class GO4Align(Log):
    """Put tasks of similar risk into groups, and give each group one weight.

    Paper: Shen et al., NeurIPS 2024, with the steps of its code: p_k ← p_k exp(−β l_k), from 1/K, scaled to Σ p = 1;
    the score s_k = p_k Σ_j l_j / l_k; the scores are put into groups by k-means, and every task's weight is the mean
    score of its group. p is kept as its exponent, −β Σ l_k over all steps, so that an absent task's share is not
    distorted. In one dimension k-means has an exact solution, which is used here; the code names a k-means that it
    does not import. With `groups` = 1 the rule is equal weights times a factor (the default of the code's command);
    with as many groups as tasks, or more, it is p-weighted log losses times a factor. Scale: of the scores, whose mean
    is 1 for equal losses. Heads are weighted. A task whose loss is zero or less weighs 0, the others are weighed
    without it, and the step counts as degenerate. A loss near zero, as of a task with a rare label in a batch without
    it, has a huge score, and its group a huge weight.

    Example:
        >>> import torch
        >>> import methods
        >>> trunk = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> losses = [trunk[0] ** 2, 4 * (trunk[0] - trunk[1]) ** 2, 5 * trunk[0] ** 2]
        >>> method = methods.create("go4align", num_tasks=3)
        >>> method.backward(losses, shared=[trunk])
        tensor([3.3341, 0.7499, 0.7499])
    """

    invariant = frozenset({"permutation"})
    per_task = ("exponents",)
    search = {"groups": Choice(2, 3, 5), "beta": LogRange(1e-5, 1e-1)}

    def __init__(self, num_tasks: int, groups: int = 2, beta: float = 1e-4) -> None:
        super().__init__(num_tasks)
        self.groups = groups
        self.beta = beta
        self.register_buffer("exponents", torch.zeros(num_tasks))

    def weigh_positive(self, losses: Tensor) -> Tensor:
        exponents = self.get_buffer("exponents")
        exponents.sub_(losses.to(exponents), alpha=self.beta)
        shares = torch.softmax(exponents.to(losses), dim=0)
        scores = shares * (losses.sum() / losses)
        return cluster_means(scores.double().cpu(), self.groups)
