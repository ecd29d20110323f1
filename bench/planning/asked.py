"""Reads what a request names: rules, task sets, the protocol, the device; says in one line what is wrong with it."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import TypeAdapter, ValidationError

import methods
from bench.blame import place_in
from bench.catalogue import embedded, parse_task_set, place, task_set, task_sets
from bench.planning.request import Names, Request
from bench.records import REFERENCE
from methods.core import names
from methods.core.groups import members
from methods.core.names import UsageError, did_you_mean, split
from methods.core.options import Option
from methods.core.registry import Registry, UnknownNameError, Variant
from methods.core.search import Simplex, from_json
from tasks.core import hub
from tasks.core.errors import in_words
from tasks.core.protocol import Protocol

if TYPE_CHECKING:
    from tasks.core.base import TaskSet


@dataclass(frozen=True)
class Contest:
    """A task set with the protocol that was asked for: where contestants meet."""

    variant: Variant
    built: "TaskSet"
    protocol: Protocol
    own: Protocol
    """As the task set declares it."""
    budget: int
    """How many trials each contestant gets; 0: rates are the protocol's."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of the tasks."""
        return tuple(task.name for task in self.built.tasks)

    def label(self, protocol: Protocol) -> str:
        """What to call the protocol with some fields changed."""
        changed = {
            name: option.write(getattr(protocol, name))
            for name, option in protocol_fields().items()
            if getattr(protocol, name) != getattr(self.own, name)
        }
        return names.written(self.own.name, changed)


def asked_methods(asked: Names) -> list[Variant]:
    """The variants asked for, each once, the reference first."""
    rules = [methods.parse(REFERENCE), *_variants(asked, methods.registry, members(), methods.parse)]
    return list({rule.stable: rule for rule in rules}.values())


def asked_task_sets(asked: Names) -> list[Variant]:
    """The task sets asked for, each once."""
    found: dict[str, Variant] = {}
    for variant in _variants(asked, task_sets, {"all": embedded()}, parse_task_set):
        first = found.setdefault(variant.stable, variant)
        if place(first) != place(variant):
            raise UsageError(f"{variant.label} is named with two folders: {place(variant)} and {place(first)}")
    return list(found.values())


def require_data(variant: Variant) -> None:
    """Refuse a task set whose data cannot be found, before it is imported.

    Raises:
        DataError: says where the data is looked for, and what would help.
    """
    facts = variant.parts[0].facts
    if facts["hub"]:
        hub.require(facts["hub"], place(variant))
    elif facts["local"]:
        hub.require_folder(variant.label, facts["local"], place(variant))


def _variants(
    asked: Names,
    registry: Registry,
    groups: Mapping[str, Sequence[str]],
    parse: Callable[[str | type], Variant],
) -> Iterator[Variant]:
    """The variants asked for, one by one; for the name of a group, its members."""
    for word in _listed(asked, registry, groups):
        try:
            yield parse(word)
        except UnknownNameError as problem:
            if problem.name != word:  # a part of a variant, where no group can stand
                raise
            known = [*problem.known, *groups]
            raise UnknownNameError(problem.kind, problem.name, known) from None


def _listed(asked: Names, registry: Registry, groups: Mapping[str, Sequence[str]]) -> list[str | type]:
    """What was asked for, one by one; for the name of a group, the names of its members."""
    given = [asked] if isinstance(asked, str | type) else asked
    found: list[str | type] = []
    for item in given:
        words = [item] if isinstance(item, type) else [word.strip() for word in split(item, ",") if word.strip()]
        for word in words:
            found += groups.get(word, [word]) if isinstance(word, str) else [word]
    if not found:
        raise UsageError(
            f"no {registry.kind} is named: write {', '.join(groups)}, or some of {', '.join(registry.entries())}"
        )
    return found


def check_protocol(asked: names.Written, sets: Sequence[Variant]) -> None:
    """Refuse what can be known to be wrong before a task set is imported."""
    for variant in sets:
        known = variant.parts[0].facts["protocols"]
        if known is not None and asked.name not in known:
            raise UsageError(f"{variant.label} has no protocol '{asked.name}'{did_you_mean(asked.name, known)}")
    fields = protocol_fields()
    for name in asked.options:
        if name not in fields:
            raise UsageError(f"protocol {asked.name} has no field '{name}'{did_you_mean(name, fields)}")
    _read(asked)


def asked_contest(asked: names.Written, variant: Variant, budget: int | None) -> Contest:
    """A task set with its protocol, the fields that were asked for changed."""
    from tasks.core.base import TaskSet

    built = task_set(variant)
    if asked.name not in built.protocols:
        raise UsageError(f"{variant.label} has no protocol '{asked.name}'{did_you_mean(asked.name, built.protocols)}")
    own = built.protocols[asked.name]
    protocol = _changed(own, asked, variant) if asked.options else own
    contest = Contest(variant, built, protocol, own, own.trials if budget is None else budget)
    what = f"{names.written(asked.name, asked.options)} on {variant.label}"
    if contest.budget and not protocol.validation:
        raise UsageError(
            f"{what} keeps no examples for validation, so there is nothing to choose learning rates by: write "
            "--tuning none"
        )
    if protocol.augment and type(built).augment is TaskSet.augment:
        raise UsageError(f"{what} asks for augmentation, and this task set declares none: leave augment out")
    return contest


def _changed(own: Protocol, asked: names.Written, variant: Variant) -> Protocol:
    """A protocol with the fields that were asked for changed."""
    values = {name: getattr(own, name) for name in type(own).model_fields}
    try:
        return type(own).model_validate({**values, **_read(asked)})
    except ValidationError as problem:
        error = problem.errors()[0]
        what = names.written(asked.name, asked.options)
        where = "".join(f"{field}: " for field in error["loc"])
        raise UsageError(f"{what} on {variant.label}: {where}{error['msg']}") from problem


def protocol_fields() -> dict[str, Option]:
    """The fields of a protocol that a request may change."""
    return {
        name: Option(field.annotation)
        for name, field in Protocol.model_fields.items()
        if name not in ("name", "tuning")
    }


def _read(asked: names.Written) -> Mapping[str, Any]:
    fields, values = protocol_fields(), {}
    for name, text in asked.options.items():
        try:
            value = values[name] = fields[name].read(text)
            field = Protocol.model_fields[name]
            bounded: Any = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
            TypeAdapter(bounded).validate_python(value)
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError("it should be finite")
        except ValidationError as problem:
            said = problem.errors()[0]["msg"].replace("Input", "it")
            raise UsageError(f"{asked.name}[{name}={text}]: {said}") from None
        except ValueError as problem:
            raise UsageError(f"{asked.name}[{name}={text}]: {problem}") from None
    return values


def asked_device(request: Request, elsewhere: bool) -> str:
    """The kind of device, resolved: `cpu`, `cuda`, `cpu×2`.

    Args:
        request: what is asked for.
        elsewhere: whether runs execute on other machines. Then this one does not tell what they have, and `auto` is
            `cpu`.
    """
    if elsewhere:
        kind = "cuda" if request.accelerator == "cuda" else "cpu"
        return kind if request.devices == 1 else f"{kind}×{request.devices}"
    import torch

    found = torch.cuda.device_count()
    if request.accelerator == "cuda" and found < request.devices:
        raise UsageError(f"--accelerator cuda --devices {request.devices}: this machine has {found} CUDA devices")
    kind = "cuda" if request.accelerator != "cpu" and found >= request.devices else "cpu"
    return kind if request.devices == 1 else f"{kind}×{request.devices}"


def check_averages(averages: Mapping[Variant, Variant]) -> None:
    """Refuse to freeze weights that are fixed as they are: of equal weights, with or without distillation, or given.

    Args:
        averages: by rule, the one whose average weights it fixes.
    """
    plain = getattr(methods.parse(REFERENCE).parts[-1].load(), "weigh", None)
    for rule, other in averages.items():
        part = other.parts[-1]
        given = any(isinstance(space, Simplex) for space in from_json(part.facts["search"]).values())
        if given or getattr(part.load(), "weigh", None) is plain:
            raise UsageError(f"{rule.label}: the weights of {other.label} never change, so there is nothing to freeze")


def check_validation(rules: Sequence[Variant], contests: Sequence[Contest]) -> None:
    """Refuse a rule that hears validation losses after each epoch, where a protocol keeps no examples for validation.

    What a whole training rule reads is known when it reads it: its run is skipped then.
    """
    without = [contest for contest in contests if not contest.protocol.validation]
    for rule in rules if without else ():
        parts: list[Any] = [part.load() for part in rule.parts]
        if any("validation" in part.epoch_arguments() for part in parts):
            raise UsageError(
                f"{rule.label} reads validation losses, and {without[0].protocol.name} on {without[0].variant.label} "
                "keeps no examples for validation"
            )


def check_fit(rules: Sequence[Variant], sets: Sequence[Variant]) -> None:
    """Refuse a variant that fits none of the task sets; one that fits some is skipped on the others."""
    from torch import nn

    from methods.core.average import Average
    from methods.core.compose import compose

    sizes = {variant.label: len(task_set(variant).tasks) for variant in sets}
    for rule in rules:
        reasons = {}
        for name, size in sizes.items():
            try:
                compose(
                    rule.parts,
                    num_tasks=size,
                    teachers=[nn.Identity()] * size,
                    average=Average((1.0,) * size, "weighted"),
                )
            except methods.DoesNotFitError as problem:
                reasons[name] = f"{name}: {problem}"
            except (Exception, SystemExit) as problem:  # whatever its constructor may raise
                where = place_in(rule.parts[-1].entry.file, problem)
                raise UsageError(f"{rule.label}: {in_words(problem)}{where}") from problem
        if len(reasons) == len(sizes):
            raise UsageError(f"{rule.label} fits none of the task sets: {'; '.join(reasons.values())}")
