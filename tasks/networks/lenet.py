"""A small convolutional network for grey images."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from tasks.core.base import Network, Outputs


class LeNet(Network):
    """Two 5×5 convolutions, each pooled by 2, and a shared linear layer; heads of two layers.

    Sener & Koltun's network for MultiMNIST (NeurIPS 2018, supplement), without its dropout. The taps are the last
    convolution's map and the shared features.
    """

    def __init__(
        self,
        column: str,
        side: int,
        outputs: Mapping[str, int],
        widths: tuple[int, int] = (8, 16),  # 10 and 20 take half as long again on the CPU
        features: int = 64,
    ) -> None:
        super().__init__()
        narrow, wide = widths
        self.column = column
        self.trunk = nn.ModuleDict(
            {
                "conv1": nn.Conv2d(1, narrow, 5),
                "conv2": nn.Conv2d(narrow, wide, 5),
                "linear": nn.Linear(wide * (((side - 4) // 2 - 4) // 2) ** 2, features),
            }
        )
        self.heads = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Linear(features, features), nn.ReLU(), nn.Linear(features, size))
                for name, size in outputs.items()
            }
        )

    def forward(self, inputs: Mapping[str, Tensor]) -> Outputs:
        """Predict `[N, outputs]` per task from the column `[N, 1, side, side]` of bytes."""
        image = inputs[self.column] / 255
        first = functional.max_pool2d(self.trunk["conv1"](image), 2).relu()
        second = functional.max_pool2d(self.trunk["conv2"](first), 2).relu()
        shared = torch.relu(self.trunk["linear"](second.flatten(1)))
        predictions = {name: head(shared) for name, head in self.heads.items()}
        return Outputs(predictions, shared, dict.fromkeys(predictions, (second, shared)))
