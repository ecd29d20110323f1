"""Which runs a request needs, baselines first; and why each is there already or not."""

import importlib.metadata
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import uuid4

from pydantic import TypeAdapter, ValidationError

import methods
from bench.blame import place_in
from bench.catalogue import embedded, parse_task_set, place, task_set, task_sets
from bench.planning.seeds import parse_seeds
from bench.planning.sources import closure
from bench.records import FINAL, REFERENCE, KeyParts, Role, RunRecord
from bench.spec import STL, RunSpec, digest
from bench.store import Store, log
from bench.tuning.choose import SEEDS as TUNING_SEEDS
from bench.tuning.choose import Attempt, Choice, Scores, choose, identity, scaled
from bench.tuning.shipped import shipped_choices
from bench.tuning.space import Setting, changed, settings, spaces_of
from methods.core import names
from methods.core.names import UsageError, did_you_mean, split
from methods.core.options import REQUIRED, Option
from methods.core.registry import Registry, Variant
from methods.core.rules import reads_average
from methods.core.search import Simplex
from tasks.core import hub
from tasks.core.errors import in_words
from tasks.core.protocol import Protocol

if TYPE_CHECKING:
    from tasks.core.base import TaskSet

TRAINING = "bench.training.loop"
"""The module from which the source closure of every run starts."""
COMPOSE = "methods.core.compose"
"""What builds a rule; it is in the closure of every run that has one."""
LIBRARIES = ("torch", "numpy", "scipy", "torchmetrics", "lightning-fabric")
"""The distributions that make the numbers."""
MOST_TRIALS = 1000
Names = str | type | Sequence[str | type]
"""Variants in text, separated by commas; or several of them, and classes."""


@dataclass(frozen=True)
class Request:
    """What a user asks for, as it was written."""

    methods: Names = "all"
    tasks: Names = "all"
    seeds: str = "8"
    protocol: str = "quick"
    precision: str = "32-true"
    accelerator: str = "auto"
    devices: int = 1
    retry: bool = False
    tuning: str = ""


@dataclass(frozen=True)
class Planned:
    """One run of a plan."""

    spec: RunSpec
    parts: KeyParts
    key: str
    task_set: Variant
    rule: Variant | None
    """None: single-task learning."""
    protocol_label: str
    todo: bool
    why: str
    seed_round: int
    """The round of seeds in which it is made: its own seed's, and for a teacher of another seed its student's."""
    seeds: tuple[int, ...]
    """All that were asked for together."""
    role: Role = "run"
    teachers: tuple[str, ...] = ()
    """The names of the single-task runs from whose networks it distils, in the order of its tasks."""
    average_of: str = ""
    """The name of the run whose average weights it fixes."""

    @property
    def task_set_label(self) -> str:
        """What to call the task set."""
        return self.task_set.label

    @property
    def method_label(self) -> str:
        """What to call the method."""
        return self.rule.label if self.rule is not None else STL


@dataclass(frozen=True)
class Field:
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
            for name, option in _fields().items()
            if getattr(protocol, name) != getattr(self.own, name)
        }
        return names.written(self.own.name, changed)


@dataclass(frozen=True)
class Contestant:
    """Who is tuned and compared on a field: a rule, or single-task learning on one task."""

    field: Field
    rule: Variant | None
    tasks: tuple[str, ...]
    precision: str

    @property
    def method(self) -> str:
        """The stable form of the rule, or `stl`."""
        return self.rule.stable if self.rule is not None else STL

    @property
    def label(self) -> str:
        """What to call it."""
        return self.rule.label if self.rule is not None else f"{STL} {self.tasks[0]}"

    @cached_property
    def choice(self) -> str:
        """The name of its choice."""
        field = self.field
        return identity(
            field.variant.stable, field.protocol, self.precision, self.method, self.tasks, field.budget, TUNING_SEEDS
        )


Rates = Literal["own", "tuned"]
"""Whether runs are trained at the protocol's own rate, or at what was chosen."""


class Planner:
    """Plans the runs of a request, round by round: trials, then what is reported at the chosen rates, and at the own.

    Raises:
        UsageError: a name, option or number of the request is wrong. All that can be known without importing torch
            is checked first.
        DataError: the data of a task set cannot be had, or is not what it declares.
    """

    def __init__(self, request: Request, store: Store) -> None:
        self.request, self.store = request, store
        rules = _methods(request.methods)
        sets = _task_sets(request.tasks)
        asked = names.read(request.protocol)
        _check_protocol(asked, sets)
        seeds = parse_seeds(request.seeds)
        budget = parse_tuning(request.tuning)
        _check(request)
        for variant in sets:
            if source := variant.parts[0].facts["hub"]:
                hub.require(source, place(variant))
        self.averages = {rule: found for rule in rules if (found := reads_average(rule)) is not None}
        read = [rule for rule in self.averages.values() if rule not in rules]
        self.rules = tuple(rules)
        self.present = store.records()
        self.device = _device(request)
        _check_fit([*rules, *read], sets)
        self.fields = [_field(asked, variant, budget) for variant in sets]
        self.versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
        self.sources = {
            (variant, rule): sources_of(variant, rule) for variant in sets for rule in (None, *rules, *read)
        }
        self.seeds = _reported(seeds, any(field.budget for field in self.fields))
        self.shipped = shipped_choices() if any(field.budget for field in self.fields) else {}
        self.choices = store.choices()
        self._contestants: dict[tuple[Variant, Variant | None, tuple[str, ...]], Contestant] = {}

    @property
    def tunes(self) -> bool:
        """Whether some contestants get trials."""
        return any(field.budget for field in self.fields)

    def contestants(self) -> list[Contestant]:
        """Return who is tuned, in the order in which choices depend on each other."""
        found = []
        for field in self.fields:
            if not field.budget:
                continue
            found += [self._of(field, None, (task,)) for task in field.tasks]
            rules = dict.fromkeys([*self.rules, *self.averages.values()])
            found += [self._of(field, rule, field.tasks) for rule in sorted(rules, key=self._stage)]
        return found

    def choice(self, contestant: Contestant) -> Choice | None:
        """Return what was chosen for a contestant: in this folder, or by trials that the package ships."""
        for choices in (self.choices, self.shipped):
            choice = choices.get(contestant.choice)
            if choice is not None and choice.data == contestant.field.built.fingerprint:
                return choice
        return None

    def origin(self, contestant: Contestant) -> str:
        """Say where a contestant's choice comes from."""
        choice = self.choice(contestant)
        if choice is None:
            return "to be tried"
        place = "shipped" if self.shipped.get(contestant.choice) == choice else "tried here"
        older = "" if choice.code == self._code(contestant) else ", by other code or versions"
        return f"{place}{older}"

    def trials(self, *, anew: bool = False) -> list[Planned]:
        """Return the trials that can be made now: of contestants without a choice, if what they build on is chosen.

        Args:
            anew: also of contestants whose choice the package ships, or was made by other code.
        """
        runs: dict[str, Planned] = {}
        for contestant in self.contestants():
            if self._is_open(contestant, anew) and self._is_ready(contestant, anew):
                for setting in self._settings(contestant):
                    for seed in TUNING_SEEDS:
                        self._add(runs, contestant, seed, seed, "tuned", setting, "trial")
        return list(runs.values())

    def choose(self, *, anew: bool = False) -> list[Choice]:
        """Choose, and store, what the trials that are there decide; return the new choices."""
        self.present = self.store.records()
        made = []
        for contestant in self.contestants():
            if self._is_open(contestant, anew) and self._is_ready(contestant, anew):
                choice = self._choose(contestant)
                if choice is None:
                    continue
                self.choices[choice.name] = choice
                self.store.put_choice(choice)
                made.append(choice)
        return made

    def open(self, *, anew: bool = False) -> list[Contestant]:
        """Return the contestants that are still to be tried."""
        return [contestant for contestant in self.contestants() if self._is_open(contestant, anew)]

    def keep_shipped(self) -> None:
        """Store the shipped choices that this request uses, so that its pages can be made again from the folder."""
        for contestant in self.contestants():
            choice = self.choice(contestant)
            if choice is not None and choice.name not in self.choices:
                self.choices[choice.name] = choice
                self.store.put_choice(choice)

    def reported(self, rates: Rates) -> list[Planned]:
        """Return the reported runs, seed by seed, baselines before methods: of the contestants that can be planned.

        At "own" a rule that only fixes weights is left out where it is tuned: without weights it is equal weights.
        """
        runs: dict[str, Planned] = {}
        for seed in self.seeds:
            for field in self.fields:
                if rates == "tuned" and not field.budget:
                    continue
                everyone = [(None, (task,)) for task in field.tasks] + [(rule, field.tasks) for rule in self.rules]
                for rule, tasks in everyone:
                    contestant = self._of(field, rule, tasks)
                    if rates == "own" and field.budget and rule is not None and _draws_weights(rule):
                        continue
                    if rates == "own" or self._can_be_reported(contestant):
                        self._add(runs, contestant, seed, seed, rates)
        return list(runs.values())

    def _of(self, field: Field, rule: Variant | None, tasks: tuple[str, ...]) -> Contestant:
        """Return a contestant, the same object each time: it knows the name of its choice."""
        key = (field.variant, rule, tasks)
        if key not in self._contestants:
            self._contestants[key] = Contestant(field, rule, tasks, self.request.precision)
        return self._contestants[key]

    def _singles(self, field: Field) -> list[Contestant]:
        """Return single-task learning on each task."""
        return [self._of(field, None, (task,)) for task in field.tasks]

    # Of one contestant -------------------------------------------------------------------------------------

    def _stage(self, rule: Variant) -> int:
        """Rules whose trials build on the choice of another rule come after that."""
        return 2 if rule in self.averages else 1 if _draws_weights(rule) else 0

    def _builds_on(self, contestant: Contestant) -> list[Contestant]:
        """Return those whose choices a contestant's trials need."""
        field, rule = contestant.field, contestant.rule
        if rule is None:
            return []
        found = self._singles(field)
        if _draws_weights(rule):
            found.append(self._of(field, methods.parse(REFERENCE), field.tasks))
        if rule in self.averages:
            found.append(self._of(field, self.averages[rule], field.tasks))
        return found

    def _is_open(self, contestant: Contestant, anew: bool) -> bool:
        choice = self.choices.get(contestant.choice) if anew else self.choice(contestant)
        if choice is None or choice.data != contestant.field.built.fingerprint:
            return True
        return anew and choice.code != self._code(contestant)

    def _is_ready(self, contestant: Contestant, anew: bool) -> bool:
        return not any(self._is_open(other, anew) for other in self._builds_on(contestant))

    def _can_be_reported(self, contestant: Contestant) -> bool:
        return all(self.choice(other) is not None for other in [contestant, *self._builds_on(contestant)])

    def _settings(self, contestant: Contestant) -> list[Setting]:
        start = 1.0
        if contestant.rule is not None and _draws_weights(contestant.rule):
            equal = self.choice(self._builds_on(contestant)[-1])
            assert equal is not None
            start = equal.factor
        spaces = spaces_of(contestant.rule)
        return settings(contestant.field.budget, spaces, len(contestant.tasks), start)

    def _choose(self, contestant: Contestant) -> Choice | None:
        """Return a contestant's choice, if all its trials are there."""
        field, attempts = contestant.field, []
        for setting in self._settings(contestant):
            for seed in TUNING_SEEDS:
                planned = self._add({}, contestant, seed, seed, "tuned", setting, "trial")
                record = self.present.get(planned.spec.name)
                if record is None or record.key != planned.key:
                    return None
                points = record.result.points if record.result.status == "ok" else []
                validation = points[-1].validation if points else {}
                attempts.append(
                    Attempt(
                        factor=setting.factor,
                        options=dict(setting.options),
                        seed=seed,
                        run=record.name,
                        status=record.result.status,
                        validation=validation,
                    )
                )
        tasks = [task for task in field.built.tasks if task.name in contestant.tasks]
        metrics = {(task.name, name): metric for task in tasks for name, metric in task.metrics.items()}
        found = choose(
            attempts,
            self._reference(contestant, attempts),
            {key: metric.higher_is_better for key, metric in metrics.items()},
            {key: metric.constant_score for key, metric in metrics.items()},
        )
        return Choice(
            task_set=field.variant.stable,
            task_set_label=field.variant.label,
            method=contestant.method,
            method_label=contestant.rule.label if contestant.rule is not None else STL,
            tasks=contestant.tasks,
            protocol=field.protocol,
            protocol_label=field.label(field.protocol),
            precision=contestant.precision,
            budget=field.budget,
            attempts=attempts,
            data=field.built.fingerprint,
            code=self._code(contestant),
            commit=self.present[attempts[0].run].provenance.commit,
            **found,
        )

    def _reference(self, contestant: Contestant, attempts: Sequence[Attempt]) -> dict[int, Scores]:
        """Return, by tuning seed, the validation scores over which gains are measured.

        Those of the tuned single-task networks; for single-task learning its own at the protocol's rate.
        """
        if contestant.rule is None:
            return {a.seed: a.validation for a in attempts if a.factor == 1 and not a.options}
        singles = [self.choice(other) for other in self._builds_on(contestant) if other.rule is None]
        return {
            seed: {task: own for one in singles if one is not None for task, own in one.validation(seed).items()}
            for seed in TUNING_SEEDS
        }

    def _code(self, contestant: Contestant) -> str:
        """The digest of what makes a contestant's trials, data apart."""
        sources = self.sources[contestant.field.variant, contestant.rule]
        return digest([sources, self.versions, contestant.field.protocol.threads, self.device])

    # Of one run --------------------------------------------------------------------------------------------

    def _add(
        self,
        runs: dict[str, Planned],
        contestant: Contestant,
        seed: int,
        seed_round: int,
        rates: Rates,
        setting: Setting | None = None,
        role: Role = "run",
    ) -> Planned:
        """Plan a run, and before it those that it reads; one that is planned already stays where it is.

        Args:
            runs: the plan so far, by name.
            contestant: whose run.
            seed: of the run.
            seed_round: in which it is made.
            rates: what the run, and the runs that it reads, are trained at.
            setting: for a trial, what it tries in the place of what was chosen.
            role: why the run is made.
        """
        field, rule = contestant.field, contestant.rule
        if setting is None:
            choice = self.choice(contestant) if rates == "tuned" else None
            setting = Setting(choice.factor, choice.options) if choice is not None else Setting()
        given = rule
        if rule is not None and setting.options:
            rule = changed(rule, setting.options)
        protocol = scaled(field.protocol, setting.factor)

        def spec(own: Variant | None, tasks: tuple[str, ...], seed: int, reads: tuple[str, ...] = ()) -> RunSpec:
            return RunSpec(
                task_set=field.variant.stable,
                tasks=tasks,
                method=own.stable if own else STL,
                seed=seed,
                protocol=protocol,
                precision=contestant.precision,
                reads=reads,
            )

        read: list[Planned] = []
        usual: list[str] = []
        teachers: tuple[str, ...] = ()
        average_of = ""
        if distils := methods.reads_teachers(rule) if rule else None:
            asked = distils.values.get("teacher_seed")
            teacher_seed = seed if asked is None else asked
            for task in contestant.tasks:
                single = self._of(field, None, (task,))
                read.append(self._add(runs, single, teacher_seed, seed_round, rates, role=role))
                usual.append(spec(None, (task,), teacher_seed).name)
            teachers = tuple(teacher.spec.name for teacher in read)
        if given in self.averages:
            other = self._of(field, self.averages[given], contestant.tasks)
            read.append(self._add(runs, other, seed, seed_round, rates, role=role))
            usual.append(spec(self.averages[given], contestant.tasks, seed).name)
            average_of = read[-1].spec.name
        found = [one.spec.name for one in read]
        asked_for = spec(rule, contestant.tasks, seed, tuple(found) if found != usual else ())
        name = asked_for.name
        if name in runs:
            return runs[name]
        parts = KeyParts(
            data=field.built.fingerprint,
            threads=protocol.threads,
            device=self.device,
            versions=self.versions,
            upstream={one.spec.name: one.key for one in read},
            sources=self.sources[field.variant, given],
        )
        key = parts.key(name)
        todo, why = _state(asked_for, parts, key, self.store, self.present.get(name), self.request.retry)
        runs[name] = Planned(
            asked_for,
            parts,
            key,
            field.variant,
            rule,
            field.label(protocol),
            todo,
            why,
            seed_round,
            TUNING_SEEDS if role == "trial" else self.seeds,
            role,
            teachers,
            average_of,
        )
        return runs[name]


def make_plan(request: Request, store: Store) -> list[Planned]:
    """Return the runs that can be planned now, each once: trials, then what is reported. Raises as `Planner`."""
    planner = Planner(request, store)
    found = {run.spec.name: run for run in planner.trials()}
    for rates in ("tuned", "own"):
        for run in planner.reported(rates):
            found.setdefault(run.spec.name, run)
    return list(found.values())


def parse_tuning(text: str) -> int | None:
    """Read how many trials each contestant gets: None is what the protocol declares.

    Raises:
        UsageError: it is no whole number above 0, and not none.
    """
    if text in ("", "default"):
        return None
    if text == "none":
        return 0
    if text.isdecimal() and 0 < int(text) <= MOST_TRIALS:
        return int(text)
    raise UsageError(f"--tuning '{text}': write how many trials each contestant gets (1 to {MOST_TRIALS}), or none")


def _draws_weights(rule: Variant) -> bool:
    """Whether a rule is nothing without weights that are drawn for it."""
    return any(isinstance(space, Simplex) for space in spaces_of(rule).values())


def _reported(seeds: Sequence[int], tunes: bool) -> tuple[int, ...]:
    """The seeds that may be reported: those that serve for tuning are left out."""
    if not tunes or not set(seeds) & set(TUNING_SEEDS):
        return tuple(seeds)
    left = tuple(seed for seed in seeds if seed not in TUNING_SEEDS)
    which = " and ".join(map(str, TUNING_SEEDS))
    if not left:
        raise UsageError(f"seeds {which} serve for tuning and are never reported: ask for others, or for --tuning none")
    log.warning("seeds %s serve for tuning: they are not reported", which)
    return left


def _methods(asked: Names) -> list[Variant]:
    """The variants asked for, each once, the reference first."""
    registry = methods.registry
    free = [
        name
        for name, entry in registry.built_in().items()
        if all(option.default is not REQUIRED for option in registry.options(entry).values())
    ]
    rules = [methods.parse(name) for name in (REFERENCE, *_listed(asked, registry, free))]
    return list({rule.stable: rule for rule in rules}.values())


def _task_sets(asked: Names) -> list[Variant]:
    """The task sets asked for, each once."""
    found: dict[str, Variant] = {}
    for variant in map(parse_task_set, _listed(asked, task_sets, embedded())):
        first = found.setdefault(variant.stable, variant)
        if place(first) != place(variant):
            raise UsageError(f"{variant.label} is named with two folders: {place(variant)} and {place(first)}")
    return list(found.values())


def _listed(asked: Names, registry: Registry, every: Sequence[str]) -> list[str | type]:
    """What was asked for, one by one; for `all`, the names of `every` built-in one that can do without options."""
    given = [asked] if isinstance(asked, str | type) else asked
    found: list[str | type] = []
    for item in given:
        words = [item] if isinstance(item, type) else [word.strip() for word in split(item, ",") if word.strip()]
        for word in words:
            found += every if word == "all" else [word]
    if not found:
        known = ", ".join(registry.entries())
        raise UsageError(f"no {registry.kind} is named: write all, or some of {known}")
    return found


def _check_protocol(asked: names.Written, sets: Sequence[Variant]) -> None:
    """Refuse what can be known to be wrong before a task set is imported."""
    for variant in sets:
        known = variant.parts[0].facts["protocols"]
        if known is not None and asked.name not in known:
            raise UsageError(f"{variant.label} has no protocol '{asked.name}'{did_you_mean(asked.name, known)}")
    fields = _fields()
    for name in asked.options:
        if name not in fields:
            raise UsageError(f"protocol {asked.name} has no field '{name}'{did_you_mean(name, fields)}")
    _read(asked)


def _field(asked: names.Written, variant: Variant, budget: int | None) -> Field:
    """A task set with its protocol, the fields that were asked for changed."""
    built = task_set(variant)
    if asked.name not in built.protocols:
        raise UsageError(f"{variant.label} has no protocol '{asked.name}'{did_you_mean(asked.name, built.protocols)}")
    own = built.protocols[asked.name]
    trials = own.trials if budget is None else budget
    if not asked.options:
        return Field(variant, built, own, own, trials)
    values = {name: getattr(own, name) for name in type(own).model_fields}
    try:
        protocol = type(own).model_validate({**values, **_read(asked)})
    except ValidationError as problem:
        error = problem.errors()[0]
        what = names.written(asked.name, asked.options)
        where = "".join(f"{field}: " for field in error["loc"])
        raise UsageError(f"{what} on {variant.label}: {where}{error['msg']}") from problem
    return Field(variant, built, protocol, own, trials)


def _fields() -> dict[str, Option]:
    """The fields of a protocol that a request may change."""
    return {
        name: Option(field.annotation)
        for name, field in Protocol.model_fields.items()
        if name not in ("name", "tuning")
    }


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


def _check_fit(rules: Sequence[Variant], sets: Sequence[Variant]) -> None:
    """Refuse a variant that fits none of the task sets; one that fits some is skipped on the others."""
    from torch import nn

    from methods.core.compose import compose
    from methods.frozen import Average

    sizes = {variant.label: len(task_set(variant).tasks) for variant in sets}
    for rule in rules:
        reasons = {}
        for name, size in sizes.items():
            try:
                compose(rule.parts, num_tasks=size, teachers=[nn.Identity()] * size, average=Average((1.0,) * size, ""))
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
    # Of a class without a file nobody can say whether it is still the same.
    return found | {entry.name: uuid4().hex for entry in entries if entry.given is not None}


def _state(
    spec: RunSpec, parts: KeyParts, key: str, store: Store, record: RunRecord | None, retry: bool
) -> tuple[bool, str]:
    """Whether the run is to be made, and why."""
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
