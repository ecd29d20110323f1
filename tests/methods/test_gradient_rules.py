"""PCGrad, GradVac and GradDrop, against their algorithms on the gradients themselves."""

import math

import numpy as np
import pytest
import torch
import torchjd.aggregation
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import methods

moderate = settings(deadline=None, derandomize=True, max_examples=60)


def step(method, linear, rows, absent=()):
    """Return the weights and the update for gradients that are these rows."""
    losses, theta = linear(rows)
    weights = method.backward([None if k in absent else loss for k, loss in enumerate(losses)], shared=[theta])
    return weights, theta.grad


def orders(method, tasks):
    """In which order each gradient meets the others at the next step."""
    generator = torch.Generator()
    generator.set_state(method.generator.get_state())
    drawn = torch.rand(tasks, tasks, generator=generator).argsort(1).tolist()
    return [[j for j in order if j != i] for i, order in enumerate(drawn)]


def drawn_rows(seed, tasks, columns=20, decades=6.0):
    draw = np.random.default_rng(seed)
    rows = draw.normal(size=(tasks, columns)) + draw.normal(size=columns) * draw.choice([0, 0.5, -0.5])
    return torch.from_numpy(rows * 10 ** draw.uniform(-decades, decades, size=(tasks, 1)))


# PCGrad ----------------------------------------------------------------------------------------------------


def surgery(rows, order):
    """Yu et al. 2020, Algorithm 1, on the vectors."""
    total = torch.zeros_like(rows[0])
    for i, others in enumerate(order):
        v = rows[i].clone()
        for j in others:
            if v @ rows[j] < 0:
                v -= (v @ rows[j]) / (rows[j] @ rows[j]) * rows[j]
        total += v
    return total


@moderate
@given(data=st.data())
def test_pcgrad_is_its_algorithm_on_the_vectors(linear, gradient_matrices, data):
    rows = data.draw(gradient_matrices())
    method = methods.create("pcgrad", num_tasks=len(rows), seed=data.draw(st.integers(0, 99)))
    expected = surgery(rows, orders(method, len(rows)))
    weights, update = step(method, linear, rows)
    torch.testing.assert_close(update, weights @ rows, rtol=0, atol=float(1e-12 * (weights @ rows.norm(dim=1))))
    assert (update - expected).norm() <= 1e-11 * rows.norm(dim=1).sum()
    assert method.degenerate == 0


@moderate
@given(data=st.data())
def test_without_conflict_pcgrad_adds_up(linear, gradient_matrices, data):
    rows = data.draw(gradient_matrices()).abs()
    weights, _ = step(methods.create("pcgrad", num_tasks=len(rows)), linear, rows)
    assert torch.equal(weights, torch.ones_like(weights))


@moderate
@given(data=st.data())
def test_of_two_pcgrad_is_a_closed_form(linear, gradient_matrices, data):
    rows = data.draw(gradient_matrices(tasks=st.just(2), zeros=False))
    product, squares = rows[0] @ rows[1], rows.square().sum(1)
    weights, _ = step(methods.create("pcgrad", num_tasks=2), linear, rows)
    torch.testing.assert_close(weights, 1 - product.clamp(max=0) / squares, rtol=1e-12, atol=1e-12)


@moderate
@given(data=st.data())
def test_of_two_pcgrad_conflicts_with_neither(linear, gradient_matrices, data):
    rows = data.draw(gradient_matrices(tasks=st.just(2)))
    _, update = step(methods.create("pcgrad", num_tasks=2), linear, rows)
    lengths = rows.norm(dim=1)
    assert (rows @ update >= -1e-12 * lengths * lengths.sum()).all()


CONFLICTING = torch.tensor([[1.0, 0.2, -0.5], [-0.8, 0.5, 0.1], [-0.3, -1.0, 0.4]])


def test_of_three_pcgrad_draws_every_order_as_torchjd_does(linear):
    ours, theirs = set(), set()
    oracle = torchjd.aggregation.PCGrad()
    method = methods.create("pcgrad", num_tasks=3)
    torch.manual_seed(0)
    for _ in range(120):
        ours.add(tuple(round(x, 4) for x in step(method, linear, CONFLICTING)[1].tolist()))
        theirs.add(tuple(round(x, 4) for x in oracle(CONFLICTING).tolist()))
    assert ours == theirs
    assert len(ours) > 2


def test_short_gradients_are_projected_as_long_ones_are(linear):
    updates = []
    for exponent in (0, -60):
        rows = CONFLICTING.double() * 2.0**exponent
        updates.append(step(methods.create("pcgrad", num_tasks=3), linear, rows)[1] * 2.0**-exponent)
    assert torch.equal(*updates)


def test_with_a_zero_gradient_nothing_conflicts(linear):
    rows = torch.cat([CONFLICTING[:2], torch.zeros(1, 3)])
    method = methods.create("pcgrad", num_tasks=3)
    weights, update = step(method, linear, rows)
    assert weights[2] == 1
    torch.testing.assert_close(update, step(methods.create("pcgrad", num_tasks=2), linear, rows[:2])[1])
    assert method.degenerate == 0


def test_opposites_cancel_in_pcgrad(linear):
    _, update = step(methods.create("pcgrad", num_tasks=2), linear, torch.tensor([[3.0, 1.0], [-6.0, -2.0]]))
    assert update.abs().max() < 1e-6


# GradVac ---------------------------------------------------------------------------------------------------


def vaccine(rows, order, targets, beta):
    """Wang et al. 2021, on the vectors. The targets are changed in place."""
    total = torch.zeros_like(rows[0])
    for i, others in enumerate(order):
        v = rows[i].clone()
        for j in others:
            size, other, t = v.norm(), rows[j].norm(), float(targets[i, j])
            cosine = float(v @ rows[j] / size / other)
            if cosine < t:
                sine, wanted = math.sqrt(1 - cosine**2), math.sqrt(1 - t**2)
                v += size * (t * sine - cosine * wanted) / (other * wanted) * rows[j]
            targets[i, j] = (1 - beta) * t + beta * cosine
        total += v
    return total


@moderate
@given(seed=st.integers(0, 2**32 - 1), tasks=st.integers(1, 8), beta=st.sampled_from([0.01, 0.5, 1.0]))
def test_gradvac_is_its_algorithm_on_the_vectors(linear, seed, tasks, beta):
    method = methods.create("gradvac", num_tasks=tasks, seed=seed % 100, beta=beta)
    targets = torch.zeros(tasks, tasks, dtype=torch.float64)
    for number in range(4):
        rows = drawn_rows(seed + number, tasks)
        expected = vaccine(rows, orders(method, tasks), targets, beta)
        weights, update = step(method, linear, rows)
        assert (update - expected).norm() <= 1e-9 * (weights.abs() @ rows.norm(dim=1))
        torch.testing.assert_close(method.targets, targets, rtol=0, atol=1e-9)
    assert method.degenerate == 0


@moderate
@given(seed=st.integers(0, 2**32 - 1), one=st.floats(-0.95, 0.95), other=st.floats(-0.95, 0.95))
def test_afterwards_the_cosine_is_the_target(linear, seed, one, other):
    """Of two, v_1 = g_1 + a g_2 and v_2 = g_2 + b g_1, so that the weights tell a and b."""
    rows = drawn_rows(seed, 2, decades=1)
    method = methods.create("gradvac", num_tasks=2)
    method.targets.copy_(torch.tensor([[0.0, one], [other, 0.0]]))
    targets = method.targets.clone()
    weights, _ = step(method, linear, rows)
    before = torch.cosine_similarity(rows[0], rows[1], dim=0)
    assume(abs(before) < 0.99)
    for i, j in ((0, 1), (1, 0)):
        after = torch.cosine_similarity(rows[i] + (weights[j] - 1) * rows[j], rows[j], dim=0)
        assert float(after) == pytest.approx(float(max(before, targets[i, j])), abs=1e-9)
        expected = 0.5 * float(targets[i, j]) + 0.5 * float(before)
        assert float(method.targets[i, j]) == pytest.approx(expected, abs=1e-12)


@moderate
@given(data=st.data())
def test_without_memory_gradvac_is_pcgrad(linear, gradient_matrices, data):
    rows = data.draw(gradient_matrices(zeros=False))
    (_, one), (_, other) = (
        step(methods.create(name, num_tasks=len(rows)), linear, rows) for name in ("gradvac[beta=0]", "pcgrad")
    )
    assert (one - other).norm() <= 1e-6 * rows.norm(dim=1).sum()  # a v_i of 1e-7 of its parts counts as cancelled


def test_gradvac_of_two_is_torchjds(linear):
    oracle, method = torchjd.aggregation.GradVac(beta=0.5), methods.create("gradvac", num_tasks=2)
    for number in range(6):
        rows = drawn_rows(number, 2, decades=0.3)
        torch.testing.assert_close(step(method, linear, rows)[1], oracle(rows), rtol=1e-6, atol=1e-7)


def test_an_absent_task_keeps_its_row_and_its_column_of_targets(linear):
    method = methods.create("gradvac", num_tasks=3)
    step(method, linear, drawn_rows(0, 3))
    before = method.targets.clone()
    fewer = methods.create("gradvac", num_tasks=2)
    fewer.targets.copy_(before[[0, 2]][:, [0, 2]])
    fewer.generator.set_state(method.generator.get_state())
    rows = drawn_rows(1, 3)
    weights, update = step(method, linear, rows, absent=[1])
    alone, expected = step(fewer, linear, rows[[0, 2]])
    assert weights[1] == 0
    assert torch.equal(weights[[0, 2]], alone)
    torch.testing.assert_close(update, expected)
    assert torch.equal(method.targets[1], before[1])
    assert torch.equal(method.targets[:, 1], before[:, 1])
    assert torch.equal(method.targets[[0, 2]][:, [0, 2]], fewer.targets)
    assert not torch.equal(fewer.targets, before[[0, 2]][:, [0, 2]])


def test_gradvac_leaves_a_zero_gradient_out(linear):
    rows = torch.cat([CONFLICTING[:2], torch.zeros(1, 3)])
    method = methods.create("gradvac", num_tasks=3)
    weights, update = step(method, linear, rows)
    torch.testing.assert_close(update, step(methods.create("gradvac", num_tasks=2), linear, rows[:2])[1])
    assert weights[2] == 0
    assert method.degenerate == 1
    assert not method.targets[2].any() and not method.targets[:, 2].any()


def test_a_gradient_that_is_cancelled_is_left_alone(linear):
    rows = torch.tensor([[3.0, 1.0], [-6.0, -2.0], [1.0, 1.0]], dtype=torch.float64)
    method = methods.create("gradvac", num_tasks=3)
    for _ in range(3):
        weights, _ = step(method, linear, rows)
        assert weights.isfinite().all()
    assert method.degenerate > 0
    assert method.targets.abs().max() <= 1


def test_a_target_of_one_is_out_of_reach(linear):
    method = methods.create("gradvac", num_tasks=2, beta=1)
    row = torch.tensor([[3.0, 1.0]])
    step(method, linear, torch.cat([row, 1e6 * row]))  # parallel but for rounding
    assert method.degenerate == 0
    weights, _ = step(method, linear, CONFLICTING[:2])
    assert weights.tolist() == [1, 1]
    assert method.degenerate == 1


def test_parallel_gradients_are_added_up_for_ever(linear):
    method = methods.create("gradvac", num_tasks=3)
    for seed in range(80):  # until the targets are 1 but for the rounding of the rows
        row = torch.randn(1, 5, generator=torch.Generator().manual_seed(seed))
        weights, _ = step(method, linear, torch.cat([row, 1e-3 * row, 7 * row]))
        assert weights.tolist() == [1, 1, 1]
    assert method.degenerate == 0


# GradDrop --------------------------------------------------------------------------------------------------


def features_step(method, rows, values, absent=()):
    """Return the gradient that reaches features of these values, for losses whose gradients there are `rows`."""
    theta = torch.nn.Parameter(values.clone())
    features = theta * 1
    losses = [None if k in absent else (row * features).sum() for k, row in enumerate(rows)]
    method.backward(losses, shared=[theta], features=features)
    return theta.grad


def sign_dropout(rows, values, drawn, leak):
    """Chen et al. 2020, Algorithm 1, coordinate by coordinate: rows `[K, B, D]`, values `[B, D]`."""
    update = torch.zeros_like(values)
    for d in range(values.shape[1]):
        x = [float((values[:, d].sign() * row[:, d]).sum()) for row in rows]
        purity = 0.5 * (1 + sum(x) / sum(map(abs, x)))
        for row, own in zip(rows, x, strict=True):
            kept = (purity > drawn[d] and own > 0) or (purity < drawn[d] and own < 0)
            update[:, d] += (leak + (1 - leak) * kept) * row[:, d]
    return update


@pytest.mark.parametrize("leak", [0.0, 0.3])
@pytest.mark.parametrize("tasks", [1, 2, 5])
def test_at_the_features_a_sign_is_drawn_for_each_coordinate_of_the_batch(tasks, leak):
    generator = torch.Generator().manual_seed(4)
    rows = torch.randn(tasks, 6, 50, generator=generator)
    values = torch.randn(6, 50, generator=generator)
    method = methods.create("graddrop", num_tasks=tasks, seed=3, leak=leak)
    drawn = torch.rand(50, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(features_step(method, rows, values), sign_dropout(rows, values, drawn, leak))


def test_features_that_are_images_have_a_coordinate_for_each_place():
    generator = torch.Generator().manual_seed(4)
    rows = torch.randn(3, 4, 5, 2, 3, generator=generator)
    values = torch.randn(4, 5, 2, 3, generator=generator)
    flat = features_step(methods.create("graddrop", num_tasks=3), rows.flatten(2), values.flatten(1))
    for memory in (torch.contiguous_format, torch.channels_last):
        found = features_step(methods.create("graddrop", num_tasks=3), rows, values.to(memory_format=memory))
        torch.testing.assert_close(found.flatten(1), flat)


@moderate
@given(data=st.data(), leak=st.sampled_from([0.0, 0.25]))
def test_at_the_parameters_one_sign_remains(linear, gradient_matrices, data, leak):
    rows = data.draw(gradient_matrices(decades=2))
    method = methods.create("graddrop", num_tasks=len(rows), at="shared", leak=leak)
    _, update = step(method, linear, rows)
    up, down = rows.clamp(min=0).sum(0), rows.clamp(max=0).sum(0)
    size = rows.abs().sum(0)
    one, other = (update - up - leak * down).abs(), (update - down - leak * up).abs()
    assert (torch.minimum(one, other) <= 1e-12 * size).all()


@pytest.mark.parametrize("leak", [0.0, 0.25])
def test_the_sign_is_positive_as_often_as_the_purity_says(linear, leak):
    """x = (3, −1, 2): P = ½ (1 + 4/6); in the mean nothing is lost, and with a leak every mask is l + (1 − l) P."""
    count = 20_000
    rows = torch.tensor([[3.0], [-1.0], [2.0]]).expand(3, count)
    method = methods.create("graddrop", num_tasks=3, at="shared", leak=leak)
    _, update = step(method, linear, rows)
    positive, negative = 5 - leak, -1 + 5 * leak
    assert set(update.tolist()) == {positive, negative}
    share = float((update == positive).double().mean())
    assert share == pytest.approx(5 / 6, abs=5 * math.sqrt(5 / 36 / count))
    assert float(update.mean()) == pytest.approx(4, abs=0.1)


def test_with_the_same_numbers_it_is_torchjds(linear):
    rows = torch.randn(4, 300, generator=torch.Generator().manual_seed(1))
    for leak in (0.0, 0.3):
        torch.manual_seed(5)
        expected = torchjd.aggregation.GradDrop(leak=torch.full((4,), leak))(rows)
        method = methods.create("graddrop", num_tasks=4, at="shared", seed=5, leak=leak)
        torch.testing.assert_close(step(method, linear, rows)[1], expected)


def test_at_the_parameters_features_are_not_looked_at(linear):
    rows = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    updates = []
    for features in (None, torch.randn(2, 4)):
        losses, theta = linear(rows)
        method = methods.create("graddrop", num_tasks=3, at="shared")
        method.backward(losses, shared=[theta], features=features)
        updates.append(theta.grad)
    assert torch.equal(*updates)


def test_an_example_whose_feature_is_zero_has_no_part_in_the_purity():
    """ReLU features: the second example is off, and its large gradient decides nothing."""
    rows = torch.tensor([[[1.0], [-100.0]], [[2.0], [-100.0]]])
    found = features_step(methods.create("graddrop", num_tasks=2), rows, torch.tensor([[1.0], [0.0]]))
    assert found.flatten().tolist() == [3, -200]  # all signs are positive


def test_a_task_without_a_sign_is_dropped_where_another_has_one():
    rows = torch.tensor([[[1.0], [1.0]], [[5.0], [-5.0]]])
    found = features_step(methods.create("graddrop", num_tasks=2), rows, torch.ones(2, 1))
    assert found.flatten().tolist() == [1, 1]


def test_where_no_task_has_a_sign_every_gradient_passes():
    rows = torch.tensor([[[1.0, 1.0], [-1.0, -1.0]], [[2.0, 2.0], [0.5, -2.0]]])
    found = features_step(methods.create("graddrop", num_tasks=2), rows, torch.tensor([[0.0, 1.0], [0.0, 1.0]]))
    assert torch.equal(found, rows.sum(0))


def test_the_gradient_of_one_task_alone_passes_whole(linear):
    rows = torch.randn(1, 4, 500, generator=torch.Generator().manual_seed(1))
    assert torch.equal(features_step(methods.create("graddrop", num_tasks=1), rows, rows[0].roll(1)), rows[0])
    _, update = step(methods.create("graddrop", num_tasks=1, at="shared"), linear, rows.flatten(1))
    assert torch.equal(update, rows.flatten())


def test_graddrop_of_some_tasks_is_that_of_them_alone():
    rows = torch.randn(3, 4, 20, generator=torch.Generator().manual_seed(1))
    values = torch.randn(4, 20, generator=torch.Generator().manual_seed(2))
    found = features_step(methods.create("graddrop", num_tasks=3), rows, values, absent=[1])
    assert torch.equal(found, features_step(methods.create("graddrop", num_tasks=2), rows[[0, 2]], values))
