"""Which runs a request needs, baselines first; and why each is there already or not."""

import importlib.metadata
from collections.abc import Iterable
from dataclasses import dataclass

import methods
from bench.catalogue import PLACES, parse_task_set, task_set, task_sets
from bench.records import FINAL, REFERENCE, STL, KeyParts, RunRecord, RunSpec
from bench.seeds import parse_seeds
from bench.sources import closure
from bench.store import Store
from methods.core.registry import PLACE, REQUIRED, Part, UsageError, canonical, did_you_mean, label, split
from tasks.core import hub


@dataclass(frozen=True)
class Request:
    """What a user asks for, as text."""

    methods: str = "all"
    tasks: str = "all"
    seeds: str = "8"
    protocol: str = "quick"
    precision: str = "32-true"
    accelerator: str = "auto"
    devices: int = 1
    retry: bool = False


@dataclass(frozen=True)
class Planned:
    """One run of a plan."""

    spec: RunSpec
    parts: KeyParts
    key: str
    task_set_label: str
    method_label: str
    todo: bool
    why: str
    seed_round: int
    """The round of seeds in which it is made: its own seed's, and for a teacher of another seed its student's."""
    seeds: tuple[int, ...]
    """All that were asked for together."""
    place: str = ""
    """Where the task set's data lies on this machine, if the request says so."""


def make_plan(request: Request, store: Store) -> list[Planned]:
    """Return the runs that a request needs: seed by seed, baselines before methods.

    Raises:
        UsageError: a name, option or number of the request is wrong. All that can be known without importing torch
            is checked first.
        DataError: the data of a task set cannot be had, or is not what it declares.
    """
    rules = _methods(request.methods)
    sets = _task_sets(request.tasks, request.protocol)
    seeds = parse_seeds(request.seeds)
    _check(request)
    for part in sets:
        if place := part.entry.attributes.get("hub"):
            hub.require(place, part.values.get(PLACE, ""))
    present = store.records()
    device = _device(request)
    _check_fit(rules, sets)

    runs: dict[str, Planned] = {}

    def add(part: Part, rule: list[Part], tasks: tuple[str, ...], seed: int, seed_round: int) -> Planned:
        """Plan a run, and before it the baselines that it reads; one that is planned already stays where it is."""
        built = task_set(canonical([part]))
        spec = RunSpec(
            task_set=canonical([part]),
            tasks=tasks,
            method=canonical(rule) if rule else STL,
            seed=seed,
            protocol=built.protocols[request.protocol],
            precision=request.precision,
        )
        if spec.name in runs:
            return runs[spec.name]
        teachers: list[Planned] = []
        if distils := methods.reads_teachers(rule):
            chosen = distils.values.get("teacher_seed")
            teachers = [add(part, [], (task,), seed if chosen is None else chosen, seed_round) for task in tasks]
        entries = [part.entry, *(p.entry for p in rule)]
        parts = KeyParts(
            data=built.fingerprint,
            threads=spec.protocol.threads,
            device=device,
            versions={name: importlib.metadata.version(name) for name in ("torch", "numpy")},
            upstream={teacher.spec.name: teacher.key for teacher in teachers},
            sources=closure(
                ["bench.training", *(entry.module for entry in entries if entry.module)],
                [entry.file for entry in entries if not entry.module],
            ),
        )
        todo, why = _state(spec, parts, store, present.get(spec.name), request.retry)
        method_label = label(rule) if rule else STL
        runs[spec.name] = Planned(
            spec,
            parts,
            parts.key(spec.name),
            label([part]),
            method_label,
            todo,
            why,
            seed_round,
            tuple(seeds),
            PLACES.get(spec.task_set, ""),
        )
        return runs[spec.name]

    for seed in seeds:
        for part in sets:
            names = tuple(task.name for task in task_set(canonical([part])).tasks)
            for name in names:
                add(part, [], (name,), seed, seed)
            for rule in rules:
                add(part, rule, names, seed, seed)
    return list(runs.values())


def _methods(text: str) -> list[list[Part]]:
    """The variants asked for, each once, the reference first."""
    if text == "all":
        entries = methods.registry.entries().values()
        free = [e.name for e in entries if all(o.default is not REQUIRED for o in methods.registry.options(e).values())]
        variants = [name for name in free if name != REFERENCE]
    else:
        variants = _listed(text, "method", methods.registry.entries())
    rules = [methods.parse(REFERENCE), *map(methods.parse, variants)]
    return list({canonical(rule): rule for rule in rules}.values())


def _task_sets(text: str, protocol: str) -> list[Part]:
    entries = task_sets.entries()
    embedded = [name for name, entry in entries.items() if entry.attributes.get("embedded", True)]
    names = embedded if text == "all" else _listed(text, "task set", entries)
    found = {canonical([part]): part for part in map(parse_task_set, names)}
    for part in map(parse_task_set, names):
        name, place = canonical([part]), part.values.get(PLACE)
        if place != found[name].values.get(PLACE):
            raise UsageError(f"{name} is named with two folders: {place} and {found[name].values.get(PLACE)}")
        PLACES[name] = place or ""
    sets = list(found.values())
    for part in sets:
        known = part.entry.attributes.get("protocols", ())
        if protocol not in known:
            raise UsageError(f"{part.entry.name} has no protocol '{protocol}'{did_you_mean(protocol, known)}")
    return sets


def _listed(text: str, kind: str, known: Iterable[str]) -> list[str]:
    names = [name.strip() for name in split(text, ",") if name.strip()]
    if not names:
        raise UsageError(f"no {kind} is named: write all, or some of {', '.join(known)}")
    return names


def _check(request: Request) -> None:
    choices = {
        "precision": ("32-true", "bf16-mixed"),
        "accelerator": ("auto", "cpu", "cuda"),
    }
    for option, known in choices.items():
        value = getattr(request, option)
        if value not in known:
            raise UsageError(f"--{option} '{value}' is not offered{did_you_mean(value, known)}")
    if request.devices < 1:
        raise UsageError(f"--devices {request.devices}: a run needs at least one")


def _device(request: Request) -> str:
    """The kind of device, resolved: `cpu`, `cuda`, `cpu×2`."""
    import torch

    found = torch.cuda.device_count()
    if request.accelerator == "cuda" and found < request.devices:
        raise UsageError(f"--accelerator cuda --devices {request.devices}: this machine has {found} CUDA devices")
    kind = "cuda" if request.accelerator != "cpu" and found >= request.devices else "cpu"
    return kind if request.devices == 1 else f"{kind}×{request.devices}"


def _check_fit(rules: list[list[Part]], sets: list[Part]) -> None:
    """Refuse a variant that fits none of the task sets; one that fits some is skipped on the others."""
    from torch import nn

    sizes = {label([part]): len(task_set(canonical([part])).tasks) for part in sets}
    for rule in rules:
        reasons = {}
        for name, size in sizes.items():
            try:
                methods.create(canonical(rule), num_tasks=size, teachers=[nn.Identity()] * size)
            except methods.DoesNotFitError as problem:
                reasons[name] = f"{name}: {problem}"
            except ValueError as problem:
                raise UsageError(f"{label(rule)}: {problem}") from problem
        if len(reasons) == len(sizes):
            raise UsageError(f"{label(rule)} fits none of the task sets: {'; '.join(reasons.values())}")


def _state(spec: RunSpec, parts: KeyParts, store: Store, record: RunRecord | None, retry: bool) -> tuple[bool, str]:
    """Whether the run is to be made, and why."""
    if record is None:
        return True, "missing"
    if record.key != parts.key(spec.name):
        return True, f"changed: {', '.join(record.parts.differences(parts))}"
    if spec.method == STL and record.result.status == "ok" and not store.has_weights(record):
        return True, "its weights are missing or not those of the record"
    if record.result.status == "skipped" and parts.upstream:
        return True, f"skipped before: {record.result.reason}"  # its teachers may be there by now
    if record.result.status in FINAL:
        return False, "present"
    failed = f"failed before ({record.result.status}: {record.result.reason})"
    return retry, failed if retry else f"{failed}; --retry repeats it"
