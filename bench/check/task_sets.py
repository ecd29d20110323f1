"""What is tried on a task set: it is built, looked at, and trained on for a few steps."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

import methods
from bench.catalogue import build, task_set
from bench.check.outcomes import (
    CheckError,
    NotApplicableError,
    generators,
    require_same_generators,
    short_run,
    task_names,
)
from bench.records import REFERENCE
from bench.spec import STL
from bench.training.loop import train
from bench.training.streams import build_network
from methods.core.compose import compose
from methods.core.registry import Variant
from tasks.core.base import Network, TaskSet

BATCH = 32
"""Examples on which losses and networks are tried."""


def _batch(built: TaskSet) -> dict[str, Tensor]:
    return {name: column[:BATCH] for name, column in built.splits["train"].items()}


def _network(variant: Variant, built: TaskSet, tasks: tuple[str, ...]) -> Network:
    return build_network(short_run(variant, built, tasks, STL), built)


def data_is_there(variant: Variant) -> None:
    """Its data is there in three splits, finite and with labels, and its tasks, network and metrics fit it."""
    build(variant)


def same_data_when_built_again(variant: Variant) -> None:
    """Built again it has the same data, and it leaves the global generators alone."""
    before = generators()
    one, other = build(variant).fingerprint, build(variant).fingerprint
    if one != other:
        raise CheckError("its data differs: draw it from a generator with a seed of its own")
    require_same_generators(before, "draw from a generator of its own")


def describes_itself(variant: Variant) -> None:
    """Its card says where the data is from, and its protocols include the default."""
    built = build(variant)
    empty = [name for name, text in vars(built.card).items() if not text.strip()]
    if empty:
        raise CheckError(f"its card says nothing of {empty[0]}")
    if "quick" not in built.protocols:
        raise CheckError(f"it has no protocol 'quick', which is the default: it has {', '.join(built.protocols)}")
    for name, protocol in built.protocols.items():
        if protocol.name != name:
            raise CheckError(f"its protocol '{name}' is called '{protocol.name}'")
    quick = built.protocols["quick"]
    if quick.steps < 10 * quick.steps_per_epoch:
        raise CheckError(
            f"'quick' has {quick.steps} steps of epochs of {quick.steps_per_epoch}: rules by epoch need ten epochs"
        )


def networks_are_whole(variant: Variant) -> None:
    """Its networks, of all tasks and of each alone, have a trunk, heads, taps and a last shared layer."""
    built = build(variant)
    for tasks in [task_names(built), *((name,) for name in task_names(built))]:
        network = _network(variant, built, tasks)
        outputs = network({name: _batch(built)[name] for name in built.inputs})
        if set(outputs.predictions) != set(tasks):
            raise CheckError(f"asked for {', '.join(tasks)} it predicts {', '.join(outputs.predictions)}")
        if set(outputs.taps) != set(tasks):
            raise CheckError(f"asked for {', '.join(tasks)} it has taps of {', '.join(outputs.taps) or 'none'}")
        own = set(network.parameters())
        if not network.shared or not {parameter for _, parameter in network.shared} < own:
            raise CheckError("network.shared should be some of the network's parameters, and not all of them")
        if not any(network.last is parameter for _, parameter in network.shared):
            raise CheckError("network.last should be one of network.shared")
        for task in tasks:
            if not own.difference(parameter for _, parameter in network.shared).issuperset(network.private(task)):
                raise CheckError(f"network.private('{task}') should be parameters of the network that are not shared")


def same_start_in_every_network(variant: Variant) -> None:
    """A parameter of one name starts alike in every network, whatever the other tasks and their order."""
    built = build(variant)
    names = task_names(built)
    whole = _network(variant, built, names).state_dict()
    for tasks in [names[::-1], *((name,) for name in names)]:
        for name, value in _network(variant, built, tasks).state_dict().items():
            if name not in whole:
                raise CheckError(f"the network of {', '.join(tasks)} has {name}, which that of all tasks has not")
            if not torch.equal(value, whole[name]):
                raise CheckError(f"{name} starts differently in the network of {', '.join(tasks)}")


def losses_add_up(variant: Variant) -> None:
    """Every loss is a finite total and a count, adds up over parts of a batch, and reaches the trunk and its head."""
    built, batch = build(variant), _batch(build(variant))
    network = _network(variant, built, task_names(built))
    shared = [(name, parameter) for name, parameter in network.shared if parameter.requires_grad]
    reached = [False] * len(shared)
    predictions = network({name: batch[name] for name in built.inputs}).predictions
    for task in built.tasks:
        prediction, target = predictions[task.name], batch[task.target]
        total, count = task.total_and_count(prediction.float(), target)
        if not total.isfinite() or count < 0:
            raise CheckError(f"{task.name}: the loss is {total}, {count}, and should be two numbers, total and count")
        parts = [task.total_and_count(prediction[s].detach().float(), target[s]) for s in (slice(0, 5), slice(5, None))]
        for name, value, own in (("total", total.item(), 0), ("count", count.item(), 1)):
            summed = sum(part[own].item() for part in parts)
            if abs(summed - value) > 1e-4 * abs(value) + 1e-6:
                raise CheckError(
                    f"{task.name}: the {name} of two parts of a batch is {summed:.6g}, of the whole {value:.6g}"
                )
        learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
        found = torch.autograd.grad(total, learning, retain_graph=True, allow_unused=True)
        gradients = dict(zip(learning, found, strict=True))
        reached = [there or gradients[p] is not None for there, (_, p) in zip(reached, shared, strict=True)]
        heads = [gradient for parameter, gradient in gradients.items() if all(parameter is not p for _, p in shared)]
        if all(gradient is None for gradient in heads):
            raise CheckError(f"{task.name}: the loss reaches no parameter of a head")
    for (name, _), there in zip(shared, reached, strict=True):
        if not there:
            raise CheckError(f"no loss reaches the shared parameter {name}")


def features_are_read_by_all_heads(variant: Variant) -> None:
    """Everything shared reaches the heads through the features."""
    built, batch = build(variant), _batch(build(variant))
    network = _network(variant, built, task_names(built))
    outputs = network({name: batch[name] for name in built.inputs})
    if outputs.features is None:
        raise NotApplicableError("it has no features")
    total = torch.stack([t.loss(outputs.predictions[t.name].float(), batch[t.target])[0] for t in built.tasks]).sum()
    named = [(name, parameter) for name, parameter in network.shared if parameter.requires_grad]
    shared = [parameter for _, parameter in named]
    differentiate = partial(torch.autograd.grad, retain_graph=True, allow_unused=True, materialize_grads=True)
    whole = differentiate(total, shared)
    [into] = differentiate(total, [outputs.features])
    through = differentiate(outputs.features, shared, into)
    for (name, _), one, other in zip(named, whole, through, strict=True):
        if (one - other).norm() > 1e-4 * one.norm() + 1e-12:
            raise CheckError(f"{name} reaches a head past the features: return the tensor that all heads read, or None")


def evaluates_examples_one_by_one(variant: Variant) -> None:
    """In evaluation a prediction depends on its own example alone, and every metric is a number."""
    built = build(variant)
    test = built.splits["test"]
    network = _network(variant, built, task_names(built)).eval()
    chunks = [
        {name: test[name][start : start + BATCH] for name in built.inputs}
        for start in range(0, len(next(iter(test.values()))), BATCH)
    ]
    with torch.no_grad():
        predicted = [network(chunk).predictions for chunk in chunks]
        alone = network({name: column[-2:] for name, column in chunks[0].items()}).predictions
    for task in built.tasks:
        one, other = predicted[0][task.name][-2:], alone[task.name]
        if not torch.allclose(one, other, rtol=1e-3, atol=1e-4 * float(one.abs().max())):
            raise CheckError(f"{task.name}: an example's prediction depends on the others in its batch")
        for name, metric in task.metrics.items():
            accumulator = metric.factory()
            for predictions, target in zip(predicted, test[task.target].split(BATCH), strict=True):
                accumulator.update(*task.metric_inputs(predictions[task.name].float(), target))
            if not accumulator.compute().isfinite():
                raise CheckError(f"{task.name}: its metric {name} is not a number")


def can_be_trained_on(variant: Variant) -> None:
    """Single-task networks and equal weights train on it for a few steps, twice alike."""
    built = build(variant)
    runs = [(task_names(built), REFERENCE), *(((name,), STL) for name in task_names(built))]
    for tasks, method in runs:
        spec = short_run(variant, built, tasks, method)
        rule = None if method == STL else partial(compose, methods.parse(method).parts)
        result, _, _ = train(spec, partial(task_set, variant), rule)
        if result.status != "ok":
            raise CheckError(f"{method} on {', '.join(tasks)}: {result.status}: {result.reason}")
        if train(spec, partial(task_set, variant), rule)[0] != result:
            raise CheckError(f"{method} on {', '.join(tasks)}: a second training ended elsewhere")


CHECKS: tuple[Callable[[Variant], None], ...] = (
    *(data_is_there, same_data_when_built_again, describes_itself, networks_are_whole, same_start_in_every_network),
    *(losses_add_up, features_are_read_by_all_heads, evaluates_examples_one_by_one, can_be_trained_on),
)
