"""Cityscapes: segmentation and inverse depth of photographs of streets."""

from functools import cached_property

from tasks.core import dense
from tasks.core.base import Card, Task
from tasks.core.hub import Source
from tasks.core.metrics import legacy
from tasks.core.photographs import Photographs, classes, depth, image, published
from tasks.core.protocol import Protocol

CLASSES, HEIGHT, WIDTH = 7, 128, 256


class Cityscapes(Photographs):
    """Photographs of streets, from a folder (path): segmentation and inverse depth of every pixel.

    Cross-entropy over 7 classes, and the absolute error of inverse depths, which is some hundred times smaller. The
    protocols of papers, `li2020` and `navon2022`, train on all images and keep none for validation.

    The network is the papers' SegNet, of 25 million parameters. `channels=0.125` gives every layer an eighth of its
    channels, for a machine without a GPU. `network=encoder_decoder` is the small network of `scenes`.
    """

    local = "the Parquet files of https://huggingface.co/datasets/tanganke/cityscapes"
    source = Source(
        "cityscapes",
        rows={"train": 2_975, "val": 500},
        columns={
            "image": f"Array3D(3×{HEIGHT}×{WIDTH}, float32)",
            "segmentation": f"Array2D({HEIGHT}×{WIDTH}, int64)",
            "depth": f"Array3D(1×{HEIGHT}×{WIDTH}, float32)",
        },
        local=local,
    )
    stored = {
        "image": image(HEIGHT, WIDTH),
        "segmentation": classes(CLASSES, HEIGHT, WIDTH),
        "depth": depth(HEIGHT, WIDTH),
    }
    kinds = {"image": "image", "segmentation": "classes", "depth": "inverse depth"}
    outputs = {"segmentation": CLASSES, "depth": 1}
    protocols = {
        "smoke": Protocol(name="smoke", steps=20, batch_size=2, lr=1e-3, steps_per_epoch=5, points=2),
        "quick": Protocol(name="quick", steps=3_350, batch_size=8, lr=1e-3, steps_per_epoch=335),
        "standard": Protocol(name="standard", steps=16_750, batch_size=8, lr=1e-3, steps_per_epoch=335),
        **published(steps_per_epoch=371, batch_size=8),
    }
    card = Card(
        origin="Cityscapes (Cordts et al. 2016), as prepared for MTAN (Liu et al. 2019), hub id tanganke/cityscapes",
        licence="Cityscapes' own terms: for research, after registration; the copy's are not known",
        preprocessing=(
            "128×256, 7 classes with −1 for none, inverse depth with 0 for none. Stored as int8 (classes) and float16 "
            "(images, depths). Of the 2,975 training images every tenth block of 37 successive ones validates; under "
            "li2020 and navon2022 they are trained on, too, and there is no validation split. Metrics are accumulated "
            "over the split; [metrics=legacy] are by image and by batch of two."
        ),
        traps=(
            "The schema is not confirmed: columns, classes and sizes are declared as MTAN has them, no commit is "
            "known, and a folder that differs is refused with what was found and expected. Public code calls the "
            "hub's test split validation, here it is val, and reads a column segmentation_19, too. The test split is "
            "what the field calls val. The relative error is a ratio of numbers near 0: some 20 to 35 in papers. "
            "docs/published-protocols.md lists where li2020 and navon2022 differ from the papers' code. The network is "
            "theirs, SegNet of 25 million parameters; [channels=0.125] is for a machine without a GPU, and comparable "
            "with no published number."
        ),
    )

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """The two."""
        how, key = self.metrics, self.fingerprint
        return (
            dense.segmentation(*self.target("segmentation"), CLASSES, legacy.segmentation(CLASSES, how), key),
            dense.depth(*self.target("depth"), legacy.depth(how), key),
        )
