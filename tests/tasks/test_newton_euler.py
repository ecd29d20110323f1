"""Torques of a chain of links, held to mechanics: energies come from where the links are, and from nothing else."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tasks.arm import LINKS
from tasks.dynamics.newton_euler import Link, torques

ARM = list(LINKS.values())
STATES = 20
STEP = 1e-4
"""Seconds or radians of a finite difference."""


def chain(seed):
    """Links whose axes, offsets and masses have no regularity."""
    draw = np.random.default_rng(seed)
    axes = draw.normal(size=(5, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    return [
        Link(tuple(axis), tuple(draw.normal(size=3)), draw.uniform(1, 3), tuple(draw.normal(size=3)), (0.7, 0.5, 0.4))
        for axis in axes
    ]


@pytest.fixture(params=["the arm", "any chain"])
def links(request):
    return ARM if request.param == "the arm" else chain(3)


@pytest.fixture
def motion(links):
    """Smooth motions: time `t` -> position, velocity, acceleration `[STATES, K]`."""
    draw = np.random.default_rng(1)
    middle, swing, phase = draw.normal(size=(3, STATES, len(links)))
    speed = draw.uniform(1, 4, size=(STATES, len(links)))

    def at(t):
        angle = speed * t + phase
        return middle + swing * np.sin(angle), swing * speed * np.cos(angle), -swing * speed**2 * np.sin(angle)

    return at


def placed(links, position):
    """Where the centres of mass are `[K, N, 3]` and how the links are turned: all seen from the base."""
    turn, joint = Rotation.identity(len(position)), np.zeros((len(position), 3))
    centres, turns = [], []
    for k, link in enumerate(links):
        joint = joint + turn.apply(link.offset)
        turn = turn * Rotation.from_rotvec(position[:, k : k + 1] * np.array(link.axis))
        centres.append(joint + turn.apply(link.centre))
        turns.append(turn)
    return np.array(centres), turns


def potential(links, position):
    """The potential energy `[N]`: mass times height."""
    centres, _ = placed(links, position)
    return 9.81 * sum(link.mass * centre[:, 2] for link, centre in zip(links, centres, strict=True))


def kinetic(links, position, velocity, step=1e-5):
    """The kinetic energy `[N]`, of speeds that are differences of places."""
    ahead, turned_ahead = placed(links, position + step * velocity)
    behind, turned_behind = placed(links, position - step * velocity)
    _, turns = placed(links, position)
    energy = np.zeros(len(position))
    for k, link in enumerate(links):
        moves = (ahead[k] - behind[k]) / (2 * step)
        spins = turns[k].inv().apply((turned_ahead[k] * turned_behind[k].inv()).as_rotvec() / (2 * step))
        energy += link.mass * (moves**2).sum(1) / 2 + (link.inertia * spins**2).sum(1) / 2
    return energy


def momentum(links, position, velocity):
    """The derivatives `[N, K]` of the kinetic energy by the velocities. It is quadratic in them: any step is exact."""
    sides = [[kinetic(links, position, velocity + side * unit) for side in (1, -1)] for unit in np.eye(len(links))]
    return np.array([(plus - minus) / 2 for plus, minus in sides]).T


def slope(function, position):
    """The derivatives `[N, K]` of a function of the position."""
    units = STEP * np.eye(position.shape[1])
    return np.array([(function(position + unit) - function(position - unit)) / (2 * STEP) for unit in units]).T


def test_torques_are_those_of_lagranges_equations(links, motion):
    """d/dt ∂T/∂q̇ − ∂T/∂q + ∂U/∂q, which has every force: also those that do no work."""
    position, velocity, acceleration = motion(0)
    (before, v_before, _), (after, v_after, _) = motion(-STEP), motion(STEP)
    change = (momentum(links, after, v_after) - momentum(links, before, v_before)) / (2 * STEP)
    expected = (
        change - slope(lambda q: kinetic(links, q, velocity), position) + slope(lambda q: potential(links, q), position)
    )
    found = torques(links, position, velocity, acceleration)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).mean())


def test_the_power_of_the_torques_is_the_change_of_energy(links, motion):
    position, velocity, acceleration = motion(0)
    energies = [kinetic(links, q, v) + potential(links, q) for q, v, _ in (motion(-STEP), motion(STEP))]
    change = (energies[1] - energies[0]) / (2 * STEP)
    power = (torques(links, position, velocity, acceleration) * velocity).sum(1)
    np.testing.assert_allclose(power, change, rtol=1e-4, atol=1e-4 * np.abs(change).mean())


def test_at_rest_torques_are_the_gradient_of_the_potential_energy(links, motion):
    position, _, _ = motion(0)
    rest = np.zeros_like(position)
    expected = slope(lambda q: potential(links, q), position)
    np.testing.assert_allclose(torques(links, position, rest, rest), expected, atol=1e-5 * np.abs(expected).max())


def test_the_mass_matrix_is_symmetric_and_positive_definite_and_gives_the_kinetic_energy(links, motion):
    position, velocity, _ = motion(0)
    rest = np.zeros_like(position)
    units = [np.broadcast_to(unit, position.shape) for unit in np.eye(len(links))]
    columns = [torques(links, position, rest, unit, gravity=np.zeros(3)) for unit in units]
    mass = np.stack(columns, axis=2)
    np.testing.assert_allclose(mass, mass.transpose(0, 2, 1), atol=1e-12 * np.abs(mass).max())
    assert np.linalg.eigvalsh(mass).min() > 0
    energy = np.einsum("ni,nij,nj->n", velocity, mass, velocity) / 2
    np.testing.assert_allclose(energy, kinetic(links, position, velocity), rtol=1e-6)


def test_two_joints_in_a_plane_are_as_in_the_textbook():
    """The closed form of a double pendulum, angles from hanging down."""
    length, near, far, first, second, turning, turning_far = 0.8, 0.3, 0.4, 2.0, 1.5, 0.05, 0.02
    links = [
        Link((0, 1, 0), (0, 0, 0), first, (0, 0, -near), (9, turning, 9)),
        Link((0, 1, 0), (0, 0, -length), second, (0, 0, -far), (9, turning_far, 9)),
    ]
    position, velocity, acceleration = np.random.default_rng(0).normal(size=(3, 100, 2))
    q1, q2, v1, v2, a1, a2 = *position.T, *velocity.T, *acceleration.T
    own = turning_far + second * far**2
    both = own + second * length * far * np.cos(q2)
    whole = turning + first * near**2 + own + second * (length**2 + 2 * length * far * np.cos(q2))
    turn = second * length * far * np.sin(q2)
    weight = 9.81 * second * far * np.sin(q1 + q2)
    expected = [
        whole * a1
        + both * a2
        - turn * (2 * v1 * v2 + v2**2)
        + 9.81 * (first * near + second * length) * np.sin(q1)
        + weight,
        both * a1 + own * a2 + turn * v1**2 + weight,
    ]
    np.testing.assert_allclose(torques(links, position, velocity, acceleration), np.transpose(expected), atol=1e-12)
