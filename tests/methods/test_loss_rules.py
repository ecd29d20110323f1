"""The rules that weigh losses, each against its definition: objectives by autograd, fixed points, limits, states."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import methods

moderate = settings(deadline=None, derandomize=True, max_examples=50)

DIVIDE = ("log", "uwo", "gls", "uwso", "stch", "igbv1", "famo", "go4align")
"""The rules that leave out a task whose loss is zero or less."""
ENDING = {"stch": {"warmup": 1}, "igbv1": {"base_epoch": 0}}
"""Options with which one epoch is enough to know what a rule waits for."""

positive = st.lists(st.floats(-5, 5).map(lambda e: 10.0**e), min_size=1, max_size=8)


def create(name, tasks, **options):
    return methods.create(name, num_tasks=tasks, **options).double()


def step(method, values):
    """Return the weights for losses of these values; the gradients are unit vectors, so they are the update, too."""
    values = torch.as_tensor(values, dtype=torch.float64)
    theta = torch.zeros(len(values), dtype=torch.float64, requires_grad=True)
    weights = method.backward(list(theta + values), shared=[theta], present=[True] * len(values))
    assert torch.equal(theta.grad, weights)
    return weights


def partly(method, values):
    """A step in which the tasks of None are absent."""
    theta = torch.zeros(len(values), dtype=torch.float64, requires_grad=True)
    losses = [None if value is None else theta[k] + value for k, value in enumerate(values)]
    return method.backward(losses, shared=[theta])


def epoch(method, losses):
    method.end_epoch(losses=lambda: torch.tensor(losses, dtype=torch.float64))


def derivatives(objective, values):
    values = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(objective(values), values)
    return found


def close(one, other, tolerance=1e-12):
    torch.testing.assert_close(one, other, rtol=tolerance, atol=0)


# Log losses, and what is the same ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["log", "uwo"])
@moderate
@given(values=positive)
def test_the_weights_are_the_derivatives_of_the_sum_of_logarithms(name, values):
    close(step(create(name, len(values)), values), derivatives(lambda x: x.log().sum(), values))


@moderate
@given(values=positive)
def test_uwo_is_also_what_its_own_objective_says(values):
    close(step(create("uwo", len(values)), values), derivatives(lambda x: (x / x.detach()).sum(), values))


@moderate
@given(values=positive)
def test_gls_has_the_derivatives_of_the_geometric_mean(values):
    weights = step(create("gls", len(values)), values)
    close(weights, derivatives(lambda x: torch.exp(x.log().mean()), values))
    power = derivatives(lambda x: torch.prod(x ** (1 / len(x))), values)
    close(weights, power, 1e-10)


@moderate
@given(values=positive)
def test_gls_is_log_but_for_its_length(values):
    weights, log = step(create("gls", len(values)), values), step(create("log", len(values)), values)
    mean = torch.tensor(values, dtype=torch.float64).log().mean().exp()
    close(weights, log * mean / len(values))


def test_gls_is_not_of_the_same_length_in_other_units():
    """The update's length follows c^(1/K), so that the rule claims no invariance to scale."""
    method = create("gls", 2)
    once, scaled = step(method, [2.0, 8.0]), step(method, [8.0, 8.0])
    close(scaled * torch.tensor([4.0, 1.0], dtype=torch.float64), 2 * once)  # 4 times the gradient, and 4^(1/2)
    assert "scale" not in method.invariant


@pytest.mark.parametrize("name", ["log", "uwo"])
@pytest.mark.parametrize("power", [-10, -1, 1, 10])
def test_the_unit_of_a_loss_has_no_part_in_the_update(linear, name, power):
    rows, values = torch.tensor([[1.0, 2, 0], [0, -1, 3]]), torch.tensor([0.7, 20.0])
    updates = []
    for factor in (1.0, 4.0**power):
        losses, theta = linear(rows, values)
        methods.create(name, num_tasks=2).backward([losses[0] * factor, losses[1]], shared=[theta])
        updates.append(theta.grad)
    torch.testing.assert_close(*updates, rtol=1e-6, atol=0)


# Losses of zero or less ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [0.0, -3.0])
@pytest.mark.parametrize("name", DIVIDE)
def test_a_loss_without_a_logarithm_is_left_out_and_counted(name, bad):
    method, fewer = create(name, 3, **ENDING.get(name, {})), create(name, 2, **ENDING.get(name, {}))
    for _ in range(3):
        weights, expected = step(method, [0.5, bad, 2.0]), step(fewer, [0.5, 2.0])
        assert weights[1] == 0
        close(weights[[0, 2]], expected)
        epoch(method, [0.4, 1.0, 3.0])
        epoch(fewer, [0.4, 3.0])
    assert (method.degenerate, fewer.degenerate) == (3, 0)


@pytest.mark.parametrize("name", DIVIDE)
def test_without_a_positive_loss_there_is_no_update(name):
    method = create(name, 2)
    assert step(method, [0.0, -1.0]).tolist() == [0, 0]
    method.end_step(torch.tensor([0.0, -1.0]))
    assert method.degenerate == 1
    assert (step(method, [1.0, 1.0]) > 0).all()


@pytest.mark.parametrize("name", ["imtll", "uwrevised"])
@pytest.mark.parametrize("bad", [0.0, -3.0])
def test_what_is_learnt_of_a_loss_without_a_minimum_stays(name, bad):
    method = create(name, 2)
    start = step(method, [5.0, bad]).clone()
    again = step(method, [5.0, bad])
    assert again[1] == start[1]
    assert again[0] != start[0]
    assert method.degenerate == 2


# What is learnt --------------------------------------------------------------------------------------------------


def learnt(name):
    """The parameter of a rule, and its objective of it and of the losses, as its paper writes it."""
    return {
        "imtll": ("scale", lambda s, x: (s.exp() * x - s).sum()),
        "uwrevised": ("log_variance", lambda s, x: (x / (2 * s.exp()) + torch.log(1 + s.exp())).sum()),
    }[name]


@pytest.mark.parametrize("name", ["imtll", "uwrevised"])
@moderate
@given(values=positive, start=st.floats(-3, 3))
def test_the_derivatives_that_are_written_out_are_those_of_the_objective(name, values, start):
    attribute, objective = learnt(name)
    method = create(name, len(values))
    parameter = getattr(method, attribute)
    parameter.data.fill_(start)
    expected = torch.autograd.functional.jacobian(
        objective, (parameter.detach(), torch.tensor(values, dtype=torch.float64))
    )
    close(step(method, values), expected[1])
    scale = (parameter.grad - expected[0]).abs() / (1 + expected[1] * torch.tensor(values, dtype=torch.float64))
    assert scale.max() < 1e-12


def settled(name, values):
    method = create(name, len(values), lr=0.05)
    for _ in range(400):
        weights = step(method, values)
    return weights


def test_imtll_settles_at_log():
    values = [0.3, 1.0, 5.0]
    close(settled("imtll", values), step(create("log", 3), values), 1e-3)


def test_uncertainty_settles_at_half_of_log():
    values = [0.3, 1.0, 5.0]
    close(settled("uncertainty", values), step(create("log", 3), values) / 2, 1e-3)


def test_uwrevised_settles_where_its_derivative_is_zero():
    """With v = σ²: 2 v² − l v − l = 0."""
    values = [0.3, 1.0, 5.0]
    variances = [(value + math.sqrt(value**2 + 8 * value)) / 4 for value in values]
    assert settled("uwrevised", values).tolist() == pytest.approx([1 / (2 * v) for v in variances], rel=1e-3)
    for value, v in zip(values, variances, strict=True):
        assert 2 * v**2 - value * v - value == pytest.approx(0, abs=1e-12)


def test_the_variances_start_at_one_and_the_scales_too():
    assert step(create("uwrevised", 2), [3.0, 0.1]).tolist() == [0.5, 0.5]
    assert step(create("imtll", 2), [3.0, 0.1]).tolist() == [1, 1]


def test_imtll_is_twice_uncertainty_at_every_step():
    one, other = create("imtll", 3), create("uncertainty", 3)
    for t in range(20):
        values = [0.2, 1.0 + t, 5.0 / (1 + t)]
        close(step(one, values), 2 * step(other, values), 1e-6)


@pytest.mark.parametrize("name", ["imtll", "uwrevised"])
def test_a_loss_near_zero_leaves_the_weights_finite(name):
    method = create(name, 2, lr=0.3)
    for _ in range(200):
        weights = step(method, [1e-12, 1.0])
    assert weights.isfinite().all()


# Random weights --------------------------------------------------------------------------------------------------


def draws(name, count, **options):
    method = create(name, 3, **options)
    return torch.stack([method.weigh(torch.ones(3, dtype=torch.float64)) for _ in range(count)])


@pytest.mark.parametrize("name", ["rlw", "rgw"])
@pytest.mark.parametrize("distribution", ["normal", "dirichlet"])
def test_random_weights_lie_on_the_simplex_and_have_the_mean_of_equal_ones(name, distribution):
    weights = draws(name, 4000, distribution=distribution)
    assert (weights > 0).all()
    close(weights.sum(1), torch.ones(4000, dtype=torch.float64))
    error = weights.std(0) / math.sqrt(4000)
    assert ((weights.mean(0) - 1 / 3).abs() < 4 * error).all()


def test_the_distributions_are_those_that_are_named():
    """Of a uniform point of the simplex a coordinate is Beta(1, K − 1); of the softmax log-ratios are N(0, 2)."""
    uniform, normal = draws("rlw", 4000, distribution="dirichlet"), draws("rlw", 4000)
    assert float(uniform[:, 0].var()) == pytest.approx(2 / 9 / 4, rel=0.1)
    assert float((uniform[:, 0] < 0.5).double().mean()) == pytest.approx(1 - 0.5**2, abs=0.03)
    ratios = (normal[:, 0] / normal[:, 1]).log()
    assert float(ratios.mean()) == pytest.approx(0, abs=0.1)
    assert float(ratios.var()) == pytest.approx(2, rel=0.1)


def test_random_weights_come_from_the_rules_own_generator():
    torch.manual_seed(0)
    one = draws("rlw", 3, seed=5)
    torch.manual_seed(1)
    assert torch.equal(one, draws("rlw", 3, seed=5))
    assert not torch.equal(one, draws("rlw", 3, seed=6))


@pytest.mark.parametrize(("name", "weighted"), [("rlw", True), ("rgw", False)])
def test_heads_get_the_random_weights_in_rlw_alone(network, name, weighted):
    net, method = network(), methods.create(name, num_tasks=3)
    outputs = net()
    state = method.generator.get_state()
    weights = method.weigh(torch.ones(3))
    method.generator.set_state(state)
    trunk = net.gradients(sum(w * loss for w, loss in zip(weights, outputs.losses, strict=True)))
    heads = trunk if weighted else net.gradients(sum(outputs.losses))
    net.give(method, outputs)
    net.assert_gradients({key: (trunk if key.startswith("trunk") else heads)[key] for key in trunk})


# UW-SO -------------------------------------------------------------------------------------------------------------


@moderate
@given(values=st.lists(st.floats(0.01, 100), min_size=1, max_size=8), temperature=st.floats(0.1, 100))
def test_uwso_weighs_by_the_reciprocals(values, temperature):
    weights = step(create("uwso", len(values), temperature=temperature), values)
    best = max(1 / value / temperature for value in values)
    raised = [math.exp(1 / value / temperature - best) for value in values]
    assert weights.tolist() == pytest.approx([r / sum(raised) for r in raised], rel=1e-9, abs=1e-300)


def test_uwso_is_equal_weights_when_it_is_hot():
    close(step(create("uwso", 3, temperature=1e9), [0.1, 1.0, 10.0]), torch.full((3,), 1 / 3).double(), 1e-6)


# FAMO --------------------------------------------------------------------------------------------------------------


def famo(method, before, after):
    weights = step(method, before)
    method.end_step(torch.tensor(after, dtype=torch.float64))
    return weights


@moderate
@given(values=positive, seed=st.integers(0, 99))
def test_famos_weights_sum_to_one_and_are_the_derivatives_of_its_objective(values, seed):
    method = create("famo", len(values))
    method.logits.data = torch.randn(len(values), generator=torch.Generator().manual_seed(seed)).double()
    shares = torch.softmax(method.logits.detach(), 0)
    constant = 1 / (shares / (torch.tensor(values, dtype=torch.float64) + 1e-8)).sum()
    weights = step(method, values)
    assert float(weights.sum()) == pytest.approx(1, abs=1e-12)
    close(weights, derivatives(lambda x: constant * (shares * torch.log(x + 1e-8)).sum(), values), 1e-9)


@pytest.mark.parametrize("options", [{}, {"lr": 0.1, "gamma": 0.01}, {"gamma": 0.0}])
def test_famos_logits_follow_an_adam_of_the_gradient_that_autograd_finds(options):
    """Descent of Σ softmax(ξ)_k δ_k by ξ, with coupled decay; δ is how far each log loss fell."""
    method = create("famo", 3, **options)
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    lr, decay = options.get("lr", 0.025), options.get("gamma", 1e-3)
    optimizer = torch.optim.Adam([logits], lr=lr, weight_decay=decay)
    generator = torch.Generator().manual_seed(0)
    for _ in range(12):
        before, after = torch.rand(2, 3, generator=generator, dtype=torch.float64) * torch.tensor([1e-3, 1, 50])
        shares = torch.softmax(logits.detach(), 0)
        expected = shares / (before + 1e-8)
        close(famo(method, before.tolist(), after.tolist()), expected / expected.sum(), 1e-9)
        optimizer.zero_grad()
        (torch.softmax(logits, 0) @ (torch.log(before + 1e-8) - torch.log(after + 1e-8))).backward()
        optimizer.step()
        torch.testing.assert_close(method.logits.detach(), logits.detach(), rtol=1e-7, atol=1e-9)


def test_the_task_that_falls_slower_gains_weight():
    method = create("famo", 2)
    for _ in range(10):
        famo(method, [1.0, 1.0], [0.5, 0.99])
    weights = step(method, [1.0, 1.0])
    assert weights[1] > 0.6


def test_famo_learns_after_the_step_alone():
    method = create("famo", 2)
    for _ in range(3):
        step(method, [1.0, 2.0])
    assert method.logits.tolist() == [0, 0]


def test_the_decay_of_famo_is_coupled():
    """Where no loss changes, the gradient is the decay alone, which Adam turns into steps of the length lr."""
    method = create("famo", 2, gamma=1e-3)
    method.logits.data = torch.tensor([1.0, -1.0]).double()
    famo(method, [1.0, 1.0], [1.0, 1.0])
    assert method.logits.tolist() == pytest.approx([0.975, -0.975], rel=1e-4)


@pytest.mark.parametrize(("before", "after", "counted"), [(1.0, 0.0, 1), (0.0, 1.0, 1), (-1.0, -1.0, 1), (1.0, 2.0, 0)])
def test_a_loss_without_a_logarithm_counts_as_unchanged_in_famo(before, after, counted):
    method, same = create("famo", 3), create("famo", 3)
    famo(method, [1.0, before, 1.0], [0.5, after, 0.9])
    famo(same, [1.0, 1.0, 1.0], [0.5, 1.0 if counted else after, 0.9])
    close(method.logits.detach(), same.logits.detach(), 1e-9)
    assert method.degenerate == counted


# What an epoch tells -----------------------------------------------------------------------------------------------


def stch_objective(mu, start):
    start = torch.tensor(start, dtype=torch.float64)
    return lambda x: len(x) * mu * torch.log((torch.exp((x.log() - start.log()) / mu)).sum())


@pytest.mark.parametrize("mu", [0.05, 0.3, 1.0, 3.0])
def test_stch_is_log_for_five_epochs_and_then_has_the_derivatives_of_its_objective(mu):
    method, values = create("stch", 3, mu=mu), [0.5, 2.0, 30.0]
    for losses in [*[[9.0, 9.0, 9.0]] * 4, [1.0, 4.0, 20.0]]:
        close(step(method, values), derivatives(lambda x: x.log().sum(), values))
        epoch(method, losses)
    for _ in range(2):
        close(step(method, values), derivatives(stch_objective(mu, [1.0, 4.0, 20.0]), values), 1e-9)
        epoch(method, [0.1, 0.1, 0.1])


@moderate
@given(data=st.data())
def test_at_mu_one_stch_is_static_weights_but_for_a_common_factor(data):
    values = data.draw(positive)
    start = data.draw(st.lists(st.floats(1e-3, 1e3), min_size=len(values), max_size=len(values)))
    method = create("stch", len(values), warmup=1)
    epoch(method, start)
    static = create("static", len(values), weights=tuple(1 / n for n in start))
    ratio = step(method, values) / step(static, values)
    factor = len(values) / sum(x / n for x, n in zip(values, start, strict=True))
    torch.testing.assert_close(ratio, torch.full_like(ratio, factor), rtol=1e-5, atol=0)  # static keeps float32


def test_for_small_mu_stch_follows_the_worst_task():
    method = create("stch", 3, mu=1e-3, warmup=1)
    epoch(method, [1.0, 1.0, 1.0])
    weights = step(method, [0.5, 0.9, 0.8])
    assert weights.tolist() == pytest.approx([0, 3 / 0.9, 0], abs=1e-9)


def test_igbv1_is_log_until_the_second_epoch_ended_and_then_weighs_by_the_gaps():
    method, values = create("igbv1", 3), [0.5, 2.0, 30.0]
    log = [1 / value for value in values]
    assert step(method, values).tolist() == pytest.approx(log)
    epoch(method, [9.0, 9.0, 9.0])
    assert step(method, values).tolist() == pytest.approx(log)
    epoch(method, [1.0, 4.0, 20.0])
    raised = [math.exp(x / b) for x, b in zip(values, [1.0, 4.0, 20.0], strict=True)]
    expected = [3 * r / sum(raised) / x for r, x in zip(raised, values, strict=True)]
    for _ in range(2):
        assert step(method, values).tolist() == pytest.approx(expected)
        epoch(method, [0.1, 0.1, 0.1])


@pytest.mark.parametrize("missing", [math.nan, 0.0, -1.0])
@pytest.mark.parametrize("name", ["stch", "igbv1"])
def test_what_is_not_known_after_its_epoch_is_learnt_at_the_next(name, missing):
    """Where the task without it is absent, the others go on; where it is present, the step is one of log losses."""
    method, log, fewer = create(name, 3, **ENDING[name]), create("log", 3), create(name, 2, **ENDING[name])
    epoch(method, [1.0, missing, 4.0])
    epoch(fewer, [1.0, 4.0])
    values = [0.5, 3.0, 2.0]
    close(step(method, values), step(log, values))
    close(partly(method, [0.5, None, 2.0])[[0, 2]], step(fewer, [0.5, 2.0]))
    epoch(method, [7.0, 2.0, 7.0])
    whole = create(name, 3, **ENDING[name])
    epoch(whole, [1.0, 2.0, 4.0])
    close(step(method, values), step(whole, values))
    assert method.degenerate == 0


# GO4Align ----------------------------------------------------------------------------------------------------------


def scores(history, beta):
    """The scores after these losses of each step: p_k Σ l / l_k with p ∝ exp(−β Σ l_k)."""
    total = torch.tensor(history, dtype=torch.float64)
    raised = torch.exp(-beta * total.sum(0))
    return raised / raised.sum() * total[-1].sum() / total[-1]


HISTORY = [[0.5, 2.0, 30.0, 0.4], [0.4, 3.0, 20.0, 0.5], [0.3, 2.5, 25.0, 0.6]]


@pytest.mark.parametrize("beta", [1e-4, 0.05])
def test_with_a_group_for_each_task_go4align_is_weighted_log_losses(beta):
    method = create("go4align", 4, groups=4, beta=beta)
    for t, values in enumerate(HISTORY, start=1):
        expected = scores(HISTORY[:t], beta)
        close(step(method, values), expected)
    log = step(create("log", 4), HISTORY[-1])
    shares = step(method, HISTORY[-1]) / log / sum(HISTORY[-1])
    assert float(shares.sum()) == pytest.approx(1)


def test_with_one_group_go4align_is_equal_weights():
    method = create("go4align", 4, groups=1, beta=0.05)
    for t, values in enumerate(HISTORY, start=1):
        close(step(method, values), scores(HISTORY[:t], 0.05).mean().expand(4))


def test_go4aligns_groups_share_the_mean_score():
    method = create("go4align", 4, groups=2)
    own = scores(HISTORY[:1], 1e-4)  # the tasks of the losses 0.4 and 0.5 have far higher scores
    weights = step(method, HISTORY[0])
    high, low = own[[0, 3]].mean(), own[[1, 2]].mean()
    close(weights, torch.stack([high, low, low, high]))


def test_with_more_groups_than_tasks_each_has_its_own():
    close(step(create("go4align", 2, groups=5), [1.0, 4.0]), scores([[1.0, 4.0]], 1e-4))


def test_a_task_that_is_absent_keeps_its_share_of_go4align():
    method = create("go4align", 3, groups=3, beta=0.1)
    step(method, [1.0, 2.0, 3.0])
    partly(method, [1.0, None, 3.0])
    # The second step has no loss of task 1: its exponent is that of the first alone.
    raised = torch.exp(-0.1 * torch.tensor([3.0, 4.0, 9.0], dtype=torch.float64))
    values = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    close(step(method, values), raised / raised.sum() * values.sum() / values)


# Every rule ----------------------------------------------------------------------------------------------------------

RULES = {name: ENDING.get(name, {}) for name in ("rlw", "rgw", "imtll", "uwrevised", *DIVIDE)}


def whole(method, values):
    """A step, what is told after it, and an epoch."""
    weights = step(method, values)
    told = torch.tensor([0.9 * value for value in values], dtype=torch.float64)
    method.end_step(told)
    method.end_epoch(losses=told.clone)
    return weights


@pytest.mark.parametrize("name", RULES)
def test_a_rule_that_is_saved_between_step_and_update_goes_on_as_before(name):
    method, again = create(name, 3, seed=1, **RULES[name]), create(name, 3, seed=2, **RULES[name])
    for values in ([1.0, 2.0, 3.0], [0.5, 2.5, 2.0]):
        whole(method, values)
    step(method, [0.4, 1.0, 2.0])
    again.load_state_dict(copy.deepcopy(method.state_dict()))
    for rule in (method, again):
        rule.end_step(torch.tensor([0.3, 1.1, 1.5], dtype=torch.float64))
    for values in ([0.3, 1.2, 1.4], [0.2, 1.0, 1.3]):
        assert torch.equal(whole(method, values), whole(again, values))


@pytest.mark.parametrize("name", [name for name in RULES if name not in ("rlw", "rgw")])
def test_an_absent_task_leaves_the_others_alone_and_keeps_its_own(name):
    method, fewer = create(name, 3, **RULES[name]), create(name, 2, **RULES[name])
    whole(method, [1.0, 7.0, 3.0])
    kept = {key: getattr(method, key)[1].item() for key in method.per_task}
    for key in method.per_task:
        getattr(fewer, key).data.copy_(getattr(method, key).data[[0, 2]])
    if method.optimizer is not None:
        state = copy.deepcopy(method.optimizer.state_dict())
        for moments in state["state"].values():
            moments.update({k: v[[0, 2]].clone() for k, v in moments.items() if v.shape == (3,)})
        fewer.optimizer.load_state_dict(state)
    if "epochs" in dict(method.named_buffers()):
        fewer.get_buffer("epochs").copy_(method.get_buffer("epochs"))
    for _ in range(3):
        weights, expected = partly(method, [1.0, None, 2.0]), step(fewer, [1.0, 2.0])
        assert weights[1] == 0
        close(weights[[0, 2]], expected)
        told = torch.tensor([0.8, 5.0, 1.9], dtype=torch.float64)
        method.end_step(told)
        fewer.end_step(told[[0, 2]])
    assert {key: getattr(method, key)[1].item() for key in method.per_task} == kept


@pytest.mark.parametrize("name", RULES)
def test_one_task_alone_is_followed(name):
    method = create(name, 1, **RULES[name])
    for value in (3e-5, 1.0, 2e4):
        assert 0 < whole(method, [value]) < math.inf


@pytest.mark.parametrize("name", RULES)
def test_a_step_without_a_label_changes_nothing_and_is_survived(name):
    method = create(name, 2, **RULES[name])
    whole(method, [1.0, 2.0])
    before = {key: value.clone() for key, value in method.named_parameters()}
    partly(method, [None, None])
    method.end_step(torch.tensor([1.0, 2.0], dtype=torch.float64))
    for key, value in method.named_parameters():
        assert torch.equal(value, before[key])


@pytest.mark.parametrize("name", DIVIDE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_losses_of_any_size_have_finite_weights(name, dtype):
    method = methods.create(name, num_tasks=40, **RULES[name]).to(dtype)
    values = 10 ** torch.linspace(-6, 6, 40, dtype=dtype)
    method.end_epoch(losses=values.flip(0).clone)
    weights = method.weigh(values)
    assert weights.isfinite().all()
    assert weights.sum() > 0
    assert method.degenerate == 0
