"""A multilayer perceptron with a linear head per task."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from tasks.core.base import Network, Outputs


class Head(nn.Linear):
    """A linear head whose initial weights are `scale` times the usual ones."""

    scale = 1.0

    def __init__(self, inputs: int, outputs: int, scale: float) -> None:
        super().__init__(inputs, outputs)
        self.scale = scale

    def reset_parameters(self) -> None:
        """Draw the weights anew."""
        super().reset_parameters()
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.mul_(self.scale)


class MLP(Network):
    """Shared ReLU layers on one column, then a linear head per task. The taps are the last two hidden layers."""

    def __init__(self, column: str, sizes: Sequence[int], outputs: Mapping[str, int], head_scale: float = 1.0) -> None:
        super().__init__()
        self.column = column
        self.trunk = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.heads = nn.ModuleDict({name: Head(sizes[-1], size, head_scale) for name, size in outputs.items()})

    def forward(self, inputs: Mapping[str, Tensor]) -> Outputs:
        """Predict `[N, outputs]` per task from the column `[N, sizes[0]]`."""
        hidden = [inputs[self.column]]
        for layer in self.trunk:
            hidden.append(torch.relu(layer(hidden[-1])))
        predictions = {name: head(hidden[-1]) for name, head in self.heads.items()}
        return Outputs(predictions, hidden[-1], dict.fromkeys(predictions, tuple(hidden[1:][-2:])))
