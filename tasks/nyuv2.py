"""NYUv2: segmentation, depth and surface normals of indoor photographs."""

from functools import cached_property

from tasks.core import dense
from tasks.core.base import Card, Task
from tasks.core.hub import Source
from tasks.core.metrics import legacy
from tasks.core.photographs import Photographs, classes, depth, image, normals, published
from tasks.core.protocol import Protocol

CLASSES, HEIGHT, WIDTH = 13, 288, 384


class NYUv2(Photographs):
    """Indoor photographs, from the hub or a folder (path): segmentation, depth and surface normals of every pixel.

    Cross-entropy over 13 classes, absolute depth error, 1 − cosine of normals. The protocols of papers, `li2020` and
    `navon2022`, train on all images and keep none for validation. `metrics=legacy` are those of Li & Bilen 2020.

    The network is their SegNet, of 25 million parameters. `channels=0.125` gives every layer an eighth of its channels,
    for a machine without a GPU. `network=encoder_decoder` is the small network of `scenes`.
    """

    hub = "tanganke/nyuv2@b367b8b53c4dcefbcb4d9310b74976a63cc7f306"
    source = Source(
        hub,
        rows={"train": 795, "val": 654},
        columns={
            "image": f"Array3D(3×{HEIGHT}×{WIDTH}, float32)",
            "segmentation": f"Array2D({HEIGHT}×{WIDTH}, int64)",
            "depth": f"Array3D(1×{HEIGHT}×{WIDTH}, float32)",
            "normal": f"Array3D(3×{HEIGHT}×{WIDTH}, float32)",
        },
    )
    stored = {
        "image": image(HEIGHT, WIDTH),
        "segmentation": classes(CLASSES, HEIGHT, WIDTH),
        "depth": depth(HEIGHT, WIDTH),
        "normal": normals(HEIGHT, WIDTH),
    }
    kinds = {"image": "image", "segmentation": "classes", "depth": "depth", "normal": "normals"}
    outputs = {"segmentation": CLASSES, "depth": 1, "normals": 3}
    protocols = {
        "smoke": Protocol(name="smoke", steps=20, batch_size=2, lr=1e-3, steps_per_epoch=5, points=2),
        "quick": Protocol(name="quick", steps=900, batch_size=8, lr=1e-3, steps_per_epoch=90),
        "standard": Protocol(name="standard", steps=9_000, batch_size=8, lr=1e-3, steps_per_epoch=90),
        **published(steps_per_epoch=397, batch_size=2),
    }
    card = Card(
        origin="NYU Depth V2 (Silberman et al. 2012), as prepared for MTAN (Liu et al. 2019), hub id tanganke/nyuv2",
        licence="none stated by the hub's copy",
        preprocessing=(
            "As on the hub: 288×384, 13 classes with −1 for none, depth 0 and normal 0 where there is none. Stored as "
            "int8 (classes) and float16 (images, depths, normals), which rounds a depth by at most 0.05 %. The "
            "column noise is left out. Of the 795 training images, 81 validate: nine blocks of nine successive "
            "images, because neighbours often show one room. Under li2020 and navon2022 they are trained on, too, and "
            "there is no validation split. Metrics are accumulated over the split; [metrics=legacy] are those of "
            "Li & Bilen 2020, by image and by batch of two."
        ),
        traps=(
            "The test split is what the field calls val (654 images): published numbers were often chosen on it. "
            "Numbers of legacy metrics and of others cannot be compared: published mean IoU are some 0.2 with the "
            "former and some 0.4 with the latter. docs/published-protocols.md lists where li2020 and navon2022 differ "
            "from the papers' code. The network is theirs, SegNet of 25 million parameters; [channels=0.125] is for a "
            "machine without a GPU, and comparable with no published number. Depth is thought to be in metres. The hub "
            "says nothing of rooms, so a room may still be in two parts of the training images. The commit and the "
            "schema are declared from public descriptions of the hub's copy, which could not be reached when this was "
            "written."
        ),
    )

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """The three."""
        how, key = self.metrics, self.fingerprint
        return (
            dense.segmentation(*self.target("segmentation"), CLASSES, legacy.segmentation(CLASSES, how), key),
            dense.depth(*self.target("depth"), legacy.depth(how), key),
            dense.normals(*self.target("normal"), legacy.normals(how), key),
        )
