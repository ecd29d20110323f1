"""Scale, crop and flip: every column of an image moves alike, and numbers change as geometry asks."""

import pytest
import torch
from torch.nn import functional

from tasks.core.augment import SCALES, scale_crop_flip

KINDS = {"image": "image", "segmentation": "classes", "depth": "depth", "normal": "normals"}
HEIGHT, WIDTH = 30, 48


def batch(count=4, kind=torch.float32):
    generator = torch.Generator().manual_seed(7)
    return {
        "image": torch.rand(count, 3, HEIGHT, WIDTH, generator=generator).to(kind),
        "segmentation": torch.randint(-1, 13, (count, HEIGHT, WIDTH), generator=generator, dtype=torch.int8),
        "depth": torch.rand(count, 1, HEIGHT, WIDTH, generator=generator).to(kind),
        "normal": torch.randn(count, 3, HEIGHT, WIDTH, generator=generator).to(kind),
    }


def call(columns, seed=0, kinds=KINDS, **changed):
    return scale_crop_flip(columns, kinds, torch.Generator().manual_seed(seed), **changed)


def drawn(count, seed=0):
    """Per image: the number of the zoom in thirds, the place, and whether it is mirrored."""
    return torch.rand(count, 4, generator=torch.Generator().manual_seed(seed))


def test_without_zoom_an_image_is_itself_or_its_mirror_image():
    columns = batch(20)
    found = call(columns, scales=(1.0,))
    mirrored = drawn(20)[:, 3] < 0.5
    assert 3 < mirrored.sum() < 17
    for name, column in columns.items():
        expected = column.clone()
        expected[mirrored] = expected[mirrored].flip(-1)
        if name == "normal":
            expected[mirrored, 0] *= -1
        assert torch.equal(found[name], expected), name


@pytest.mark.parametrize("zoom", [1.2, 1.5])
def test_a_zoomed_image_is_a_window_of_it_enlarged_by_torch(zoom):
    columns = batch(12)
    found = call(columns, scales=(zoom,))
    rows, wide = int(HEIGHT / zoom), int(WIDTH / zoom)
    for number, (_, down, across, side) in enumerate(drawn(12).tolist()):
        top, left = int(down * (HEIGHT - rows + 1)), int(across * (WIDTH - wide + 1))
        for name, column in columns.items():
            window = column[number : number + 1, ..., top : top + rows, left : left + wide].float()
            if name in ("image", "normal"):
                expected = functional.interpolate(window, (HEIGHT, WIDTH), mode="bilinear", align_corners=True)[0]
            else:
                flat = window if name == "depth" else window[:, None]
                expected = functional.interpolate(flat, (HEIGHT, WIDTH), mode="nearest")[0]
                expected = expected / zoom if name == "depth" else expected[0]
            if side < 0.5:
                expected = expected.flip(-1)
                if name == "normal":
                    expected[0] *= -1
            torch.testing.assert_close(found[name][number].float(), expected)


def test_every_column_shows_the_same_place():
    """An image of coordinates tells from where in the original each pixel of the other columns must be."""
    down, across = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    place = torch.stack([down, across, down]).float().expand(30, -1, -1, -1)
    found = call({"image": place, "segmentation": (down * WIDTH + across).expand(30, -1, -1)}, kinds={
        "image": "image", "segmentation": "classes"
    })  # fmt: skip
    for axis, coordinate in enumerate((found["segmentation"] // WIDTH, found["segmentation"] % WIDTH)):
        assert (found["image"][:, axis] - coordinate).abs().max() <= 1


def test_an_inverse_depth_grows_as_what_it_shows_comes_near():
    columns = {"depth": torch.full((5, 1, HEIGHT, WIDTH), 2.0)}
    near = call(columns, kinds={"depth": "depth"}, scales=(1.5,))["depth"]
    inverse = call(columns, kinds={"depth": "inverse depth"}, scales=(1.5,))["depth"]
    torch.testing.assert_close(near, torch.full_like(near, 2 / 1.5))
    torch.testing.assert_close(inverse, torch.full_like(near, 3.0))


def test_invalid_pixels_stay_invalid_and_no_class_is_invented():
    columns = batch(20)
    columns["depth"][..., ::2] = 0
    columns["segmentation"] = torch.where(columns["segmentation"] > 5, 12, -1).to(torch.int8)
    found = call(columns)
    assert found["segmentation"].unique().tolist() == [-1, 12]
    valid = found["depth"][found["depth"] > 0]
    assert 0.4 < len(valid) / found["depth"].numel() < 0.6
    assert valid.min() >= columns["depth"][columns["depth"] > 0].min() / 1.5


def test_all_zooms_and_places_are_drawn():
    coordinate = torch.arange(float(WIDTH)).expand(300, 1, HEIGHT, WIDTH)
    found = call({"x": coordinate}, kinds={"x": "image"})["x"][:, 0, 0]
    spans = (found.amax(1) - found.amin(1)).round().int()
    shares = torch.stack([(spans == int(WIDTH / zoom) - 1).float().mean() for zoom in SCALES])
    assert shares.sum() == 1
    assert ((shares - 1 / 3).abs() < 0.09).all()
    least = found.amin(1)[spans == int(WIDTH / 1.5) - 1]
    assert (least.min(), least.max()) == (0, WIDTH - int(WIDTH / 1.5))


def test_the_draw_follows_its_own_generator_and_nothing_else():
    columns = batch()
    kept = {name: column.clone() for name, column in columns.items()}
    before = torch.get_rng_state()
    one, again, other = call(columns), call(columns), call(columns, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(columns[name], kept[name]) for name in columns)
    assert all(torch.equal(one[name], again[name]) for name in columns)
    assert not torch.equal(one["image"], other["image"])
    fewer = call({"depth": columns["depth"]}, kinds={"depth": "depth"})
    assert torch.equal(fewer["depth"], one["depth"])


def test_types_are_kept_and_other_columns_pass():
    columns = {**batch(kind=torch.float16), "number": torch.arange(4)}
    found = call(columns)
    assert {name: column.dtype for name, column in found.items()} == {n: c.dtype for n, c in columns.items()}
    assert found["number"] is columns["number"]
