"""In somebody's own loop: whatever is done to the network, `.grad` is what autograd says, or the method refuses.

The oracle of every test: given the weights that a method returns, a shared parameter's gradient is Σ w_k ∂l_k. A method
that returns no weights makes the update itself: then a copy of the method, made before the step, is given the rows that
autograd finds, and the trunk's gradient is what it makes of them. A private parameter's gradient is the sum of its
tasks' gradients, each times what the rule gives to heads: 1, the weight, or a weight of its own. What no loss reaches
has no gradient.
"""

import copy
import gc
import inspect
import weakref

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.checkpoint import checkpoint

import methods
from methods.core import subset
from methods.core.base import DivergedError, DoesNotFitError, Method

K = 3


class Loop(nn.Module):
    """A trunk of three layers and K heads; parts of it may be changed between steps."""

    def __init__(self, dtype=torch.float64, tasks=K, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.trunk = nn.ModuleList([nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 6)])
        self.heads = nn.ModuleList(nn.Linear(6, 2) for _ in range(tasks))
        self.dropped = False
        self.to(dtype)

    @property
    def last(self):
        return self.trunk[-1].weight

    def features(self, x):
        x = torch.tanh(self.trunk[0](x))
        if not self.dropped:
            x = x + torch.tanh(self.trunk[1](x))
        return torch.tanh(self.trunk[2](x))

    def losses(self, x, features=None):
        features = self.features(x) if features is None else features
        return [(10.0**k * (head(features) - k - 1).square()).mean() for k, head in enumerate(self.heads)], features


def batch(dtype=torch.float64, seed=1, size=7):
    return torch.randn(size, 5, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def trunk(net):
    return list(dict.fromkeys(parameter for parameter in net.trunk.parameters() if parameter.requires_grad))


def rows(losses, at):
    """Autograd's gradients `[K, P]` of the losses with respect to some tensors; 0 where nothing is reached."""
    whole = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
    wide = torch.promote_types(max((p.dtype for p in at), key=lambda dtype: torch.finfo(dtype).bits), torch.float32)
    found = [torch.autograd.grad(loss, at, **whole) for loss in losses]
    return torch.stack([torch.cat([gradient.flatten().to(wide) for gradient in own]) for own in found])


def combined(copied, jacobian, losses, features, tasks):
    """What a copy of a rule that makes the update itself makes of the rows of the tasks that are present."""
    gramian = jacobian.double() @ jacobian.double().T
    if copied.zero_gradients == "left out" and not gramian.diagonal().all():
        kept = gramian.diagonal().nonzero().flatten().tolist()
        if not kept:
            return jacobian.new_zeros(jacobian.shape[1])
        jacobian, losses, gramian = jacobian[kept], losses[kept], gramian[kept][:, kept]
        tasks = [tasks[k] for k in kept]
    available = {"jacobian": jacobian, "gramian": gramian, "losses": losses, "features": features.detach()}
    with torch.no_grad(), subset.only(copied, tasks):
        return copied.combine(**{need: available[need] for need in copied.needs})


class Expected:
    """What autograd says of one step, before the step; it is compared with what the step leaves."""

    def __init__(self, net, method, losses, features):
        self.net, self.method = net, method
        self.present = [k for k, loss in enumerate(losses) if loss is not None and loss.requires_grad]
        self.learns = [parameter for parameter in net.parameters() if parameter.requires_grad]
        own = [losses[k] for k in self.present]
        keep = {"retain_graph": True, "allow_unused": True}
        self.plain = [torch.autograd.grad(loss, self.learns, **keep) for loss in own]
        if method.rule != "combine" or not own:
            return
        found = [{p for p, g in zip(self.learns, gradients, strict=True) if g is not None} for gradients in self.plain]
        self.reached = [parameter for parameter in trunk(net) if any(parameter in one for one in found)]
        values = torch.stack([loss.detach().double() for loss in own])
        into = [features] if method.at == "features" else self.reached
        update = combined(copy.deepcopy(method), rows(own, into), values, features, self.present)
        if method.at == "features":
            hooks = dict(features._backward_hooks or {})  # each was called when the gradients were measured
            if hooks:
                features._backward_hooks.clear()
            self.made = torch.autograd.grad(features, self.reached, update.to(features).view_as(features), **keep)
            if hooks:
                features._backward_hooks.update(hooks)
        else:
            parts = update.split([parameter.numel() for parameter in self.reached])
            self.made = [part.view_as(p).to(p.dtype) for p, part in zip(self.reached, parts, strict=True)]

    def gradients(self, weights):
        """The gradient of each parameter, given the weights that the method returned; none of what is not reached."""
        shared, expected = set(self.net.trunk.parameters()), {}
        assert (weights is None) == (self.method.rule == "combine")
        for position, (k, found) in enumerate(zip(self.present, self.plain, strict=True)):
            head = weights[k] if self.method.heads == "weighted" else 1
            if self.method.heads == "own":
                head = self.method.head_weights[position]
            for parameter, gradient in zip(self.learns, found, strict=True):
                if gradient is None or (weights is None and parameter in shared):
                    continue
                scale = weights[k] if parameter in shared else head
                expected[parameter] = expected.get(parameter, 0) + scale * gradient
        if weights is None and self.present:
            expected |= dict(zip(self.reached, self.made, strict=True))
        return expected


def told(net, weights):
    """What a method says: its weights or, where it returns none, the update of the trunk that it makes."""
    if weights is not None:
        return weights
    return torch.cat([p.grad.flatten().double() for p in net.trunk.parameters() if p.grad is not None])


def step(net, method, losses, features, tolerance=1e-9, **given):
    """One `backward`, checked against autograd. Return what the method says."""
    oracle = Expected(net, method, losses, features)
    given = {"shared": net.trunk.parameters(), "features": features, "last": net.last, **given}
    weights = method.backward(losses, **given)
    expected = oracle.gradients(weights)
    for name, parameter in net.named_parameters():
        if parameter not in expected:
            assert parameter.grad is None, name
            continue
        assert parameter.grad is not None, name
        assert parameter.grad.dtype == parameter.dtype
        error = (parameter.grad - expected[parameter]).norm()
        assert error <= tolerance * expected[parameter].norm() + 1e-12, f"{name}: {error}"
    return told(net, weights)


def create(variant, tasks=K, dtype=torch.float64):
    return methods.create(variant, num_tasks=tasks).to(dtype)


# Whatever is done between steps ----------------------------------------------------------------------------


def freeze_a_head(net, method):
    net.heads[1].requires_grad_(False)
    return net, method


def unfreeze_all(net, method):
    net.requires_grad_(True)
    return net, method


def freeze_a_layer(net, method):
    net.trunk[0].requires_grad_(False)
    return net, method


def replace_a_head(net, method):
    net.heads[0] = nn.Linear(6, 2).double()
    return net, method


def deepen_a_head(net, method):
    net.heads[2] = nn.Sequential(net.heads[2], nn.Tanh(), nn.Linear(2, 2).double())
    return net, method


def share_a_head(net, method):
    net.heads[1] = net.heads[0]
    return net, method


def tie_weights_of_heads(net, method):
    layers = [head if isinstance(head, nn.Linear) else head[0] for head in net.heads]
    layers[2].weight = layers[0].weight
    return net, method


def add_lora(net, method):
    """Add a low-rank update to a layer of the trunk, whose own weights are frozen."""

    class LoRA(nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.layer = layer.requires_grad_(False)
            self.a, self.b = nn.Parameter(torch.randn(6, 2).double()), nn.Parameter(torch.randn(2, 6).double())

        def forward(self, x):
            return self.layer(x) + x @ self.a @ self.b

    if isinstance(net.trunk[1], nn.Linear):
        net.trunk[1] = LoRA(net.trunk[1])
    return net, method


def drop_a_layer(net, method):
    net.dropped = not net.dropped
    return net, method


def copy_both(net, method):
    return copy.deepcopy((net, method))


def copy_the_network(net, method):
    return copy.deepcopy(net), method


def meet_another_network(net, method):
    return Loop(seed=5), method


def leave_other_gradients(net, method):
    for parameter in net.parameters():
        parameter.grad = torch.full_like(parameter, 7)
    net.zero_grad(set_to_none=False)
    return net, method


CHANGES = [
    freeze_a_head,
    unfreeze_all,
    freeze_a_layer,
    replace_a_head,
    deepen_a_head,
    share_a_head,
    tie_weights_of_heads,
    add_lora,
    drop_a_layer,
    copy_both,
    copy_the_network,
    meet_another_network,
]


@pytest.mark.parametrize("change", CHANGES)
def test_after_a_change_between_steps_every_gradient_is_this_steps_once(typical, change):
    net, method = Loop(), create(typical)
    if change is unfreeze_all:
        net.heads[1].requires_grad_(False)
        net.trunk[0].requires_grad_(False)
    for n in range(4):
        if n == 1:
            before = net
            net, method = change(net, method)
            if change in (copy_the_network, meet_another_network):
                step(net, method, *net.losses(batch()))
                assert all(parameter.grad is None for parameter in before.parameters())
        step(net, method, *net.losses(batch(seed=n)))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_after_any_changes_every_gradient_is_this_steps_once(variants, data):
    net, method = Loop(), create(data.draw(st.sampled_from(variants)))
    for n in range(data.draw(st.integers(2, 6))):
        for change in data.draw(st.lists(st.sampled_from(CHANGES), max_size=2)):
            net, method = change(net, method)
        losses, features = net.losses(batch(seed=n))
        for k in data.draw(st.sets(st.integers(0, K - 1), max_size=2)):
            losses[k] = data.draw(st.sampled_from([None, torch.zeros((), dtype=torch.float64)]))
        losses = [None if loss is None or not loss.requires_grad else loss for loss in losses]
        weights = step(net, method, losses, features)
        assert torch.isfinite(weights).all()
        assert method.rule == "combine" or all(weights[k] == 0 for k in range(K) if losses[k] is None)


def test_what_was_frozen_since_is_moved_by_no_optimiser(typical):
    net, method = Loop(), create(typical)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1, weight_decay=0.1)
    step(net, method, *net.losses(batch()))
    optimizer.step()
    net.heads[1].requires_grad_(False)
    before = copy.deepcopy(net.heads[1].state_dict())
    for n in range(3):
        step(net, method, *net.losses(batch(seed=n)))
        optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in net.heads[1].state_dict().items())


def test_a_deep_copy_knows_nothing_of_what_the_original_wrote(typical):
    net, method = Loop(), create(typical)
    step(net, method, *net.losses(batch()))
    written = {name: parameter.grad.clone() for name, parameter in net.named_parameters()}
    other, copied = Loop(seed=3), copy.deepcopy(method)
    step(other, copied, *other.losses(batch()))
    for name, parameter in net.named_parameters():
        assert torch.equal(parameter.grad, written[name])


def test_a_method_keeps_no_network_alive(typical):
    net, method = Loop(), create(typical)
    step(net, method, *net.losses(batch()))
    other = Loop()
    step(other, method, *other.losses(batch()))
    gone = weakref.ref(other)
    del other
    gc.collect()
    assert gone() is None


def test_a_copy_of_a_method_goes_on_by_itself(typical):
    """With its own parameters, in its own optimiser, from its own generator."""
    net, method = Loop(), create(typical)
    step(net, method, *net.losses(batch()))
    twin = copy.deepcopy(method)
    for n in range(3):
        losses, features = net.losses(batch(seed=n))
        one = step(net, method, losses, features)
        other = step(net, twin, *net.losses(batch(seed=n)))
        assert torch.equal(one, other)
    assert all(a is not b for a, b in zip(method.parameters(), twin.parameters(), strict=True))


def test_one_parameter_named_twice_counts_once(typical):
    net, one, other = Loop(), create(typical), create(typical)
    weights = step(net, one, *net.losses(batch()))
    twice = [*net.trunk.parameters(), *net.trunk.parameters()]
    torch.testing.assert_close(step(net, other, *net.losses(batch()), shared=twice), weights)


def test_several_batches_have_their_gradients_unless_features_tie_them_to_one(typical):
    net, method = Loop(), create(typical)
    losses = [net.losses(batch(seed=k))[0][k] for k in range(K)]
    features = net.features(batch())
    if method.at == "features":
        with pytest.raises(DoesNotFitError, match=r"past the features"):
            step(net, method, losses, features)
    else:
        step(net, method, losses, features)


@pytest.mark.parametrize("whole", [False, True])
def test_a_compiled_trunk_or_network_has_the_same_gradients_or_is_refused(typical, whole):
    torch._dynamo.reset()
    net, method = Loop(torch.float32), create(typical, dtype=torch.float32)
    if whole:
        losses, features = torch.compile(net.losses, backend="aot_eager")(batch(torch.float32))
    else:
        features = torch.compile(net.features, backend="aot_eager")(batch(torch.float32))
        losses, _ = net.losses(None, features)
    if whole and method.at == "features":
        with pytest.raises(DoesNotFitError, match=r"reaches the shared parameter shared\[0\] past the features"):
            step(net, method, losses, features)
        return
    given = {"shared": net.trunk.parameters(), "features": features, "last": net.last}
    oracle = Expected(net, method, *net.losses(batch(torch.float32)))
    weights = method.backward(losses, **given)
    for parameter, gradient in oracle.gradients(weights).items():
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-5)


# Checkpointing ---------------------------------------------------------------------------------------------


def checkpointed(net, x, *, reentrant):
    hidden = torch.tanh(net.trunk[0](x))
    hidden = checkpoint(lambda h: torch.tanh(net.trunk[1](h)), hidden, use_reentrant=reentrant)
    return torch.tanh(net.trunk[2](hidden))


def test_a_checkpoint_that_is_not_reentrant_works(typical):
    net, method = Loop(), create(typical)
    features = checkpointed(net, batch(), reentrant=False)
    step(net, method, *net.losses(None, features))


def test_a_reentrant_checkpoint_is_refused_by_name(typical):
    net, method = Loop(), create(typical)
    losses, features = net.losses(None, checkpointed(net, batch(), reentrant=True))
    given = {"shared": net.trunk.parameters(), "features": features, "last": net.last}
    with pytest.raises(DoesNotFitError, match=r"re-entrant.*use_reentrant=False"):
        method.backward(losses, **given)


# Features and the last layer -------------------------------------------------------------------------------


def at_features():
    return create("mgda[at=features]")


def refused(net, losses, features, says, method=None, **given):
    method = at_features() if method is None else method
    given = {"shared": net.trunk.named_parameters(), "last": net.last, **given}
    with pytest.raises(DoesNotFitError, match=says) as refusal:
        method.backward(losses, features=features, **given)
    assert "\n" not in str(refusal.value)


def test_a_skip_past_the_features_is_refused_by_name():
    net = Loop()
    hidden = torch.tanh(net.trunk[0](batch()))
    features = torch.tanh(net.trunk[2](hidden + torch.tanh(net.trunk[1](hidden))))
    losses, _ = net.losses(None, features)
    losses[1] = (net.heads[1](features + hidden)).square().mean()
    refused(net, losses, features, r"task 1 reaches the shared parameter 0\.\w+ past the features.*at=shared")


def test_a_weight_tied_to_the_trunk_is_refused_by_name():
    net = Loop()
    net.heads[2] = nn.Linear(6, 6).double()
    net.heads[2].weight = net.trunk[1].weight
    refused(net, *net.losses(batch()), r"task 2 reaches the shared parameter 1\.weight past the features")


def test_all_parameters_as_shared_are_refused_by_name():
    net = Loop()
    losses, features = net.losses(batch())
    says = r"task \d reaches the shared parameter heads\.\d\.\w+ past the features"
    refused(net, losses, features, says, shared=net.named_parameters())


@pytest.mark.parametrize("copied", [torch.clone, torch.Tensor.detach, lambda f: f * 1, lambda f: f.view(7, 6)])
def test_a_copy_of_the_features_is_refused(copied):
    net = Loop()
    losses, features = net.losses(batch())
    refused(net, losses, copied(features), "past the features")


def test_features_of_a_second_forward_are_refused():
    net = Loop()
    refused(net, net.losses(batch())[0], net.features(batch()), "past the features")


def test_features_of_which_a_loss_is_independent_are_refused():
    net = Loop()
    losses, features = net.losses(batch())
    losses[1] = net.heads[1](batch()[:, :1].expand(7, 6)).square().mean()
    refused(net, losses, features, "the loss of task 1 does not depend on the features")


def test_features_that_no_shared_parameter_made_are_refused():
    net = Loop()
    features = batch(size=7)[:, :1].expand(7, 6).clone().requires_grad_()
    refused(net, *net.losses(None, features), "the features depend on no shared parameter")


def test_a_part_of_an_operations_outputs_is_told_from_the_others():
    """The features are one of two outputs of one node; what reads the other passes them by."""
    net = Loop()
    features, other = torch.tanh(net.trunk[2](torch.tanh(net.trunk[0](batch())))).chunk(2, dim=0)
    losses, _ = net.losses(None, features)
    net.dropped = True
    step(net, at_features(), losses, features)
    losses, _ = net.losses(None, features)
    losses[0] = net.heads[0](other).square().mean()
    refused(net, losses, features, "past the features")


@pytest.mark.parametrize("name", ["features", "last"])
def test_a_tuple_is_no_tensor(name, typical):
    net, method = Loop(), create(typical)
    losses, features = net.losses(batch())
    given = {"features": features, "last": net.last} | {name: (features,)}
    with pytest.raises(DoesNotFitError, match=f"{name} should be one tensor, not a tuple"):
        method.backward(losses, shared=net.trunk.parameters(), **given)


@pytest.mark.parametrize("variant_at_last", ["mgda[at=last]", "gradnorm"])
def test_a_last_layer_is_reached_and_learns(variant_at_last):
    net = Loop()
    losses, features = net.losses(batch())
    method = create(variant_at_last)
    refused(
        net, losses, features, r"task 0 does not reach last, of shape \[3, 3\]", method, last=nn.Linear(3, 3).weight
    )
    net.dropped = True
    refused(net, *net.losses(batch()), "does not reach last", method, last=net.trunk[1].weight)
    refused(net, *net.losses(batch()), "pass last=", method, last=None)
    net.trunk[2].requires_grad_(False)
    refused(net, *net.losses(batch()), "is frozen", method)


def test_a_last_layer_that_is_computed_is_refused():
    net = Loop()
    nn.utils.parametrizations.weight_norm(net.trunk[2])
    refused(net, *net.losses(batch()), "tensor that was computed.*its original", create("gradnorm"))
    step(net, create("gradnorm"), *net.losses(batch()), last=net.trunk[2].parametrizations.weight.original1)


@pytest.mark.parametrize("what", ["input", "parameter"])
def test_what_is_reached_through_the_features_and_past_them_is_refused(what):
    net, x = Loop(), batch().requires_grad_(what == "input")
    losses, features = net.losses(x)
    losses[1] = losses[1] + (x if what == "input" else net.trunk[0].weight).square().mean()
    refused(net, losses, features, "through the features and past them.*at=shared", shared=net.trunk[1:].parameters())


def test_a_hook_of_the_features_is_called_once_for_each_gradient(typical):
    """For example one that reverses or scales what goes back into the trunk."""
    net, method = Loop(), create(typical)
    features = net.features(batch())
    features.register_hook(lambda gradient: -2 * gradient)
    losses, _ = net.losses(None, features)
    for again in range(2):
        step(net, method, losses, features, tolerance=1e-7)
        if again == 0:  # the hook is still there afterwards
            features = net.features(batch())
            features.register_hook(lambda gradient: -2 * gradient)
            losses, _ = net.losses(None, features)
    assert len(features._backward_hooks) == 1


@pytest.mark.parametrize("has_hook", [False, True])
@pytest.mark.parametrize("absent", [(), (1,), (0, 1, 2)])
def test_added_terms_ride_on_any_step(typical, distil, has_hook, absent):
    net, method = Loop(), create(typical)
    terms = distil(K, width=6, lr=0).double()
    method.carry(terms)
    features = net.features(batch())
    if has_hook:
        features.register_hook(lambda gradient: -2 * gradient)
    losses, _ = net.losses(None, features)
    losses = [None if k in absent else loss for k, loss in enumerate(losses)]
    taps = [(features,)] * K
    added, adaptors = terms.extra({}, taps).sum(), list(terms.adaptors.parameters())
    learns = [*net.trunk.parameters(), *adaptors]
    extra = torch.autograd.grad(added, learns, retain_graph=True)
    oracle = Expected(net, method, losses, features)
    given = {"shared": net.trunk.parameters(), "features": features, "last": net.last}
    weights = method.backward(losses, inputs={}, taps=taps, **given)
    expected = oracle.gradients(weights) if len(absent) < K else {}
    for parameter, gradient in zip(learns, extra, strict=True):
        torch.testing.assert_close(parameter.grad, gradient + expected.get(parameter, 0))


def test_a_hook_of_a_parameter_is_called_once_for_each_gradient(typical):
    net, method = Loop(), create(typical)
    for parameter in (net.trunk[0].weight, net.heads[1].weight):
        parameter.register_hook(lambda gradient: -2 * gradient)
    step(net, method, *net.losses(batch()))


def test_complex_gradients_are_refused_where_they_are_compared(typical):
    net, method = Loop(), create(typical)
    net.trunk.phase = nn.Parameter(torch.randn(6, dtype=torch.complex128))
    features = (net.features(batch()) * net.trunk.phase).abs()
    losses, _ = net.losses(None, features)
    if method.measures and method.at == "shared":
        refused(net, losses, features, "complex", method)
    else:
        step(net, method, losses, features)


def test_a_sparse_embedding_is_refused_where_rows_are_dense():
    for variant, works in (("equal", True), ("mgda", False), ("mgda[at=features]", True)):
        net, table = Loop(torch.float32), nn.Embedding(10, 5, sparse=True)
        features = net.features(table(torch.arange(7)))
        losses, _ = net.losses(None, features)
        given = {"shared": [*net.trunk.parameters(), table.weight], "features": features}
        method = create(variant, dtype=torch.float32)
        if works:
            method.backward(losses, **given)
            assert table.weight.grad.is_sparse
        else:
            with pytest.raises(DoesNotFitError, match=r"\[10, 5\] is sparse.*sparse=False"):
                method.backward(losses, **given)


# Types -----------------------------------------------------------------------------------------------------


def mixed(net):
    net.trunk[1].double()
    return net


class Cast(nn.Module):
    """Runs a layer in its own type."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    @property
    def weight(self):
        return self.layer.weight

    def forward(self, x):
        return self.layer(x.to(self.layer.weight.dtype)).to(x.dtype)


@pytest.mark.parametrize(
    ("dtypes", "tolerance"),
    [
        ([torch.float64] * 4, 1e-5),
        ([torch.float32] * 4, 1e-5),
        ([torch.bfloat16] * 4, 2e-2),
        ([torch.float32, torch.float64, torch.float32, torch.float32], 1e-5),
        ([torch.float32, torch.bfloat16, torch.float32, torch.float32], 2e-2),
        ([torch.float64, torch.float32, torch.float64, torch.bfloat16], 2e-2),
    ],
)
def test_networks_of_any_types_work(typical, dtypes, tolerance):
    """Types of the three layers of the trunk, and of the heads; the losses are in float32."""
    net = Loop(torch.float32)
    for layer, dtype in zip([*net.trunk, *net.heads], [*dtypes[:3], *dtypes[3:] * K], strict=True):
        layer.to(dtype)
    net.trunk = nn.ModuleList(Cast(layer) for layer in net.trunk)
    net.heads = nn.ModuleList(Cast(layer) for layer in net.heads)
    method = create(typical, dtype=torch.float32)
    for n in range(2):
        losses, features = net.losses(batch(torch.float32, seed=n))
        step(net, method, losses, features, tolerance)


def test_losses_of_unlike_types_work(typical):
    net, method = Loop(torch.float32), create(typical, dtype=torch.float32)
    losses, features = net.losses(batch(torch.float32))
    losses = [losses[0].double(), losses[1], losses[2].bfloat16()]
    step(net, method, losses, features, 2e-2)


def test_backward_inside_autocast_is_backward_outside(typical):
    net, found = Loop(torch.float32), []
    for inside in (False, True):
        method = create(typical, dtype=torch.float32)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            features = net.features(batch(torch.float32))
            losses = [(h(features).float() - k - 1).square().mean() for k, h in enumerate(net.heads)]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=inside):
            given = {"shared": net.trunk.parameters(), "features": features, "last": net.last}
            weights = method.backward(losses, **given)
            assert torch.is_autocast_enabled("cpu") == inside
        found.append([told(net, weights), *(parameter.grad.clone() for parameter in net.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


# Losses ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda losses: [loss.unsqueeze(0) for loss in losses], r"losses\[0\] has the shape \[1\]"),
        (lambda losses: [losses[0], losses[1].expand(8), losses[2]], r"losses\[1\] has the shape \[8\]"),
        (lambda losses: dict(enumerate(losses)), "not a dict"),
        (lambda losses: torch.stack(losses).unsqueeze(1), r"losses\[0\] has the shape \[1\]"),
        (lambda losses: sum(losses), "not a Tensor"),
        (lambda losses: [losses[0], 0.5, losses[2]], r"losses\[1\] is a float"),
        (lambda losses: [losses[0], losses[1], torch.tensor(3)], r"losses\[2\] is of torch\.int64"),
        (lambda losses: losses[:2], r"2 losses.*3 tasks"),
        (lambda losses: 7, "not a int"),
        (lambda losses: [losses[0], losses[1].detach(), losses[2]], r"task 1 has a value but needs no gradient"),
    ],
)
def test_losses_that_are_not_scalars_are_refused_in_one_line(typical, change, says):
    net, method = Loop(), create(typical)
    losses, features = net.losses(batch())
    given = {"shared": net.trunk.parameters(), "features": features, "last": net.last}
    with pytest.raises(ValueError, match=says) as refusal:
        method.backward(change(losses), **given)
    assert "\n" not in str(refusal.value)


def test_losses_may_come_stacked_or_from_a_generator(typical):
    net = Loop()
    for change in (torch.stack, iter):
        losses, features = net.losses(batch())
        method, other = create(typical), create(typical)
        weights = step(net, method, losses, features)
        losses, features = net.losses(batch())
        given = {"shared": net.trunk.parameters(), "features": features, "last": net.last}
        torch.testing.assert_close(told(net, other.backward(change(losses), **given)), weights)


@pytest.mark.parametrize("has_graph", [False, True])
def test_a_nan_is_never_a_missing_label_and_the_message_says_what_is(typical, has_graph):
    net, method = Loop(), create(typical)
    losses, features = net.losses(batch())
    losses[1] = losses[1] * float("nan") if has_graph else torch.tensor(float("nan"))
    given = {"shared": net.trunk.parameters(), "features": features, "last": net.last}
    with pytest.raises(DivergedError, match=r"loss of task 1 is not finite at step 0.*None"):
        method.backward(losses, **given)


@pytest.mark.parametrize(
    ("present", "losses_none", "says"),
    [([True, False], False, "present has 2 values for 3 tasks"), ([True] * 3, True, "task 1 is present.*None")],
)
def test_what_is_present_must_be_consistent(typical, present, losses_none, says):
    net, method = Loop(), create(typical)
    losses, features = net.losses(batch())
    losses[1] = None if losses_none else losses[1]
    given = {"shared": net.trunk.parameters(), "features": features, "last": net.last}
    with pytest.raises(ValueError, match=says):
        method.backward(losses, present=present, **given)


@pytest.mark.parametrize("present", [True, torch.ones(1, 3), torch.tensor(True)])
def test_what_is_present_is_a_list(present):
    net = Loop()
    with pytest.raises(ValueError, match="present should be a list of 3 booleans"):
        create("equal").backward(net.losses(batch())[0], shared=net.trunk.parameters(), present=present)


def test_what_is_present_may_be_a_tensor(typical):
    net, method = Loop(), create(typical)
    losses, features = net.losses(batch())
    given = {"shared": net.trunk.parameters(), "features": features, "last": net.last}
    weights = method.backward(losses, present=torch.tensor([True, False, True]), **given)
    assert (method.absent, net.heads[1].weight.grad) == (1, None)
    assert weights is None or weights[1] == 0


@pytest.mark.parametrize("private", [3, [3, 3, 3], [None] * 3])
def test_what_is_private_are_lists_of_parameters(private):
    net = Loop()
    with pytest.raises(ValueError, match="private should be a list of parameters for each task"):
        create("equal").backward(net.losses(batch())[0], shared=net.trunk.parameters(), private=private)


@pytest.mark.parametrize("private", ["none", "of others", "all of all"])
def test_what_is_named_private_changes_no_gradient_of_what_is_reached(typical, private):
    net, method = Loop(), create(typical)
    lists = {
        "none": [[]] * K,
        "of others": [list(net.heads[(k + 1) % K].parameters()) for k in range(K)],
        "all of all": [list(net.parameters())] * K,
    }[private]
    for n in range(3):
        step(net, method, *net.losses(batch(seed=n)), private=lists)


@pytest.mark.parametrize("shared", ["module", "parameter", "computed", "nothing"])
def test_what_is_shared_are_parameters(shared):
    net, method = Loop(), create("equal")
    losses, features = net.losses(batch())
    wrong = {"module": net.trunk, "parameter": net.last, "computed": [features], "nothing": None}[shared]
    with pytest.raises(ValueError, match=r"shared.* should be .*parameter"):
        method.backward(losses, shared=wrong)


# Absent tasks ----------------------------------------------------------------------------------------------


def end_epoch(method, losses):
    """Tell a rule what it hears after a step and after an epoch."""
    method.end_step(0.9 * losses)
    method.end_epoch(losses=lambda: losses, validation=lambda: losses)


def test_a_task_that_is_never_there_leaves_the_others_as_if_it_were_not(variant):
    net, method, other = Loop(), create(variant), create(variant, tasks=2)
    for n in range(6):
        losses, features = net.losses(batch(seed=n))
        rest = [losses[0], losses[2]]
        weights = step(net, method, [losses[0], None, losses[2]], features)
        gradients = [p.grad.clone() for p in net.trunk.parameters()]
        again, features = net.losses(batch(seed=n))
        expected = other.backward([again[0], again[2]], shared=net.trunk.parameters(), features=features, last=net.last)
        if expected is not None:
            torch.testing.assert_close(weights, torch.tensor([expected[0], 0, expected[1]], dtype=weights.dtype))
        for gradient, parameter in zip(gradients, net.trunk.parameters(), strict=True):
            torch.testing.assert_close(gradient, parameter.grad)
        values = torch.stack([loss.detach() for loss in rest])
        end_epoch(method, torch.tensor([values[0], torch.nan, values[1]], dtype=values.dtype))
        end_epoch(other, values)
    assert (method.absent, method.degenerate, method.steps) == (6, 0, 6)
    assert other.absent == 0


def remembered(method, task):
    """What a rule keeps of one task: parameters, buffers and the moments of its optimiser."""
    kept = {name: getattr(method, name).detach()[..., task].clone() for name in method.per_task}
    for parameter, state in () if method.optimizer is None else method.optimizer.state.items():
        for key, value in state.items():
            if value.shape == parameter.shape:
                kept[key] = value[..., task].clone()
    return kept


def same(one, other):
    return torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)


def test_what_is_remembered_of_an_absent_task_is_afterwards_what_it_was(variant):
    net, method = Loop(), create(variant)
    for n in range(3):
        losses, features = net.losses(batch(seed=n))
        step(net, method, losses, features)
        end_epoch(method, torch.stack([loss.detach() for loss in losses]))
    whole, complete = copy.deepcopy((net, method))
    before, others = remembered(method, 1), remembered(method, 0)
    for n in range(3):
        losses, features = net.losses(batch(seed=n))
        losses[1] = None
        step(net, method, losses, features)
        end_epoch(method, torch.tensor([3.0, torch.nan, 2.0], dtype=torch.float64))
        step(whole, complete, *whole.losses(batch(seed=n)))
        end_epoch(complete, torch.tensor([3.0, 4.0, 2.0], dtype=torch.float64))
    for name, value in remembered(method, 1).items():
        assert same(value, before[name]), name
    changed, would = (
        [name for name, value in remembered(one, 0).items() if not same(value, others[name])]
        for one in (method, complete)
    )
    assert bool(changed) == bool(would)  # what is kept of a task that is there moves as it does with all tasks
    assert (method.absent, method.steps) == (3, 6)


def test_a_first_loss_is_that_of_the_first_batch_with_a_label():
    net, method = Loop(), create("gradnorm")
    losses, features = net.losses(batch())
    step(net, method, [losses[0], None, losses[2]], features)
    assert method.first.isnan().tolist() == [False, True, False]
    losses, features = net.losses(batch(seed=2))
    step(net, method, losses, features)
    assert not method.first.isnan().any()
    assert method.first[1] == losses[1]
    assert method.degenerate == 0


def test_tasks_that_take_turns_train_the_trunk(variant):
    net, method = Loop(), create(variant)
    for n in range(6):
        losses, features = net.losses(batch(seed=n))
        step(net, method, [loss if k == n % K else None for k, loss in enumerate(losses)], features)
        assert all(parameter.grad.any() for parameter in net.trunk.parameters())
    assert method.absent == 6


def test_state_per_task_that_is_not_named_is_refused_with_the_remedy():
    class Forgetful(Method):
        def __init__(self, num_tasks):
            super().__init__(num_tasks)
            self.register_buffer("scale", torch.ones(num_tasks))

        def weigh(self, gramian):
            return self.scale

    net, method = Loop(), Forgetful(K)
    losses, features = net.losses(batch())
    losses[0] = None
    with pytest.raises(ValueError, match=r"returned \[3\] instead of \[2\]: .*per_task"):
        step(net, method, losses, features)


def test_per_task_state_is_there_and_has_an_entry_a_task():
    class Wrong(Method):
        per_task = ("memory",)

        def weigh(self, losses):
            return torch.ones_like(losses)

    net, method = Loop(), Wrong(K)
    losses, features = net.losses(batch())
    with pytest.raises(TypeError, match=r"Wrong\.per_task names 'memory'"):
        step(net, method, [None, *losses[1:]], features)


# Zero gradients --------------------------------------------------------------------------------------------


class Inverse(Method):
    """Divides by a length, so that a zero gradient has no weight."""

    zero_gradients = "left out"

    def weigh(self, gramian):
        return 1 / gramian.diagonal().sqrt()


class Directions(Method):
    zero_gradients = "left out"

    def combine(self, jacobian):
        return (jacobian / jacobian.norm(dim=1, keepdim=True)).sum(0)


@pytest.mark.parametrize("rule", [Inverse, Directions])
def test_a_zero_gradient_that_cannot_be_divided_is_left_out_once_for_all_rules(linear, rule):
    rows = torch.tensor([[3.0, 4, 0], [0, 0, 0], [0, 0, 2]])
    losses, theta = linear(rows)
    method = rule(3)
    weights = method.backward(losses, shared=[theta])
    torch.testing.assert_close(theta.grad, torch.tensor([0.6, 0.8, 1]))
    assert weights is None or weights.tolist() == pytest.approx([0.2, 0, 0.5])
    assert (method.degenerate, method.absent) == (1, 0)


@pytest.mark.parametrize("rule", [Inverse, Directions])
def test_zero_gradients_only_are_no_update(linear, rule):
    losses, theta = linear(torch.zeros(2, 3))
    method = rule(2)
    weights = method.backward(losses, shared=[theta])
    assert theta.grad.tolist() == [0, 0, 0]
    assert weights is None or weights.tolist() == [0, 0]
    assert method.degenerate == 1


@pytest.mark.parametrize("options", ["at=shared", "at=features", "at=last", "every=3", "norm=sum"])
@pytest.mark.parametrize("rule", ["dibsmtl", "unit[heads=weighted]"])
def test_a_head_that_starts_at_zero_gets_its_plain_gradient_and_begins_to_learn(rule, options):
    """It passes no gradient on to the trunk, so that the rule leaves its task out and says nothing of the head."""
    torch.manual_seed(0)
    trunk, heads = nn.Linear(3, 4), nn.ModuleList(nn.Linear(4, 1) for _ in range(3))
    nn.init.zeros_(heads[1].weight)
    parameters = [*trunk.parameters(), *heads.parameters()]
    method = methods.create(f"{rule.removesuffix(']')}{',' if '[' in rule else '['}{options}]", num_tasks=3)

    def forward():
        features = trunk(torch.ones(5, 3))
        return [(head(features) - 2).square().mean() for head in heads], features

    for _ in range(2 if options == "every=3" else 1):  # the weights serve again
        plain = [torch.autograd.grad(loss, list(h.parameters())) for loss, h in zip(forward()[0], heads, strict=True)]
        losses, features = forward()
        weights = method.backward(losses, shared=trunk.parameters(), features=features, last=trunk.weight)
        assert weights[1] == 0
        for head, own, factor in zip(heads, plain, (weights[0], 1, weights[2]), strict=True):
            for parameter, gradient in zip(head.parameters(), own, strict=True):
                torch.testing.assert_close(parameter.grad, factor * gradient)
    assert method.degenerate == 1
    torch.optim.SGD(parameters, lr=0.1).step()
    assert heads[1].weight.abs().min() > 0
    losses, features = forward()
    method = methods.create(rule, num_tasks=3)
    assert method.backward(losses, shared=trunk.parameters(), features=features)[1] > 0


def test_heads_get_their_plain_gradients_where_no_gradient_reaches_the_trunk():
    trunk, heads = nn.Linear(3, 4), nn.ModuleList(nn.Linear(4, 1) for _ in range(2))
    for head in heads:
        nn.init.zeros_(head.weight)
    losses = [(head(trunk(torch.ones(5, 3))) - 2).square().mean() for head in heads]
    expected = [
        torch.autograd.grad(loss, head.weight, retain_graph=True)[0] for loss, head in zip(losses, heads, strict=True)
    ]
    assert methods.create("dibsmtl", num_tasks=2).backward(losses, shared=trunk.parameters()).tolist() == [0, 0]
    for head, gradient in zip(heads, expected, strict=True):
        torch.testing.assert_close(head.weight.grad, gradient)


def test_an_unknown_treatment_of_zero_gradients_is_refused():
    with pytest.raises(TypeError, match="zero_gradients = 'ignored'"):
        type("Rule", (Method,), {"zero_gradients": "ignored"})


# Losses below zero -----------------------------------------------------------------------------------------


def test_a_loss_below_zero_leaves_every_weight_bounded_and_is_counted():
    for variant in ("uncertainty", "gradnorm", "dwa", "mgda[normalize=loss]"):
        net, method = Loop(torch.float32, tasks=2), create(variant, tasks=2, dtype=torch.float32)
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
        for n in range(300):
            losses, _ = net.losses(batch(torch.float32, size=64))
            losses[1] = losses[1] / 10 - 3 * n / 100
            weights = method.backward(losses, shared=net.trunk.parameters(), last=net.last)
            optimizer.step()
            if n % 50 == 0:
                end_epoch(method, torch.stack(losses).detach())
            assert weights.isfinite().all()
            assert weights[1].abs() < 10, variant
        assert method.degenerate > 100, variant


# What loops do around it -----------------------------------------------------------------------------------


def test_gradients_are_scaled_once_by_who_scales_them_in_place(typical):
    """Autograd may give two parameters one tensor; clipping would scale it twice."""
    net, method = Loop(), create(typical)
    biases = nn.ParameterList(nn.Parameter(torch.zeros(2, dtype=torch.float64)) for _ in range(3))
    net.extra = biases
    features = net.features(batch())
    losses = [(h(features) + sum(biases) - 1).square().mean() + sum(b.sum() for b in biases) for h in net.heads]
    step(net, method, losses, features)
    before = {name: parameter.grad.clone() for name, parameter in net.named_parameters()}
    norm = nn.utils.clip_grad_norm_(net.parameters(), 1e-3)
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(parameter.grad, before[name] * (1e-3 / (norm + 1e-6)))


def test_a_gradient_that_is_a_part_of_another_has_its_own_memory(typical):
    net, method = Loop(), create(typical)
    net.sizes = nn.ParameterList(nn.Parameter(torch.randn(size, dtype=torch.float64)) for size in (4, 2, 2))
    losses, features = net.losses(batch())
    losses[0] = losses[0] + (net.sizes[0] + torch.cat([net.sizes[1], net.sizes[2]])).exp().sum()
    step(net, method, losses, features)
    before = [parameter.grad.clone() for parameter in net.parameters()]
    for parameter in net.parameters():
        parameter.grad.mul_(0.5)
    for parameter, gradient in zip(net.parameters(), before, strict=True):
        if method.heads == "weighted" and any(parameter is size for size in net.sizes):
            continue  # autograd's own `.grad`
        assert torch.equal(parameter.grad, gradient * 0.5)


def test_backward_inside_no_grad_is_backward_outside(typical):
    net, method = Loop(), create(typical)
    losses, features = net.losses(batch())
    with torch.no_grad():
        weights = method.backward(losses, shared=net.trunk.parameters(), features=features, last=net.last)
    weights, inside = told(net, weights), [parameter.grad for parameter in net.parameters()]
    assert torch.equal(step(net, create(typical), *net.losses(batch())), weights)
    assert all(torch.equal(one, parameter.grad) for one, parameter in zip(inside, net.parameters(), strict=True))


def test_inference_mode_is_refused(typical):
    net, method = Loop(), create(typical)
    losses, features = net.losses(batch())
    with torch.inference_mode(), pytest.raises(RuntimeError, match=r"inference_mode.*outside"):
        method.backward(losses, shared=net.trunk.parameters(), features=features, last=net.last)


@pytest.mark.parametrize("where", ["before the forward", "before backward", "after the step"])
@pytest.mark.parametrize("to_none", [False, True])
def test_zero_grad_in_its_usual_places_does_no_harm(typical, where, to_none):
    ends = []
    for zeroes in (False, True):
        net, method = Loop(), create(typical)
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        for n in range(3):
            if zeroes and where == "before the forward":
                optimizer.zero_grad(set_to_none=to_none)
            losses, features = net.losses(batch(seed=n))
            if zeroes and where == "before backward":
                optimizer.zero_grad(set_to_none=to_none)
            step(net, method, losses, features)
            optimizer.step()
            if zeroes and where == "after the step":
                optimizer.zero_grad(set_to_none=to_none)
        ends.append([parameter.detach() for parameter in net.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*ends, strict=True))


def test_with_one_task_the_gradient_is_a_positive_multiple(variant):
    """The first one, if gradients of earlier steps are in the update, too."""
    net, method = Loop(tasks=1), create(variant, tasks=1)
    for n in range(1 if method.recalls else 3):
        losses, features = net.losses(batch(seed=n))
        [plain] = rows(losses, trunk(net))
        step(net, method, losses, features)
        update = torch.cat([parameter.grad.flatten() for parameter in trunk(net)])
        scale = (update @ plain) / (plain @ plain)
        assert scale > 0
        torch.testing.assert_close(update, scale * plain)


# Micro-batches ---------------------------------------------------------------------------------------------


PARTS = (slice(0, 3), slice(3, 5), slice(5, 7))


def shares(net, part):
    """The losses of a part of the batch, as shares of the whole batch's."""
    x = batch()[part]
    losses, features = net.losses(x)
    return [loss * (len(x) / 7) for loss in losses], features


def test_accumulated_micro_batches_are_the_whole_batch(variant):
    net, whole, method = Loop(), create(variant), create(variant)
    if method.at == "features":
        with pytest.raises(DoesNotFitError, match=r"features.*micro-batch.*at=shared"):
            method.accumulate(shares(net, PARTS[0])[0], shared=net.trunk.parameters())
        return
    for _ in range(3):
        expected = step(net, whole, *net.losses(batch()))
        gradients = [parameter.grad.clone() for parameter in net.parameters()]
        net.zero_grad()
        for part in PARTS[:-1]:
            losses, _ = shares(net, part)
            method.accumulate(losses, shared=net.trunk.parameters(), last=net.last)
            with pytest.raises(RuntimeError, match="second time"):  # its graph is free
                losses[0].backward()
        losses, features = shares(net, PARTS[-1])
        given = {"shared": net.trunk.parameters(), "features": features, "last": net.last}
        weights = method.backward(losses, **given)
        torch.testing.assert_close(told(net, weights), expected)
        for parameter, gradient in zip(net.parameters(), gradients, strict=True):
            torch.testing.assert_close(parameter.grad, gradient)
    assert method.steps == whole.steps == 3


def test_a_task_is_absent_if_no_micro_batch_has_a_label_of_it(typical):
    net, whole, method = Loop(), create(typical), create(typical)
    if method.at == "features":
        return
    losses, features = net.losses(batch())
    first, _ = net.losses(batch()[:3])
    losses[1] = first[1] * (3 / 7)  # a label in the first part only
    expected = step(net, whole, [losses[0], losses[1], None], features)
    gradients = [parameter.grad for parameter in net.parameters()]
    net.zero_grad()
    for part in PARTS[:-1]:
        own = shares(net, part)[0]
        own = [own[0], own[1] if part is PARTS[0] else None, None]
        method.accumulate(own, shared=net.trunk.parameters(), last=net.last)
    own, features = shares(net, PARTS[-1])
    given = {"shared": net.trunk.parameters(), "features": features, "last": net.last}
    torch.testing.assert_close(told(net, method.backward([own[0], None, None], **given)), expected)
    assert (method.absent, method.steps) == (1, 1)
    for parameter, gradient in zip(net.parameters(), gradients, strict=True):
        assert (parameter.grad is None) == (gradient is None)
        if gradient is not None:
            torch.testing.assert_close(parameter.grad, gradient)


def test_a_first_micro_batch_may_have_no_label_at_all(typical):
    net, method = Loop(), create(typical)
    if method.at == "features":
        return
    method.accumulate([None] * K, shared=net.trunk.parameters())
    step(net, method, *net.losses(batch()))
    assert (method.absent, method.steps) == (0, 1)


def test_accumulate_takes_what_backward_takes_and_nothing_else():
    net = Loop()
    with pytest.raises(TypeError, match="presnt"):
        create("mgda").accumulate(net.losses(batch())[0], shared=net.trunk.parameters(), presnt=[True] * K)
    accepted, known = (set(inspect.signature(f).parameters) for f in (Method.accumulate, Method.backward))
    assert accepted == known


def test_a_micro_batch_that_fails_leaves_nothing_behind(typical):
    net, method, other = Loop(), create(typical), create(typical)
    if method.at == "features":
        return
    losses, _ = shares(net, PARTS[0])
    method.accumulate(losses, shared=net.trunk.parameters())
    with pytest.raises(DivergedError, match="task 2"):
        method.accumulate([*shares(net, PARTS[1])[0][:2], torch.tensor(torch.nan)], shared=net.trunk.parameters())
    expected = step(net, other, *net.losses(batch()))
    assert torch.equal(step(net, method, *net.losses(batch())), expected)


def test_what_cannot_be_accumulated_is_refused(distil):
    class Reading(Method):
        def weigh(self, losses, features):
            return torch.ones_like(losses)

    net = Loop()
    carrying = create("mgda")
    carrying.carry(distil(K))
    for method, says in ((Reading(K), "reads the features"), (carrying, "has added terms")):
        with pytest.raises(DoesNotFitError, match=says):
            method.accumulate(shares(net, PARTS[0])[0], shared=net.trunk.parameters())


def test_the_shared_parameters_stay_the_same_over_micro_batches():
    net, method = Loop(), create("mgda")
    method.accumulate(shares(net, PARTS[0])[0], shared=net.trunk.parameters())
    net.trunk[0].requires_grad_(False)
    with pytest.raises(DoesNotFitError, match="changed between micro-batches"):
        method.backward(shares(net, PARTS[1])[0], shared=net.trunk.parameters())
