"""Makes the plan of a request: the runs that it needs, baselines first, and why each has to be made or not."""

import importlib.metadata
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

from pydantic import TypeAdapter, ValidationError

import methods
from bench.blame import place_in
from bench.catalogue import embedded, parse_task_set, place, task_set, task_sets
from bench.planning.request import Names, Request
from bench.planning.seeds import parse_seeds
from bench.planning.sources import closure
from bench.records import FINAL, REFERENCE, KeyParts, RunRecord
from bench.spec import STL, RunSpec
from bench.store import Store
from methods.core import names
from methods.core.groups import members
from methods.core.names import UsageError, did_you_mean, split
from methods.core.options import Option
from methods.core.registry import Registry, UnknownNameError, Variant
from tasks.core import hub
from tasks.core.errors import in_words
from tasks.core.protocol import Protocol

if TYPE_CHECKING:
    from tasks.core.base import TaskSet

TRAINING = "bench.training.loop"
"""The module where the source closure of every run starts."""
COMPOSE = "methods.core.compose"
"""The module that builds rules. It is in the closure of every run that has a rule."""
LIBRARIES = ("torch", "numpy", "scipy", "torchmetrics", "lightning-fabric")
"""The distributions that compute the numbers. Their versions are part of every key."""


@dataclass(frozen=True)
class Planned:
    """One run of a plan."""

    spec: RunSpec
    parts: KeyParts
    key: str
    task_set: Variant
    rule: Variant | None
    """None for single-task learning."""
    protocol_label: str
    todo: bool
    why: str
    seed_round: int
    """The seed round in which this run is scheduled. A teacher of another seed runs in its student's round."""
    seeds: tuple[int, ...]
    """All seeds that were asked for together."""

    @property
    def task_set_label(self) -> str:
        """The name of the task set in tables."""
        return self.task_set.label

    @property
    def method_label(self) -> str:
        """The name of the method in tables."""
        return self.rule.label if self.rule is not None else STL


@dataclass(frozen=True)
class _Setting:
    """A task set with the protocol that was chosen for it."""

    variant: Variant
    built: "TaskSet"
    protocol: Protocol
    protocol_label: str


def make_plan(request: Request, store: Store) -> list[Planned]:
    """Return the runs that a request needs: seed by seed, baselines before methods.

    Raises:
        UsageError: a name, option or number of the request is wrong. What can be checked without importing torch is
            checked first.
        DataError: the data of a task set cannot be read or fetched, or is not what the set declares.
    """
    rules = _methods(request.methods)
    sets = _task_sets(request.tasks)
    asked = names.read(request.protocol)
    _check_protocol(asked, sets)
    seeds = parse_seeds(request.seeds)
    for variant in sets:
        if source := variant.parts[0].facts["hub"]:
            hub.require(source, place(variant))
    present = store.records()
    device = _device(request)
    _check_fit(rules, sets)
    settings = [_Setting(variant, task_set(variant), *_protocol(asked, variant)) for variant in sets]
    versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
    sources = {(variant, rule): sources_of(variant, rule) for variant in sets for rule in (None, *rules)}
    together = tuple(seeds)
    runs: dict[str, Planned] = {}

    def add(setting: _Setting, rule: Variant | None, tasks: tuple[str, ...], seed: int, seed_round: int) -> Planned:
        """Plan a run, after the baselines that it reads. A run that is planned already keeps its place."""
        spec = RunSpec(
            task_set=setting.variant.stable,
            tasks=tasks,
            method=rule.stable if rule else STL,
            seed=seed,
            protocol=setting.protocol,
            precision=request.precision,
        )
        name = spec.name
        if name in runs:
            return runs[name]
        teachers: list[Planned] = []
        if distils := methods.reads_teachers(rule) if rule else None:
            chosen = distils.values.get("teacher_seed")
            teachers = [add(setting, None, (task,), seed if chosen is None else chosen, seed_round) for task in tasks]
        parts = KeyParts(
            data=setting.built.fingerprint,
            threads=spec.protocol.threads,
            device=device,
            versions=versions,
            upstream={teacher.spec.name: teacher.key for teacher in teachers},
            sources=sources[setting.variant, rule],
        )
        key = parts.key(name)
        todo, why = _state(spec, parts, key, store, present.get(name), request.retry)
        runs[name] = Planned(
            spec,
            parts,
            key,
            setting.variant,
            rule,
            setting.protocol_label,
            todo,
            why,
            seed_round,
            together,
        )
        return runs[name]

    for seed in seeds:
        for setting in settings:
            tasks = tuple(task.name for task in setting.built.tasks)
            for task in tasks:
                add(setting, None, (task,), seed, seed)
            for rule in rules:
                add(setting, rule, tasks, seed, seed)
    return list(runs.values())


def _methods(asked: Names) -> list[Variant]:
    """The variants asked for, each once, the reference first."""
    rules = [methods.parse(REFERENCE), *_variants(asked, methods.registry, members(), methods.parse)]
    return list({rule.stable: rule for rule in rules}.values())


def _task_sets(asked: Names) -> list[Variant]:
    """The task sets asked for, each once."""
    found: dict[str, Variant] = {}
    for variant in _variants(asked, task_sets, {"all": embedded()}, parse_task_set):
        first = found.setdefault(variant.stable, variant)
        if place(first) != place(variant):
            raise UsageError(f"{variant.label} is named with two folders: {place(variant)} and {place(first)}")
    return list(found.values())


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


def _check_protocol(asked: names.Written, sets: Sequence[Variant]) -> None:
    """Refuse a protocol that is wrong, as far as that can be known without importing a task set."""
    for variant in sets:
        known = variant.parts[0].facts["protocols"]
        if known is not None and asked.name not in known:
            raise UsageError(f"{variant.label} has no protocol '{asked.name}'{did_you_mean(asked.name, known)}")
    fields = _fields()
    for name in asked.options:
        if name not in fields:
            raise UsageError(f"protocol {asked.name} has no field '{name}'{did_you_mean(name, fields)}")
    _read(asked)


def _protocol(asked: names.Written, variant: Variant) -> tuple[Protocol, str]:
    """Return the protocol of a task set with the fields that were asked for, and its name in tables."""
    own = task_set(variant).protocols
    if asked.name not in own:
        raise UsageError(f"{variant.label} has no protocol '{asked.name}'{did_you_mean(asked.name, own)}")
    before = own[asked.name]
    if not asked.options:
        return before, asked.name
    values = {name: getattr(before, name) for name in type(before).model_fields}
    try:
        protocol = type(before).model_validate({**values, **_read(asked)})
    except ValidationError as problem:
        error = problem.errors()[0]
        what = names.written(asked.name, asked.options)
        where = "".join(f"{field}: " for field in error["loc"])
        raise UsageError(f"{what} on {variant.label}: {where}{error['msg']}") from problem
    changed = {
        name: option.write(getattr(protocol, name))
        for name, option in _fields().items()
        if getattr(protocol, name) != getattr(before, name)
    }
    return protocol, names.written(asked.name, changed)


def _fields() -> dict[str, Option]:
    """The fields of a protocol that a request may change."""
    return {name: Option(field.annotation) for name, field in Protocol.model_fields.items() if name != "name"}


def _read(asked: names.Written) -> Mapping[str, Any]:
    fields, values = _fields(), {}
    for name, text in asked.options.items():
        try:
            value = values[name] = fields[name].read(text)
            field = Protocol.model_fields[name]
            bounded: Any = Annotated[field.annotation, *field.metadata]
            TypeAdapter(bounded).validate_python(value)
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError("it should be finite")
        except ValidationError as problem:
            said = problem.errors()[0]["msg"].replace("Input", "it")
            raise UsageError(f"{asked.name}[{name}={text}]: {said}") from None
        except ValueError as problem:
            raise UsageError(f"{asked.name}[{name}={text}]: {problem}") from None
    return values


def _device(request: Request) -> str:
    """The kind of device, resolved: `cpu`, `cuda`, `cpu×2`."""
    import torch

    found = torch.cuda.device_count()
    if request.accelerator == "cuda" and found < request.devices:
        raise UsageError(f"--accelerator cuda --devices {request.devices}: this machine has {found} CUDA devices")
    kind = "cuda" if request.accelerator != "cpu" and found >= request.devices else "cpu"
    return kind if request.devices == 1 else f"{kind}×{request.devices}"


def _check_fit(rules: Sequence[Variant], sets: Sequence[Variant]) -> None:
    """Refuse a variant that fits none of the task sets; one that fits some is skipped on the others."""
    from torch import nn

    sizes = {variant.label: len(task_set(variant).tasks) for variant in sets}
    for rule in rules:
        reasons = {}
        for name, size in sizes.items():
            try:
                methods.create(rule, num_tasks=size, teachers=[nn.Identity()] * size)
            except methods.DoesNotFitError as problem:
                reasons[name] = f"{name}: {problem}"
            except (Exception, SystemExit) as problem:  # whatever its constructor may raise
                where = place_in(rule.parts[-1].entry.file, problem)
                raise UsageError(f"{rule.label}: {in_words(problem)}{where}") from problem
        if len(reasons) == len(sizes):
            raise UsageError(f"{rule.label} fits none of the task sets: {'; '.join(reasons.values())}")


def sources_of(task_set: Variant, rule: Variant | None) -> dict[str, str]:
    """The digests of all modules that define the numbers of a rule on a task set."""
    entries = [part.entry for part in (*task_set.parts, *(rule.parts if rule else ()))]
    roots = [TRAINING, COMPOSE] if rule else [TRAINING]
    found = closure(
        [*roots, *(entry.module for entry in entries if entry.module)],
        [entry.file for entry in entries if entry.file],
    )
    # If a class has no file, nobody can say whether it has changed. So it is never the same.
    return found | {entry.name: uuid4().hex for entry in entries if entry.given is not None}


def _state(
    spec: RunSpec, parts: KeyParts, key: str, store: Store, record: RunRecord | None, retry: bool
) -> tuple[bool, str]:
    """Return whether the run has to be made, and why or why not."""
    if record is None:
        return True, "missing"
    if record.key != key:
        return True, f"changed: {', '.join(record.parts.differences(parts))}"
    if spec.method == STL and record.result.status == "ok" and not store.has_weights(record):
        return True, "its weights are missing or not those of the record"
    if record.result.status == "skipped" and parts.upstream:
        return True, f"skipped before: {record.result.reason}"  # its teachers may be there by now
    if record.result.status in FINAL:
        return False, "present"
    failed = f"failed before ({record.result.status}: {record.result.reason})"
    return retry, failed if retry else f"{failed}; --retry repeats it"
