"""The single-task networks that distillation reads."""

from collections.abc import Mapping

from torch import Tensor, nn

from tasks.core.base import Network


class Teacher(nn.Module):
    """A trained single-task network as distillation reads it: it turns a batch's inputs into the task's taps."""

    def __init__(self, network: Network, task: str, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        network.load_state_dict(state)
        self.network, self.task = network, task

    def forward(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Return the feature maps of the task."""
        taps: dict[str, tuple[Tensor, ...]] = self.network(inputs).taps
        return taps[self.task]
