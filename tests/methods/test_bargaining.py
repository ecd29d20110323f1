"""Nash-MTL and FairGrad: weights with M w = w^(−1/α), checked with the gradients alone.

No second solver: the equation has one solution with w > 0, so what satisfies it is that solution.
"""

import mpmath
import numpy as np
import pytest
import torch
import torchjd.aggregation
from hypothesis import given, settings
from hypothesis import strategies as st

import methods
from methods.core.solvers.bargaining import bargain

moderate = settings(deadline=None, derandomize=True, max_examples=80)
ALPHAS = (0.2, 0.5, 1.0, 2.0, 5.0)
SOLVABLE = ("random", "aligned", "duplicate", "parallel", "equal")


def solve(rows, alpha=1.0):
    return bargain(rows @ rows.T, alpha)


def residual(rows, weights, alpha):
    """The largest error of the K equations g_k · d = w_k^(−1/α), relative to what is added up on either side."""
    lengths, wanted = rows.norm(dim=1), weights ** (-1 / alpha)
    errors = rows @ (weights @ rows) - wanted
    return float((errors.abs() / (lengths * (weights @ lengths)).maximum(wanted)).max())


def run(linear, rows, rule="nashmtl", **options):
    losses, theta = linear(rows)
    method = methods.create(rule, num_tasks=len(rows), **options)
    weights = method.backward(losses, shared=[theta])
    return weights, theta.grad, method


@pytest.mark.parametrize("alpha", ALPHAS)
@moderate
@given(data=st.data())
def test_positive_weights_satisfy_the_equation(gradient_matrices, alpha, data):
    rows = data.draw(gradient_matrices(zeros=False))
    weights = solve(rows, alpha)
    assert torch.isfinite(weights).all()
    if (weights > 0).all():
        assert residual(rows, weights, alpha) <= 1e-12


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("tasks", [2, 3, 8, 40])
def test_where_no_gradients_cancel_there_is_a_solution(tasks, alpha):
    """Rows with one direction in common; some are nearly collinear, some nearly opposite, all of any length."""
    draw = np.random.default_rng(tasks)
    for share in (1.0, 0.1, 1e-3):
        rows = draw.normal(size=(tasks, tasks + 2))
        rows[1::2] = -rows[: tasks - tasks % 2 : 2] + 1e-3 * draw.normal(size=rows[1::2].shape)
        rows[:, 0] = share
        rows = torch.from_numpy(rows * 10 ** draw.uniform(-6, 6, size=(tasks, 1)))
        weights = solve(rows, alpha)
        assert (weights > 0).all()
        assert residual(rows, weights, alpha) <= 1e-12


@pytest.mark.parametrize("alpha", ALPHAS)
@settings(moderate, max_examples=15)
@given(data=st.data())
def test_fifty_digits_agree(gradient_matrices, alpha, data):
    """Newton's method in 50 digits, on the exact products, moves from our solution by its rounding only."""
    rows = data.draw(
        gradient_matrices(tasks=st.integers(1, 4), zeros=False, decades=3, structures=("random", "aligned"))
    )
    weights = solve(rows, alpha)
    lengths = rows.norm(dim=1)
    cosines = (rows / lengths.unsqueeze(1)) @ (rows / lengths.unsqueeze(1)).T
    if not (weights > 0).all() or torch.linalg.eigvalsh(cosines)[0] < 1e-4:
        return  # of dependent rows the weights are not known that well
    count = len(rows)
    with mpmath.workdps(50):
        exact = mpmath.matrix(rows.tolist())
        gramian, power = exact * exact.T, 1 / mpmath.mpf(alpha)
        w = mpmath.matrix(weights.tolist())
        for _ in range(8):
            wanted = [w[k] ** -power for k in range(count)]
            slope = gramian + mpmath.diag([power * wanted[k] / w[k] for k in range(count)])
            w += mpmath.lu_solve(slope, mpmath.matrix(wanted) - gramian * w)
        assert max(abs((gramian * w)[k] * w[k] ** power - 1) for k in range(count)) < mpmath.mpf(10) ** -30
        assert max(abs(w[k] / weights[k].item() - 1) for k in range(count)) < 1e-9


@moderate
@given(data=st.data())
def test_of_two_it_is_the_sum_of_unit_gradients(gradient_matrices, data):
    rows = data.draw(gradient_matrices(tasks=st.just(2), zeros=False, structures=("random", "aligned", "equal")))
    units = rows / rows.norm(dim=1, keepdim=True)
    weights = solve(rows)
    if (units[0] + units[1]).norm() < 1e-6:
        return  # opposites
    expected = units.sum(0) / (1 + units[0] @ units[1]).sqrt()
    torch.testing.assert_close(weights @ rows, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("tasks", [1, 2, 3, 7, 40])
def test_orthogonal_rows_have_a_closed_form(tasks, alpha):
    lengths = torch.from_numpy(10.0 ** np.random.default_rng(0).uniform(-6, 6, tasks))
    torch.testing.assert_close(
        solve(torch.diag(lengths), alpha), lengths ** (-2 * alpha / (1 + alpha)), rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("alpha", [0.1, 0.2, 5.0, 10.0])
def test_lengths_far_apart_are_solved(alpha):
    draw = torch.Generator().manual_seed(0)
    for tasks in (2, 3, 8, 40):
        rows = torch.randn(tasks, tasks + 1, dtype=torch.float64, generator=draw) - 0.2
        rows *= 10.0 ** torch.linspace(-6, 6, tasks, dtype=torch.float64).unsqueeze(1)
        weights = solve(rows, alpha)
        assert (weights > 0).all()
        assert residual(rows, weights, alpha) <= 1e-12


@pytest.mark.parametrize("alpha", ALPHAS)
@settings(moderate, max_examples=40)
@given(
    cancelling=st.integers(2, 5),
    others=st.integers(0, 4),
    decades=st.sampled_from([0, 3, 6]),
    seed=st.integers(0, 10**6),
)
def test_rows_that_cancel_have_no_say(alpha, cancelling, others, decades, seed):
    """The limit: perpendicular to the rows that cancel, and a bargain of the others, projected off their span."""
    draw = np.random.default_rng(seed)
    rows = draw.normal(size=(cancelling + others, 12))
    rows[cancelling - 1] = -draw.uniform(0.5, 2, cancelling - 1) @ rows[: cancelling - 1]
    rows = torch.from_numpy(rows * 10 ** draw.uniform(-decades, decades, size=(len(rows), 1)))
    units = rows / rows.norm(dim=1, keepdim=True)
    basis = torch.linalg.svd(units[:cancelling])[2][: cancelling - 1]
    weights = solve(rows, alpha)
    update = weights @ rows
    assert (weights <= 0).any()
    rest = rows[cancelling:]
    projected = rest - rest @ basis.T @ basis
    expected = weights[cancelling:] @ projected
    size = weights.abs() @ rows.norm(dim=1)
    assert (update - expected).norm() <= 1e-9 * size
    assert (units[:cancelling] @ update).abs().max() <= 1e-9 * size
    if others:
        assert (weights[cancelling:] > 0).all()
        assert residual(projected, weights[cancelling:], alpha) <= 1e-9
    else:
        assert not weights.any()


@pytest.mark.parametrize("structure", SOLVABLE)
@settings(moderate, max_examples=40)
@given(data=st.data())
def test_the_gramian_is_not_changed(gradient_matrices, structure, data):
    rows = data.draw(gradient_matrices(zeros=False, structures=(structure,)))
    gramian = rows @ rows.T
    before = gramian.clone()
    bargain(gramian, 1.0)
    bargain(gramian, 2.0)
    assert torch.equal(gramian, before)


# The rules -------------------------------------------------------------------------------------------------


@moderate
@given(data=st.data())
def test_nash_has_the_length_root_k_and_is_not_clipped(linear, gradient_matrices, data):
    rows = data.draw(gradient_matrices(zeros=False, structures=("aligned", "equal", "parallel")))
    weights, update, method = run(linear, rows)
    if method.degenerate:
        return  # in one dimension rows may have both signs
    assert float(update.norm()) == pytest.approx(len(rows) ** 0.5, rel=1e-8)
    torch.testing.assert_close(rows @ update, 1 / weights, rtol=1e-6, atol=0)


@settings(moderate, max_examples=40)
@given(data=st.data())
def test_fairgrad_at_one_is_nash(linear, gradient_matrices, data):
    rows = data.draw(gradient_matrices(zeros=False))
    assert torch.equal(run(linear, rows, "fairgrad", alpha=1.0)[0], run(linear, rows)[0])


def test_fairgrad_is_at_two_by_default(linear):
    rows = torch.diag(torch.tensor([1.0, 8.0, 27.0], dtype=torch.float64))
    weights, *_ = run(linear, rows, "fairgrad")
    assert weights.tolist() == pytest.approx([1, 1 / 16, 1 / 81])
    assert run(linear, rows, "fairgrad", alpha=0.5)[0].tolist() == pytest.approx([1, 8 ** (-2 / 3), 27 ** (-2 / 3)])


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("inf"), float("nan")])
def test_an_alpha_without_meaning_is_refused(alpha):
    with pytest.raises(ValueError, match="alpha="):
        methods.create("fairgrad", num_tasks=2, alpha=alpha)


@settings(moderate, max_examples=40)
@given(data=st.data())
def test_nash_does_not_see_the_scale_of_a_loss(linear, gradient_matrices, data):
    mild = {"zeros": False, "decades": 3, "structures": ("random", "aligned")}
    rows = data.draw(gradient_matrices(tasks=st.integers(2, 8), **mild))
    units = rows / rows.norm(dim=1, keepdim=True)
    if torch.linalg.eigvalsh(units @ units.T)[0] < 1e-6:
        return  # of dependent rows that nearly cancel rounding is seen, too
    factors = 4.0 ** torch.tensor(data.draw(st.lists(st.integers(-8, 8), min_size=len(rows), max_size=len(rows))))
    _, one, _ = run(linear, rows)
    _, other, _ = run(linear, rows * factors.double().unsqueeze(1))
    assert (one - other).norm() <= 1e-6 * one.norm()


@pytest.mark.parametrize("rule", ["nashmtl", "fairgrad"])
@settings(moderate, max_examples=40)
@given(data=st.data())
def test_no_loss_gets_worse_to_first_order(linear, gradient_matrices, rule, data):
    rows = data.draw(gradient_matrices(decades=3))
    weights, update, _ = run(linear, rows, rule)
    assert (rows @ update >= -1e-7 * rows.norm(dim=1) * (weights.abs() @ rows.norm(dim=1))).all()


@pytest.mark.parametrize("rule", ["nashmtl", "fairgrad"])
def test_degenerate_steps_are_counted(linear, rule):
    opposite = torch.tensor([[1.0, 0], [-2.0, 0], [0.0, 3]], dtype=torch.float64)
    weights, update, method = run(linear, opposite, rule)
    alone, expected, _ = run(linear, opposite[2:], rule)
    assert method.degenerate == 1
    assert weights.tolist() == [0, 0, *alone.tolist()]
    assert torch.equal(update, expected)
    assert run(linear, torch.eye(3).double(), rule)[2].degenerate == 0
    assert not run(linear, opposite[:2], rule)[1].any()


@pytest.mark.parametrize("rule", ["nashmtl", "fairgrad"])
def test_a_zero_gradient_is_left_out(linear, rule):
    rows = torch.tensor([[1.0, 2], [0, 0], [3, -1]], dtype=torch.float64)
    weights, update, method = run(linear, rows, rule)
    without, expected, _ = run(linear, rows[[0, 2]], rule)
    assert method.degenerate == 1
    assert weights[1] == 0
    assert torch.equal(weights[[0, 2]], without)
    assert torch.equal(update, expected)


@pytest.mark.parametrize("rule", ["nashmtl", "fairgrad"])
def test_heads_get_their_plain_gradients(network, rule):
    net, method = network(), methods.create(rule, num_tasks=3)
    outputs = net()
    plain = net.gradients(sum(outputs.losses))
    net.give(method, outputs)
    for name, parameter in net.named_parameters():
        if "trunk" not in name:
            torch.testing.assert_close(parameter.grad, plain[name])


# TorchJD ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [1.0, 2.0])
@settings(moderate, max_examples=15)
@given(data=st.data())
def test_torchjds_fairgrad_is_the_same_on_mild_gradients(linear, gradient_matrices, alpha, data):
    mild = {"decades": 0.2, "zeros": False, "structures": ("aligned",)}
    rows = data.draw(gradient_matrices(tasks=st.integers(2, 6), **mild))
    _, update, method = run(linear, rows, "fairgrad", alpha=alpha)
    if method.degenerate:
        return
    theirs = torchjd.aggregation.FairGrad(alpha=alpha)(rows)
    assert (update - theirs).norm() <= 1e-3 * update.norm()


@pytest.mark.filterwarnings("ignore")
def test_torchjds_nash_is_the_same_direction_on_mild_gradients_and_wrong_on_others(linear):
    draw = torch.Generator().manual_seed(1)
    directions = torch.randn(3, 6, dtype=torch.float64, generator=draw) + 0.3
    for lengths, same in (([1.0, 1.5, 0.7], True), ([1.0, 30.0, 0.03], False)):
        rows = directions * torch.tensor(lengths, dtype=torch.float64).unsqueeze(1)
        weights, update, _ = run(linear, rows)
        theirs = torchjd.aggregation.NashMTL(n_tasks=3)(rows)  # clipped to the length 1
        gains = rows @ theirs  # Nash: g_k · d ∝ 1 / w_k, so that w_k g_k · d is the same for all tasks
        assert residual(rows, weights, 1.0) <= 1e-12
        assert ((update / update.norm() - theirs).norm() <= 1e-3) == same
        assert bool((gains * weights / (gains * weights).mean() - 1).abs().max() <= 1e-2) == same
