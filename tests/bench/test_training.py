"""One run: what is alike for all methods at a seed, what is measured and counted, and how a run ends."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional
from trained import train

from bench.catalogue import parse_task_set
from bench.spec import STL, RunSpec
from bench.training.streams import batch_order, build_network, stream
from tasks.core.protocol import Protocol

TASKS = ("size", "kind")


def alike(one, other):
    """Whether two states hold the same numbers."""
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


METHODS = ["equal", "uncertainty", "mgda", "mgda[at=features]", "Noisy", "Rude", "AfterStep", "Validating"]
LIKE_EQUAL = ["Rude", "AfterStep", "Validating"]


@pytest.mark.parametrize("method", METHODS[1:])
def test_initial_weights_are_the_same_for_every_method_at_a_seed(observe, method):
    assert alike(observe(method).initial, observe("equal").initial)


@pytest.mark.parametrize("method", METHODS[1:])
def test_batches_are_the_same_for_every_method_at_a_seed(observe, method):
    batches = [[seen.examples for seen in observe(name).steps] for name in (method, "equal")]
    assert batches[0] == batches[1]
    assert len(batches[0]) == 24


@pytest.mark.parametrize("method", METHODS[1:])
def test_dropout_is_the_same_for_every_method_at_a_seed(observe, method):
    for one, other in zip(observe(method).steps, observe("equal").steps, strict=True):
        assert torch.equal(one.mask, other.mask)


def test_dropout_differs_from_step_to_step_and_drops_about_half(observe):
    masks = [seen.mask for seen in observe("equal").steps]
    assert not torch.equal(masks[0], masks[1])
    assert torch.stack(masks).double().mean().item() == pytest.approx(0.5, abs=0.05)


def test_another_seed_has_other_weights_batches_and_dropout(observe):
    one, other = observe("equal", seed=0), observe("equal", seed=1)
    assert not torch.equal(one.initial["trunk.first.weight"], other.initial["trunk.first.weight"])
    assert one.steps[0].examples != other.steps[0].examples
    assert not torch.equal(one.steps[0].mask, other.steps[0].mask)


@pytest.mark.parametrize("task", TASKS)
def test_a_single_task_run_sees_the_same_batches_and_dropout(observe, task):
    single, multi = observe(STL, tasks=(task,)), observe("equal")
    assert [s.examples for s in single.steps] == [s.examples for s in multi.steps]
    assert all(torch.equal(a.mask, b.mask) for a, b in zip(single.steps, multi.steps, strict=True))


@pytest.mark.parametrize("task", TASKS)
def test_trunk_and_head_start_alike_in_a_single_task_run(observe, task):
    single, multi = observe(STL, tasks=(task,)).initial, observe("equal").initial
    assert f"heads.{task}.2.weight" in single
    assert not [name for name in single if name.startswith("heads.") and f".{task}." not in name]
    assert alike(single, {name: multi[name] for name in single})


def test_the_order_of_construction_does_not_matter(observe):
    spec, toy = observe().spec, observe().task_set
    turned = spec.model_copy(update={"tasks": TASKS[::-1]})
    before, after = build_network(spec, toy), build_network(turned, toy)
    assert list(before.heads) == list(after.heads)[::-1]
    assert alike(before.state_dict(), after.state_dict())


def test_modules_of_one_shape_do_not_start_alike(observe):
    class Twins(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(3, 3), nn.Linear(3, 3)

    twins = build_network(observe().spec, SimpleNamespace(network=lambda tasks: Twins()))
    assert not torch.equal(twins.one.weight, twins.two.weight)


def test_building_a_network_leaves_the_global_generator_to_others(observe):
    spec, fixed = observe().spec, SimpleNamespace(network=lambda tasks: network)
    network = nn.Linear(3, 3)
    torch.manual_seed(4)
    build_network(spec, fixed)
    drawn = torch.rand(3)
    torch.manual_seed(4)
    assert torch.equal(drawn, torch.rand(3))


def test_parameters_that_cannot_be_drawn_by_name_are_refused_by_name(observe):
    class Raw(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(2))

    network = nn.ModuleDict({"inner": Raw()})
    with pytest.raises(TypeError, match=r"Raw \(inner\) has parameters but no reset_parameters"):
        build_network(observe().spec, SimpleNamespace(network=lambda tasks: network))


def test_every_example_is_seen_once_before_any_is_seen_twice(observe):
    order = torch.tensor([seen.examples for seen in observe("equal").steps]).flatten().tolist()
    assert sorted(order[:60]) == sorted(order[60:120]) == sorted(order[120:180]) == list(range(60))
    assert order[:60] != order[60:120]


def test_the_batch_order_is_reproducible_and_of_its_seed(observe):
    spec = observe().spec
    other = spec.model_copy(update={"seed": 1})
    assert torch.equal(batch_order(spec, 60), batch_order(spec, 60))
    assert not torch.equal(batch_order(spec, 60), batch_order(other, 60))


def test_streams_of_other_names_or_seeds_are_other_streams():
    seeds = [
        stream(s, *names)
        for s in (0, 1)
        for names in (
            ("init", "a"),
            ("order", "a"),
            ("init", "b"),
            ("inita",),
        )
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize("method", LIKE_EQUAL)
def test_second_forwards_evaluations_and_foreign_draws_leave_the_training_as_it_is(observe, method):
    """Weights, running statistics and num_batches_tracked, to the last bit."""
    assert alike(observe(method).final, observe("equal").final)


def test_a_second_forward_sees_the_same_batch_under_the_same_dropout(observe):
    passes = [seen for seen in observe("AfterStep").seen if seen.training]
    assert [seen.grad for seen in passes] == [True, False] * 24
    for first, second in zip(passes[::2], passes[1::2], strict=True):
        assert first.examples == second.examples
        assert torch.equal(first.mask, second.mask)


@pytest.mark.parametrize("method", [STL, "equal", "mgda"])
def test_evaluations_and_probes_leave_the_training_as_it_is(observe, method):
    tasks = TASKS[:1] if method == STL else TASKS
    seldom, often = observe(method, tasks=tasks, points=1), observe(method, tasks=tasks, points=20)
    assert (len(seldom.result.points), len(often.result.points)) == (1, 20)
    assert alike(seldom.final, often.final)
    assert seldom.result.scores == often.result.scores


def test_running_statistics_have_seen_every_step_once(observe):
    assert observe("AfterStep", points=20).final["trunk.norm.num_batches_tracked"] == 24


def test_evaluation_is_in_eval_mode_over_the_whole_split_and_training_goes_on_after_it(observe):
    seen = observe("equal").seen
    first, *evaluated = [s.examples for s in seen if not s.training]
    assert first == [0]  # which tells how many examples fit into memory at once
    assert evaluated == [list(range(40))] * 3 + [list(range(50))]
    assert all(s.training for s in seen if s.grad)
    assert not any(s.grad for s in seen if not s.training)


def test_a_methods_own_draws_are_those_of_its_seed(observe):
    weights = [observe("Noisy", seed=seed).result.points[0].weights for seed in (0, 1)]
    observe.cache_clear()
    assert observe("Noisy").result.points[0].weights == weights[0] != weights[1]


def bare_loop(run):
    """The same training in plain PyTorch, from the first weights and the batches that the run's network saw.

    Returns the network, and each step's losses before the update and after it.
    """
    network, protocol = run.task_set.network(run.spec.tasks), run.spec.protocol
    network.load_state_dict(run.initial)
    network.train()
    optimizer = torch.optim.Adam(network.parameters(), lr=protocol.lr)
    train = run.task_set.splits["train"]

    def losses(batch):
        predictions = network(batch).predictions
        size = (predictions["size"] - batch["size"]).square().sum(1).mean()
        labelled = batch["kind"] >= 0
        return torch.stack(
            [size, functional.cross_entropy(predictions["kind"][labelled], batch["kind"][labelled])],
        )

    before, after = [], []
    for step, seen in enumerate(run.steps):
        if protocol.schedule == "cosine":
            optimizer.param_groups[0]["lr"] = (
                protocol.lr
                * (
                    1
                    + math.cos(
                        math.pi * step / protocol.steps,
                    )
                )
                / 2
            )
        batch = {name: column[seen.examples] for name, column in train.items()}
        values = losses(batch)
        optimizer.zero_grad()
        values.sum().backward()
        optimizer.step()
        before.append(values.detach())
        statistics = {name: buffer.clone() for name, buffer in network.named_buffers()}
        with torch.no_grad():
            after.append(losses(batch))
        network.load_state_dict(statistics, strict=False)
    return network.eval(), torch.stack(before), torch.stack(after)


@pytest.fixture(scope="module", params=["cosine", "constant"])
def pair(request, observe):
    """A run with equal weights that hears the losses after each step, and the bare loop of it."""
    import sys

    observe.cache_clear()
    run = observe("AfterStep", options="dropout=0.0", schedule=request.param)
    rule = next(
        m
        for n, m in sys.modules.items()
        if n.startswith("mtl_bench_plugin")
        and hasattr(
            m,
            "AfterStep",
        )
    )
    heard = torch.stack(rule.AfterStep.heard[-24:])
    network, before, after = bare_loop(run)
    return SimpleNamespace(run=run, heard=heard, network=network, before=before, after=after)


def test_equal_weights_train_what_a_bare_loop_trains(pair):
    for name, value in pair.network.state_dict().items():
        torch.testing.assert_close(pair.run.final[name], value, rtol=1e-5, atol=1e-5, msg=name)


def test_a_runs_test_scores_are_those_of_the_bare_loops_network(pair):
    test = pair.run.task_set.splits["test"]
    train = pair.run.task_set.splits["train"]["size"]
    with torch.no_grad():
        predictions = pair.network(test).predictions
    error = (predictions["size"] - test["size"]).square().mean() / (
        train.mean(
            0,
        )
        - test["size"]
    ).square().mean()
    right = (predictions["kind"].argmax(1) == test["kind"]).double().mean()
    scores = pair.run.result.scores
    assert scores["size"]["nrmse"].value == pytest.approx(error.sqrt().item(), rel=1e-4)
    assert scores["kind"]["accuracy"].value == pytest.approx(right.item(), abs=1e-6)


def test_a_points_losses_are_the_means_since_the_point_before(pair):
    for point, part in zip(pair.run.result.points, pair.before.split(8), strict=True):
        assert list(point.losses.values()) == pytest.approx(part.mean(0).tolist(), rel=1e-4)


def test_after_step_hears_the_same_batchs_losses_after_the_update(pair):
    torch.testing.assert_close(pair.heard, pair.after, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(pair.before, pair.after, rtol=1e-3)


def test_after_epoch_hears_mean_training_losses_and_validation_losses(observe):
    import sys

    observe.cache_clear()
    run = observe("Validating", options="dropout=0.0")
    rule = next(
        m
        for n, m in sys.modules.items()
        if n.startswith("mtl_bench_plugin")
        and hasattr(
            m,
            "Validating",
        )
    )
    network, before, _ = bare_loop(run)
    heard = rule.Validating.heard[-3:]
    means = [part.mean(0) for part in before.split(8)]
    torch.testing.assert_close([losses for losses, _ in heard], means, rtol=1e-4, atol=1e-5)
    validation = run.task_set.splits["validation"]
    with torch.no_grad():
        predictions = network(validation).predictions
    size = (predictions["size"] - validation["size"]).square().mean()
    kind = functional.cross_entropy(predictions["kind"], validation["kind"])
    assert heard[-1][1].tolist() == pytest.approx([size.item(), kind.item()], rel=1e-4)


K = len(TASKS)


@pytest.mark.parametrize(
    ("method", "forward", "heads", "trunk"),
    [
        (STL, 1, 1, 1),
        ("equal", 1, 1, 1),
        ("uncertainty", 1, 1, 1),
        ("mgda", 1, K, K),
        ("mgda[at=features]", 1, K, 1),
        ("mgda[at=last]", 1, K + 2, 1),  # one more through the heads, which stay plain
        ("mgda[at=last,heads=weighted]", 1, K + 1, 1),
        ("AfterStep", 2, 1, 1),
    ],
)
def test_passes_are_counted_per_step(observe, method, forward, heads, trunk):
    run = observe(method, tasks=TASKS[:1] if method == STL else TASKS)
    assert (run.cost.passes["forward"], run.cost.passes["heads"], run.cost.passes["trunk"]) == (
        forward,
        heads,
        trunk,
    )


def test_an_evaluation_that_a_rule_asks_for_counts_as_its_cost(observe):
    """DESIGN, section 5: naming `validation` buys an evaluation each epoch, counted as that rule's cost."""
    assert observe("Validating").cost.passes["forward"] > 1


@pytest.mark.parametrize("points", [1, 3, 20])
def test_probes_and_evaluations_do_not_count_as_passes(observe, points):
    passes = observe("mgda", points=points).cost.passes
    assert (passes["forward"], passes["heads"], passes["trunk"]) == (1, K, K)


def test_time_is_kept_apart_by_what_it_was_spent_on(observe):
    cost = observe("mgda").cost
    assert min(cost.step_seconds, cost.probe_seconds, cost.evaluation_seconds) > 0
    parts = 24 * cost.step_seconds + cost.probe_seconds + cost.evaluation_seconds
    assert cost.total_seconds == pytest.approx(parts)


@pytest.mark.parametrize(
    ("steps", "points", "expected"),
    [
        (24, 3, [8, 16, 24]),
        (24, 1, [24]),
        (20, 20, list(range(1, 21))),
        (10, 4, [3, 5, 8, 10]),
        (3, 20, [1, 2, 3]),
        (7, 2, [4, 7]),
    ],
)
def test_points_are_evenly_spaced_and_end_with_the_last_step(observe, steps, points, expected):
    assert [point.step for point in observe(steps=steps, points=points).result.points] == expected


def test_a_point_tells_losses_validation_weights_and_geometry(observe):
    for point in observe("mgda").result.points:
        assert set(point.losses) == set(point.weights) == set(point.gradient_norms) == set(TASKS)
        assert point.validation.keys() == set(TASKS)
        assert sum(point.weights.values()) == pytest.approx(1)
        assert all(norm > 0 for norm in point.gradient_norms.values())


@pytest.mark.parametrize("method", ["equal", "mgda", "Noisy"])
def test_cosines_are_a_symmetric_matrix_between_minus_one_and_one(observe, method):
    for point in observe(method).result.points:
        matrix = torch.tensor(point.cosines, dtype=torch.float64)
        assert matrix.shape == (K, K)
        torch.testing.assert_close(matrix, matrix.T)
        torch.testing.assert_close(matrix.diagonal(), torch.ones(K, dtype=torch.float64))
        assert matrix.abs().max() <= 1 + 1e-12


def test_the_update_of_equal_weights_is_the_sum_of_the_gradients(observe):
    assert [point.update_ratio for point in observe("equal").result.points] == pytest.approx(
        [1, 1, 1],
        rel=1e-5,
    )


def test_the_update_ratio_is_the_updates_length_over_the_sums(observe):
    """‖Σ w_k g_k‖ ÷ ‖Σ g_k‖ from a point's own norms and cosines, at points of one step."""
    for point in observe("mgda", points=20, steps=20).result.points:
        norms = torch.tensor(list(point.gradient_norms.values()), dtype=torch.float64)
        gramian = torch.tensor(point.cosines, dtype=torch.float64) * norms.outer(norms)
        weights = torch.tensor(list(point.weights.values()), dtype=torch.float64)
        expected = (weights @ gramian @ weights).sqrt() / gramian.sum().sqrt()
        assert point.update_ratio == pytest.approx(expected.item(), rel=1e-4)


def test_a_single_task_run_has_no_weights_and_no_geometry(observe):
    for point in observe(STL, tasks=("size",)).result.points:
        assert (point.weights, point.cosines, point.gradient_norms, point.update_ratio) == (
            None,
            None,
            None,
            None,
        )


def test_scores_carry_their_direction_and_the_untrained_score(observe):
    scores = observe("equal").result.scores
    assert (scores["size"]["nrmse"].higher_is_better, scores["size"]["nrmse"].untrained) == (False, 1.0)
    assert (scores["kind"]["accuracy"].higher_is_better, scores["kind"]["accuracy"].untrained) == (True, 0.4)


def test_only_a_baseline_gives_its_networks_state(observe):
    assert observe("equal").state is None
    assert alike(observe(STL, tasks=("kind",)).state, observe(STL, tasks=("kind",)).final)


def test_training_twice_gives_the_same_result(observe):
    first = {method: observe(method) for method in METHODS}
    observe.cache_clear()
    for method, run in first.items():
        again = observe(method)
        assert again is not run
        assert again.result == run.result


@pytest.mark.parametrize(("method", "tasks"), [("equal", TASKS), (STL, ("size",))])
def test_a_loss_that_is_no_number_ends_the_run_and_names_task_and_step(observe, method, tasks):
    run = observe(method, tasks=tasks, options="poison=train")
    step = next(i for i, seen in enumerate(run.steps) if 17 in seen.examples)
    assert run.result.status == "diverged"
    assert run.result.reason == f"the loss of task size is not finite at step {step}"
    assert run.result.scores == {}
    assert len(run.steps) == step + 1
    assert run.state is None


def test_an_endless_weight_ends_the_run_at_its_step(observe):
    run = observe("Inflating")
    assert run.result.status == "diverged"
    assert run.result.reason == "the weight of task size is not finite at step 2"


def test_a_run_that_diverges_late_keeps_its_points(observe):
    run = observe("Inflating", points=20, steps=20)
    assert [point.step for point in run.result.points] == [1, 2]


@pytest.mark.parametrize(("method", "tasks"), [("equal", TASKS), (STL, ("size",))])
def test_a_run_that_ends_early_still_counts_its_passes_per_step(observe, method, tasks):
    run = observe(method, tasks=tasks, options="poison=train", seed=2)
    taken = len(run.steps)
    assert 1 < taken < 24
    assert run.cost.passes["forward"] == pytest.approx(1, abs=1 / (taken - 1))
    assert run.cost.passes["trunk"] == pytest.approx(1, abs=1 / (taken - 1))


def test_a_test_score_that_is_no_number_is_a_divergence_and_names_the_metric(observe):
    run = observe("equal", options="poison=test")
    assert (run.result.status, run.result.scores) == ("diverged", {})
    assert run.result.reason == "the test score of size nrmse is not finite"


def test_a_rule_that_does_not_fit_the_network_is_skipped_with_its_reason(observe):
    result = observe("mgda[at=features]", options="features=false").result
    assert result.status == "skipped"
    assert "needs the features" in result.reason


def test_a_network_without_a_cut_trains_otherwise_alike(observe):
    assert alike(observe("mgda").initial, observe("mgda").initial)
    with_features, without = observe("equal"), observe("equal", options="features=false")
    assert without.result.status == with_features.result.status == "ok"


def test_bf16_runs_and_scores_nearly_as_float32(observe):
    low, full = observe("mgda", precision="bf16-mixed").result, observe("mgda").result
    assert low.status == "ok"
    assert low.scores != full.scores
    assert low.scores["size"]["nrmse"].value == pytest.approx(full.scores["size"]["nrmse"].value, abs=0.1)
    assert all(math.isfinite(loss) for point in low.points for loss in point.losses.values())


def test_two_ranks_score_as_one(sets):
    """With unequal numbers of labels; without dropout and batch statistics, which ranks do not share."""
    variant = parse_task_set(f"{sets}[dropout=0.0,norm=false]").stable
    recipe = Protocol(name="two", steps=20, batch_size=8, lr=0.01, steps_per_epoch=5, points=4)
    spec = RunSpec(task_set=variant, tasks=TASKS, method="mgda", seed=0, protocol=recipe)
    one, _, _ = train(spec)
    two, _, _ = train(spec, accelerator="cpu", devices=2)
    assert two.status == one.status == "ok"
    for task, own in one.scores.items():
        for name, score in own.items():
            assert two.scores[task][name].value == pytest.approx(score.value, abs=1e-4)
    for a, b in zip(one.points, two.points, strict=True):
        assert list(b.losses.values()) == pytest.approx(list(a.losses.values()), rel=1e-4)
        assert list(b.gradient_norms.values()) == pytest.approx(list(a.gradient_norms.values()), rel=1e-3)
        assert list(b.weights.values()) == pytest.approx(list(a.weights.values()), abs=1e-3)


def test_a_baseline_of_two_ranks_comes_back_with_its_weights():
    """They are more than a pipe holds, and more than once: a rank that ended early took its tensors with it."""
    variant = parse_task_set("digits").stable
    recipe = Protocol(name="two", steps=2, batch_size=8, lr=0.01, steps_per_epoch=2, points=1)
    spec = RunSpec(task_set=variant, tasks=("left",), method=STL, seed=0, protocol=recipe)
    result, _, one = train(spec)
    assert sum(value.numel() * value.element_size() for value in one.values()) > 2**16
    for _ in range(2):
        again, _, two = train(spec, accelerator="cpu", devices=2)
        assert result.status == again.status == "ok"
        assert two.keys() == one.keys()
        assert all(torch.allclose(two[name], one[name], atol=1e-4) for name in one)
