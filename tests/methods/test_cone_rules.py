"""UPGrad, DualProj and CAGrad from losses to `.grad`, against what defines them, computed from the gradients alone."""

import pytest
import torch
import torchjd.aggregation
import torchjd.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

import methods

moderate = settings(deadline=None, derandomize=True, max_examples=100)
PROJECTIONS = ("upgrad", "dualproj")


def run(linear, rows, name, **options):
    """Return the weights, the update and the method, for gradients that are these rows."""
    losses, theta = linear(rows)
    method = methods.create(name, num_tasks=len(rows), **options)
    weights = method.backward(losses, shared=[theta])
    return weights, theta.grad, method


def conflicting(tasks, seed=0, columns=10):
    """Rows in float64 that nearly sum to zero, so that each conflicts with others."""
    draw = torch.Generator().manual_seed(seed)
    rows = torch.randn(tasks, columns, dtype=torch.float64, generator=draw)
    return rows - 0.9 * rows.mean(0)


def projected(rows, target):
    """The vector nearest to the target with no negative product with a row, from the rows themselves."""
    unit = rows / rows.norm(dim=1, keepdim=True)
    added, _ = nnls(unit.T.numpy(), -target.numpy())
    return target + torch.from_numpy(added) @ unit


@pytest.mark.parametrize("name", PROJECTIONS)
@moderate
@given(data=st.data())
def test_no_task_conflicts_with_the_update(linear, gradient_matrices, name, data):
    rows = data.draw(gradient_matrices())
    weights, update, method = run(linear, rows, name)
    lengths = rows.norm(dim=1)
    size = float(weights @ lengths)
    assert (weights >= 0).all()
    assert (rows @ update >= -1e-12 * lengths * size).all()
    assert method.degenerate == 0


@pytest.mark.parametrize("name", PROJECTIONS)
@pytest.mark.parametrize("tasks", [1, 2, 3, 8, 40])
def test_without_conflict_it_is_the_mean_gradient(linear, name, tasks):
    rows = torch.rand(tasks, 5, generator=torch.Generator().manual_seed(0))
    weights, *_ = run(linear, rows, name)
    assert torch.equal(weights, torch.full((tasks,), 1 / tasks))


@pytest.mark.parametrize("tasks", [2, 3, 8, 40])
def test_upgrad_is_the_mean_of_the_projected_gradients(linear, tasks):
    rows = conflicting(tasks, columns=50)
    _, update, _ = run(linear, rows, "upgrad")
    expected = torch.stack([projected(rows, row) for row in rows]).mean(0)
    torch.testing.assert_close(update, expected, rtol=1e-9, atol=1e-9 * float(expected.norm()))


@pytest.mark.parametrize("tasks", [2, 3, 8, 40])
def test_dualproj_is_the_projected_mean(linear, tasks):
    rows = conflicting(tasks, columns=50) * torch.arange(1.0, tasks + 1).unsqueeze(1)
    _, update, _ = run(linear, rows, "dualproj")
    expected = projected(rows, rows.mean(0))
    assert not torch.allclose(expected, rows.mean(0))
    torch.testing.assert_close(update, expected, rtol=1e-9, atol=1e-9 * float(expected.norm()))


@moderate
@given(data=st.data())
def test_upgrad_of_two_is_half_of_pcgrad(linear, gradient_matrices, data):
    """Yu et al. 2020, Algorithm 1: each gradient loses its part against the other; the update is their sum."""
    rows = data.draw(gradient_matrices(tasks=st.just(2), zeros=False))
    (one, other), cosine = rows, rows[0] @ rows[1]
    if cosine < 0:
        one, other = one - cosine / (other @ other) * other, other - cosine / (one @ one) * one
    _, update, _ = run(linear, rows, "upgrad")
    assert (update - (one + other) / 2).norm() <= 1e-13 * rows.norm(dim=1).sum()


@pytest.mark.parametrize("tasks", [3, 5])
def test_what_a_task_adds_to_upgrad_is_proportional_to_its_length(linear, tasks):
    rows = conflicting(tasks)
    updates = []
    for factor in (1.0, 2.0, 3.0):
        scaled = rows.clone()
        scaled[0] *= factor
        updates.append(run(linear, scaled, "upgrad")[1])
    torch.testing.assert_close(updates[2] - updates[1], updates[1] - updates[0])
    assert (updates[1] - updates[0]).norm() > 0.01


@pytest.mark.parametrize("name", PROJECTIONS)
@pytest.mark.parametrize("tasks", [2, 3, 8])
def test_a_zero_gradient_only_counts_in_the_mean(linear, name, tasks):
    rows = conflicting(tasks)
    _, update, _ = run(linear, rows, name)
    _, found, method = run(linear, torch.cat([rows, torch.zeros(1, 10, dtype=torch.float64)]), name)
    torch.testing.assert_close(found * (tasks + 1), update * tasks)
    assert method.degenerate == 0


@pytest.mark.parametrize("name", [*PROJECTIONS, "cagrad"])
def test_no_gradient_at_all_is_no_update(linear, name):
    weights, update, method = run(linear, torch.zeros(3, 4), name)
    assert torch.isfinite(weights).all()
    assert not update.any()
    assert method.degenerate == 0


@pytest.mark.parametrize("name", PROJECTIONS)
@pytest.mark.parametrize("ratio", [1.0, 3.0, 1024.0])
def test_opposite_gradients_leave_nothing(linear, name, ratio):
    row = torch.tensor([[3.0, -1, 2]], dtype=torch.float64)
    weights, update, _ = run(linear, torch.cat([row, -ratio * row]), name)
    assert update.norm() <= 1e-15 * float(weights @ torch.tensor([1.0, ratio], dtype=torch.float64)) * row.norm()


# CAGrad ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("c", [0.1, 0.4, 0.9])
@moderate
@given(data=st.data())
def test_cagrad_ends_at_its_radius_where_the_worst_task_gains_most(linear, gradient_matrices, c, data):
    """Primal and dual: min_k g_k · d is as large as g_w · g_0 + c |g_0| |g_w|, a bound for every w on the simplex."""
    rows = data.draw(gradient_matrices(decades=3, zeros=False))
    weights, update, method = run(linear, rows, "cagrad", c=c)
    lengths, mean = rows.norm(dim=1), rows.mean(0)
    update = update * (1 + c**2)
    used = weights * (1 + c**2) - 1 / len(rows)
    if mean.norm() <= 1e-6 * lengths.mean() or method.degenerate:
        return
    combined = used @ rows / used.sum()
    size = (used / used.sum()) @ lengths
    if combined.norm() <= 1e-5 * size:
        return
    assert (used >= -1e-15 * used.sum()).all()
    assert float((update - mean).norm()) == pytest.approx(c * float(mean.norm()), rel=1e-9)
    value = combined @ mean + c * mean.norm() * combined.norm()
    # Every gradient's product with d is known to the rounding of its own length.
    assert (rows @ update - value >= -1e-9 * mean.norm() * torch.maximum(lengths, size)).all()


@pytest.mark.parametrize("tasks", [1, 2, 3, 8, 40])
def test_cagrad_with_radius_zero_is_the_mean_gradient(linear, tasks):
    rows = conflicting(tasks)
    weights, *_ = run(linear, rows, "cagrad", c=0.0)
    assert torch.equal(weights, torch.full_like(weights, 1 / tasks))


def test_cagrad_of_one_task_is_a_multiple_of_its_gradient(linear):
    rows = torch.tensor([[3e-5, -1e3, 2]])
    weights, *_ = run(linear, rows, "cagrad")
    assert weights.tolist() == pytest.approx([1.4 / 1.16])


def test_cagrad_takes_no_negative_radius():
    with pytest.raises(ValueError, match="c=-1"):
        methods.create("cagrad", num_tasks=2, c=-1.0)


def test_if_no_direction_helps_the_worst_task_cagrad_is_the_nearest_that_harms_none(linear):
    """|d − g_0| = c |g_0| names no d here: g_w = 0, and every d of the ball with g_k · d ≥ 0 is as good."""
    rows = torch.tensor([[4.0, 0, 0], [-3, 0, 0], [0, 5, 0]], dtype=torch.float64)
    _, update, method = run(linear, rows, "cagrad")
    torch.testing.assert_close(update * 1.16, torch.tensor([0.0, 5 / 3, 0], dtype=torch.float64))
    assert (update * 1.16 - rows.mean(0)).norm() <= 0.4 * rows.mean(0).norm()
    assert method.degenerate == 1


def test_a_zero_gradient_is_the_worst_task_for_cagrad_if_all_others_can_improve(linear):
    rows = torch.tensor([[1.0, 0.2], [0, 0], [0.3, 1]], dtype=torch.float64)
    _, update, method = run(linear, rows, "cagrad")
    torch.testing.assert_close(update * 1.16, rows.mean(0))
    assert method.degenerate == 1


@pytest.mark.parametrize("tasks", [2, 3, 8])
def test_a_zero_gradient_is_not_the_worst_task_if_another_gets_worse(linear, tasks):
    rows = torch.cat([torch.eye(tasks - 1), -0.01 * torch.ones(1, tasks - 1)]).double()
    _, update, _ = run(linear, rows, "cagrad")
    assert (rows @ update).min() < 0
    _, found, method = run(linear, torch.cat([rows, torch.zeros(1, tasks - 1).double()]), "cagrad")
    torch.testing.assert_close(found * (tasks + 1), update * tasks)
    assert method.degenerate == 0


# Others' implementations -----------------------------------------------------------------------------------


def theirs(name, rows, regulariser=1e-4):
    """TorchJD's update. By default it adds 1e-4 to the diagonal of the Gramian with trace 1 before it projects."""
    if name == "cagrad":
        return torchjd.aggregation.CAGrad(c=0.4)(rows) / 1.16
    kind = {"upgrad": torchjd.aggregation.UPGrad, "dualproj": torchjd.aggregation.DualProj}[name]
    return kind(projector=torchjd.linalg.QuadprogProjector(reg_eps=regulariser))(rows)


@pytest.mark.parametrize("name", [*PROJECTIONS, "cagrad"])
@pytest.mark.parametrize("tasks", [2, 3, 8])
def test_on_mild_gradients_torchjd_without_regulariser_has_the_same_update(linear, name, tasks):
    rows = conflicting(tasks, columns=30)
    rows[0] *= 3  # without it the mean of two conflicts with neither
    _, update, _ = run(linear, rows, name)
    error = (theirs(name, rows, regulariser=1e-10) - update).norm() / update.norm()
    assert error < (1e-4 if name == "cagrad" else 1e-5)  # its CAGrad stops its solver early
    assert (update - rows.mean(0)).norm() > 0.1 * update.norm()


@pytest.mark.parametrize("name", PROJECTIONS)
def test_where_torchjd_conflicts_with_a_short_gradient_ours_does_not(linear, name):
    rows = conflicting(3) * torch.tensor([[1.0], [1e-3], [1.0]], dtype=torch.float64)
    cosines = lambda d: rows @ d / (rows.norm(dim=1) * d.norm())  # noqa: E731
    assert cosines(theirs(name, rows)).min() < -0.1
    assert cosines(run(linear, rows, name)[1]).min() > -1e-12


def test_where_torchjds_cagrad_stands_still_ours_ends_at_its_radius(linear):
    rows = 1e-3 * conflicting(3)
    assert not theirs("cagrad", rows).any()
    _, update, _ = run(linear, rows, "cagrad")
    mean = rows.mean(0)
    assert float((update * 1.16 - mean).norm()) == pytest.approx(0.4 * float(mean.norm()), rel=1e-12)
