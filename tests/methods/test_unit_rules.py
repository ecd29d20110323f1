"""Rules that make much of unit gradients, against their definitions, worked out from the gradients alone."""

import numpy as np
import pytest
import torch
import torchjd.aggregation
from hypothesis import given, settings
from hypothesis import strategies as st

import methods
from methods.core.solvers.aligned import align
from methods.core.solvers.equal_cosines import equal_cosines

moderate = settings(deadline=None, derandomize=True, max_examples=60)
LEFT_OUT = ("config", "imtlg", "unit", "dibsmtl", "ntkmtl")
MILD = {"zeros": False, "decades": 3, "structures": ("random", "aligned")}


def run(linear, rows, rule, values=None, **options):
    losses, theta = linear(rows, values)
    method = methods.create(rule, num_tasks=len(rows), **options)
    weights = method.backward(losses, shared=[theta])
    return weights, theta.grad, method


def units_of(rows):
    return rows / rows.norm(dim=1, keepdim=True)


def independent(rows, least=1e-3):
    """Whether the unit rows are so: their least singular value."""
    return len(rows) <= rows.shape[1] and float(torch.linalg.svdvals(units_of(rows))[-1]) > least


def near(one, other, tolerance=1e-9):
    return float((one - other).norm()) <= tolerance * float(other.norm())


# The sum of unit gradients, and what equals it -------------------------------------------------------------


@moderate
@given(data=st.data())
def test_unit_is_the_sum_of_unit_gradients(linear, gradient_matrices, data):
    rows = data.draw(gradient_matrices(zeros=False))
    weights, update, method = run(linear, rows, "unit")
    torch.testing.assert_close(weights, 1 / rows.norm(dim=1), rtol=1e-12, atol=0)
    assert (update - units_of(rows).sum(0)).norm() <= 1e-12 * len(rows)
    assert method.degenerate == 0


@moderate
@given(data=st.data())
def test_ntkmtl_and_dibs_have_the_same_direction(linear, gradient_matrices, data):
    rows = data.draw(gradient_matrices(zeros=False))
    size, expected = rows.square().sum(1).mean().sqrt(), units_of(rows).sum(0)
    assert (run(linear, rows, "ntkmtl")[1] / size - expected).norm() <= 1e-11 * len(rows)
    assert (run(linear, rows, "dibsmtl")[1] - expected).norm() <= 1e-11 * len(rows)


@moderate
@given(data=st.data())
def test_so_has_nash_of_two_gradients(linear, gradient_matrices, data):
    rows = data.draw(gradient_matrices(tasks=st.just(2), **MILD))
    _, update, method = run(linear, rows, "nashmtl")
    if method.degenerate:
        return
    expected = units_of(rows).sum(0)
    assert near(update / update.norm(), expected / expected.norm(), 1e-6)


@pytest.mark.parametrize("exponent", [0.25, 0.5, 1.0])
def test_the_weights_of_ntkmtl_are_powers_of_the_mean_over_the_own(linear, exponent):
    rows = torch.diag(torch.tensor([1.0, 2, 4], dtype=torch.float64))
    weights, *_ = run(linear, rows, "ntkmtl", exponent=exponent)
    assert weights.tolist() == pytest.approx([(7 / own) ** exponent for own in (1, 4, 16)])


@pytest.mark.parametrize("steps", [1, 2, 5])
@moderate
@given(data=st.data())
def test_dibs_walks_as_its_algorithm_says(linear, gradient_matrices, steps, data):
    """The walk itself, in the space of the parameters."""
    rows = data.draw(gradient_matrices(tasks=st.integers(1, 12), zeros=False))
    units = units_of(rows)
    place, counted = torch.zeros_like(rows[0]), torch.zeros(len(rows), dtype=rows.dtype)
    for _ in range(steps):
        distances = (place + units).norm(dim=1)
        counted += distances / steps
        place = place - (distances / steps) @ units
        if abs(place.norm() - 1) < 1e-6:
            return  # rounding decides whether this is still inside
        if place.norm() > 1:
            break
    weights, *_ = run(linear, rows, "dibsmtl", steps=steps)
    torch.testing.assert_close(weights * rows.norm(dim=1), counted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("rule", ["unit", "dibsmtl", "dibsmtl[steps=5]"])
@moderate
@given(data=st.data())
def test_the_scale_of_a_loss_is_not_seen(linear, gradient_matrices, rule, data):
    rows = data.draw(gradient_matrices(zeros=False, decades=3))
    factors = 4.0 ** torch.tensor(data.draw(st.lists(st.integers(-8, 8), min_size=len(rows), max_size=len(rows))))
    one, other = (run(linear, found, rule)[1] for found in (rows, rows * factors.double().unsqueeze(1)))
    assert (one - other).norm() <= 1e-6 * one.norm() + 1e-12


@pytest.mark.parametrize("steps", [0, -1])
def test_dibs_takes_a_step_at_least(steps):
    with pytest.raises(ValueError, match="steps="):
        methods.create("dibsmtl", num_tasks=2, steps=steps)


# Equal cosines ---------------------------------------------------------------------------------------------


@moderate
@given(data=st.data())
def test_the_vector_of_equal_cosines_is_the_least_squares_one(gradient_matrices, data):
    """U⁺1, from the matrix itself, and with Moore and Penrose's conditions where that is ill-conditioned."""
    rows = data.draw(gradient_matrices(zeros=False))
    units = units_of(rows)
    x = equal_cosines(rows @ rows.T) @ rows
    singular = torch.linalg.svdvals(units)
    kept = singular[singular > 1e-7]
    if kept[-1] < 1e-3:
        return  # the vector is not known well
    expected = torch.linalg.pinv(units, rtol=1e-7).sum(1)
    assert (x - expected).norm() <= 1e-9 / float(kept[-1]) ** 2 * max(1.0, float(expected.norm()))


@pytest.mark.parametrize("rule", ["config", "imtlg"])
@moderate
@given(data=st.data())
def test_all_cosines_are_the_same(linear, gradient_matrices, rule, data):
    rows = data.draw(gradient_matrices(**MILD))
    if not independent(rows):
        return
    weights, update, method = run(linear, rows, rule)
    cosines = units_of(rows) @ update
    if method.degenerate:
        assert rule == "imtlg"  # Σ w = 1 turned the update round
        assert cosines.max() < 0
    else:
        assert cosines.min() > 0
    assert (cosines - cosines.mean()).abs().max() <= 1e-8 * cosines.mean().abs()
    if rule == "imtlg":
        assert float(weights.sum()) == pytest.approx(1)
    else:  # the projection of the sum
        direction = update / update.norm()
        assert float(update.norm()) == pytest.approx(float(rows.sum(0) @ direction), rel=1e-6)


@pytest.mark.parametrize("rule", ["config", "imtlg", "imtl"])
def test_gradients_without_equal_cosines_are_counted(linear, rule):
    rows = torch.tensor([[1.0, 0], [0, 1], [-1, 0.2]], dtype=torch.float64)
    weights, update, method = run(linear, rows, rule)
    assert method.degenerate == 1
    best = torch.linalg.pinv(units_of(rows)).sum(1)
    assert abs(abs(float(update @ best)) / float(update.norm() * best.norm()) - 1) <= 1e-12
    opposite = torch.tensor([[1.0, 2], [-2, -4]], dtype=torch.float64)
    weights, update, method = run(linear, opposite, rule)
    assert method.degenerate == 1
    assert not weights.any()
    assert not update.any()


@pytest.mark.parametrize("rule", ["config", "imtlg", "imtl"])
@pytest.mark.parametrize("tasks", [1, 2, 3, 40])
def test_equal_gradients_are_no_degenerate_case(linear, rule, tasks):
    row = torch.tensor([3.0, -1, 2], dtype=torch.float64)
    _, update, method = run(linear, row.repeat(tasks, 1), rule)
    assert method.degenerate == 0
    torch.testing.assert_close(update, row * (tasks if rule == "config" else 1))


@moderate
@given(data=st.data())
def test_imtlg_is_the_published_formula(linear, gradient_matrices, data):
    rows = data.draw(gradient_matrices(tasks=st.integers(2, 6), **(MILD | {"decades": 1})))
    if not independent(rows, 0.05):
        return
    units = units_of(rows)
    differences, apart = rows[:1] - rows[1:], units[:1] - units[1:]
    others = torch.linalg.solve((differences @ apart.T).T, apart @ rows[0])
    expected = torch.cat([1 - others.sum().reshape(1), others])
    weights, *_ = run(linear, rows, "imtlg")
    assert (weights - expected).norm() <= 1e-7 * expected.norm()


# IMTL ------------------------------------------------------------------------------------------------------


def test_imtl_balances_the_gradients_of_scaled_losses(linear):
    rows = torch.tensor([[1.0, 0.5], [-0.2, 3]], dtype=torch.float64)
    method = methods.create("imtl", num_tasks=2)
    method.log_scale.data = torch.tensor([0.5, -2.0])
    scales = method.log_scale.detach().double().exp()
    losses, theta = linear(rows, [0.7, 4.0])
    weights = method.backward(losses, shared=[theta])
    inner = run(linear, rows * scales.unsqueeze(1), "imtlg")
    torch.testing.assert_close(weights, inner[0] * scales)
    torch.testing.assert_close(theta.grad, inner[1])
    assert method.log_scale.grad.tolist() == pytest.approx((scales * torch.tensor([0.7, 4.0]) - 1).tolist())


def test_imtl_brings_all_losses_to_one(linear):
    values = [0.3, 1.0, 5.0]
    method = methods.create("imtl", num_tasks=3, lr=0.1)
    for _ in range(300):
        losses, theta = linear(torch.eye(3), torch.tensor(values))
        method.backward(losses, shared=[theta])
    assert method.log_scale.exp().tolist() == pytest.approx([1 / value for value in values], rel=1e-3)


def test_heads_of_imtl_get_the_gradients_of_the_scaled_losses(network):
    net, method = network(), methods.create("imtl", num_tasks=3)
    method.log_scale.data = torch.tensor([-1.0, 0.5, 2.0])
    outputs, scales = net(), method.log_scale.detach().exp()
    expected = net.gradients(sum(s * loss for s, loss in zip(scales, outputs.losses, strict=True)))
    net.give(method, outputs)
    for name, parameter in net.named_parameters():
        if "trunk" not in name:
            torch.testing.assert_close(parameter.grad, expected[name])


@pytest.mark.parametrize("value", [0.0, -2.0])
def test_imtl_leaves_the_scale_of_a_loss_that_has_none(linear, value):
    _, _, method = run(linear, torch.eye(2), "imtl", torch.tensor([value, 3.0]))
    assert method.degenerate == 1
    assert method.log_scale.tolist() == pytest.approx([0, -0.025])


def test_a_task_without_a_gradient_at_the_trunk_learns_on_in_imtl(linear):
    rows = torch.tensor([[1.0, 2], [0, 0], [3, -1]])
    weights, _, method = run(linear, rows, "imtl", torch.tensor([2.0, 2, 2]))
    assert weights[1] == 0
    assert torch.equal(weights[[0, 2]], run(linear, rows[[0, 2]], "imtlg")[0])
    assert method.degenerate == 1
    assert method.head_weights.tolist() == [1, 1, 1]
    assert method.log_scale.tolist() == pytest.approx([-0.025] * 3)


# Aligned-MTL -----------------------------------------------------------------------------------------------


def sigma(rows, scale):
    """The squared length of the aligned gradients, from the singular values of the matrix."""
    found = torch.linalg.svdvals(rows).square()
    kept = found[found > 1e-13 * found[0]]
    return float({"min": kept.min(), "median": kept.quantile(0.5), "rmse": kept.mean()}[scale])


@pytest.mark.parametrize("scale", ["min", "median", "rmse"])
@moderate
@given(data=st.data())
def test_aligned_gradients_are_orthogonal_and_as_long_as_each_other(gradient_matrices, scale, data):
    rows = data.draw(gradient_matrices(zeros=False, decades=1, structures=("random", "aligned", "duplicate")))
    if float(torch.linalg.svdvals(units_of(rows)).clamp(min=1e-12).reciprocal().max()) > 1e4 and independent(rows, 0):
        return
    matrix = align(rows @ rows.T, scale)
    aligned = matrix @ rows
    left, singular, _ = torch.linalg.svd(rows, full_matrices=False)
    span = left[:, singular > 1e-7 * singular[0]]
    assert (aligned @ aligned.T - sigma(rows, scale) * span @ span.T).norm() <= 1e-6 * sigma(rows, scale)
    assert (matrix - matrix.T).norm() <= 1e-12 * matrix.norm()
    assert torch.linalg.eigvalsh(matrix).min() >= -1e-12 * matrix.norm()


def test_aligned_gradients_are_right_for_rows_of_unlike_lengths():
    """λ_min is about 1e-12 of λ_max, of which the eigenvalues of M in float64 know four digits."""
    draw = torch.Generator().manual_seed(0)
    for tasks in (2, 3, 8, 40):
        rows = torch.linalg.qr(torch.randn(50, tasks, dtype=torch.float64, generator=draw))[0].T.contiguous()
        rows = rows + 0.1 * rows.roll(1, 0)
        rows *= 10.0 ** torch.linspace(-3, 3, tasks, dtype=torch.float64).unsqueeze(1)
        aligned = align(rows @ rows.T) @ rows
        products = aligned @ aligned.T / sigma(rows, "min")
        assert (products - torch.eye(tasks)).abs().max() <= 1e-9


def test_aligned_by_hand(linear):
    rows = torch.diag(torch.tensor([1.0, 2, 4], dtype=torch.float64))
    for options, length in (({}, 1), ({"scale": "median"}, 2), ({"scale": "rmse"}, 7**0.5)):
        weights, update, method = run(linear, rows, "alignedmtl", **options)
        assert weights.tolist() == pytest.approx([length, length / 2, length / 4])
        assert update.tolist() == pytest.approx([length] * 3)
        assert method.degenerate == 0


def test_aligned_bears_zero_and_opposite_gradients(linear):
    rows = torch.tensor([[1.0, 2], [0, 0], [3, -1]], dtype=torch.float64)
    weights, update, method = run(linear, rows, "alignedmtl")
    assert weights[1] == 0
    torch.testing.assert_close(update, run(linear, rows[[0, 2]], "alignedmtl")[1])
    assert method.degenerate == 0
    assert not run(linear, torch.zeros(3, 2).double(), "alignedmtl")[0].any()
    assert run(linear, torch.tensor([[1.0, 2], [-1, -2]]).double(), "alignedmtl")[1].norm() <= 1e-15


# All -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", LEFT_OUT)
def test_a_zero_gradient_is_left_out(linear, rule):
    rows = torch.tensor([[1.0, 2], [0, 0], [3, -1]], dtype=torch.float64)
    weights, update, method = run(linear, rows, rule)
    without, expected, _ = run(linear, rows[[0, 2]], rule)
    assert method.degenerate == 1
    assert weights[1] == 0
    assert torch.equal(weights[[0, 2]], without)
    assert torch.equal(update, expected)
    assert not run(linear, torch.zeros(3, 2).double(), rule)[1].any()


@pytest.mark.parametrize("rule", ["config", "alignedmtl", "imtlg", "unit", "ntkmtl", "dibsmtl"])
def test_heads(network, rule):
    """Plain ones, but in DiBS-MTL, whose weights are of whole losses."""
    net, method = network(), methods.create(rule, num_tasks=3)
    outputs = net()
    weights = net.give(method, net())
    factors = weights if rule == "dibsmtl" else [1, 1, 1]
    expected = net.gradients(sum(w * loss for w, loss in zip(factors, outputs.losses, strict=True)))
    for name, parameter in net.named_parameters():
        if "trunk" not in name:
            torch.testing.assert_close(parameter.grad, expected[name])


ORACLES = {
    "config": (torchjd.aggregation.ConFIG(), lambda count: 1),
    "imtlg": (torchjd.aggregation.IMTLG(), lambda count: 1),
    "alignedmtl": (torchjd.aggregation.AlignedMTL(), lambda count: count),  # it has the mean over tasks
    "alignedmtl[scale=rmse]": (torchjd.aggregation.AlignedMTL(scale_mode="rmse"), lambda count: count),
}


@pytest.mark.parametrize("rule", ORACLES)
@moderate
@given(data=st.data())
def test_torchjd_finds_the_same_on_mild_gradients(linear, gradient_matrices, rule, data):
    mild = {"decades": 0.5, "zeros": False, "structures": ("random", "aligned")}
    rows = data.draw(gradient_matrices(tasks=st.integers(2, 6), **mild))
    if not independent(rows, 0.05):
        return
    theirs, factor = ORACLES[rule]
    assert near(run(linear, rows, rule)[1], factor(len(rows)) * theirs(rows), 1e-5)


def test_torchjd_loses_the_shortest_of_uneven_gradients(linear):
    """Its ranks are those of the raw matrix of products, to single precision."""
    rows = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 5)) * [[1e-4], [1], [1e4]])
    left, singular, right = torch.linalg.svd(rows, full_matrices=False)
    expected = singular[-1] * (left @ right).sum(0)
    assert near(run(linear, rows, "alignedmtl")[1], expected, 1e-9)
    assert not near(3 * torchjd.aggregation.AlignedMTL()(rows), expected, 1)
    cosines = units_of(rows) @ run(linear, rows, "imtlg")[1]
    assert (cosines / cosines.mean() - 1).abs().max() <= 1e-9
    cosines = units_of(rows) @ torchjd.aggregation.IMTLG()(rows)
    assert (cosines / cosines.mean() - 1).abs().max() >= 0.1
