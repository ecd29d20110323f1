"""Inverse dynamics of a chain of rigid links with revolute joints: which torques a motion takes.

The recursive Newton-Euler equations (Luh, Walker & Paul 1980, "On-line computational scheme for mechanical
manipulators"), for many states at once. Friction and the inertia of motors are left out. Units: metres, kilograms,
seconds, radians.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

GRAVITY = np.array([0.0, 0.0, -9.81])
"""Of the base's frame, whose third axis points up."""

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Link:
    """A rigid body that turns about an axis through a point of the body before it.

    Where all joints are at 0, the frames of all links are parallel to that of the base.
    """

    axis: Vector
    """The unit vector of the joint's axis. It is the same in the link's own frame and in that of the link before."""
    offset: Vector
    """Where the joint is, in the frame of the link before (of the base, for the first one): metres. It is the origin of
    the link's own frame."""
    mass: float
    """Kilograms."""
    centre: Vector
    """The centre of mass in the link's own frame: metres."""
    inertia: Vector
    """The moments of inertia about the centre of mass, along the axes of the link's own frame: kg m²."""


def rotations(axis: Vector, angle: np.ndarray) -> np.ndarray:
    """Return the matrices `[N, 3, 3]` that turn by `angle` `[N]` about a unit vector (Rodrigues' formula)."""
    x, y, z = axis
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    sine, cosine = np.sin(angle)[:, None, None], np.cos(angle)[:, None, None]
    found: np.ndarray = np.eye(3) + sine * cross + (1 - cosine) * (cross @ cross)
    return found


def torques(
    links: Sequence[Link],
    position: np.ndarray,
    velocity: np.ndarray,
    acceleration: np.ndarray,
    gravity: np.ndarray = GRAVITY,
) -> np.ndarray:
    """Return the torques `[N, K]`, in newton metres, with which K joints move as they do in each of N states.

    Args:
        links: from the base to the hand, K of them.
        position: `[N, K]`, in rad.
        velocity: `[N, K]`, in rad/s.
        acceleration: `[N, K]`, in rad/s².
        gravity: `[3]`, in m/s².
    """
    turns = [rotations(link.axis, position[:, k]) for k, link in enumerate(links)]
    forces, moments = _forces(links, turns, velocity, acceleration, gravity)
    found = np.empty_like(position)
    force = moment = np.zeros((len(position), 3))  # with which a link acts on the one before, seen from that one
    for k in reversed(range(len(links))):
        force = force + forces[k]
        moment = moment + moments[k] + np.cross(links[k].centre, forces[k])
        found[:, k] = moment @ links[k].axis
        force, moment = _out(turns[k], force), _out(turns[k], moment)
        moment = moment + np.cross(links[k].offset, force)
    return found


def _forces(
    links: Sequence[Link], turns: list[np.ndarray], velocity: np.ndarray, acceleration: np.ndarray, gravity: np.ndarray
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The force and the moment `[N, 3]` on each link that its own motion takes: at its centre, in its own frame.

    Gravity is put in as an acceleration of the base upwards.
    """
    spin = spin_change = np.zeros((len(velocity), 3))
    rise = np.broadcast_to(-gravity, (len(velocity), 3))
    forces, moments = [], []
    for k, link in enumerate(links):
        rise = _in(turns[k], rise + _swing(spin, spin_change, link.offset))
        before = _in(turns[k], spin)
        own = velocity[:, k : k + 1] * np.array(link.axis)
        spin_change = (
            _in(turns[k], spin_change) + np.cross(before, own) + acceleration[:, k : k + 1] * np.array(link.axis)
        )
        spin = before + own
        forces.append(link.mass * (rise + _swing(spin, spin_change, link.centre)))
        momentum = spin * link.inertia
        moments.append(spin_change * link.inertia + np.cross(spin, momentum))
    return forces, moments


def _swing(spin: np.ndarray, spin_change: np.ndarray, point: Vector) -> np.ndarray:
    """The acceleration `[N, 3]` of a point of a body, beyond that of the body's origin."""
    return np.cross(spin_change, point) + np.cross(spin, np.cross(spin, point))


def _in(turn: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Vectors `[N, 3]` of the frame before, seen from the link's own frame."""
    seen: np.ndarray = np.einsum("nji,nj->ni", turn, vector)
    return seen


def _out(turn: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Vectors `[N, 3]` of the link's own frame, seen from the frame before."""
    seen: np.ndarray = np.einsum("nij,nj->ni", turn, vector)
    return seen
