"""Two overlaid garments on one canvas: MultiMNIST's recipe on Fashion-MNIST."""

from tasks.core.base import Card
from tasks.core.hub import Source
from tasks.multimnist import CLASSES, PREPROCESSING, TRAPS, MultiMNIST


class MultiFashion(MultiMNIST):
    """Two overlaid garments, from the hub or a folder (path): left garment, right garment.

    Harder than digits, which are thin lines: the brighter garment hides much of the other.
    """

    hub = "zalando-datasets/fashion_mnist@531be5e2ccc9dba0c201ad3ae567a4f3d16ecdd2"
    source = Source(
        hub,
        rows={"train": 60_000, "test": 10_000},
        columns={"image": "Image", "label": f"ClassLabel({CLASSES})"},
    )
    card = Card(
        origin="Fashion-MNIST (Xiao et al. 2017), hub id zalando-datasets/fashion_mnist",
        licence="MIT (Zalando)",
        preprocessing=PREPROCESSING,
        traps=TRAPS,
    )
