"""How the gradients of K losses are measured, and how the rule's answer becomes `.grad`.

A route is a function of a rule and a step. `backward` chooses one by what the rule asks for:

=============  ========================================================================================
`by_losses`    one backward of the weighted sum
`at_last`      K short backwards to the last shared layer, then one of the weighted sum
`at_features`  K backwards through the heads to the features, then one through the trunk
`at_shared`    K backwards to the shared parameters; their update is made of those rows
`at_the_end`   as `at_shared`, for the sum of micro-batches, of which this is the last
`between`      one backward of the sum that the weights of an earlier step make
=============  ========================================================================================
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any
from weakref import ref

import torch
from torch import Tensor

from . import gradients, subset
from .errors import DivergedError, DoesNotFitError
from .step import Accumulated, Kept, Step, read, require_finite

if TYPE_CHECKING:
    from .base import Method


def backward(
    rule: "Method",
    losses: Iterable[Tensor | None],
    inputs: Mapping[str, Tensor] | None,
    taps: Sequence[Sequence[Tensor]] | None,
    **given: Any,
) -> Tensor | None:
    """Do what `Method.backward` promises."""
    memory, parts = rule.memory, rule.parts()
    accumulated, memory.accumulated = memory.accumulated, None
    with _plain_autograd():
        step = read(rule, losses, accumulated=accumulated, **given)
        if step.values.device.type != "cpu":
            _move(parts, step.values.device)
        terms = _terms(parts, inputs, taps)
        learnt = [parameter for parameter in rule.parameters() if parameter.requires_grad]  # may be built by a term
        exact = rule.measures and rule.at == "shared"
        apart = False
        if terms is not None:
            behind = gradients.reached([terms])[0].keys()
            # Extra terms join the last backward through the trunk. They get a backward of their own where the route
            # has no such pass, where they also reach a head, or where that pass calls no hooks of the features.
            hooked = step.features is not None and bool(step.features._backward_hooks)
            apart = exact or hooked or not behind <= {*step.names, *learnt}
            taught = [parameter for parameter in learnt if parameter in behind]
            step.reached.update(dict.fromkeys(behind & step.names.keys(), 0))
        if accumulated is not None:
            step.reached |= accumulated.leaves
        if not step.everything and accumulated is None:
            step.trunk = [parameter for parameter in step.trunk if parameter in step.reached]
        _clear(rule, [*step.names, *step.given, *step.reached, *learnt])
        if terms is not None and apart:
            [added], [adaptors] = gradients.rows([terms], step.trunk, [taught], keep_graph=True)
        elif terms is not None:
            step.extra = terms

        with subset.only(rule, step.tasks):
            route = _route(rule, step)
            weights = route(rule, step)
            for parameter in [*(step.trunk if step.everything else ()), *step.given]:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            if terms is not None and apart:
                gradients.add(taught, adaptors)
            if step.reduce is not None:
                # The exact routes' update of the trunk was made of gradients that were averaged already.
                made = route in (at_shared, at_the_end)
                gradients.average([*([] if made else step.trunk), *step.heads(), *learnt], step.reduce)
            if terms is not None and apart:
                added = added if step.reduce is None else step.reduce(added, reduce_op="mean")
                gradients.add(step.trunk, gradients.split(added, step.trunk))
            for part in parts:
                if part.optimizer is not None:
                    part.optimizer.step()

    memory.written = [ref(parameter) for parameter in [*step.names, *step.given, *step.reached]]
    memory.took_part = step.tasks
    rule.steps += 1
    if len(step.tasks) == rule.num_tasks:
        return weights
    rule.absent += 1
    if weights is None:
        return None
    whole = weights.new_zeros(rule.num_tasks)
    whole[step.tasks] = weights
    return whole


def accumulate(rule: "Method", losses: Iterable[Tensor | None], **given: Any) -> None:
    """Do what `Method.accumulate` promises."""
    before, rule.memory.accumulated = rule.memory.accumulated, None
    name = type(rule).__name__
    if rule.measures and rule.at == "features":
        raise DoesNotFitError(f"{name} cannot add up features, which are others in each micro-batch: use at=shared")
    if rule.requires_features:
        raise DoesNotFitError(f"{name} reads the features, which are others in each micro-batch")
    if rule.overrides("extra"):
        raise DoesNotFitError(f"{name} has added terms, which are means over a batch: they do not add up")
    with _plain_autograd():
        step = read(rule, losses, accumulated=before, place=False, **given)
        if not step.tasks:
            return  # neither this micro-batch nor one before it has a label
        if not step.trunk:
            raise DoesNotFitError("every shared parameter is frozen: there is nothing to accumulate")
        _require_same(step, before)
        matrix, own = gradients.rows(step.losses, step.trunk, step.private)
    private: list[dict[Tensor, Tensor]] = [{} for _ in range(rule.num_tasks)]
    for k, parameters, found in zip(step.tasks, step.private, own, strict=True):
        private[k] = dict(zip(parameters, found, strict=True))
    values = step.values.new_zeros(rule.num_tasks)
    values[step.tasks] = step.values
    labelled = [k in step.tasks for k in range(rule.num_tasks)]
    if before is not None:
        for now, earlier in zip(private, before.private, strict=True):
            for parameter, gradient in earlier.items():
                now[parameter] = now[parameter] + gradient if parameter in now else gradient
        step.reached |= before.leaves
    if before is None:
        whole = _widened(matrix, step.tasks, rule.num_tasks)
    else:
        whole = before.matrix
        for k, row in zip(step.tasks, matrix, strict=True):  # row by row: so many rows at once would be copied
            whole[k] += row
    rule.memory.accumulated = Accumulated(values, labelled, step.trunk, whole, private, step.reached)


# The routes ------------------------------------------------------------------------------------------------


def by_losses(rule: "Method", step: Step) -> Tensor:
    """One backward of the weighted sum."""
    weights = _weights_of_losses(rule, step)
    _weighted_backward(rule, step, weights, _for_heads(rule, step, weights))
    return weights


def at_last(rule: "Method", step: Step) -> Tensor:
    """K short backwards to the last shared layer to measure, then one of the weighted sum."""
    assert step.last is not None  # `read` has checked it
    matrix, _ = gradients.rows(step.losses, [step.last], keep_graph=True)
    if step.reduce is not None:
        matrix = step.reduce(matrix, reduce_op="mean")
    weights = _call(rule, step, gradients.gramian(matrix), matrix)
    _weighted_backward(rule, step, weights, _for_heads(rule, step, weights))
    _keep(rule, step, weights)
    return weights


def at_features(rule: "Method", step: Step) -> Tensor | None:
    """K backwards through the heads to the features, then one through the trunk."""
    features = step.features
    assert features is not None  # `read` has checked it
    if step.reduce is not None and "jacobian" in rule.needs:
        raise DoesNotFitError(f"{type(rule).__name__} reads feature gradients, which several ranks do not share")
    matrix, own = gradients.rows(step.losses, [features], step.private, keep_graph=True)
    gramian = gradients.gramian(matrix)
    if step.reduce is not None:
        # A rank's rows are R times those of the whole batch, and the whole batch's columns are all ranks'.
        ranks = step.reduce(torch.ones((), device=features.device), reduce_op="sum").item()
        gramian = step.reduce(gramian.to(features.device), reduce_op="sum").cpu() / ranks**2
    result = _call(rule, step, gramian, matrix)
    weights = None if rule.rule == "combine" else result
    into_features = (result if weights is None else weights.to(matrix) @ matrix).to(features)
    _give_heads(step, own, _for_heads(rule, step, weights))
    roots, directions = step.added()
    hooks = features._backward_hooks  # each was called when the gradients that reach the features were measured
    with _without(hooks) if hooks else nullcontext():
        torch.autograd.backward([features, *roots], [into_features.view_as(features), *directions])
    _keep(rule, step, weights)
    return weights


def at_shared(rule: "Method", step: Step) -> Tensor | None:
    """K backwards to the shared parameters; their update is made of those rows, without another pass."""
    matrix, own = gradients.rows(step.losses, step.trunk, step.private)
    if step.reduce is not None:
        matrix = step.reduce(matrix, reduce_op="mean")
    result = _call(rule, step, gradients.gramian(matrix), matrix)
    update, weights = _update(rule, matrix, result)
    _give_heads(step, own, _for_heads(rule, step, weights))
    gradients.assign(step.trunk, update)
    _keep(rule, step, weights)
    return weights


def between(rule: "Method", step: Step) -> Tensor:
    """One backward of the sum that the kept weights make."""
    kept = rule.kept
    assert kept is not None  # `_route` has checked it
    kept.left -= 1
    step.left_out = kept.left_out
    _weighted_backward(rule, step, kept.weights, kept.heads)
    return kept.weights


def at_the_end(rule: "Method", step: Step) -> Tensor | None:
    """The last of several micro-batches: add its rows to theirs, and weigh the sum."""
    before = step.accumulated
    assert before is not None
    _require_same(step, before)
    matrix, own = gradients.rows(step.losses, step.trunk, step.private)
    for position, k in enumerate(step.tasks):
        matrix[position] += before.matrix[k]
        found = dict(zip(step.private[position], own[position], strict=True))
        for parameter, gradient in before.private[k].items():
            found[parameter] = found[parameter] + gradient if parameter in found else gradient
        step.private[position], own[position] = list(found), list(found.values())
    if step.reduce is not None:
        matrix = step.reduce(matrix, reduce_op="mean")
    if not rule.measures:
        result = _weights_of_losses(rule, step)
    elif rule.at == "last":
        result = _call(rule, step, gradients.gramian(there := _columns(step, matrix)), there)
    else:
        result = _call(rule, step, gradients.gramian(matrix), matrix)
    update, weights = _update(rule, matrix, result)
    _give_heads(step, own, _for_heads(rule, step, weights))
    gradients.assign(step.trunk, update)
    for parameter in step.trunk:
        if parameter not in step.reached and not step.everything:
            parameter.grad = None
    return weights


# Their parts -----------------------------------------------------------------------------------------------


def _route(rule: "Method", step: Step) -> Callable[["Method", Step], Tensor | None]:
    if not step.tasks:
        return _without_tasks
    if step.accumulated is not None:
        return at_the_end
    if not rule.measures:
        return by_losses
    if rule.every > 1 and rule.kept is not None and rule.kept.left > 0 and rule.kept.tasks == step.tasks:
        return between
    return {"shared": at_shared, "features": at_features, "last": at_last}[rule.at]


def _without_tasks(rule: "Method", step: Step) -> Tensor | None:
    """No task is present: only added terms are left."""
    if step.extra is not None:
        torch.autograd.backward(step.extra)
    return None if rule.rule == "combine" else step.values


def _weights_of_losses(rule: "Method", step: Step) -> Tensor:
    if rule.rule != "objective":
        return _call(rule, step)
    # On detached, reduced losses: right for any function of them, on any number of ranks.
    values = step.values.clone().requires_grad_()
    before = rule.degenerate
    objective = rule.objective(values)
    _require_result(rule, rule.rule, objective, [])
    if objective.requires_grad:
        objective.backward()
    if rule.degenerate > before + 1:  # a step counts once
        rule.degenerate = before + 1
    if values.grad is None:
        raise ValueError(f"{type(rule).__name__}.objective returned a scalar that does not depend on the losses")
    _require_finite_result(rule, values.grad, step.tasks)
    return values.grad


def _call(rule: "Method", step: Step, gramian: Tensor | None = None, jacobian: Tensor | None = None) -> Tensor:
    """Call `weigh` or `combine` with what it names, without grad, and check what comes back."""
    name = type(rule).__name__
    if rule.requires_features and step.features is None:
        raise DoesNotFitError(f"{name} reads the features: pass features=…")
    if rule.requires_features and step.reduce is not None:
        raise DoesNotFitError(f"{name} reads the features, which several ranks do not share")
    values, count = step.told, len(step.tasks)
    tasks = list(range(count))
    if gramian is not None:
        require_finite(rule, "gradient", gramian.diagonal(), step.tasks)
        if rule.zero_gradients == "left out":
            tasks = gramian.diagonal().nonzero().flatten().tolist()
    whole = step.features is not None and step.reduce is None and step.accumulated is None
    features = step.features.detach() if step.features is not None and whole else None
    columns = None if jacobian is None else jacobian.shape[1]
    before = rule.degenerate
    if len(tasks) < count:
        rule.degenerate += 1
        step.left_out = [position for position in range(count) if position not in tasks]
        if not tasks:
            rule.head_weights = step.values.new_ones(count)
            return step.values.new_zeros(columns if rule.rule == "combine" and columns is not None else count)
        values, gramian = values[tasks], gramian[tasks][:, tasks] if gramian is not None else None
        if jacobian is not None and "jacobian" in rule.needs:  # a copy, which is large
            jacobian = jacobian[tasks]
    available = {"losses": values, "gramian": gramian, "jacobian": jacobian, "features": features}
    asked: dict[str, Any] = {need: available[need] for need in rule.needs}
    large = [asked[need] for need in ("jacobian", "features") if asked.get(need) is not None]  # not copies
    versions = [tensor._version for tensor in large]
    with torch.no_grad(), subset.only(rule, tasks):
        result: Tensor = getattr(rule, rule.rule)(**asked)
    if versions != [tensor._version for tensor in large]:
        raise ValueError(f"{name}.{rule.rule} changed its arguments in place: let it work on a copy")
    if rule.degenerate > before + 1:  # a step counts once
        rule.degenerate = before + 1
    _require_result(rule, rule.rule, result, [columns] if rule.rule == "combine" else [len(tasks)], step.of)
    result = result.detach()
    _require_finite_result(rule, result, [step.tasks[position] for position in tasks])
    if rule.heads == "own":
        rule.head_weights = _with_plain(_widened(rule.head_weights.detach(), tasks, count), step.left_out)
    kind = step.values if rule.rule != "combine" or jacobian is None else jacobian
    result = result.to(kind, copy=True)  # a rule may return what it learns, which is about to change
    return result if rule.rule == "combine" else _widened(result, tasks, count)


def _widened(values: Tensor, tasks: list[int], count: int) -> Tensor:
    """Return values `[count, …]` from those `[n, …]` of some tasks; the others have 0."""
    if len(tasks) == count:
        return values
    whole = values.new_zeros(count, *values.shape[1:])
    whole[tasks] = values
    return whole


def _with_plain(weights: Tensor, left_out: list[int]) -> Tensor:
    """Return what heads are multiplied by, `[K′]`: 1 for tasks that were left out.

    The gradient of such a task is zero where it was measured, so that a rule says nothing of its head. A head that
    starts at zero passes no gradient on: with the weight 0 it would stay there.
    """
    if left_out:
        weights = weights.clone()
        weights[left_out] = 1
    return weights


def _update(rule: "Method", matrix: Tensor, result: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return the update `[P]` of the trunk and the weights, scaled to the length that `norm` asks for."""
    weights = None if rule.rule == "combine" else result
    update = result if weights is None else weights.to(matrix) @ matrix
    if rule.norm == "sum" and rule.measures and rule.at == "shared":
        length, target = torch.linalg.vector_norm(update), torch.linalg.vector_norm(matrix.sum(0))
        scale = torch.where(length > 0, target / length, torch.ones_like(length))
        update, weights = scale * update, None if weights is None else (scale * weights).to(weights)
    return update, weights


def _keep(rule: "Method", step: Step, weights: Tensor | None) -> None:
    """Keep weights for the steps until the next measurement."""
    if rule.every > 1 and weights is not None:
        heads = _for_heads(rule, step, weights)
        rule.kept = Kept(list(step.tasks), weights, heads, rule.every - 1, step.left_out)


def _for_heads(rule: "Method", step: Step, weights: Tensor | None) -> Tensor | None:
    """Return what the gradients of the heads are multiplied by, `[K′]`; None if they stay plain."""
    if rule.heads == "weighted":
        return weights if weights is None else _with_plain(weights, step.left_out)
    if rule.heads == "plain":
        return None
    return rule.head_weights.to(step.values)


def _weighted_backward(rule: "Method", step: Step, weights: Tensor, for_heads: Tensor | None) -> None:
    """One backward of Σ weights_k losses_k + Σ extra_k. Heads that get something else have one more, through them."""
    heads: list[Tensor] = []
    own: Sequence[Tensor] = ()
    if (rule.heads != "weighted" or step.left_out) and step.stacked.requires_grad:
        heads = [leaf for leaf in step.reached if leaf not in step.names]
        factors = torch.ones_like(step.stacked) if for_heads is None else for_heads.to(step.stacked)
        own = torch.autograd.grad(step.stacked, heads, factors, retain_graph=True, allow_unused=True) if heads else ()
    roots, directions = step.added()
    if step.stacked.requires_grad:
        roots, directions = [step.stacked, *roots], [weights.to(step.stacked), *directions]
    if roots:
        torch.autograd.backward(roots, directions)
    _clear_all(heads)
    gradients.add(heads, own)


def _give_heads(step: Step, own: list[list[Tensor]], weights: Tensor | None) -> None:
    """Give each private parameter its tasks' gradients, plain or weighted."""
    for position, (parameters, found) in enumerate(zip(step.private, own, strict=True)):
        if weights is not None:
            found = [(weights[position] * gradient).to(gradient.dtype) for gradient in found]
        gradients.add(parameters, found)


def _terms(
    parts: Sequence["Method"], inputs: Mapping[str, Tensor] | None, taps: Sequence[Sequence[Tensor]] | None
) -> Tensor | None:
    """Return the sum of the added terms, or None if there are no terms or nothing can learn from them."""
    terms = []
    for part in parts:
        if not part.has("extra"):
            continue
        if inputs is None or taps is None:
            raise DoesNotFitError(f"{type(part).__name__} adds terms of its own: pass inputs=… and taps=…")
        added = part.extra(inputs, taps)
        _require_result(part, "extra", added, [part.num_tasks])
        terms.append(added)
    total = torch.stack(terms).sum() if terms else None
    return total if total is not None and total.requires_grad else None


def _clear(rule: "Method", parameters: Iterable[Tensor]) -> None:
    """Remove the gradients of the step before: those of these parameters, and all that the rule wrote then."""
    for reference in rule.memory.written:
        if (parameter := reference()) is not None:
            parameter.grad = None
    _clear_all(parameters)


def _clear_all(parameters: Iterable[Tensor]) -> None:
    for parameter in parameters:
        parameter.grad = None


def _require_same(step: Step, before: Accumulated | None) -> None:
    if before is not None and not (
        len(before.trunk) == len(step.trunk) and all(a is b for a, b in zip(before.trunk, step.trunk, strict=True))
    ):
        raise DoesNotFitError("the shared parameters changed between micro-batches: pass the same, with none frozen")


def _columns(step: Step, matrix: Tensor) -> Tensor:
    """The columns of the Jacobian that belong to the last shared layer."""
    start = 0
    for parameter in step.trunk:
        if parameter is step.last:
            return matrix[:, start : start + parameter.numel()]
        start += parameter.numel()
    raise DoesNotFitError("last should be one of the shared parameters, where micro-batches are accumulated")


def _require_result(
    rule: "Method", function: str, result: object, shape: list[int | None], tasks: int | None = None
) -> None:
    """Raise ValueError unless a rule returned a tensor of real numbers with this shape."""
    if isinstance(result, Tensor) and list(result.shape) == shape and not result.is_complex():
        return
    expected = f"{shape}" if shape else "a scalar"
    if not isinstance(result, Tensor):
        found = f"a {type(result).__name__}"
        expected = f"a tensor {expected}" if shape else expected
    elif list(result.shape) != shape:
        found = f"{list(result.shape)}"
        if function == "weigh" and [tasks] == list(result.shape):
            expected += ": per_task should name what it keeps of each task, so that absent tasks are left out"
    else:
        found, expected = "complex numbers", "real ones"
    raise ValueError(f"{type(rule).__name__}.{function} returned {found} instead of {expected}")


def _require_finite_result(rule: "Method", result: Tensor, tasks: Sequence[int]) -> None:
    """Raise DivergedError if a rule returned weights or an update that are not finite."""
    if result.device.type != "cpu":
        return  # a look would be one more wait for the GPU, and the next loss is looked at in any case
    hint = f": {type(rule).__name__}.{rule.rule} returned it"
    if rule.rule == "combine":
        if not gradients.is_finite(result):
            raise DivergedError("update", None, rule.steps, hint)
    else:
        require_finite(rule, "weight", result, tasks, hint)


def _move(parts: Sequence["Method"], device: torch.device) -> None:
    """Move parts to the device of the losses. A rule that reads a Gramian stays on the CPU, where Gramians are."""
    for part in reversed(parts):  # the first part has the others as children
        if part.measures or all(tensor.device == device for tensor in (*part.parameters(), *part.buffers())):
            continue
        part.to(device)
        if part.optimizer is not None:
            part.optimizer.load_state_dict(part.optimizer.state_dict())  # which brings the moments along


@contextmanager
def _without(hooks: dict[int, Any]) -> Iterator[None]:
    """Switch the hooks of a tensor off inside the block."""
    kept = dict(hooks)
    hooks.clear()
    try:
        yield
    finally:
        hooks.update(kept)


def _plain_autograd() -> AbstractContextManager[object]:
    """Return a context in which autograd works as it does outside of `autocast` and `no_grad`."""
    if torch.is_inference_mode_enabled():
        raise RuntimeError("inside torch.inference_mode() there are no gradients: call the method outside of it")
    devices = [device for device in ("cpu", "cuda") if torch.is_autocast_enabled(device)]
    if not devices and torch.is_grad_enabled():
        return nullcontext()
    stack = ExitStack()
    stack.enter_context(torch.enable_grad())
    for device in devices:
        stack.enter_context(torch.autocast(device, enabled=False))
    return stack
