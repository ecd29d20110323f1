"""Tests of `raycast`.  Geometry is checked against computations of the tests' own, not the module's."""

import dataclasses

import numpy as np
import pytest

from tasks.rendering import raycast
from tasks.rendering.raycast import CLASSES, IGNORE, build_scenes, cast, pixel_centres, render

KEYS = ("image", "segmentation", "depth", "normal")
BOX, CYLINDER, SPHERE = range(3)


def label(name: str) -> int:
    return CLASSES.index(name)


def angle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Degrees between unit vectors whose components are on axis 1."""
    return np.degrees(2 * np.arcsin(np.clip(np.linalg.norm(a - b, axis=1) / 2, 0, 1)))


def camera_rays(scenes: raycast.Scenes, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """[N, 3, R] in camera coordinates, of component 1 along the optical axis."""
    wide, tall = scenes.half_extent[:, :, None]
    x, y = wide * (2 * u - 1), tall * (2 * v - 1)
    return np.stack([x, y, np.ones_like(x)], axis=1)


def world_points(scenes: raycast.Scenes, rays: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """[N, 3, R] points in world coordinates at the depths [N, R] of camera rays [N, 3, R]."""
    return scenes.eye.T[:, :, None] + np.einsum("kjn,nkr->njr", scenes.view, rays * depth[:, None])


def part_levels(scenes: raycast.Scenes, points: np.ndarray) -> np.ndarray:
    """[P, N, R]: less than 1 where points [N, 3, R] are inside the part, 1 on its surface, more outside."""
    levels = []
    for part, shape in enumerate(raycast.PART_SHAPE):
        x, y, z = np.moveaxis(points - scenes.centre[:, part].T[:, :, None], 1, 0)
        cos, sin = scenes.heading[:, part, :, None]
        width, length, height = scenes.half[:, part, :, None]
        along, across, up = (x * cos + y * sin) / width, (y * cos - x * sin) / length, z / height
        if shape == BOX:
            levels.append(np.max(np.abs([along, across, up]), axis=0))
        elif shape == CYLINDER:
            levels.append(np.maximum(np.sqrt(along**2 + across**2), np.abs(up)))
        else:
            levels.append(np.sqrt(along**2 + across**2 + up**2))
    return np.stack(levels)


@pytest.fixture(scope="module")
def clean() -> dict[str, np.ndarray]:
    return render(500, seed=7, corrupt=False)


@pytest.fixture(scope="module")
def spoilt() -> dict[str, np.ndarray]:
    return render(500, seed=7)


@pytest.fixture(scope="module")
def scenes() -> raycast.Scenes:
    return build_scenes(11, range(100))


def random_coordinates(count: int) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.random.default_rng(0).uniform(0.01, 0.99, (2, count)))


def test_shapes_types_and_ranges() -> None:
    for corrupt in (False, True):
        maps = render(3, height=12, width=20, seed=0, corrupt=corrupt)
        assert set(maps) == set(KEYS)
        assert [maps[key].shape for key in KEYS] == [
            (3, 3, 12, 20),
            (3, 12, 20),
            (3, 1, 12, 20),
            (3, 3, 12, 20),
        ]
        assert [maps[key].dtype for key in KEYS] == [np.float32, np.int64, np.float32, np.float32]
        assert maps["image"].min() >= 0 and maps["image"].max() <= 1
        assert maps["segmentation"].min() >= (IGNORE if corrupt else 0)
        assert maps["segmentation"].max() < len(CLASSES) == 13
    assert render(0, seed=0)["image"].shape == (0, 3, 24, 32)


def test_clean_labels_are_complete_and_in_range(clean: dict[str, np.ndarray]) -> None:
    assert clean["segmentation"].min() >= 0
    assert 0.3 < clean["depth"].min() < clean["depth"].max() < 8
    np.testing.assert_allclose(np.linalg.norm(clean["normal"], axis=1), 1, atol=1e-5)


def test_same_call_same_bytes_and_other_seed_other_scenes() -> None:
    first, again, other = render(4, seed=5), render(4, seed=5), render(4, seed=6)
    for key in KEYS:
        assert first[key].tobytes() == again[key].tobytes()
        assert all(np.any(first[key][i] != other[key][i]) for i in range(4))
        assert all(np.any(first[key][i] != first[key][j]) for i in range(4) for j in range(i))


@pytest.mark.parametrize("corrupt", [False, True])
def test_an_image_depends_on_its_own_index_alone(corrupt: bool) -> None:
    many, few = render(25, seed=3, corrupt=corrupt), render(7, seed=3, corrupt=corrupt)
    for key in KEYS:
        np.testing.assert_array_equal(many[key][:7], few[key])
    alone = cast(build_scenes(3, [23]), *pixel_centres(24, 32))
    if not corrupt:
        for key in KEYS:
            np.testing.assert_array_equal(many[key][23].ravel(), alone[key][0].ravel())


def assert_same_labels(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    np.testing.assert_array_equal(one["segmentation"], other["segmentation"])
    for key in ("depth", "normal", "image"):
        np.testing.assert_allclose(one[key], other[key], atol=1e-5)


def test_resolutions_agree_at_matching_rays() -> None:
    # Eleven is odd: the centre of every small pixel is the centre of a pixel of the big image.
    small = render(6, height=24, width=32, seed=1, corrupt=False)
    big = render(6, height=264, width=352, seed=1, corrupt=False)
    assert_same_labels({key: big[key][..., 5::11, 5::11] for key in KEYS}, small)


def test_cast_agrees_with_both_resolutions() -> None:
    # Twelve is even: no centres of the two images coincide, so rays are cast for both from the same scenes.
    scenes = build_scenes(1, range(3))
    for height, width, stride in ((24, 32, 1), (288, 384, 97)):
        u, v = (coordinate[::stride] for coordinate in pixel_centres(height, width))
        rendered = render(3, height=height, width=width, seed=1, corrupt=False)
        flat = {key: rendered[key].reshape(*rendered[key].shape[:-2], -1)[..., ::stride] for key in KEYS}
        assert_same_labels(cast(scenes, u, v), {**flat, "depth": flat["depth"][:, 0]})


def test_normals_face_the_camera(scenes: raycast.Scenes) -> None:
    u, v = random_coordinates(500)
    normal = cast(scenes, u, v)["normal"]
    assert (normal * camera_rays(scenes, u, v)).sum(axis=1).max() < 0


def test_normals_agree_with_finite_differences_of_depth(scenes: raycast.Scenes) -> None:
    u, v = random_coordinates(400)
    step = 1e-3  # of the image's width: the pixels of an image 1000 wide
    offsets = [(0, 0), (step, 0), (-step, 0), (0, step), (0, -step)]
    stencil = [cast(scenes, u + du, v + dv) for du, dv in offsets]
    rays = [camera_rays(scenes, u + du, v + dv) for du, dv in offsets]
    points = [ray * maps["depth"][:, None].astype(float) for ray, maps in zip(rays, stencil, strict=True)]
    here, left_right, below_above = stencil[0], points[1] - points[2], points[3] - points[4]
    # x is right and y down, so that this product points at the camera.
    recovered = np.cross(below_above, left_right, axis=1)
    recovered /= np.linalg.norm(recovered, axis=1, keepdims=True)
    error = angle(recovered, here["normal"])

    # Away from edges: one class in the stencil, and no step or crease in 1 / depth (affine on planes).
    smooth = np.all([maps["segmentation"] == here["segmentation"] for maps in stencil], axis=0)
    turn = np.max([angle(maps["normal"], here["normal"]) for maps in stencil], axis=0)
    inverse = [1 / maps["depth"].astype(float) for maps in stencil]
    bend = np.max([np.abs(inverse[i] + inverse[i + 1] - 2 * inverse[0]) for i in (1, 3)], axis=0)
    planar = smooth & (turn < 0.01) & (bend < 1e-5)
    curved = smooth & (turn > 0.05) & (turn < 10) & (bend < 1e-3)
    assert planar.mean() > 0.9
    assert error[planar].max() < 2
    assert set(here["segmentation"][curved]) <= {label("lamp"), label("bin")}
    for name in ("lamp", "bin"):
        chosen = error[curved & (here["segmentation"] == label(name))]
        assert len(chosen) > 50
        assert np.median(chosen) < 0.3
        assert np.quantile(chosen, 0.9) < 2


def test_depth_and_normals_put_the_room_where_it_is(scenes: raycast.Scenes) -> None:
    u, v = random_coordinates(500)
    maps = cast(scenes, u, v)
    points = world_points(scenes, camera_rays(scenes, u, v), maps["depth"])
    normals = np.einsum("kjn,nkr->njr", scenes.view, maps["normal"])
    room = np.broadcast_to(scenes.room.T[:, :, None], points.shape)
    levels = {"floor": (2, 0, 1), "rug": (2, 0, 1), "ceiling": (2, 1, -1)}
    for name, (axis, far, sign) in levels.items():
        chosen = maps["segmentation"] == label(name)
        assert chosen.sum() > 100
        np.testing.assert_allclose(points[:, axis][chosen], far * room[:, axis][chosen], atol=1e-4)
        np.testing.assert_allclose(normals[:, axis][chosen], sign, atol=1e-5)
    for name in ("wall", "window", "picture", "door"):
        chosen = maps["segmentation"] == label(name)
        assert chosen.sum() > 100
        x, y = points[:, 0][chosen], points[:, 1][chosen]
        width, length = room[:, 0][chosen], room[:, 1][chosen]
        distances = np.abs([x, x - width, y, y - length])
        inwards = np.array([(1, 0), (-1, 0), (0, 1), (0, -1)])[distances.argmin(axis=0)]
        assert distances.min(axis=0).max() < 1e-4
        np.testing.assert_allclose(normals[:, 0][chosen], inwards[:, 0], atol=1e-5)
        np.testing.assert_allclose(normals[:, 1][chosen], inwards[:, 1], atol=1e-5)


def test_camera_is_upright_and_right_handed(scenes: raycast.Scenes) -> None:
    view = np.moveaxis(scenes.view, -1, 0)
    np.testing.assert_allclose(view @ view.swapaxes(1, 2), np.broadcast_to(np.eye(3), view.shape), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(view), 1)
    right, down, forward = scenes.view
    assert np.all(right[2] == 0) and np.all(down[2] < 0) and np.all(forward[1] > 0)


def test_rays_stop_at_the_first_solid_and_take_its_class(scenes: raycast.Scenes) -> None:
    u, v = random_coordinates(60)
    maps = cast(scenes, u, v)
    rays, depth = camera_rays(scenes, u, v), maps["depth"].astype(float)
    before = np.linspace(0, 0.9999, 100)[:, None]
    path = world_points(
        scenes, np.repeat(rays, len(before), axis=2), (depth[:, :, None] * before[:, 0]).reshape(100, -1)
    )
    assert part_levels(scenes, path).min() > 1 - 1e-3

    touching = np.abs(part_levels(scenes, world_points(scenes, rays, depth)) - 1) < 1e-4
    names = [piece.name for piece in raycast._FURNITURE]
    part_label = np.array([label(names[piece]) for piece in raycast.PART_PIECE])
    named = touching & (part_label[:, None, None] == maps["segmentation"])
    furniture = np.isin(maps["segmentation"], part_label)
    assert 0.1 < furniture.mean() < 0.9
    np.testing.assert_array_equal(named.any(axis=0), furniture)


def test_furniture_stands_in_the_room_and_apart(scenes: raycast.Scenes) -> None:
    present = scenes.centre[2] > 0
    assert 0.4 < present.mean() < 0.9
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 6)] * 3), axis=0).reshape(3, -1)
    lowest = np.full((len(raycast._FURNITURE), present.shape[1]), np.inf)
    for part, (piece, shape) in enumerate(zip(raycast.PART_PIECE, raycast.PART_SHAPE, strict=True)):
        inside = grid / np.maximum(1, np.linalg.norm(grid[: 2 if shape == CYLINDER else 3], axis=0))
        x, y, z = (grid if shape == BOX else inside)[:, None] * scenes.half[:, part, :, None]
        cos, sin = scenes.heading[:, part, :, None]
        offset = np.stack([cos * x - sin * y, sin * x + cos * y, z])
        points = np.moveaxis(scenes.centre[:, part, :, None] + offset, 1, 0)
        here = present[part]
        assert points[here].min() > -1e-9
        assert np.all(points[here] <= scenes.room.T[here][:, :, None])
        from_camera = np.abs(points[:, :2] - scenes.eye[:2].T[:, :, None]).max(axis=1)
        assert from_camera[here].min() > raycast._CAMERA_SPACE
        lowest[piece] = np.minimum(lowest[piece], np.where(here, points[:, 2].min(axis=1), 0))
        others = part_levels(scenes, points)[piece != raycast.PART_PIECE]
        assert others[:, here].min() > 1
    np.testing.assert_allclose(lowest, 0, atol=1e-9)


def test_lights_hang_in_the_room_outside_the_furniture(scenes: raycast.Scenes) -> None:
    lights = scenes.light.transpose(2, 0, 1)
    assert np.all((lights > 0) & (lights < scenes.room.T[:, :, None]))
    assert part_levels(scenes, lights).min() > 1
    assert np.all(scenes.power[0] > 0)
    assert 0.3 < np.mean(scenes.power[1] > 0) < 0.7


def test_a_box_casts_the_shadow_that_geometry_demands() -> None:
    scenes = build_scenes(2, range(8))
    count = 8
    low, high = np.array([1.3, 1.4, 0.0]), np.array([1.9, 2.0, 0.7])
    lamp = np.array([0.8, 2.6, 2.2])
    centre, half, heading = np.full_like(scenes.centre, -1000), scenes.half.copy(), scenes.heading.copy()
    # A slab above the light, and above the room, which must not take the light from anything.
    centre[:, 1], half[:, 1] = np.array([[2.0], [2.0], [3.5]]), np.array([[3.0], [3.0], [0.1]])
    centre[:, 0], half[:, 0] = ((low + high) / 2)[:, None], ((high - low) / 2)[:, None]
    heading[:, :2] = np.array([1.0, 0.0])[:, None, None]
    light = np.repeat(lamp[:, None, None], 2, axis=1).repeat(count, axis=2)
    lit_by_one = dataclasses.replace(
        scenes, centre=centre, half=half, heading=heading, light=light,
        power=np.array([[0.5], [0.0]]).repeat(count, axis=1), colour=np.minimum(scenes.colour, 0.5),
    )  # fmt: skip
    unlit = dataclasses.replace(lit_by_one, power=np.zeros((2, count)))
    u, v = pixel_centres(96, 128)
    maps, ambient = cast(lit_by_one, u, v), cast(unlit, u, v)
    floor = np.isin(maps["segmentation"], [label("floor"), label("rug")])
    unchanged = np.all(maps["image"] == ambient["image"], axis=1)
    all_points = world_points(scenes, camera_rays(scenes, u, v), maps["depth"])
    darkened, points = unchanged[floor], np.moveaxis(all_points, 1, 2)[floor]

    # A point is in shadow if, at some height up to the box's, its segment to the light is over the footprint.
    # The same for a box grown or shrunk by a centimetre tells which points are too close to the edge to call.
    def shadowed(margin: float) -> np.ndarray:
        found = np.zeros(len(points), dtype=bool)
        for height in np.linspace(0, high[2] + margin, 300):
            at = points + (lamp - points) * (height / lamp[2])
            found |= np.all((at[:, :2] > low[:2] - margin) & (at[:, :2] < high[:2] + margin), axis=1)
        return found

    surely, perhaps = shadowed(-0.01), shadowed(0.01)
    assert surely.sum() > 100 and (~perhaps).sum() > 1000
    assert darkened[surely].all()
    assert not darkened[~perhaps].any()

    # The box itself is lit where it faces the light, and there alone.
    box = maps["segmentation"] == label("bed")
    normals = np.einsum("kjn,nkr->njr", scenes.view, maps["normal"])
    faces_light = (normals * (lamp[:, None] - all_points)).sum(axis=1) > 0
    assert (box & faces_light).sum() > 1000 and (box & ~faces_light).sum() > 100
    np.testing.assert_array_equal(unchanged[box], ~faces_light[box])


def test_corruption_rates(clean: dict[str, np.ndarray], spoilt: dict[str, np.ndarray]) -> None:
    window = clean["segmentation"] == label("window")
    invalid = spoilt["depth"][:, 0] == 0
    assert invalid[window].all()
    assert abs(invalid[~window].mean() - 0.03) < 0.002
    np.testing.assert_array_equal(np.all(spoilt["normal"] == 0, axis=1), invalid)
    unlabelled = spoilt["segmentation"] == IGNORE
    assert abs(unlabelled.mean() - 0.04) < 0.002
    assert abs((unlabelled & invalid)[~window].mean() - 0.03 * 0.04) < 3e-4  # independent of one another
    unclipped = (clean["image"] > 0.2) & (clean["image"] < 0.8)
    noise = (spoilt["image"] - clean["image"])[unclipped]
    assert abs(noise.mean()) < 1e-3
    assert abs(noise.std() - 0.03) < 1e-3


def test_corruption_leaves_the_geometry_alone(clean: dict[str, np.ndarray], spoilt: dict[str, np.ndarray]) -> None:
    labelled, valid = spoilt["segmentation"] != IGNORE, spoilt["depth"][:, 0] > 0
    np.testing.assert_array_equal(spoilt["segmentation"][labelled], clean["segmentation"][labelled])
    np.testing.assert_array_equal(spoilt["depth"][:, 0][valid], clean["depth"][:, 0][valid])
    for channel in range(3):
        np.testing.assert_array_equal(spoilt["normal"][:, channel][valid], clean["normal"][:, channel][valid])


def test_every_class_appears_and_none_dominates(clean: dict[str, np.ndarray]) -> None:
    share = np.bincount(clean["segmentation"].ravel(), minlength=len(CLASSES)) / clean["segmentation"].size
    assert share.min() > 0.003
    assert share.max() < 0.45
