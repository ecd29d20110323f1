"""Makes the plan of a request: the runs that it needs, baselines first, and why each has to be made or not."""

import importlib.metadata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal
from uuid import uuid4

import methods
from bench.planning.asked import (
    Contest,
    asked_contest,
    asked_device,
    asked_methods,
    asked_task_sets,
    check_averages,
    check_fit,
    check_protocol,
    check_validation,
    require_data,
)
from bench.planning.request import Request
from bench.planning.seeds import parse_seeds
from bench.planning.sources import closure
from bench.records import FINAL, REFERENCE, KeyParts, Role, RunRecord
from bench.spec import STL, RunSpec, digest
from bench.store import Store, log
from bench.tuning.choose import SEEDS as TUNING_SEEDS
from bench.tuning.choose import Attempt, Choice, Scores, choose, identity, scaled
from bench.tuning.shipped import shipped_choices
from bench.tuning.space import Setting, changed, front_weights, require_sound_spaces, settings, spaces_of
from methods.core import names
from methods.core.names import UsageError
from methods.core.registry import Variant
from methods.core.rules import reads_average
from methods.core.search import Simplex, from_json
from tasks.core.protocol import Protocol

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
    asked_method: str
    """The stable form of the contestant, or `stl`: what was chosen by trials changes its options."""
    asked_protocol: Protocol
    """The protocol as it was asked for: what was chosen by trials changes its learning rate."""
    role: Role = "run"
    teachers: tuple[str, ...] = ()
    """The names of the single-task runs from whose networks it distils, in the order of its tasks."""
    average_of: str = ""
    """The name of the run whose average weights it fixes."""

    @property
    def task_set_label(self) -> str:
        """The name of the task set in tables."""
        return self.task_set.label

    @property
    def method_label(self) -> str:
        """The name of the method in tables."""
        return self.rule.label if self.rule is not None else STL


@dataclass(frozen=True)
class Contestant:
    """Who is tuned and compared in a contest: a rule, or single-task learning on one task."""

    contest: Contest
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
        contest = self.contest
        return identity(
            contest.variant.stable,
            contest.protocol,
            self.precision,
            self.method,
            self.tasks,
            contest.budget,
            TUNING_SEEDS,
        )


Rates = Literal["own", "tuned"]
"""Whether runs are trained at the protocol's own rate, or at what was chosen."""
Round = Literal["tuned", "front", "own"]
"""Which runs are made together: contestants at either rate, or the reference front of static weights."""
FRONT_SEEDS = 2
"""With so many of the reported seeds the front is drawn."""


class Planner:
    """Plans the runs of a request, round by round: trials, then what is reported at the chosen rates, and at the own.

    Raises:
        UsageError: a name, option or number of the request is wrong. What can be checked without importing torch is
            checked first.
        DataError: the data of a task set cannot be read or fetched, or is not what the set declares.

    Args:
        request: what is asked for.
        store: the records that are there.
        elsewhere: whether runs execute on other machines than this one.
    """

    def __init__(self, request: Request, store: Store, *, elsewhere: bool = False) -> None:
        self.request, self.store = request, store
        rules = asked_methods(request.methods)
        sets = asked_task_sets(request.tasks)
        asked = names.read(request.protocol)
        check_protocol(asked, sets)
        seeds = parse_seeds(request.seeds)
        budget = request.budget
        for variant in sets:
            require_data(variant)
        self.averages = {rule: found for rule in rules if (found := reads_average(rule)) is not None}
        read = [rule for rule in self.averages.values() if rule not in rules]
        self.rules = tuple(rules)
        self.present = store.records()
        self.device = asked_device(request, elsewhere)
        check_fit([*rules, *read], sets)
        check_averages(self.averages)
        self.contests = [asked_contest(asked, variant, budget) for variant in sets]
        check_validation([*rules, *read], self.contests)
        for rule in (*rules, *read) if self.tunes else ():
            require_sound_spaces(rule)
        self.versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
        self.sources = {
            (variant, rule): sources_of(variant, rule) for variant in sets for rule in (None, *rules, *read)
        }
        self.fronts = {contest.variant: _front(contest) for contest in self.contests if request.static_front}
        for variant, front in self.fronts.items():
            known = sources_of(variant, front[0]) if front else {}
            self.sources |= {(variant, rule): known for rule in front}
        self.seeds = _reported(seeds, any(contest.budget for contest in self.contests))
        self.shipped = shipped_choices() if any(contest.budget for contest in self.contests) else {}
        self.choices = store.choices()
        self._say_which_seeds_are_on_no_board()
        self._before = dict(self.choices)
        self._to_repeat = self._failed() if request.retry else {}
        self._contestants: dict[tuple[Variant, Variant | None, tuple[str, ...]], Contestant] = {}

    @property
    def tunes(self) -> bool:
        """Whether some contestants get trials."""
        return any(contest.budget for contest in self.contests)

    @property
    def rounds(self) -> tuple[Round, ...]:
        """Which runs are reported, in the order in which they are made."""
        front: tuple[Round, ...] = ("front",) if self.request.static_front else ()
        if not self.tunes:
            return ("own", *front)
        return ("tuned", *front, "own") if any(map(self._reports_own, self.contests)) else ("tuned", *front)

    def contestants(self) -> list[Contestant]:
        """Return who is tuned, in the order in which choices depend on each other."""
        found = []
        for contest in self.contests:
            if not contest.budget:
                continue
            found += [self._of(contest, None, (task,)) for task in contest.tasks]
            rules = dict.fromkeys([*self.rules, *self.averages.values()])
            found += [self._of(contest, rule, contest.tasks) for rule in sorted(rules, key=self._stage)]
        return found

    def choice(self, contestant: Contestant) -> Choice | None:
        """Return what was chosen for a contestant: in this folder, or by trials that the package ships."""
        for choices in (self.choices, self.shipped):
            choice = choices.get(contestant.choice)
            if choice is not None and choice.data == contestant.contest.built.fingerprint:
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

    def about(self, *, anew: bool = False) -> list[str]:
        """Say where the learning rates come from, and how many trials come first.

        Args:
            anew: as `trials`.
        """
        if not self.tunes:
            return []
        origins = Counter("to be tried" if self._is_open(c, anew) else self.origin(c) for c in self.contestants())
        lines = [f"learning rates: {', '.join(f'{count} {origin}' for origin, count in origins.items())}"]
        if count := self.to_try(anew=anew):
            seeds = " and ".join(map(str, TUNING_SEEDS))
            lines.append(f"trials: {count} in all, on seeds {seeds}, which are not reported")
        if count := self.later(anew=anew):
            lines.append(f"and up to {count} runs that are planned when trials have chosen")
        return lines

    def to_try(self, *, anew: bool = False) -> int:
        """Return how many trials contestants without a choice need, those that are there already among them."""
        return sum(contestant.contest.budget * len(TUNING_SEEDS) for contestant in self.open(anew=anew))

    def later(self, *, anew: bool = False) -> int:
        """Return how many runs at most wait for choices before they can be planned."""
        still = self.open(anew=anew)
        count = sum(one.contest.budget * len(TUNING_SEEDS) for one in still if not self._is_ready(one, anew))
        if anew:
            return count
        for contest in self.contests:
            if contest.budget:
                everyone = [*self._singles(contest), *(self._of(contest, rule, contest.tasks) for rule in self.rules)]
                count += len(self.seeds) * sum(not self._can_be_reported(one) for one in everyone)
                if self.choice(self._of(contest, methods.parse(REFERENCE), contest.tasks)) is None:
                    count += len(self.seeds[:FRONT_SEEDS]) * len(self.fronts.get(contest.variant, ()))
        return count

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
                self._keep(choice)
                made.append(choice)
        return made

    def _say_which_seeds_are_on_no_board(self) -> None:
        asked = {(contest.variant.stable, contest.protocol) for contest in self.contests if not contest.budget}
        served = {seed for c in self.choices.values() if (c.task_set, c.protocol) in asked for seed in c.seeds}
        if served := served.intersection(self.seeds):
            log.warning(
                "seeds %s served for tuning in %s: no board there has them; --reuse %s --out ANOTHER makes one of them",
                " and ".join(map(str, sorted(served))),
                self.request.out,
                self.request.out,
            )

    def _keep(self, choice: Choice) -> None:
        """Store a choice; one that it replaces is said, as what was trained with it is on no board any more."""
        before = self.choices.get(choice.name)
        if before is not None and (before.factor, before.options) != (choice.factor, choice.options):
            which = f" {choice.tasks[0]}" if choice.method == STL else ""
            log.warning(
                "%s %s%s: %s was chosen before; runs with that are on no board any more",
                choice.task_set_label,
                choice.method_label,
                which,
                before.setting,
            )
        self.choices[choice.name] = choice
        self.store.put_choice(choice)

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

    def reported(self, rates: Round) -> list[Planned]:
        """Return the reported runs, seed by seed, baselines before methods: of the contestants that can be planned.

        At "own" a rule that only fixes weights is left out: without weights it is equal weights. The "front" has no
        contestants: what it plans is drawn, and tested against nobody.
        """
        if rates == "front":
            return self._front()
        runs: dict[str, Planned] = {}
        for seed in self.seeds:
            for contest in self.contests:
                if not (contest.budget if rates == "tuned" else self._reports_own(contest)):
                    continue
                everyone = [(None, (task,)) for task in contest.tasks] + [(rule, contest.tasks) for rule in self.rules]
                for rule, tasks in everyone:
                    contestant = self._of(contest, rule, tasks)
                    if rates == "own" and rule is not None and _draws_weights(rule):
                        continue
                    if rates == "own" or self._can_be_reported(contestant):
                        self._add(runs, contestant, seed, seed, rates)
        return list(runs.values())

    def known(self) -> list[Planned]:
        """Return the runs that can be planned now, each once: trials, then what is reported."""
        found = {run.spec.name: run for run in self.trials()}
        for rates in self.rounds:
            for run in self.reported(rates):
                found.setdefault(run.spec.name, run)
        return list(found.values())

    def _front(self) -> list[Planned]:
        """Return the runs of the front: fixed weights at the rate of equal weights, with the first seeds."""
        runs: dict[str, Planned] = {}
        for seed in self.seeds[:FRONT_SEEDS]:
            for contest in self.contests:
                equal = self._of(contest, methods.parse(REFERENCE), contest.tasks)
                choice = self.choice(equal) if contest.budget else None
                if contest.budget and choice is None:
                    continue
                setting = Setting(choice.factor) if choice is not None else Setting()
                for rule in self.fronts.get(contest.variant, ()):
                    point = self._of(contest, rule, contest.tasks)
                    self._add(runs, point, seed, seed, "tuned", setting, "reference")
        return list(runs.values())

    def _reports_own(self, contest: Contest) -> bool:
        """Whether runs at the protocol's own rate are reported."""
        return self.request.untuned or not contest.budget

    def _of(self, contest: Contest, rule: Variant | None, tasks: tuple[str, ...]) -> Contestant:
        """Return a contestant, the same object each time: it knows the name of its choice."""
        key = (contest.variant, rule, tasks)
        if key not in self._contestants:
            self._contestants[key] = Contestant(contest, rule, tasks, self.request.precision)
        return self._contestants[key]

    def _singles(self, contest: Contest) -> list[Contestant]:
        """Return single-task learning on each task."""
        return [self._of(contest, None, (task,)) for task in contest.tasks]

    # Of one contestant -------------------------------------------------------------------------------------

    def _stage(self, rule: Variant) -> int:
        """Rules whose trials build on the choice of another rule come after that."""
        return 2 if rule in self.averages else 1 if _draws_weights(rule) else 0

    def _builds_on(self, contestant: Contestant) -> list[Contestant]:
        """Return those whose choices a contestant's trials need."""
        contest, rule = contestant.contest, contestant.rule
        if rule is None:
            return []
        found = self._singles(contest)
        if _draws_weights(rule):
            found.append(self._of(contest, methods.parse(REFERENCE), contest.tasks))
        if rule in self.averages:
            found.append(self._of(contest, self.averages[rule], contest.tasks))
        return found

    def _is_open(self, contestant: Contestant, anew: bool) -> bool:
        choice = self.choices.get(contestant.choice) if anew else self.choice(contestant)
        if choice is None or choice.data != contestant.contest.built.fingerprint:
            return True
        if choice is self._before.get(choice.name):
            failed = any(attempt.run in self._to_repeat for attempt in choice.attempts)
            if failed or any(map(self._is_another, self._builds_on(contestant))):
                return True
        return anew and choice.code != self._code(contestant)

    def _is_another(self, contestant: Contestant) -> bool:
        """Whether what others build on was chosen anew, and is not what it was."""
        before, now = self._before.get(contestant.choice), self.choices.get(contestant.choice)
        return before is not None and now is not None and now is not before and before.found != now.found

    def _failed(self) -> dict[str, object]:
        """The stamps of records of runs that failed for a reason of the machine, by name."""
        return {name: self.store.stamp(name) for name, r in self.present.items() if r.result.status not in FINAL}

    def _is_to_repeat(self, name: str) -> bool:
        """Whether a run that failed is to be repeated; each is once."""
        return name in self._to_repeat and self._to_repeat[name] == self.store.stamp(name)

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
        return settings(contestant.contest.budget, spaces, len(contestant.tasks), start)

    def _choose(self, contestant: Contestant) -> Choice | None:
        """Return a contestant's choice, if all its trials are there."""
        contest, attempts = contestant.contest, []
        for setting in self._settings(contestant):
            for seed in TUNING_SEEDS:
                planned = self._add({}, contestant, seed, seed, "tuned", setting, "trial")
                record = self.present.get(planned.spec.name)
                if record is None or record.key != planned.key or self._is_to_repeat(record.name):
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
        tasks = [task for task in contest.built.tasks if task.name in contestant.tasks]
        metrics = {(task.name, name): metric for task in tasks for name, metric in task.metrics.items()}
        found = choose(
            attempts,
            self._reference(contestant, attempts),
            {key: metric.higher_is_better for key, metric in metrics.items()},
            {key: metric.constant_score for key, metric in metrics.items()},
        )
        return Choice(
            task_set=contest.variant.stable,
            task_set_label=contest.variant.label,
            method=contestant.method,
            method_label=contestant.rule.label if contestant.rule is not None else STL,
            variant=changed(contestant.rule, found["options"]).stable if contestant.rule is not None else STL,
            tasks=contestant.tasks,
            protocol=contest.protocol,
            protocol_label=contest.label(contest.protocol),
            precision=contestant.precision,
            budget=contest.budget,
            attempts=attempts,
            data=contest.built.fingerprint,
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
        sources = self.sources[contestant.contest.variant, contestant.rule]
        return digest([sources, self.versions, contestant.contest.protocol.threads, self.device])

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
        contest, rule = contestant.contest, contestant.rule
        if setting is None:
            choice = self.choice(contestant) if rates == "tuned" else None
            setting = Setting(choice.factor, choice.options) if choice is not None else Setting()
        given = rule
        if rule is not None and setting.options:
            rule = changed(rule, setting.options)
        protocol = scaled(contest.protocol, setting.factor)

        def spec(own: Variant | None, tasks: tuple[str, ...], seed: int, reads: tuple[str, ...] = ()) -> RunSpec:
            return RunSpec(
                task_set=contest.variant.stable,
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
                single = self._of(contest, None, (task,))
                read.append(self._add(runs, single, teacher_seed, seed_round, rates, role=role))
                usual.append(spec(None, (task,), teacher_seed).name)
            teachers = tuple(teacher.spec.name for teacher in read)
        if given in self.averages:
            other = self._of(contest, self.averages[given], contestant.tasks)
            read.append(self._add(runs, other, seed, seed_round, rates, role=role))
            usual.append(spec(self.averages[given], contestant.tasks, seed).name)
            average_of = read[-1].spec.name
        found = [one.spec.name for one in read]
        asked_for = spec(rule, contestant.tasks, seed, tuple(found) if found != usual else ())
        name = asked_for.name
        if name in runs:
            return runs[name]
        parts = KeyParts(
            data=contest.built.fingerprint,
            threads=protocol.threads,
            device=self.device,
            versions=self.versions,
            upstream={one.spec.name: one.key for one in read},
            sources=self.sources[contest.variant, given],
        )
        key = parts.key(name)
        todo, why = state(asked_for, parts, key, self.store, self.present.get(name), self._is_to_repeat(name))
        runs[name] = Planned(
            asked_for,
            parts,
            key,
            contest.variant,
            rule,
            contest.label(protocol),
            todo,
            why,
            seed_round,
            TUNING_SEEDS if role == "trial" else self.seeds,
            contestant.method,
            contest.protocol,
            role,
            teachers,
            average_of,
        )
        return runs[name]


def make_plan(request: Request, store: Store) -> list[Planned]:
    """Return the runs that can be planned now, each once: trials, then what is reported. Raises as `Planner`."""
    return Planner(request, store).known()


def _front(contest: Contest) -> list[Variant]:
    """The fixed weights of a contest's front: variants of the built-in rule that is nothing but weights."""
    registry = methods.registry
    name, option = next(
        (entry.name, option)
        for entry in registry.built_in().values()
        for option, space in from_json(registry.describe(entry).facts["search"]).items()
        if isinstance(space, Simplex)
    )
    return [methods.parse(f"{name}[{option}={weights}]") for weights in front_weights(len(contest.tasks))]


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


def state(
    spec: RunSpec, parts: KeyParts, key: str, store: Store, record: RunRecord | None, retry: bool
) -> tuple[bool, str]:
    """Return whether a run is to be made although the store has this record, and why."""
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
