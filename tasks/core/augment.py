"""Random scale, crop and flip of a batch of images with the labels of their pixels, as papers on NYUv2 do it.

Sources: the code of Liu, Johns & Davison 2019 (MTAN), Li & Bilen 2022, CAGrad and LibMTL. Each image is zoomed by 1,
1.2 or 1.5 at a random place, and mirrored with probability 1/2. What is near looks large, so depths are divided by the
zoom, and inverse depths are multiplied by it. (Li, Liu & Bilen 2022 and CAGrad divide inverse depths, too: that is
"depth" here.) Normals are interpolated and not normalised again, as in these papers.

The training loop calls it on each training batch where the protocol asks for it, through `TaskSet.augment`.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Kind = Literal["image", "classes", "depth", "inverse depth", "normals"]
"""What a column is, and so how it is transformed."""
SCALES = (1.0, 1.2, 1.5)


def scale_crop_flip(
    columns: Mapping[str, Tensor],
    kinds: Mapping[str, Kind],
    generator: torch.Generator,
    scales: Sequence[float] = SCALES,
) -> dict[str, Tensor]:
    """Return a batch, zoomed and mirrored at random: all columns of an image alike.

    Args:
        columns: the batch `{column: [N, …, H, W]}`. It is not changed.
        kinds: of the columns that have pixels. The others stay as they are.
        generator: of the CPU. Four numbers are drawn an image, so that the draw does not depend on the columns.
        scales: the zooms, one of which is drawn with equal chances.

    Example:
        >>> batch = {"image": torch.rand(2, 3, 6, 8), "segmentation": torch.randint(-1, 13, (2, 6, 8))}
        >>> kinds = {"image": "image", "segmentation": "classes"}
        >>> found = scale_crop_flip(batch, kinds, torch.Generator().manual_seed(0))
        >>> {name: tuple(column.shape) for name, column in found.items()}
        {'image': (2, 3, 6, 8), 'segmentation': (2, 6, 8)}
    """
    first = columns[next(iter(kinds))]
    height, width = first.shape[-2:]
    found: dict[str, list[Tensor]] = {name: [] for name in kinds}
    for number, (scale, down, across, side) in enumerate(torch.rand(len(first), 4, generator=generator).tolist()):
        zoom = scales[min(int(scale * len(scales)), len(scales) - 1)]
        rows, wide = int(height / zoom), int(width / zoom)
        top, left = int(down * (height - rows + 1)), int(across * (width - wide + 1))
        for name, kind in kinds.items():
            window = columns[name][number, ..., top : top + rows, left : left + wide]
            found[name].append(_transformed(window, kind, (height, width), zoom, mirrored=side < 0.5))
    return {**columns, **{name: torch.stack(images) for name, images in found.items()}}


def _transformed(window: Tensor, kind: Kind, size: tuple[int, int], zoom: float, *, mirrored: bool) -> Tensor:
    """Enlarge a window `[…, h, w]` of an image to `[…, H, W]`."""
    if window.shape[-2:] == size:
        image = window
    elif kind in ("image", "normals"):
        whole = window[None].float()
        image = functional.interpolate(whole, size, mode="bilinear", align_corners=True)[0].to(window.dtype)
    else:  # the nearest pixel: a mean of two classes, or of an invalid and a valid depth, is none
        rows, wide = (
            torch.arange(whole, device=window.device) * part // whole
            for whole, part in zip(size, window.shape[-2:], strict=True)
        )
        image = window[..., rows[:, None], wide]
    if kind == "depth":
        image = image / zoom
    elif kind == "inverse depth":
        image = image * zoom
    if mirrored:
        image = image.flip(-1)
        if kind == "normals":
            image = torch.cat([-image[:1], image[1:]])
    return image
