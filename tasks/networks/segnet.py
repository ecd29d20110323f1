"""SegNet: the network on which papers about dense tasks report."""

import math
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from tasks.core.base import Network, Outputs

CHANNELS = 64, 128, 256, 512, 512
"""The published numbers of channels, by stage."""
DEPTHS = 2, 2, 3, 3, 3
"""Convolutions in a stage: those of VGG-16."""
MULTIPLE = 2 ** len(CHANNELS)
"""Heights and widths are multiples of this: each stage halves them."""


class SegNet(Network):
    """Five stages of 3×3 convolutions down, each pooled by 2, and five up, which put values back where they were taken.

    All is shared but the heads: a 3×3 convolution and a 1×1 one, with nothing between. The heads of `unit` tasks return
    vectors of length 1. Segmentation is predicted as logits: the papers' log-softmax is part of the loss here.
    Convolutions start with biases of 0 and Xavier's normal weights. Each is followed by batch normalisation and ReLU,
    except in heads. `channels` is the multiple of the published numbers of channels that every layer has.

    Sources: Badrinarayanan, Kendall & Cipolla, SegNet, TPAMI 2017; as a network of several tasks: Liu, Johns & Davison
    2019 ("split") and Li & Bilen 2020. At the published width it has their 24,943,296 shared parameters.

    The taps are those that Li & Bilen distil: the bottleneck after the fifth pooling, and the last shared map at full
    size, which the heads read (`features`).

    Raises:
        ValueError: `channels` leaves a layer without a channel.
    """

    def __init__(
        self, column: str, outputs: Mapping[str, int], channels: float = 1.0, unit: Collection[str] = ("normals",)
    ) -> None:
        super().__init__()
        self.column = column
        widths = scaled(CHANNELS, channels)
        first = widths[0]
        down = zip((3, *widths[:-1]), widths, DEPTHS, strict=True)
        up = zip(widths[::-1], (*widths[-2::-1], first), DEPTHS[::-1], strict=True)
        self.trunk = nn.ModuleDict(
            {
                "encoder": nn.ModuleList(_stage(a, b, depth) for a, b, depth in down),
                "decoder": nn.ModuleList(_stage(a, b, depth) for a, b, depth in up),
            }
        )
        self.heads = nn.ModuleDict({name: head(first, size, name in unit) for name, size in outputs.items()})

    def forward(self, inputs: Mapping[str, Tensor]) -> Outputs:
        """Predict `[N, outputs, H, W]` per task from the column `[N, 3, H, W]`.

        Raises:
            ValueError: H or W is no multiple of 32.
        """
        image = inputs[self.column]
        require_multiple(image)
        if image.device.type == "cpu":  # where a step takes a tenth less time for it, and a quarter less if narrow
            image = image.contiguous(memory_format=torch.channels_last)
        shared, places = image, []
        for stage in self.trunk["encoder"].children():
            shared, place = functional.max_pool2d(stage(shared), 2, return_indices=True)
            places.append(place)
        bottleneck = shared
        for stage in self.trunk["decoder"].children():
            shared = stage(functional.max_unpool2d(shared, places.pop(), [2, 2]))
        predictions = {name: own(shared) for name, own in self.heads.items()}
        return Outputs(predictions, shared, dict.fromkeys(predictions, (bottleneck, shared)))


class Convolution(nn.Conv2d):
    """A convolution that keeps the size. It starts with Xavier's normal weights and a bias of 0."""

    def __init__(self, inputs: int, outputs: int, side: int) -> None:
        super().__init__(inputs, outputs, side, padding=side // 2)

    def reset_parameters(self) -> None:
        """Draw the weights anew."""
        nn.init.xavier_normal_(self.weight)
        assert self.bias is not None
        nn.init.zeros_(self.bias)


class Unit(nn.Module):
    """Vectors along axis 1 divided by their length. A vector of zeros stays one, and its gradient is finite."""

    def forward(self, vectors: Tensor) -> Tensor:
        """Return vectors `[N, D, …]` of length 1, in float32 or better."""
        wide = vectors.to(torch.promote_types(vectors.dtype, torch.float32))  # 1e-12 is 0 in float16
        return wide / (wide.square().sum(1, keepdim=True) + 1e-12).sqrt()


def scaled(published: Sequence[int], channels: float) -> tuple[int, ...]:
    """Return the published numbers of channels times `channels`.

    Raises:
        ValueError: a layer would have no channel, or the multiple is no finite number.
    """
    least = min(published)
    if not 1 / least <= channels < math.inf:
        raise ValueError(f"channels={channels:g}: it multiplies numbers of channels, and is at least 1/{least} here")
    return tuple(round(channels * number) for number in published)


def block(inputs: int, outputs: int) -> nn.Sequential:
    """Return a 3×3 convolution with batch normalisation and ReLU."""
    return nn.Sequential(Convolution(inputs, outputs, 3), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def head(inputs: int, outputs: int, unit: bool = False) -> nn.Sequential:
    """Return a task's head: a 3×3 and a 1×1 convolution, and vectors of length 1 if `unit`."""
    layers = [Convolution(inputs, inputs, 3), Convolution(inputs, outputs, 1)]
    return nn.Sequential(*layers, Unit()) if unit else nn.Sequential(*layers)


def require_multiple(image: Tensor) -> None:
    """Raise ValueError unless the height and width of images `[N, C, H, W]` are multiples of 32."""
    height, width = image.shape[2:]
    if height % MULTIPLE or width % MULTIPLE:
        raise ValueError(f"images of {height}×{width}: SegNet needs heights and widths in multiples of {MULTIPLE}")


def _stage(inputs: int, outputs: int, depth: int) -> nn.Sequential:
    """Return `depth` blocks, of which the first changes the number of channels."""
    return nn.Sequential(block(inputs, outputs), *(block(outputs, outputs) for _ in range(depth - 1)))
