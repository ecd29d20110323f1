"""The contract that every rule inherits: what is refused, what is counted, what travels in its state."""

import copy
import inspect
import io
import pickle

import pytest
import torch
from torch import nn

import methods
from methods.core import routes
from methods.core.base import DivergedError, DoesNotFitError, Method


class Ones(Method):
    def weigh(self, gramian):
        return torch.ones(len(gramian))


class Length(Method):
    """A rule that depends on the gradients' lengths."""

    def weigh(self, gramian):
        return 1 / gramian.diagonal().sqrt()


class Mean(Method):
    def combine(self, jacobian):
        return jacobian.mean(0)


class Drawing(Method):
    def weigh(self, losses):
        return torch.rand(len(losses), generator=self.generator)


class Learning(Method):
    """Has a parameter, a buffer, an optimiser with moments, a counter, and draws."""

    def __init__(self, num_tasks):
        super().__init__(num_tasks)
        self.logits = nn.Parameter(torch.zeros(num_tasks))
        self.register_buffer("mean", torch.zeros(num_tasks))
        self.optimizer = torch.optim.Adam([self.logits], lr=0.1, weight_decay=0.1)

    def weigh(self, gramian, losses):
        self.degenerate += 1
        self.mean.mul_(0.9).add_(losses)
        self.logits.grad = self.mean * torch.rand(self.num_tasks, generator=self.generator)
        return self.logits.softmax(0) + self.mean


class Own(Method):
    """Returns its own parameter, and sets that parameter's gradient."""

    def __init__(self, num_tasks):
        super().__init__(num_tasks)
        self.weights = nn.Parameter(torch.ones(num_tasks))
        self.optimizer = torch.optim.SGD([self.weights], lr=1)


class OwnByLosses(Own):
    def weigh(self, losses):
        self.weights.grad = torch.full((self.num_tasks,), 5.0)
        return self.weights


class OwnByGramian(Own):
    def weigh(self, gramian):
        self.weights.grad = torch.full((self.num_tasks,), 5.0)
        return self.weights


def gradients_of(net):
    return {name: parameter.grad.clone() for name, parameter in net.named_parameters()}


# What a class may be ---------------------------------------------------------------------------------------


def define(*functions):
    return type("Rule", (Method,), {function.__name__: function for function in functions})


def objective(self, losses): ...


def weigh(self, gramian): ...


def combine(self, jacobian): ...


@pytest.mark.parametrize("two", [(objective, weigh), (weigh, combine), (objective, combine)])
def test_a_rule_is_exactly_one_function(two):
    with pytest.raises(TypeError, match=f"Rule.*{two[0].__name__}.*{two[1].__name__}"):
        define(*two)


def test_a_rule_may_not_become_two_by_inheritance():
    with pytest.raises(TypeError, match="weigh and combine"):
        type("Rule", (Ones,), {"combine": combine})


def test_a_wrong_argument_is_named_when_the_class_is_defined():
    def weigh(self, gramian, loses): ...

    with pytest.raises(TypeError, match=r"Rule\.weigh.*'loses'.*losses"):
        define(weigh)


def test_an_objective_is_given_the_losses_only():
    def objective(self, losses, gramian): ...

    with pytest.raises(TypeError, match=r"Rule\.objective.*'gramian'"):
        define(objective)


def test_combine_must_ask_for_the_jacobian():
    def combine(self, gramian): ...

    with pytest.raises(TypeError, match=r"Rule\.combine.*jacobian"):
        define(combine)


def test_after_epoch_has_its_own_arguments():
    def after_epoch(self, gramian): ...

    with pytest.raises(TypeError, match=r"Rule\.after_epoch.*'gramian'.*validation"):
        define(weigh, after_epoch)


def test_a_method_needs_a_task():
    for wrong in (0, -1, 1.5, "2", None):
        with pytest.raises(ValueError, match=f"num_tasks={wrong!r}: a method needs at least one task"):
            Ones(wrong)


# What is refused -------------------------------------------------------------------------------------------


def test_the_number_of_losses_must_be_that_of_the_tasks(network):
    with pytest.raises(ValueError, match=r"3 losses.*2 tasks"):
        network().give(Ones(2))


@pytest.mark.parametrize(("at", "lacks", "says"), [("features", "features", "features="), ("last", "last", "last=")])
def test_a_rule_says_what_it_needs_to_be_passed(network, at, lacks, says):
    method = Ones(3)
    method.at = at
    with pytest.raises(DoesNotFitError, match=says) as refusal:
        network().give(method, **{lacks: None})
    assert "\n" not in str(refusal.value)
    assert "Ones" in str(refusal.value)


def test_a_rule_that_reads_features_needs_the_cut(network):
    class Reading(Method):
        def weigh(self, features):
            return features.new_ones(3)

    network().give(Reading(3))
    with pytest.raises(DoesNotFitError, match="features="):
        network().give(Reading(3), features=None)


@pytest.mark.parametrize("lacks", ["inputs", "taps"])
def test_a_rule_with_extra_terms_needs_inputs_and_taps(network, distil, lacks):
    method = Ones(3)
    method.added.append(distil(3))
    with pytest.raises(DoesNotFitError, match=r"Distil.*inputs=.*taps=") as refusal:
        network().give(method, **{lacks: None})
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("at", ["losses", "shared", "last"])
def test_a_shared_parameter_that_no_loss_reaches_has_no_gradient(network, at):
    """As a layer that is dropped at this step."""
    net, lonely = network(), nn.Parameter(torch.ones(9, 2))
    method = Drawing(3) if at == "losses" else Ones(3)
    method.at = at
    lonely.grad = torch.ones(9, 2)
    net.give(method, shared=[*net.trunk.parameters(), lonely])
    assert lonely.grad is None
    assert all(parameter.grad is not None for parameter in net.parameters())


@pytest.mark.parametrize("rule", [Ones, Drawing])
def test_if_no_loss_reaches_anything_shared_one_parameter_is_named(network, rule):
    with pytest.raises(DoesNotFitError, match=r"no loss reaches .*lonely\.weight"):
        network().give(rule(3), shared=[("lonely.weight", nn.Parameter(torch.ones(9, 2)))])


def test_a_shared_parameter_that_one_loss_reaches_is_enough(network):
    net, only = network(), nn.Parameter(torch.ones(()))
    outputs = net()
    outputs.losses[1] = outputs.losses[1] * only
    net.give(Ones(3), outputs, shared=[*net.trunk.parameters(), only])
    torch.testing.assert_close(only.grad, outputs.losses[1].detach())


@pytest.mark.parametrize("rule", [Ones, Drawing])
def test_no_shared_parameter_at_all_is_refused(network, rule):
    with pytest.raises(DoesNotFitError, match="shared="):
        network().give(rule(3), shared=iter(()))


def test_a_frozen_trunk_leaves_nothing_to_measure(network):
    net = network()
    with pytest.raises(DoesNotFitError, match=r"every shared parameter is frozen.*Ones") as refusal:
        net.give(Ones(3), shared=net.trunk.requires_grad_(False).parameters())
    assert "\n" not in str(refusal.value)


def test_over_a_frozen_trunk_a_rule_of_losses_trains_the_heads(network):
    net = network()
    net.trunk.requires_grad_(False)
    outputs = net()
    expected = torch.autograd.grad(outputs.losses[1], net.heads[1].weight, retain_graph=True)[0]
    net.give(methods.create("equal", num_tasks=3), outputs)
    torch.testing.assert_close(net.heads[1].weight.grad, expected)
    assert all(parameter.grad is None for parameter in net.trunk.parameters())


@pytest.mark.parametrize("shape", [[2], [3, 1]])
@pytest.mark.parametrize("rule", ["weigh", "combine"])
def test_a_result_of_a_wrong_shape_is_refused(network, rule, shape):
    wrong = type("Wrong", (Method,), {rule: lambda self, jacobian: torch.ones(shape)})
    with pytest.raises(ValueError, match=rf"Wrong\.{rule}"):
        network().give(wrong(3))


RESULTS = {
    "weigh": {
        "a list instead of a tensor": lambda self, losses: [1.0] * 3,
        "a ndarray instead of a tensor": lambda self, gramian: gramian.diagonal().numpy(),
        "a NoneType instead of a tensor": lambda self, jacobian: None,
        "complex numbers": lambda self, losses: torch.ones(3, dtype=torch.complex64),
    },
    "combine": {
        "a NoneType instead of a tensor": lambda self, jacobian: None,
        "complex numbers": lambda self, jacobian: jacobian.sum(0) * 1j,
    },
    "objective": {
        "a float instead of a scalar": lambda self, losses: losses.sum().item(),
        "a tuple instead of a scalar": lambda self, losses: (losses.sum(), losses),
        r"\[3\] instead of a scalar": lambda self, losses: losses,
        "complex numbers": lambda self, losses: losses.sum() * 1j,
        "does not depend on the losses": lambda self, losses: losses.detach().sum(),
    },
}


@pytest.mark.parametrize(
    ("rule", "says", "function"), [(rule, *item) for rule, wrong in RESULTS.items() for item in wrong.items()]
)
def test_a_result_that_is_no_tensor_of_numbers_is_refused(network, rule, says, function):
    wrong = type("Wrong", (Method,), {rule: function})
    with pytest.raises(ValueError, match=rf"Wrong\.{rule} returned .*{says}") as refusal:
        network().give(wrong(3))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("says", "function"),
    [
        (r"returned \[\] instead of \[3\]", lambda self, inputs, taps: taps[0][0].sum()),
        ("returned a list instead of a tensor", lambda self, inputs, taps: [taps[0][0].sum()] * 3),
        ("returned a NoneType", lambda self, inputs, taps: None),
    ],
)
def test_added_terms_are_one_a_task(network, says, function):
    method = Ones(3)
    method.carry(type("Terms", (Method,), {"extra": function})(3))
    with pytest.raises(ValueError, match=rf"Terms\.extra {says}"):
        network().give(method)


def test_an_objective_of_what_the_rule_learns_alone_is_refused(network):
    class Wrong(Own):
        def objective(self, losses):
            return self.weights.sum()

    with pytest.raises(ValueError, match=r"Wrong\.objective .* does not depend on the losses"):
        network().give(Wrong(3))


def test_whole_weights_are_weights(network):
    whole = type("Whole", (Method,), {"weigh": lambda self, losses: torch.tensor([1, 2, 3])})
    assert network().give(whole(3)).tolist() == [1, 2, 3]


@pytest.mark.parametrize("at", ["shared", "features"])
def test_a_rule_that_changes_the_jacobian_in_place_is_refused(network, at):
    def weigh(self, jacobian):
        jacobian /= jacobian.norm(dim=1, keepdim=True)
        return torch.ones(3)

    wrong = type("Wrong", (Method,), {"weigh": weigh, "at": at})
    with pytest.raises(ValueError, match=r"Wrong\.weigh changed its arguments in place"):
        network().give(wrong(3))


# Divergence ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "what", "function"),
    [
        ("weigh", "weight of task 1", lambda self, losses: torch.tensor([1, torch.nan, 1])),
        ("weigh", "weight of task 0", lambda self, gramian: torch.tensor([torch.inf, 1, 1])),
        ("objective", "weight of task 0", lambda self, losses: (losses * 0).sqrt().sum()),
        ("combine", "update", lambda self, jacobian: jacobian.sum(0) / 0),
    ],
)
def test_a_result_that_is_not_finite_names_the_rule_and_the_step(network, rule, what, function):
    wrong = type("Wrong", (Method,), {rule: function})
    with pytest.raises(DivergedError, match=rf"the {what} is not finite at step 0: Wrong\.{rule} returned it"):
        network().give(wrong(3))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("at", ["shared", "features", "last", "losses"])
def test_a_loss_that_is_not_finite_says_which_and_when(network, at, value):
    net, method = network(), Drawing(3) if at == "losses" else Ones(3)
    method.at = at
    for _ in range(4):
        net.give(method)
    outputs = net()
    outputs.losses[1] = outputs.losses[1] * 0 + value
    with pytest.raises(DivergedError, match=r"loss of task 1.*step 4") as diverged:
        net.give(method, outputs)
    assert (diverged.value.what, diverged.value.task, diverged.value.step) == ("loss", 1, 4)


@pytest.mark.parametrize("at", ["shared", "features", "last"])
def test_a_gradient_that_is_not_finite_says_which_and_when(network, at):
    net, method = network(), Ones(3)
    method.at = at
    net.give(method)
    outputs = net()
    outputs.losses[2] = (outputs.losses[2] * 0).sqrt()  # finite, with an infinite slope
    with pytest.raises(DivergedError) as diverged:
        net.give(method, outputs)
    assert (diverged.value.what, diverged.value.task, diverged.value.step) == ("gradient", 2, 1)


def test_of_several_losses_that_are_not_finite_the_first_is_named(network):
    outputs = (net := network())()
    outputs.losses[1:] = [outputs.losses[1] * float("inf"), outputs.losses[2] * float("nan")]
    with pytest.raises(DivergedError, match="task 1"):
        net.give(Ones(3), outputs)


def test_after_a_gradient_that_was_not_measured_the_next_step_diverges(network):
    net, method = network(), Drawing(3)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    outputs = net()
    outputs.losses[2] = (outputs.losses[2] * 0).sqrt()
    net.give(method, outputs)
    optimizer.step()
    with pytest.raises(DivergedError):
        net.give(method)


def test_divergence_passes_from_a_worker_to_its_parent():
    error = pickle.loads(pickle.dumps(DivergedError("loss", 1, 7)))
    assert (error.what, error.task, error.step) == ("loss", 1, 7)


# Length ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [Length, Mean])
def test_norm_sum_keeps_the_direction_and_takes_the_length_of_the_sum(network, rule):
    net = network()

    def trunk(norm):
        method = rule(3)
        method.norm = norm
        weights = net.give(method)
        return torch.cat([p.grad.flatten() for p in net.trunk.parameters()]), weights

    own, own_weights = trunk("own")
    update, weights = trunk("sum")
    gradients = net.gradients(sum(net().losses))
    length = torch.cat([g.flatten() for name, g in gradients.items() if "trunk" in name]).norm()
    torch.testing.assert_close(update, own * (length / own.norm()), rtol=1e-5, atol=0)
    assert abs(length / own.norm() - 1) > 0.1
    if weights is not None:
        torch.testing.assert_close(weights, own_weights * (length / own.norm()))


def test_norm_sum_comes_before_what_is_added(network, distil):
    net, updates = network(), []
    for carried in (None, distil(3)):
        method = Length(3)
        method.norm = "sum"
        if carried is not None:
            method.added.append(carried)
            extra = net.gradients(carried.extra({}, net().taps).sum())
        net.give(method)
        updates.append(gradients_of(net))
    for name in ("trunk.0.weight", "trunk.2.bias"):
        torch.testing.assert_close(updates[1][name], updates[0][name] + extra[name])


def test_norm_sum_of_no_update_is_no_update(network):
    class Nothing(Method):
        def weigh(self, gramian):
            return torch.zeros(3)

    net, method = network(), Nothing(3)
    method.norm = "sum"
    assert net.give(method).tolist() == [0, 0, 0]
    assert not any(parameter.grad.any() for parameter in net.trunk.parameters())


# What is added ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["shared", "features", "last"])
def test_a_rule_weighs_as_it_would_alone_whatever_it_carries(network, distil, at):
    net, found = network(), []
    for carried in ([], [distil(3)], [distil(3), distil(3)]):
        method = Length(3)
        method.at = at
        method.added.extend(carried)
        found.append((net.give(method), gradients_of(net)))
    extra = net.gradients(distil(3).extra({}, net().taps).sum())
    for n, (weights, gradients) in enumerate(found):
        assert torch.equal(weights, found[0][0])
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, found[0][1][name] + n * extra[name], msg=name)


def test_every_parts_optimiser_steps(network, distil):
    method, added = Learning(3), distil(3)
    method.added.append(added)
    before = copy.deepcopy(method.state_dict())
    network().give(method)
    after = method.state_dict()
    tensors = [name for name, value in before.items() if torch.is_tensor(value)]
    moved = {name for name in tensors if not torch.equal(before[name], after[name])}
    assert moved == {"logits", "mean", *(f"added.0.{name}" for name, _ in added.named_parameters())}
    assert method.parts() == [method, added]


# A rule's own optimiser ------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["losses", "shared", "features", "last"])
def test_the_weights_returned_are_those_used_not_those_after_the_rules_step(network, at):
    method = OwnByLosses(3) if at == "losses" else OwnByGramian(3)
    method.at = at
    weights = network().give(method)
    assert method.weights.tolist() == [-4, -4, -4]
    assert weights.tolist() == [1, 1, 1]
    assert not weights.requires_grad


def test_a_rules_own_gradient_does_not_pile_up(network):
    net, method = network(), OwnByLosses(3)
    for _ in range(3):
        net.give(method)
    assert method.weights.tolist() == [-14, -14, -14]


# State -----------------------------------------------------------------------------------------------------


def train(net, method, steps):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    weights = []
    for _ in range(steps):
        weights.append(net.give(method))
        optimizer.step()
    return weights


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("carries", [False, True])
def test_training_goes_on_from_a_state_bit_for_bit(network, distil, carries):
    def fresh(seed):
        method = Learning(3)
        if carries:
            method.added.append(distil(3))
        for part in method.parts():
            part.generator.manual_seed(seed)
        return network(), method

    net, method = fresh(1)
    train(net, method, 5)
    saved = through_a_file({"net": net.state_dict(), "method": method.state_dict()})
    expected = train(net, method, 5)

    other, restored = fresh(2)
    other.load_state_dict(saved["net"])
    restored.load_state_dict(saved["method"])
    assert (restored.steps, restored.degenerate, restored.absent) == (5, 5, 0)
    for one, two in zip(train(other, restored, 5), expected, strict=True):
        assert torch.equal(one, two)
    for one, two in ((other, net), (restored, method)):
        for left, right in zip(one.parameters(), two.parameters(), strict=True):
            assert torch.equal(left, right)
    assert (restored.steps, restored.degenerate) == (10, 10)


def test_a_rule_that_nobody_moved_goes_to_the_losses_with_its_moments(distil, monkeypatch):
    """The device "meta" stands for a GPU here, where a parameter stays the same object when it moves."""
    monkeypatch.setattr(torch.__future__, "_swap_module_params_on_conversion", True)
    meta = torch.device("meta")
    rule, terms = methods.create("uncertainty", num_tasks=3), distil(3)
    rule.log_variance.grad = torch.ones(3)
    rule.optimizer.step()
    rule.carry(terms)
    routes._move(rule.parts(), meta)
    assert rule.log_variance.device == rule.optimizer.state[rule.log_variance]["exp_avg"].device == meta
    assert all(parameter.device == meta for parameter in rule.parameters())
    assert rule.optimizer.param_groups[0]["params"] == [rule.log_variance]


def test_a_rule_that_reads_a_gramian_stays_where_that_is():
    rule = methods.create("gradnorm", num_tasks=3)
    routes._move(rule.parts(), torch.device("meta"))
    assert rule.weights.device.type == "cpu"


@pytest.mark.parametrize(
    ("named", "shown"),
    [
        ("equal", "Equal(num_tasks=3)"),
        ("mgda[at=features]", "MGDA(num_tasks=3, at='features')"),
        ("mgda[norm=sum,normalize=l2]", "MGDA(num_tasks=3, normalize='l2', norm='sum')"),
        ("uncertainty[lr=0.1]", "Uncertainty(num_tasks=3, lr=0.1)"),
        ("static[weights=1:2:1]", "Static(num_tasks=3, weights=(1.0, 2.0, 1.0))"),
        ("gradnorm[alpha=1.5]", "GradNorm(num_tasks=3)"),
        ("kd[weight=2]+mgda", "KD(num_tasks=3, weight=(2.0,)) + MGDA(num_tasks=3)"),
    ],
)
def test_a_rule_shows_its_options_as_one_writes_them(named, shown):
    rule = methods.create(named, num_tasks=3, teachers=[torch.nn.Identity()] * 3)
    assert repr(rule) == shown
    assert repr(copy.deepcopy(rule)) == shown
    assert repr(torch.nn.ModuleList([rule])) == f"ModuleList(\n  (0): {shown}\n)"


def test_a_rule_of_somebodys_own_shows_its_options_without_keeping_them():
    class Own(Method):
        def __init__(self, num_tasks, beta=0.5, network=None, **others):
            super().__init__(num_tasks)
            self.beta = 2 * beta

        def weigh(self, losses):
            return torch.ones_like(losses)

    assert repr(Own(2, 0.25, torch.nn.Linear(2, 2), gamma="x")) == "Own(num_tasks=2, beta=0.25, gamma='x')"
    assert [*inspect.signature(Own).parameters] == ["num_tasks", "beta", "network", "others"]
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'num_tasks'"):
        Own()


def test_draws_come_from_the_rules_own_generator(network):
    net, drawn = network(), []
    for global_seed in (0, 1):
        method = Drawing(3)
        method.generator.manual_seed(5)
        torch.manual_seed(global_seed)
        drawn.append(net.give(method))
        after = torch.rand(1)
        torch.manual_seed(global_seed)
        assert torch.equal(after, torch.rand(1))
    assert torch.equal(*drawn)


# After a step, after an epoch ------------------------------------------------------------------------------


class Hearing(Ones):
    heard = None

    def after_epoch(self, losses):
        self.heard = losses


class Validating(Ones):
    heard = None

    def after_epoch(self, validation, losses):
        self.heard = (losses, validation)


class AfterStep(Ones):
    def after_step(self, losses): ...


def test_an_epochs_end_computes_what_is_named_and_nothing_else():
    def fail():
        raise AssertionError("computed although no rule names it")

    losses, validation = torch.ones(3), torch.zeros(3)
    Ones(3).end_epoch(losses=fail, validation=fail)
    hearing, validating = Hearing(3), Validating(3)
    hearing.end_epoch(losses=lambda: losses, validation=fail)
    assert hearing.heard is losses
    validating.end_epoch(losses=lambda: losses, validation=lambda: validation)
    assert validating.heard == (losses, validation)


@pytest.mark.parametrize(
    ("available", "says"),
    [
        ({}, "Hearing hears losses: pass losses=, a function"),
        ({"losses": torch.ones(3)}, "a function"),
        ({"losses": lambda: [1.0, 1.0, 1.0]}, r"losses should return a tensor \[3\]"),
        ({"losses": lambda: torch.ones(2)}, r"losses should return a tensor \[3\]"),
    ],
)
def test_an_epochs_end_is_told_what_the_rule_hears(available, says):
    with pytest.raises(ValueError, match=says):
        Hearing(3).end_epoch(**available)


def test_an_epochs_end_reaches_what_is_carried():
    method, carried = Ones(3), Hearing(3)
    method.added.append(carried)
    method.end_epoch(losses=lambda: torch.ones(3))
    assert carried.heard.tolist() == [1, 1, 1]


def test_a_method_says_what_it_overrides(distil):
    names = ("extra", "after_step", "after_epoch")
    assert not any(Ones(3).overrides(name) for name in names)
    assert [AfterStep(3).overrides(name) for name in names] == [False, True, False]
    assert [Hearing(3).overrides(name) for name in names] == [False, False, True]
    carrying = Ones(3)
    carrying.added.append(distil(3))
    assert [carrying.overrides(name) for name in names] == [True, False, False]


def test_a_step_is_as_many_passes_as_its_route_costs(network, variant):
    """K through the trunk for what is measured at the shared parameters, and one for all else."""
    net, passes = network("mlp", tasks=4), []
    net.trunk[2].register_full_backward_hook(lambda *_: passes.append(1))
    net.give(methods.create(variant, num_tasks=4))
    assert len(passes) == (4 if "at=shared" in variant else 1)


def test_a_subclass_that_turns_to_gradients_gives_heads_their_plain_gradient():
    class OfLosses(Method):
        def weigh(self, losses):
            return torch.ones_like(losses)

    class OfGradients(OfLosses):
        def weigh(self, gramian):
            return gramian.diagonal()

    class Said(OfLosses):
        heads = "plain"

    class StillSaid(Said):
        def weigh(self, losses):
            return 2 * torch.ones_like(losses)

    assert [rule.heads for rule in (OfLosses, OfGradients, Said, StillSaid)] == ["weighted", "plain", "plain", "plain"]


def test_features_with_a_default_are_passed_where_the_loop_has_them(network):
    class Reading(Method):
        def combine(self, jacobian, features=None):
            self.seen = features
            return jacobian.sum(0)

    net = network()
    method, outputs = Reading(3), net()
    net.give(method, outputs)
    assert torch.equal(method.seen, outputs.features)
    net.give(method, features=None)
    assert method.seen is None
    half = [loss / 2 for loss in net().losses]
    method.accumulate(half, shared=net.trunk.parameters())
    net.give(method, net())  # its features are those of the last micro-batch alone
    assert method.seen is None
