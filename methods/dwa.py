"""Dynamic weight average."""

import torch
from torch import Tensor

from methods.core.base import Method
from methods.core.search import Log


class DWA(Method):
    """Weigh a task by how slowly its loss fell between the last two epochs: w = K softmax(r / T).

    Paper: Liu, Johns & Davison, CVPR 2019 (MTAN), Eq. 7; r_k = L_k(t−1) / L_k(t−2), of the epochs' mean unweighted
    losses; weights 1 in the first two epochs; T = 2. Scale: Σ w = K. A mean loss of zero or less gives no ratio. Such a
    task counts as one that has not changed (r_k = 1), and the step counts as degenerate.

    Example:
        >>> import torch
        >>> import methods
        >>> trunk = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> losses = [trunk[0] ** 2, 4 * (trunk[0] - trunk[1]) ** 2]
        >>> method = methods.create("dwa", num_tasks=2)
        >>> method.end_epoch(losses=lambda: torch.tensor([2.0, 8.0]))  # the means of an epoch
        >>> method.end_epoch(losses=lambda: torch.tensor([1.0, 8.0]))  # task 0 has halved its loss
        >>> method.backward(losses, shared=[trunk])
        tensor([0.8756, 1.1244])
    """

    invariant = frozenset({"permutation"})
    per_task = ("epochs",)
    search = {"temperature": Log(0.5, 8)}

    def __init__(self, num_tasks: int, temperature: float = 2.0) -> None:
        super().__init__(num_tasks)
        self.temperature = temperature
        self.register_buffer("epochs", torch.full((2, num_tasks), torch.nan))
        """Mean losses of the last two epochs `[2, K]`, the later one last; NaN before there were any."""

    def weigh(self, losses: Tensor) -> Tensor:
        before, last = self.get_buffer("epochs").to(losses)
        if before.isnan().any():
            return torch.ones_like(losses)
        has_ratio = (before > 0) & (last >= 0)
        self.degenerate += not has_ratio.all()
        ratio = torch.where(has_ratio, last / before, torch.ones_like(losses))
        return self.num_tasks * torch.softmax(ratio / self.temperature, dim=0)

    def after_epoch(self, losses: Tensor) -> None:
        epochs = self.get_buffer("epochs")
        epochs.copy_(torch.stack([epochs[1], losses.to(epochs)]))
