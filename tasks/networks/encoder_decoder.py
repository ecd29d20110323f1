"""A small convolutional encoder-decoder with a 1×1 head per task."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from tasks.core.base import Network, Outputs


class EncoderDecoder(Network):
    """Two strides down, one up with a skip; heads of 1×1 convolution and pixel shuffle back to full size.

    The taps are the bottleneck, at a quarter of the image's size, and the last shared map, at half, which the heads
    read (`features`).
    """

    def __init__(self, column: str, outputs: Mapping[str, int], widths: tuple[int, int] = (16, 32)) -> None:
        super().__init__()
        narrow, wide = widths
        self.column = column
        self.trunk = nn.ModuleDict(
            {
                "down1": _block(3, narrow, stride=2),
                "down2": _block(narrow, wide, stride=2),
                "bottleneck": _block(wide, wide),
                "up": _block(wide + narrow, wide),
            }
        )
        self.heads = nn.ModuleDict({name: nn.Conv2d(wide, 4 * size, 1) for name, size in outputs.items()})

    def forward(self, inputs: Mapping[str, Tensor]) -> Outputs:
        """Predict `[N, outputs, H, W]` per task from the column `[N, 3, H, W]`; H and W are multiples of 4."""
        half = self.trunk["down1"](inputs[self.column])
        bottleneck = self.trunk["bottleneck"](self.trunk["down2"](half))
        up = functional.interpolate(bottleneck, scale_factor=2.0, mode="nearest")
        shared = self.trunk["up"](torch.cat([up, half], 1))
        predictions = {name: functional.pixel_shuffle(head(shared), 2) for name, head in self.heads.items()}
        return Outputs(predictions, shared, dict.fromkeys(predictions, (bottleneck, shared)))


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())
