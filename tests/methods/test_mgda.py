"""MGDA from losses to `.grad`, against the conditions that define it, computed from the gradients alone."""

import pytest
import torch
import torchjd.aggregation
from hypothesis import given, settings
from hypothesis import strategies as st

import methods

moderate = settings(deadline=None, derandomize=True, max_examples=100)
NORMALIZERS = ("none", "l2", "loss", "loss+")


def divisors(normalize, rows, values):
    """What each gradient is divided by, as Sener & Koltun's code names it."""
    lengths = rows.double().norm(dim=1)
    ones = torch.ones_like(lengths)
    return {"none": ones, "l2": lengths, "loss": values, "loss+": values * lengths}[normalize]


def run(linear, rows, values=None, **options):
    """Return the weights and the update for gradients that are these rows."""
    losses, theta = linear(rows.float(), None if values is None else values.float())
    method = methods.create("mgda", num_tasks=len(rows), **options)
    weights = method.backward(losses, shared=[theta])
    return weights, theta.grad, method


@moderate
@given(data=st.data())
def test_the_update_is_the_shortest_vector_of_the_hull(linear, gradient_matrices, optimality, data):
    rows = data.draw(gradient_matrices(decades=4)).float()
    weights, update, _ = run(linear, rows)
    assert (weights >= 0).all()
    assert float(weights.sum()) == pytest.approx(1, abs=1e-6)
    assert optimality(rows, weights, update) < 1e-5


@pytest.mark.parametrize("normalize", NORMALIZERS)
@moderate
@given(data=st.data())
def test_the_hull_is_that_of_the_divided_gradients_and_the_weights_apply_to_the_raw_ones(
    linear, gradient_matrices, optimality, normalize, data
):
    rows = data.draw(gradient_matrices(decades=5, zeros=False)).float()
    values = 10 ** torch.tensor(data.draw(st.lists(st.floats(-5, 5), min_size=len(rows), max_size=len(rows))))
    weights, update, method = run(linear, rows, values, normalize=normalize)
    divided = rows.double() / divisors(normalize, rows, values.double()).unsqueeze(1)
    assert (weights >= 0).all()
    assert float(weights.sum()) == pytest.approx(1, abs=1e-6)
    assert optimality(divided, weights) < 1e-5
    size = weights.double() @ rows.double().norm(dim=1)
    assert (update.double() - weights.double() @ rows.double()).norm() <= 1e-6 * size
    assert method.degenerate == 0


@pytest.mark.parametrize("normalize", NORMALIZERS)
def test_the_normalisers_differ(linear, normalize):
    rows = torch.tensor([[4.0, 0, 0], [0, 1, 0], [0, 0, 2]])
    weights, *_ = run(linear, rows, torch.tensor([1.0, 3, 2]), normalize=normalize)
    # Orthogonal rows weigh inversely to their squared lengths, as divided.
    lengths = {"none": [4.0, 1, 2], "l2": [1.0, 1, 1], "loss": [4, 1 / 3, 1], "loss+": [1, 1 / 3, 1 / 2]}
    lengths = torch.tensor(lengths[normalize])
    torch.testing.assert_close(weights, lengths**-2 / (lengths**-2).sum())


def test_by_default_nothing_is_divided(linear):
    rows, values = torch.eye(3) * torch.tensor([[1.0], [2], [3]]), torch.tensor([1.0, 5, 9])
    assert torch.equal(run(linear, rows, values)[0], run(linear, rows, values, normalize="none")[0])


def test_a_zero_gradient_stops_the_trunk(linear):
    rows = torch.tensor([[1.0, 2], [0, 0], [3, -1]])
    weights, update, method = run(linear, rows)
    assert weights.tolist() == [0, 1, 0]
    assert update.tolist() == [0, 0]
    assert method.degenerate == 0


@pytest.mark.parametrize("normalize", ["l2", "loss+"])
def test_a_zero_gradient_that_cannot_be_divided_is_left_out(linear, optimality, normalize):
    rows, values = torch.tensor([[1.0, 2], [0, 0], [3, -1]]), torch.tensor([1.0, 1, 2])
    weights, update, method = run(linear, rows, values, normalize=normalize)
    without, expected, _ = run(linear, rows[[0, 2]], values[[0, 2]], normalize=normalize)
    assert weights[1] == 0
    assert torch.equal(weights[[0, 2]], without)
    assert torch.equal(update, expected)
    assert method.degenerate == 1


@pytest.mark.parametrize("value", [0.0, -2.0])
@pytest.mark.parametrize("normalize", ["loss", "loss+"])
def test_a_loss_that_cannot_divide_is_left_out(linear, normalize, value):
    rows, values = torch.tensor([[1.0, 2], [2, 1], [3, -1]]), torch.tensor([1.0, value, 2])
    weights, _, method = run(linear, rows, values, normalize=normalize)
    assert weights[1] == 0
    assert torch.equal(weights[[0, 2]], run(linear, rows[[0, 2]], values[[0, 2]], normalize=normalize)[0])
    assert method.degenerate == 1


@pytest.mark.parametrize("normalize", NORMALIZERS)
def test_no_gradient_at_all_is_no_update(linear, normalize):
    weights, update, method = run(linear, torch.zeros(3, 4), normalize=normalize)
    assert torch.isfinite(weights).all()
    assert not update.any()
    assert method.degenerate == (normalize in ("l2", "loss+"))


def test_degenerate_steps_are_counted_not_tasks(linear):
    method = methods.create("mgda", num_tasks=3, normalize="l2")
    for rows in (torch.zeros(3, 2), torch.eye(3), torch.zeros(3, 2)):
        losses, theta = linear(rows)
        method.backward(losses, shared=[theta])
    assert (method.steps, method.degenerate) == (3, 2)


@pytest.mark.parametrize("normalize", NORMALIZERS)
@pytest.mark.parametrize("tasks", [2, 3, 40])
def test_equal_gradients_are_followed(linear, tasks, normalize):
    row = torch.tensor([3.0, -1, 2])
    weights, update, _ = run(linear, row.repeat(tasks, 1), normalize=normalize)
    assert float(weights.sum()) == pytest.approx(1)
    torch.testing.assert_close(update, row)


@pytest.mark.parametrize("normalize", NORMALIZERS)
def test_one_task_alone_is_followed(linear, normalize):
    row = torch.tensor([[3e-5, -1e3, 2]])
    weights, update, _ = run(linear, row, torch.tensor([7.0]), normalize=normalize)
    assert weights.tolist() == [1]
    assert torch.equal(update, row[0])


@pytest.mark.parametrize("normalize", NORMALIZERS)
def test_forty_tasks(linear, optimality, normalize):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(40, 300, generator=generator) * 10 ** torch.linspace(-3, 3, 40).unsqueeze(1)
    values = torch.rand(40, generator=generator) + 0.1
    weights, _, _ = run(linear, rows, values, normalize=normalize)
    divided = rows.double() / divisors(normalize, rows, values.double()).unsqueeze(1)
    assert optimality(divided, weights) < 1e-5


@pytest.mark.parametrize("at", ["features", "last"])
def test_elsewhere_the_hull_is_that_of_the_gradients_there(network, optimality, at):
    net, method = network(), methods.create("mgda", num_tasks=3, at=at)
    outputs = net()
    place = {"features": outputs.features, "last": net.last}[at]
    rows = [torch.autograd.grad(loss, place, retain_graph=True)[0].flatten() for loss in outputs.losses]
    own = [net.gradients(loss) for loss in outputs.losses]
    weights = net.give(method, outputs)
    assert optimality(torch.stack(rows), weights) < 1e-5
    for name, parameter in net.trunk.named_parameters(prefix="trunk"):
        expected = sum(weight * gradients[name] for weight, gradients in zip(weights, own, strict=True))
        torch.testing.assert_close(parameter.grad, expected)


@settings(moderate, max_examples=30)
@given(data=st.data())
def test_torchjd_finds_the_same_to_its_own_precision(linear, gradient_matrices, data):
    """Its Frank-Wolfe steps end near the minimum, never below it."""
    mild = {"decades": 0.2, "zeros": False, "structures": ("random", "aligned", "conflicting")}
    rows = data.draw(gradient_matrices(tasks=st.integers(1, 6), **mild)).float()
    _, update, _ = run(linear, rows)
    theirs = torchjd.aggregation.MGDA(epsilon=1e-6, max_iters=2000)(rows)
    scale = rows.norm(dim=1).min()
    assert update.norm() <= theirs.norm() + 1e-6 * scale
    assert (update - theirs).norm() <= 0.05 * scale
