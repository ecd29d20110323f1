"""MoCo, DB-MTL and ExcessMTL, which keep something of each entry of the gradients, against their equations.

Each equation is worked out here step by step in float64, on rows `[K, P]`, for the tasks that are present.
"""

import copy
import math

import numpy as np
import pytest
import torch
import torchjd.aggregation

import methods
from methods.core import subset

RULES = ("moco", "dbmtl", "excessmtl")


def sequence(seed, tasks, columns, steps=8, decades=1.0):
    """Steps of training: rows `[K, P]` and losses `[K]` that are related from step to step."""
    draw = np.random.default_rng(seed)
    scale = 10 ** draw.uniform(-decades, decades, size=(tasks, 1))
    start = draw.normal(size=(tasks, columns))
    for _ in range(steps):
        rows = scale * (start + draw.normal(size=(tasks, columns)))
        yield torch.from_numpy(rows), torch.from_numpy(scale[:, 0] * draw.uniform(0.5, 2, size=tasks))


def step(method, linear, rows, values, absent=()):
    losses, theta = linear(rows, values)
    weights = method.backward([None if k in absent else loss for k, loss in enumerate(losses)], shared=[theta])
    return weights, theta.grad


def nearest(values):
    """The nearest point of the simplex, by bisection."""
    low, high = values.max() - 1, values.max()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(values - middle, 0).sum() > 1 else (low, middle)
    return np.maximum(values - low, 0)


class Tracked:
    """What the three rules do, from their definitions. `step` returns weights or the update of the tasks `there`."""

    def __init__(self, tasks, columns, **options):
        self.kept, self.steps, self.options = np.zeros((tasks, columns)), 0, options
        self.weights = np.full(tasks, 1 / tasks)
        self.first = np.full(tasks, np.nan)

    def moco(self, rows, values, there):
        self.steps += 1
        beta, gamma = (self.options[name] * self.steps**-0.5 for name in ("beta", "gamma"))
        self.kept[there] -= beta * (self.kept[there] - rows[there])
        y, weights = self.kept[there], nearest(self.weights[there])
        self.weights[there] = nearest(weights - gamma * (y @ y.T @ weights))
        return self.weights[there] @ y

    def dbmtl(self, rows, values, there):
        beta = self.options["beta"]
        logarithmic = rows / (values + 1e-8)[:, np.newaxis]
        self.kept[there] = beta * self.kept[there] + (1 - beta) * logarithmic[there]
        lengths = np.linalg.norm(self.kept[there], axis=1)
        return lengths.max() * (self.kept[there] / lengths[:, np.newaxis]).sum(0)

    def excessmtl(self, rows, values, there):
        if not self.steps:
            self.weights[:] = 1
        self.steps += 1
        for k in there:
            self.kept[k] += rows[k] ** 2
            excess = sum(g * (h + 1e-7) ** -0.5 * g for g, h in zip(rows[k], self.kept[k], strict=True))
            if math.isnan(self.first[k]):
                self.first[k] = excess
            self.weights[k] *= math.exp(self.options["eta"] * excess / self.first[k])
        self.weights[there] *= len(there) / self.weights[there].sum()
        return self.weights[there]


OPTIONS = {
    "moco": [{"beta": 0.1, "gamma": 0.2}, {"beta": 1.0, "gamma": 0.01}],
    "dbmtl": [{"beta": 0.9}, {"beta": 0.0}],
    "excessmtl": [{"eta": 1.0}, {"eta": 0.01}],
}


@pytest.mark.parametrize(("tasks", "columns"), [(1, 4), (2, 3), (3, 30), (8, 5)])
@pytest.mark.parametrize(("name", "options"), [(name, o) for name in RULES for o in OPTIONS[name]])
def test_it_is_its_definition_also_with_absent_tasks(linear, name, options, tasks, columns):
    method = methods.create(name, num_tasks=tasks, **options)
    definition = Tracked(tasks, columns, **options)
    draw = np.random.default_rng(7)
    for number, (rows, values) in enumerate(sequence(tasks, tasks, columns)):
        there = [k for k in range(tasks) if number % 3 == 0 or draw.uniform() < 0.6] or [0]
        expected = torch.from_numpy(getattr(definition, name)(rows.numpy(), values.numpy(), there))
        absent = [k for k in range(tasks) if k not in there]
        weights, update = step(method, linear, rows, values, absent)
        if name == "excessmtl":
            assert not weights[absent].any()
            torch.testing.assert_close(weights[there], expected, rtol=1e-9, atol=1e-12)
        else:
            assert weights is None
            torch.testing.assert_close(update, expected, rtol=1e-9, atol=1e-12)
    assert method.degenerate == 0


@pytest.mark.parametrize("name", RULES)
def test_the_defaults_are_those_of_the_definition(linear, name):
    method, same = methods.create(name, num_tasks=3), methods.create(name, num_tasks=3, **OPTIONS[name][0])
    for rows, values in sequence(0, 3, 4):
        assert torch.equal(step(method, linear, rows, values)[1], step(same, linear, rows, values)[1])


@pytest.mark.parametrize("name", RULES)
def test_what_is_kept_travels_in_the_state(linear, name):
    method = methods.create(name, num_tasks=3)
    steps = list(sequence(0, 3, 5))
    for rows, values in steps[:3]:
        step(method, linear, rows, values, absent=[1])
    fresh = methods.create(name, num_tasks=3, seed=1)
    fresh.load_state_dict(copy.deepcopy(method.state_dict()))
    for rows, values in steps[3:]:
        assert torch.equal(step(fresh, linear, rows, values)[1], step(method, linear, rows, values)[1])


@pytest.mark.parametrize("name", RULES)
def test_in_float32_it_is_the_same_but_for_rounding(linear, name):
    one, other = methods.create(name, num_tasks=3), methods.create(name, num_tasks=3)
    for rows, values in sequence(0, 3, 50):
        _, update = step(one, linear, rows.float(), values.float())
        assert update.dtype == torch.float32
        torch.testing.assert_close(update.double(), step(other, linear, rows, values)[1], rtol=1e-4, atol=1e-5)


KEPT = {"moco": "tracked", "dbmtl": "tracked", "excessmtl": "squares"}


@pytest.mark.parametrize("name", RULES)
def test_what_is_kept_lies_in_memory_as_the_jacobian_does_whatever_comes(linear, name):
    """After a state with another layout was loaded, as after a step without one of the tasks; it is not moved again."""
    method = methods.create(name, num_tasks=3)
    steps = list(sequence(0, 3, 50))
    step(method, linear, *steps[0])
    other = methods.create(name, num_tasks=3)
    other.load_state_dict(
        {k: v.contiguous() if isinstance(v, torch.Tensor) else v for k, v in method.state_dict().items()}
    )
    assert not other.get_buffer(KEPT[name]).T.is_contiguous()
    places = set()
    for number, (rows, values) in enumerate(steps[1:]):
        absent = [1] if number % 2 else []
        assert torch.equal(step(other, linear, rows, values, absent)[1], step(method, linear, rows, values, absent)[1])
        kept = other.get_buffer(KEPT[name])
        assert kept.T.is_contiguous()
        places.add(kept.data_ptr())
    assert len(places) == 1


@pytest.mark.parametrize("name", RULES)
def test_what_is_kept_follows_the_jacobian_to_its_device(linear, name):
    method = methods.create(name, num_tasks=3)
    [(rows, values)] = sequence(0, 3, 5, steps=1)
    step(method, linear, rows, values)
    with subset.only(method, [0, 2]):
        assert method.rows_of(KEPT[name], rows[:2].to("meta")).device.type == "meta"
    assert method.get_buffer(KEPT[name]).shape == (5, 3)
    assert method.rows_of(KEPT[name], rows.to("meta")).device.type == "meta"


@pytest.mark.parametrize(("name", "places"), [("moco", "shared"), ("dbmtl", "shared"), ("excessmtl", "shared or last")])
def test_what_is_kept_of_parameters_cannot_be_of_features(name, places):
    with pytest.raises(methods.UsageError) as raised:
        methods.create(f"{name}[at=features]", num_tasks=3)
    assert str(raised.value) == f"{name}[at=features]: it takes {places}"
    with pytest.raises(TypeError, match="at = 'features': this rule measures at shared"):
        type("Elsewhere", (type(methods.create(name, num_tasks=3)),), {"at": "features"})


# MoCo ------------------------------------------------------------------------------------------------------


def test_a_trunk_of_another_size_is_tracked_anew(linear):
    method = methods.create("moco", num_tasks=2, beta=0.3)
    for rows, values in sequence(0, 2, 5, steps=3):
        step(method, linear, rows, values)
    [(rows, values)] = sequence(1, 2, 7, steps=1)
    step(method, linear, rows, values)
    torch.testing.assert_close(method.tracked, 0.3 * 4**-0.5 * rows.T)


def test_with_constant_gradients_the_update_becomes_the_shortest_vector(linear, optimality):
    rows = torch.tensor([[1.0, 0.0, 0.5], [-0.8, 0.6, 0.0], [0.1, 1.5, 0.2]], dtype=torch.float64)
    method = methods.create("moco", num_tasks=3, beta=1, gamma=0.5, decay=0)
    assert optimality(rows, method.weights) > 0.1
    for _ in range(300):
        _, update = step(method, linear, rows, torch.ones(3, dtype=torch.float64))
    assert optimality(rows, method.weights, update) < 1e-9


def test_with_a_softmax_the_weights_are_forgotten(linear):
    method = methods.create("moco", num_tasks=3, project="softmax", beta=1, gamma=0.1, decay=0)
    weights = torch.full((3,), 1 / 3, dtype=torch.float64)
    for rows, values in sequence(0, 3, 4, decades=0):
        _, update = step(method, linear, rows, values)
        weights = torch.softmax(weights - 0.1 * rows @ rows.T @ weights, dim=0)
        torch.testing.assert_close(update, weights @ rows)


@pytest.mark.parametrize("decades", [0, 6])
def test_the_weights_of_moco_stay_on_the_simplex(linear, decades):
    method = methods.create("moco", num_tasks=40)
    for rows, values in sequence(0, 40, 10, decades=decades):
        step(method, linear, rows, values)
        assert (method.weights >= 0).all()
        assert float(method.weights.sum()) == pytest.approx(1, abs=1e-12)


def test_a_task_that_had_all_the_weight_may_be_absent(linear):
    method = methods.create("moco", num_tasks=3, beta=1)
    method.weights.copy_(torch.tensor([0.0, 1, 0]))
    [(rows, values)] = sequence(0, 3, 4, steps=1, decades=0)
    step(method, linear, 1e-6 * rows, values, absent=[1])
    assert method.weights.tolist() == pytest.approx([0.5, 1, 0.5], abs=1e-6)


# DB-MTL ----------------------------------------------------------------------------------------------------


def test_without_memory_dbmtl_is_the_sum_of_unit_gradients_made_long(linear):
    method = methods.create("dbmtl", num_tasks=4, beta=0)
    for rows, values in sequence(0, 4, 6, decades=6):
        longest = (rows.norm(dim=1) / (values + 1e-8)).max()
        expected = longest * (rows / rows.norm(dim=1, keepdim=True)).sum(0)
        torch.testing.assert_close(step(method, linear, rows, values)[1], expected)


@pytest.mark.parametrize("beta", [0.0, 0.9])
def test_dbmtl_does_not_depend_on_the_scale_of_a_loss(linear, beta):
    for exponent in (-3, 5, 12):
        factor = torch.tensor([1, 4.0**exponent, 1], dtype=torch.float64)
        method, scaled = (methods.create("dbmtl", num_tasks=3, beta=beta) for _ in range(2))
        for rows, values in sequence(0, 3, 6, decades=0):
            _, update = step(method, linear, rows, 10 * values)
            _, same = step(scaled, linear, factor[:, None] * rows, factor * 10 * values)
            assert (same - update).norm() <= 1e-6 * update.norm()


def test_heads_descend_the_logarithms(network):
    net, method = network(), methods.create("dbmtl", num_tasks=3)
    for _ in range(2):
        outputs = net()
        expected = net.gradients(sum((loss + 1e-8).log() for loss in outputs.losses))
        net.give(method, outputs)
        expected |= {name: p.grad for name, p in net.named_parameters() if name.startswith("trunk")}
        net.assert_gradients(expected)


def test_a_loss_without_a_logarithm_gives_no_gradient(linear):
    method = methods.create("dbmtl", num_tasks=3)
    (rows, values), (later, _) = sequence(0, 3, 5, steps=2)
    step(method, linear, rows, values)
    tracked = method.tracked.clone()
    values[1] = -2
    step(method, linear, later, values)
    torch.testing.assert_close(method.tracked[:, 1], 0.9 * tracked[:, 1])
    assert method.head_weights[1] == 0
    assert method.degenerate == 1


def test_a_loss_of_zero_has_a_logarithm(linear):
    method = methods.create("dbmtl", num_tasks=2)
    _, update = step(method, linear, torch.eye(2), torch.tensor([1.0, 0.0]))
    assert update.tolist() == pytest.approx([1e7, 1e7])
    assert method.head_weights.tolist() == pytest.approx([1, 1e8])
    assert method.degenerate == 0


def test_an_average_that_is_zero_adds_nothing(linear):
    rows, ones = torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.ones(2)
    method = methods.create("dbmtl", num_tasks=2, beta=0)
    torch.testing.assert_close(step(method, linear, rows, ones)[1], rows[0])
    assert method.degenerate == 1
    assert step(method, linear, torch.zeros(2, 2), ones)[1].tolist() == [0, 0]


def test_after_a_trunk_of_another_size_dbmtl_begins_anew(linear):
    method = methods.create("dbmtl", num_tasks=2)
    for rows, values in sequence(0, 2, 5, steps=3):
        step(method, linear, rows, values)
    [(rows, values)] = sequence(1, 2, 7, steps=1)
    fresh = methods.create("dbmtl", num_tasks=2)
    assert torch.equal(step(method, linear, rows, values)[1], step(fresh, linear, rows, values)[1])


# ExcessMTL -------------------------------------------------------------------------------------------------


def test_the_first_step_only_sets_the_baseline_and_torchjds_does_not(linear):
    """Relative to its first value the first excess of every task is 1, which moves no weight.

    TorchJD's default moves the weights at its first call by the excesses as they are. With one step of warm-up it
    does what the definition says.
    """
    steps = list(sequence(0, 3, 500, decades=0.2))
    method = methods.create("excessmtl", num_tasks=3)
    wrong = torchjd.aggregation.ExcessMTL(robust_step_size=1.0).weighting
    right = torchjd.aggregation.ExcessMTL(robust_step_size=1.0, n_warmup_steps=1).weighting
    weights, _ = step(method, linear, *steps[0])
    assert weights.tolist() == pytest.approx([1, 1, 1], rel=1e-12)
    assert wrong(steps[0][0]).max() > 0.99
    right(steps[0][0])
    for rows, values in steps[1:]:
        weights, update = step(method, linear, rows, values)
        torch.testing.assert_close(weights / 3, right(rows), rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(update, weights @ rows)


def test_heads_are_weighted_as_the_trunk(network):
    net, method = network(), methods.create("excessmtl", num_tasks=3)
    for number in range(2):
        outputs, again = net(), net()
        factors = [1 + 5 * number * k for k in range(3)]
        weights = net.give(method, outputs, losses=[f * loss for f, loss in zip(factors, outputs.losses, strict=True)])
        net.assert_gradients(
            net.gradients(sum(f * w * loss for f, w, loss in zip(factors, weights, again.losses, strict=True)))
        )
    assert weights.max() > 1.1


def test_a_task_without_a_gradient_so_far_has_no_baseline(linear):
    rows, values = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.ones(2)
    method = methods.create("excessmtl", num_tasks=2)
    assert step(method, linear, rows, values)[0].tolist() == pytest.approx([1, 1])
    assert method.degenerate == 1
    step(method, linear, torch.ones(2, 2), values)
    assert method.degenerate == 1
    assert method.first.isfinite().all()


def test_a_task_whose_weight_went_to_zero_can_come_back(linear):
    method = methods.create("excessmtl", num_tasks=2, eta=1000.0)
    small, large = torch.tensor([[1e-6, 0.0], [1.0, 1.0]]), torch.tensor([[1.0, 1.0], [1e-6, 0.0]])
    for rows in (torch.ones(2, 2), small, small, small):
        weights, _ = step(method, linear, rows, torch.ones(2))
    assert weights.tolist() == [0, 2]
    for _ in range(6):
        weights, _ = step(method, linear, large, torch.ones(2))
    assert weights.tolist() == [2, 0]


def test_the_sums_of_another_trunk_begin_anew_and_the_baseline_stays(linear):
    method = methods.create("excessmtl", num_tasks=2)
    for rows, values in sequence(0, 2, 5, steps=3):
        step(method, linear, rows, values)
    first = method.first.clone()
    [(rows, values)] = sequence(1, 2, 7, steps=1)
    step(method, linear, rows, values)
    torch.testing.assert_close(method.squares, rows.T.square())
    assert torch.equal(method.first, first)


def test_many_parameters_are_looked_at_in_pieces(linear, monkeypatch):
    steps = list(sequence(0, 3, 10, steps=3))
    whole = methods.create("excessmtl", num_tasks=3)
    expected = [step(whole, linear, *given)[0] for given in steps]
    monkeypatch.setattr("methods.core.gradients.NUMBERS", 12)
    parted = methods.create("excessmtl", num_tasks=3)
    for given, weights in zip(steps, expected, strict=True):
        torch.testing.assert_close(step(parted, linear, *given)[0], weights)
