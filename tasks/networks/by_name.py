"""The networks for tasks of every pixel, by the names that task sets take as an option."""

from collections.abc import Mapping
from typing import Literal

from tasks.core.base import Network
from tasks.networks import segnet
from tasks.networks.encoder_decoder import EncoderDecoder
from tasks.networks.segnet import SegNet, scaled

Name = Literal["encoder_decoder", "segnet"]
MULTIPLES: Mapping[Name, int] = {"encoder_decoder": 4, "segnet": segnet.MULTIPLE}
"""Heights and widths of images are multiples of these."""
CHANNELS: Mapping[Name, tuple[int, ...]] = {"encoder_decoder": (16, 32), "segnet": segnet.CHANNELS}
"""Numbers of channels that an option multiplies."""


def require(name: Name, channels: float) -> None:
    """Raise ValueError if this multiple of a network's own numbers of channels leaves a layer without a channel."""
    scaled(CHANNELS[name], channels)


def build(name: Name, outputs: Mapping[str, int], channels: float) -> Network:
    """Return a network that reads the column `image`.

    Args:
        name: which.
        outputs: by task, how many numbers it predicts for each pixel.
        channels: the multiple of the network's own numbers of channels, in every layer. Raises as `require`.
    """
    if name == "segnet":
        return SegNet("image", outputs, channels)
    narrow, wide = scaled(CHANNELS[name], channels)
    return EncoderDecoder("image", outputs, (narrow, wide))
