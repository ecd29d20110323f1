"""Procedural indoor rooms, ray-cast with numpy: image, 13-class segmentation, depth and surface normals.

A data set with the three tasks of NYUv2 that needs no download.  A scene is a box room with furniture made
of boxes, elliptic cylinders and ellipsoids, rectangles on its walls (window, picture, door), a rug, and one
or two point lights that cast shadows.  One ray-surface intersection per pixel gives class, depth and normal,
so that the three labels agree exactly.

Conventions:
* World coordinates are metres: x to the right, y away from the camera's end of the room, z up.  The room is
  [0, size_x] x [0, size_y] x [0, size_z].
* Camera coordinates are x right, y down, z forward.  Depth is z along the optical axis, not the ray's length.
* Image coordinates (u, v) lie in [0, 1], u to the right and v downwards; pixel (row, column) of an H x W
  image looks through ((column + 0.5) / W, (row + 0.5) / H).  The sensor is 4:3 whatever the resolution, so
  that an image of another shape has pixels that are not square.
* Internally the components of a vector come FIRST, and the scene axis LAST but for the rays: [3, N] and
  [3, parts, N] per scene, [3, N, R] per ray.  Only `cast` and `render` return the usual [N, 3, ...].
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

CLASSES: tuple[str, ...] = (
    "wall", "floor", "ceiling", "bed", "table", "cabinet", "sofa",
    "lamp", "bin", "window", "picture", "door", "rug",
)  # fmt: skip
IGNORE = -1

PIXEL_NOISE = 0.03  # standard deviation
UNLABELLED_RATE = 0.04
INVALID_DEPTH_RATE = 0.03

_CHUNK_RAYS = 8192  # rays cast at once where an image has fewer: the live [N, R] arrays then stay in cache
_SCENE_STREAM, _CORRUPTION_STREAM = 0, 1
_ATTEMPTS = 8  # candidate positions drawn for each piece of furniture
_PRESENCE = 0.8  # probability that a piece is wanted; it is still left out if no attempt finds room for it
_CLEARANCE = 0.03  # metres around a piece of furniture
_CAMERA_SPACE = 0.6  # metres around the camera, on the floor plan, that furniture leaves free
_SHADOW_BIAS = 1e-4  # metres by which a shadow ray starts off its surface
_AWAY = -1000.0  # every coordinate of an absent piece: out of the room, so that no ray meets it there

# A shape is the set of points whose coordinates have norm <= 1 within each of its groups of axes: the unit
# cube is three intervals, the unit cylinder a disc times an interval, the unit sphere one ball.
_BOX, _CYLINDER, _SPHERE = ((0,), (1,), (2,)), ((0, 1), (2,)), ((0, 1, 2),)


class _Part(NamedTuple):
    """A shape and the box it fills in its piece, that spans [-1, 1] in x and y (1: back), [0, 1] in z."""

    shape: tuple[tuple[int, ...], ...]
    low: tuple[float, float, float]
    high: tuple[float, float, float]


class _Piece(NamedTuple):
    """A piece of furniture: the range of its width, length and height (metres), its place, its parts."""

    name: str
    smallest: tuple[float, float, float]
    largest: tuple[float, float, float]
    against_wall: bool
    yaw_jitter: float  # radians either side of having its back to its wall
    parts: tuple[_Part, ...]


_BLOCK = (_Part(_BOX, (-1, -1, 0), (1, 1, 1)),)
# In the order in which they are placed: a piece gives way to those before it, so the largest come first.
_FURNITURE = (
    _Piece("bed", (1.2, 1.9, 0.8), (1.8, 2.1, 1.1), True, 0.05, (
        _Part(_BOX, (-1, -1, 0), (1, 0.94, 0.5)),
        _Part(_BOX, (-1, 0.94, 0), (1, 1, 1)),
        _Part(_BOX, (-0.8, 0.5, 0.5), (0.8, 0.9, 0.65)),
    )),
    _Piece("sofa", (1.4, 0.8, 0.7), (2.1, 0.95, 0.9), True, 0.15, (
        _Part(_BOX, (-0.8, -1, 0), (0.8, 0.5, 0.5)),
        _Part(_BOX, (-0.8, 0.5, 0), (0.8, 1, 1)),
        _Part(_BOX, (-1, -1, 0), (-0.8, 1, 0.7)),
        _Part(_BOX, (0.8, -1, 0), (1, 1, 0.7)),
    )),
    _Piece("cabinet", (0.8, 0.4, 1.4), (1.5, 0.6, 2.0), True, 0.05, _BLOCK),
    _Piece("cabinet", (0.6, 0.4, 0.7), (1.3, 0.6, 1.1), True, 0.15, _BLOCK),
    _Piece("table", (0.9, 0.7, 0.62), (1.6, 1.0, 0.78), False, 0.6, (
        _Part(_BOX, (-1, -1, 0.9), (1, 1, 1)),
        _Part(_BOX, (-0.95, -0.95, 0), (-0.8, -0.75, 0.9)),
        _Part(_BOX, (0.8, -0.95, 0), (0.95, -0.75, 0.9)),
        _Part(_BOX, (-0.95, 0.75, 0), (-0.8, 0.95, 0.9)),
        _Part(_BOX, (0.8, 0.75, 0), (0.95, 0.95, 0.9)),
    )),
    _Piece("lamp", (0.45, 0.45, 1.4), (0.6, 0.6, 1.75), True, 0.0, (
        _Part(_CYLINDER, (-0.7, -0.7, 0), (0.7, 0.7, 0.03)),
        _Part(_CYLINDER, (-0.1, -0.1, 0.03), (0.1, 0.1, 0.75)),
        _Part(_SPHERE, (-1, -1, 0.7), (1, 1, 1)),
    )),
    _Piece("bin", (0.3, 0.3, 0.35), (0.45, 0.45, 0.65), False, 0.0, (
        _Part(_CYLINDER, (-1, -1, 0), (1, 1, 1)),
    )),
)  # fmt: skip
_PARTS = tuple(part for piece in _FURNITURE for part in piece.parts)
PART_SHAPE = np.array([(_BOX, _CYLINDER, _SPHERE).index(part.shape) for part in _PARTS])  # 0, 1 or 2
PART_PIECE = np.repeat(np.arange(len(_FURNITURE)), [len(piece.parts) for piece in _FURNITURE])

# A face of the room is numbered 2 * axis + (1 if it is the far one): left, right, front, back, floor,
# ceiling.  A decal is a rectangle on a face: two places on each wall that the camera may see, and the rug's.
_IN_PLANE_AXES = ((1, 2), (1, 2), (0, 2), (0, 2), (0, 1), (0, 1))  # of each face
_DECAL_FACES = (0, 0, 1, 1, 3, 3, 4)
_DECAL_FRAME = 0.06  # metres, width of the border that is drawn in the accent colour
# What may be on a wall: probability, smallest and largest half width and half height, and range of the height
# of its lower edge (metres).
_WALL_DECALS = {
    "window": (0.40, (0.45, 0.40), (0.90, 0.60), (0.85, 1.00)),
    "picture": (0.25, (0.30, 0.22), (0.55, 0.42), (1.00, 1.20)),
    "door": (0.25, (0.42, 1.00), (0.52, 1.05), (0.00, 0.00)),
}

# Surfaces, the ids that a ray can hit: faces, then decals, then parts.  Materials: wall, floor and ceiling,
# then one for each decal, then one for each piece of furniture.
_FIRST_DECAL, _FIRST_PART = 6, 6 + len(_DECAL_FACES)
_SURFACE_MATERIAL = np.array(
    [0, 0, 0, 0, 1, 2, *range(3, 3 + len(_DECAL_FACES)), *(3 + len(_DECAL_FACES) + PART_PIECE)]
)
_LAMPSHADE = _FIRST_PART + [part.shape for part in _PARTS].index(_SPHERE)

_PLAIN, _STRIPES, _CHECKER, _PLANKS, _BLOTCHES = range(5)
_STYLE = {  # of each class: mean colour, and the two textures of which a material has one
    "wall": ((0.72, 0.69, 0.60), _PLAIN, _STRIPES),
    "floor": ((0.52, 0.38, 0.25), _PLANKS, _CHECKER),
    "ceiling": ((0.85, 0.85, 0.83), _PLAIN, _PLAIN),
    "bed": ((0.42, 0.48, 0.75), _STRIPES, _CHECKER),
    "table": ((0.58, 0.36, 0.16), _PLANKS, _PLAIN),
    "cabinet": ((0.66, 0.55, 0.40), _PLANKS, _PLAIN),
    "sofa": ((0.30, 0.48, 0.34), _BLOTCHES, _STRIPES),
    "lamp": ((0.90, 0.78, 0.45), _PLAIN, _STRIPES),
    "bin": ((0.30, 0.38, 0.48), _PLAIN, _STRIPES),
    "window": ((0.62, 0.80, 0.95), _PLAIN, _BLOTCHES),
    "picture": ((0.55, 0.35, 0.55), _BLOTCHES, _CHECKER),
    "door": ((0.50, 0.24, 0.15), _PLANKS, _PLAIN),
    "rug": ((0.65, 0.22, 0.25), _CHECKER, _STRIPES),
}
# Half ranges of the uniform deviations from the mean colour, in brightness and in each channel: together they
# have standard deviation 0.18.
_BRIGHTNESS_SPREAD, _CHANNEL_SPREAD = 0.14 * 3**0.5, 0.115 * 3**0.5


@dataclass(frozen=True)
class Scenes:
    """N scenes as padded arrays (P parts, D decals, M materials, L lights), the scene axis last."""

    room: np.ndarray  # [3, N] size
    eye: np.ndarray  # [3, N] the camera's centre
    view: np.ndarray  # [3, 3, N] the camera's right, down and forward axes, in world coordinates
    half_extent: np.ndarray  # [2, N] half the sensor's width and height at unit distance
    centre: np.ndarray  # [3, P, N] of a part; _AWAY if its piece is absent
    half: np.ndarray  # [3, P, N] half sizes of a part along its own axes
    heading: np.ndarray  # [2, P, N] cosine and sine of a part's rotation about the vertical
    decal_centre: np.ndarray  # [2, D, N] in the plane of its face
    decal_half: np.ndarray  # [2, D, N] half sizes; 0 if absent
    label: np.ndarray  # [M, N] class of a material
    colour: np.ndarray  # [3, M, N]
    accent: np.ndarray  # [3, M, N] the colour with which the texture alternates
    texture: np.ndarray  # [M, N] kind of texture
    wave: np.ndarray  # [2, M, N] wave vector of the texture, cycles per metre
    phase: np.ndarray  # [2, M, N] offset of the texture, cycles
    light: np.ndarray  # [3, L, N] position
    power: np.ndarray  # [L, N] 0 if absent
    ambient: np.ndarray  # [N]
    tint: np.ndarray  # [3, N] colour of all the light


def _generator(stream: int, index: int, seed: int) -> np.random.Generator:
    # The seed, which alone may exceed 32 bits, goes last: otherwise two triples could give the same sequence.
    return np.random.default_rng([stream, index, seed])


class _Draws:
    """Uniform draws for several scenes at once, each from its own generator, whatever its companions."""

    def __init__(self, seed: int, indices: Sequence[int]) -> None:
        self._generators = [_generator(_SCENE_STREAM, index, seed) for index in indices]

    def __call__(self, *shape: int, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        """[*shape, N] uniform in [low, high)."""
        unit = np.stack([generator.random(shape) for generator in self._generators], axis=-1)
        return _between(low, high, unit)


def _between(low: float | np.ndarray, high: float | np.ndarray, fraction: np.ndarray) -> np.ndarray:
    return low + (high - low) * fraction


def _turn(
    heading: np.ndarray | tuple[np.ndarray, np.ndarray], x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rotate (x, y) by the angle whose cosine and sine are heading[0] and heading[1]."""
    return heading[0] * x - heading[1] * y, heading[1] * x + heading[0] * y


def _furnish(draw: _Draws, room: np.ndarray, eye: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Place the furniture: centre [3, P, N], half sizes [3, P, N] and heading [2, P, N] of every part.

    A piece takes the first of its drawn positions that lies in the room, clear of the camera and of the
    pieces placed before it.  Compares the axis-aligned bounds of the turned footprints: conservative.
    """
    floor, scenes = room[:2, None], np.arange(room.shape[1])
    placed = [(eye[:2], np.full((2, len(scenes)), _CAMERA_SPACE))]  # centres and half bounds, [2, N] each
    centres, halves, headings = [], [], []
    for piece in _FURNITURE:
        size = _between(np.array(piece.smallest)[:, None], np.array(piece.largest)[:, None], draw(3))
        wall = draw(_ATTEMPTS, high=3).astype(int)  # 0 left, 1 back, 2 right
        yaw = (1 - wall) * (np.pi / 2) + piece.yaw_jitter * draw(_ATTEMPTS, low=-1)
        heading = np.stack([np.cos(yaw), np.sin(yaw)])
        cos, sin = np.abs(heading)
        half = size[:2, None] / 2
        bounds = np.stack([cos * half[0] + sin * half[1], sin * half[0] + cos * half[1]]) + _CLEARANCE
        where = draw(2, _ATTEMPTS)
        if piece.against_wall:
            where[0] = np.choose(wall, [0.0, where[0], 1.0])
            where[1][wall == 1] = 1.0
        plan = _between(bounds, floor - bounds, where)
        fits = (2 * bounds < floor).all(axis=0)
        for other_plan, other_bounds in placed:
            fits &= (np.abs(plan - other_plan[:, None]) > bounds + other_bounds[:, None]).any(axis=0)

        present = (draw() < _PRESENCE) & fits.any(axis=0)
        first = fits.argmax(axis=0)
        heading = heading[:, first, scenes]
        plan = np.where(present, plan[:, first, scenes], _AWAY)
        placed.append((plan, bounds[:, first, scenes]))
        for part in piece.parts:
            low, high = np.array(part.low)[:, None], np.array(part.high)[:, None]
            scale = size * np.array([[0.5], [0.5], [1.0]])
            x, y, z = scale * (low + high) / 2
            x, y = _turn(heading, x, y)
            centres.append(np.stack([plan[0] + x, plan[1] + y, np.where(present, z, _AWAY)]))
            halves.append(scale * (high - low) / 2)
            headings.append(heading)
    return np.stack(centres, axis=1), np.stack(halves, axis=1), np.stack(headings, axis=1)


def _decorate(draw: _Draws, room: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lay out the decals: centre [2, D, N], half sizes [2, D, N] and class [D, N].

    Each wall in view is cut into a near and a far half with at most one decal each, so that none overlap.
    """
    walls = _DECAL_FACES[:-1]
    columns = zip(*_WALL_DECALS.values(), strict=True)
    rates, smallest, largest, edge = (np.array(column).T for column in columns)
    kind = (draw(len(walls)) > np.cumsum(rates)[:, None, None]).sum(axis=0)  # len(rates): nothing
    present, kind = kind < len(rates), np.minimum(kind, len(rates) - 1)
    length = np.stack([room[_IN_PLANE_AXES[face][0]] for face in walls])
    half = _between(smallest[:, kind], largest[:, kind], draw(2, len(walls)))
    half[0] = np.minimum(half[0], length / 4 - 0.1)
    slack = length / 4 - 0.05 - half[0]
    along = np.tile([[0.25], [0.75]], (len(walls) // 2, 1)) * length + slack * draw(len(walls), low=-1)
    centre = np.stack([along, half[1] + _between(edge[0, kind], edge[1, kind], draw(len(walls)))])

    rug_half = room[:2] * draw(2, low=0.18, high=0.34) * (draw() < _PRESENCE)
    rug_centre = room[:2] * draw(2, low=0.42, high=0.58)
    label = np.array([CLASSES.index(name) for name in _WALL_DECALS])[kind]
    return (
        np.concatenate([centre, rug_centre[:, None]], axis=1),
        np.concatenate([half * present, rug_half[:, None]], axis=1),
        np.concatenate([label, np.full_like(label[:1], CLASSES.index("rug"))]),
    )


def build_scenes(seed: int, indices: Sequence[int]) -> Scenes:
    """The scenes of the given indices; scene i depends on (seed, i) alone, and on no resolution."""
    draw = _Draws(seed, indices)
    room = np.stack([draw(low=3, high=5.5), draw(low=3.3, high=6.3), draw(low=2.3, high=3)])

    eye = np.stack([room[0] * draw(low=0.3, high=0.7), draw(low=0.2, high=0.4), draw(low=1.3, high=1.8)])
    yaw, pitch = draw(low=-0.6, high=0.6), draw(low=-0.45, high=-0.05)
    right = np.stack([np.cos(yaw), -np.sin(yaw), np.zeros_like(yaw)])
    forward = np.stack([np.sin(yaw) * np.cos(pitch), np.cos(yaw) * np.cos(pitch), np.sin(pitch)])
    view = np.stack([right, np.cross(forward, right, axis=0), forward])
    half_width = np.tan(np.deg2rad(draw(low=60, high=75)) / 2)

    centre, half, heading = _furnish(draw, room, eye)
    decal_centre, decal_half, decal_label = _decorate(draw, room)

    names = ["wall", "floor", "ceiling", *(piece.name for piece in _FURNITURE)]
    fixed = np.tile(np.array([CLASSES.index(name) for name in names])[:, None], len(indices))
    label = np.concatenate([fixed[:3], decal_label, fixed[3:]])
    materials = len(label)
    colour = np.array([_STYLE[name][0] for name in CLASSES]).T[:, label]
    colour += draw(materials, low=-_BRIGHTNESS_SPREAD, high=_BRIGHTNESS_SPREAD)
    colour += draw(3, materials, low=-_CHANNEL_SPREAD, high=_CHANNEL_SPREAD)
    colour = np.clip(colour, 0.05, 1.0)
    textures = np.array([_STYLE[name][1:] for name in CLASSES])
    angle = draw(materials, high=np.pi)

    # Lights hang above the tallest furniture, so that none is inside a solid.
    height = _between(2.1, room[2] - 0.1, draw(2))
    light = np.stack([room[0] * draw(2, low=0.2, high=0.8), room[1] * draw(2, low=0.2, high=0.8), height])
    power = draw(2, low=0.8, high=1.6)
    power[1] *= draw() < 0.5
    return Scenes(
        room=room,
        eye=eye,
        view=view,
        half_extent=np.stack([half_width, 0.75 * half_width]),
        centre=centre,
        half=half,
        heading=heading,
        decal_centre=decal_centre,
        decal_half=decal_half,
        label=label,
        colour=colour,
        accent=colour * draw(materials, low=0.5, high=0.95),
        texture=textures[label, draw(materials, high=2).astype(int)],
        wave=np.stack([np.cos(angle), np.sin(angle)]) * draw(materials, low=1.0, high=3.0),
        phase=draw(2, materials),
        light=light,
        power=power,
        ambient=draw(low=0.3, high=0.5),
        tint=draw(3, low=0.85, high=1.15),
    )


def _to_unit(half: np.ndarray, heading: np.ndarray, vector: np.ndarray) -> tuple[np.ndarray, ...]:
    """Components, [N, R] each, of world vectors in the frame and scale that make a part a unit shape."""
    x, y = _turn((heading[0], -heading[1]), vector[0], vector[1])
    return x / half[0], y / half[1], vector[2] / half[2]


def _ball_interval(origin: list[np.ndarray], direction: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Distances, [N, R] each, where rays enter and leave the unit ball of their number of components.

    The first is less than the second only where the ray crosses the ball.
    """
    if len(origin) == 1:
        # Not the quadratic: a ray parallel to the faces rightly gets infinite bounds here.
        with np.errstate(divide="ignore"):
            ends = (-1 - origin[0]) / direction[0], (1 - origin[0]) / direction[0]
        return np.minimum(*ends), np.maximum(*ends)
    a = sum(d * d for d in direction)
    b = sum(o * d for o, d in zip(origin, direction, strict=True))
    c = sum(o * o for o in origin) - 1
    root = np.sqrt(np.maximum(b * b - a * c, 0))
    return (-b - root) / a, (-b + root) / a


def _part_distances(scenes: Scenes, origin: np.ndarray, direction: np.ndarray) -> Iterator[np.ndarray]:
    """For each part in turn, the distance [N, R] to it in units of the direction's length; inf where missed.

    Parts are convex, so a ray is in one on the intersection of its intervals.  Rays start outside all parts.
    """
    for index, part in enumerate(_PARTS):
        half, heading = scenes.half[:, index, :, None], scenes.heading[:, index, :, None]
        start = _to_unit(half, heading, origin - scenes.centre[:, index, :, None])
        step = _to_unit(half, heading, direction)
        near, far = 0.0, np.inf
        for axes in part.shape:
            enters, leaves = _ball_interval([start[axis] for axis in axes], [step[axis] for axis in axes])
            near, far = np.maximum(near, enters), np.minimum(far, leaves)
        yield np.where(near < far, near, np.inf)


def _part_normal(scenes: Scenes, part: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Outward unit normals [3, N, R] of the parts [N, R] at points [3, N, R] of their surfaces."""
    rows = np.arange(part.shape[0])[:, None]
    half, heading = scenes.half[:, part, rows], scenes.heading[:, part, rows]
    unit = np.stack(_to_unit(half, heading, point - scenes.centre[:, part, rows]))
    # The point is on the surface of the group of axes in which its norm is largest (1, against less); the
    # normal is the gradient of that norm, which has no component on the other groups' axes.
    size = np.abs(unit)
    on_cap = size[2] > np.hypot(unit[0], unit[1])
    in_group = [size == size.max(axis=0), np.stack([~on_cap, ~on_cap, on_cap]), True]  # box, cylinder, sphere
    gradient = unit * np.choose(PART_SHAPE[part], in_group) / half
    gradient /= np.sqrt((gradient**2).sum(axis=0))
    return np.stack([*_turn(heading, gradient[0], gradient[1]), gradient[2]])


class _Hits(NamedTuple):
    distance: np.ndarray  # [N, R] in units of the ray direction's length
    surface: np.ndarray  # [N, R] id
    point: np.ndarray  # [3, N, R] world
    normal: np.ndarray  # [3, N, R] world, towards the ray's origin
    framed: np.ndarray  # [N, R] whether the point is on the frame of a decal


def _intersect(scenes: Scenes, origin: np.ndarray, direction: np.ndarray) -> _Hits:
    """The nearest surface along rays: origin [3, N, 1] in the room, outside parts; direction [3, N, R]."""
    outgoing = direction > 0
    with np.errstate(divide="ignore"):  # a ray parallel to a face meets it at infinity
        to_faces = np.abs((scenes.room[:, :, None] * outgoing - origin) / direction)
    distance, axis = to_faces.min(axis=0), to_faces.argmin(axis=0)
    surface = 2 * axis + np.take_along_axis(outgoing, axis[None], axis=0)[0]
    on_axis = np.arange(3)[:, None, None] == axis
    face_normal = np.where(on_axis, np.where(outgoing, -1.0, 1.0), 0.0)
    for part, candidate in enumerate(_part_distances(scenes, origin, direction)):
        surface = np.where(candidate < distance, _FIRST_PART + part, surface)
        distance = np.minimum(candidate, distance)
    point = origin + distance * direction
    part_normal = _part_normal(scenes, np.maximum(surface - _FIRST_PART, 0), point)
    normal = np.where(surface >= _FIRST_PART, part_normal, face_normal)

    framed = np.zeros(surface.shape, dtype=bool)
    for decal, face in enumerate(_DECAL_FACES):
        offset = np.abs(point[list(_IN_PLANE_AXES[face])] - scenes.decal_centre[:, decal, :, None])
        inset = (scenes.decal_half[:, decal, :, None] - offset).min(axis=0)
        inside = (surface == face) & (inset > 0)
        surface = np.where(inside, _FIRST_DECAL + decal, surface)
        framed |= inside & (inset < _DECAL_FRAME)
    return _Hits(distance, surface, point, normal, framed)


def _texture(kind: np.ndarray, s: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Share of the accent colour, in [0, 1], at surface coordinates s, t in cycles; all [N, R]."""
    plank = np.floor(s)
    shade = 0.5 + 0.5 * np.sin(12.9 * plank)  # differs irregularly from plank to plank
    grain = 0.5 + 0.5 * np.sin(2 * np.pi * (2 * s + 0.3 * np.sin(t + 2.4 * plank)))
    blotch = np.sin(2 * np.pi * s + np.sin(2 * np.pi * t)) * np.sin(2 * np.pi * t + np.sin(3 * s))
    patterns = {
        _PLAIN: np.zeros_like(s),
        _STRIPES: 0.5 + 0.5 * np.sin(2 * np.pi * s),
        _CHECKER: (plank + np.floor(t)) % 2,
        _PLANKS: 0.6 * shade + 0.4 * grain,
        _BLOTCHES: 0.5 + 0.5 * blotch,
    }
    shares: np.ndarray = np.choose(kind, [patterns[number] for number in sorted(patterns)])
    return shares


def _shade(scenes: Scenes, hits: _Hits) -> np.ndarray:
    """Colours [3, N, R] in [0, 1] : textured diffuse surfaces, ambient light, point lights with shadows."""
    material = _SURFACE_MATERIAL[hits.surface]
    rows = np.arange(material.shape[0])[:, None]
    normal, point = hits.normal, hits.point
    # Surface coordinates in metres: the plan on level surfaces, (horizontal tangent, height) on the others.
    level = np.abs(normal[2]) > 0.7
    s = np.where(level, point[0], normal[0] * point[1] - normal[1] * point[0])
    t = np.where(level, point[1], point[2])
    along, across = _turn(scenes.wave[:, material, rows], s, t)
    phase = scenes.phase[:, material, rows]
    share = _texture(scenes.texture[material, rows], along + phase[0], across + phase[1])
    share = np.where(hits.framed, 1.0, share)
    albedo = _between(scenes.colour[:, material, rows], scenes.accent[:, material, rows], share)

    # More ambient light from above than from below tells floor, walls and ceiling apart where no light falls.
    received = scenes.ambient[:, None] * (1 + 0.25 * normal[2])
    start = point + _SHADOW_BIAS * normal
    for light, power in zip(np.moveaxis(scenes.light, 1, 0), scenes.power, strict=True):
        to_light = light[:, :, None] - start
        squared = (to_light**2).sum(axis=0)
        cosine = (to_light * normal).sum(axis=0) / np.sqrt(squared)
        lit = cosine > 0
        for distance in _part_distances(scenes, start, to_light):
            lit &= distance >= 1  # 1 is where the light is
        received += lit * power[:, None] * cosine / (0.7 + 0.3 * squared)
    window = scenes.label[material, rows] == CLASSES.index("window")
    glowing = (window & ~hits.framed) | (hits.surface == _LAMPSHADE)
    colour: np.ndarray = np.clip(albedo * np.where(glowing, 1.1, received) * scenes.tint[:, :, None], 0, 1)
    return colour


def cast(scenes: Scenes, u: np.ndarray, v: np.ndarray) -> dict[str, np.ndarray]:
    """Cast the rays through image coordinates u, v ([R] each, in [0, 1]) in each scene; no corruption.

    Returns image [N, 3, R], segmentation [N, R], depth [N, R] and normal [N, 3, R], as in `render`.
    """
    right, down, forward = scenes.view[..., None]
    x = (2 * u - 1) * scenes.half_extent[0, :, None]
    y = (2 * v - 1) * scenes.half_extent[1, :, None]
    # Directions have component 1 along the optical axis: the distance in units of their length is the depth.
    hits = _intersect(scenes, scenes.eye[:, :, None], forward + x * right + y * down)
    rows = np.arange(len(hits.surface))[:, None]
    normal = np.stack([(axis * hits.normal).sum(axis=0) for axis in (right, down, forward)], axis=1)
    return {
        "image": np.moveaxis(_shade(scenes, hits), 0, 1).astype(np.float32),
        "segmentation": scenes.label[_SURFACE_MATERIAL[hits.surface], rows],
        "depth": hits.distance.astype(np.float32),
        "normal": normal.astype(np.float32),
    }


def pixel_centres(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Image coordinates u, v of the pixels' centres, [height * width] each, row by row."""
    v, u = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij")
    return u.ravel(), v.ravel()


def _corrupt(maps: dict[str, np.ndarray], seed: int, indices: Sequence[int]) -> None:
    """Spoil what `cast` returned, in place: noisy colours, unlabelled pixels, invalid depth and normals.

    Depth is invalid on windows, as a depth sensor's is, and at random pixels; normals, which data sets derive
    from depth, are invalid at the same pixels.
    """
    invalid = maps["segmentation"] == CLASSES.index("window")
    for row, index in enumerate(indices):
        generator = _generator(_CORRUPTION_STREAM, index, seed)
        image, labels = maps["image"][row], maps["segmentation"][row]
        image[:] = np.clip(image + generator.normal(0, PIXEL_NOISE, image.shape), 0, 1)
        labels[generator.random(labels.shape) < UNLABELLED_RATE] = IGNORE
        invalid[row] |= generator.random(labels.shape) < INVALID_DEPTH_RATE
    maps["depth"][invalid] = 0
    np.moveaxis(maps["normal"], 1, 2)[invalid] = 0


def render(count: int, *, height: int = 24, width: int = 32, seed: int, corrupt: bool = True) -> dict[str, np.ndarray]:
    """Render scenes 0 .. count - 1 of a seed (a non-negative integer): the same bytes at every call.

    Scene i depends on (seed, i) alone: not on `count` and, but for its corruption, not on the resolution.

    Returns, with N = count, H = height and W = width,
        image         [N, 3, H, W] float32 in [0, 1];
        segmentation  [N, H, W]    int64, indices into CLASSES, IGNORE where unlabelled;
        depth         [N, 1, H, W] float32, metres along the optical axis, 0 where invalid;
        normal        [N, 3, H, W] float32, unit vectors towards the camera in camera coordinates (x right,
                                   y down, z forward), (0, 0, 0) where invalid.
    With `corrupt` false there is no noise, and every pixel is labelled and valid.
    """
    result: dict[str, np.ndarray] = {
        "image": np.empty((count, 3, height, width), np.float32),
        "segmentation": np.empty((count, height, width), np.int64),
        "depth": np.empty((count, 1, height, width), np.float32),
        "normal": np.empty((count, 3, height, width), np.float32),
    }
    u, v = pixel_centres(height, width)
    step = max(1, _CHUNK_RAYS // len(u))
    for start in range(0, count, step):
        indices = range(start, min(start + step, count))
        maps = cast(build_scenes(seed, indices), u, v)
        if corrupt:
            _corrupt(maps, seed, indices)
        for name, values in maps.items():
            chunk = result[name][start : indices.stop]
            chunk[:] = values.reshape(chunk.shape)
    return result
