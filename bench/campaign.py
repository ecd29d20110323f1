"""A campaign: rounds of plan → engine → store → pages, from a request to the finished pages.

A round plans the runs that are still to be made, with what the store holds by then; they are executed, and the next
round is planned. Trials come first, then the runs that are reported; without trials there is one round.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from bench.engine.base import Engine, EngineError, Setting
from bench.engine.choose import ChosenEngine, choose
from bench.engine.schedule import execute
from bench.plain import one_line
from bench.planning.forecast import forecast
from bench.planning.plan import Planned, Planner, Round
from bench.planning.request import Names, Request
from bench.records import CostRecord, RunRecord
from bench.reuse import reuse_costs, reuse_runs
from bench.store import FOLDER, Store, StoreError, log
from bench.tuning.choose import SEEDS, Choice
from methods.core.names import UsageError
from methods.core.registry import source

if TYPE_CHECKING:
    from bench.report.board import Report


ROUNDS: dict[Round, str] = {
    "tuned": "runs at the tuned rates",
    "front": "the front of static weights",
    "own": "runs at the own rates",
}
"""What to call each round of reported runs; where nothing is tuned, those of contestants are just runs."""


class Watcher(Protocol):
    """Hears how a command goes."""

    def planned(self, runs: Sequence[Planned], forecast: Sequence[str]) -> None:
        """Hear all runs that are known before the first one, and in lines what they will take and can show."""

    def round(self, name: str, runs: Sequence[Planned], later: int) -> None:
        """Hear that a round begins, of its runs, and how many at most are to be made in later rounds.

        Those of a later round may be other ones than were known first.
        """

    def done(self, planned: Planned, record: RunRecord) -> None:
        """Hear of a finished run."""

    def chosen(self, choices: Sequence[Choice]) -> None:
        """Hear what trials have chosen."""

    def measuring(self, members: Sequence[Planned]) -> None:
        """Hear that the steps of these runs' methods are about to be measured side by side."""


@dataclass(frozen=True)
class Campaign:
    """What a request asks for, made in rounds: trials, runs at the chosen rates, a front, runs at the own rate."""

    request: Request
    store: Store
    watcher: Watcher | None = None

    @cached_property
    def engine(self) -> ChosenEngine:
        """Where runs execute; in debugging in this process.

        Raises:
            UsageError: its name or an option is wrong.
        """
        request = self.request
        chosen = choose(request.engine, workers=request.workers, timeout=request.timeout)
        return choose("inline") if request.debug else chosen

    @cached_property
    def source(self) -> Store | None:
        """The folder whose records are to be reused, if there is one.

        Raises:
            StoreError: there are no records in it.
        """
        if self.request.reuse is None:
            return None
        source = Store(Path(self.request.reuse))
        if not (source.folder / FOLDER).is_dir():
            raise StoreError(f"--reuse {self.request.reuse}: there are no records in this folder")
        return source

    def run(self) -> "Report":
        """Make all runs that are not there yet, write the pages, and return what they say.

        Raises:
            UsageError: a name, an option or a number is wrong; says what would be right.
            DataError: the data of a task set cannot be had.
            StoreError: the folder cannot be used, or records were taken away meanwhile.
            EngineError: where the runs were to execute, no run can be executed.
        """
        with self._open() as engine:
            return self._run(engine)

    def plan(self) -> tuple[list[Planned], list[str]]:
        """Return all runs that are known now, and in lines what they will take and can show. Nothing is made.

        Raises as `run`.
        """
        with self._open() as engine:
            planner = Planner(self.request, self.store, elsewhere=self.engine.cls.elsewhere)
            runs = planner.known()
            return runs, [*forecast(runs, planner.present, workers(engine, runs)), *planner.about()]

    def _open(self) -> Engine:
        request = self.request
        return self.engine.open(Setting(self.store, request.checkpoint_every, request.debug))

    def _run(self, engine: Engine) -> "Report":
        planner, request = self._plan(engine), self.request
        self._try(planner, engine, anew=False)
        planner.keep_shipped()
        reported: list[Planned] = []
        for name in planner.rounds:
            planner.present = self.store.records()
            runs = planner.reported(name)
            self._make(planner, engine, ROUNDS[name] if planner.tunes or name == "front" else "runs", runs)
            if not reported:
                if self.source is not None:
                    reuse_costs(runs, self.source, self.store)
                _measure_costs(runs, self.store, self.watcher, engine, debug=request.debug)
            reported = _by_name(reported, runs)
        return self._last_pages(reported)

    def tune(self) -> list[Choice]:
        """Make the trials alone, also where a choice is shipped or was made by other code; return all choices."""
        with self._open() as engine:
            planner = self._plan(engine, anew=True)
            self._try(planner, engine, anew=True)
        found = (planner.choices.get(contestant.choice) for contestant in planner.contestants())
        return [choice for choice in found if choice is not None]

    def _plan(self, engine: Engine, *, anew: bool = False) -> Planner:
        request, store, watcher = self.request, self.store, self.watcher
        if not self.engine.cls.in_this_process:
            _require_files(request.methods, request.tasks)
        source = self.source  # before somebody's code may leave the working folder
        planner = Planner(request, store, elsewhere=self.engine.cls.elsewhere)
        if anew and not planner.tunes:
            raise UsageError(f"nothing is tuned under protocol {request.protocol}: give --tuning 7")
        store.require_writable()
        known = planner.trials(anew=True) if anew else planner.known()
        if source is not None:
            known = reuse_runs(known, source, store)
        if watcher is not None:
            said = forecast(known, store.records(), workers(engine, known))
            watcher.planned(known, [*said, *planner.about(anew=anew)])
        return planner

    def _try(self, planner: Planner, engine: Engine, *, anew: bool) -> None:
        """Make trials and choose by them, until every contestant has a choice."""
        while True:
            chosen = planner.choose(anew=anew)
            if chosen and self.watcher is not None:
                self.watcher.chosen(chosen)
            if not (runs := planner.trials(anew=anew)):
                return
            self._make(planner, engine, "trials", runs, tuning_alone=anew)

    def _make(
        self, planner: Planner, engine: Engine, name: str, runs: Sequence[Planned], *, tuning_alone: bool = False
    ) -> None:
        """Make one round's runs that are not there, and not in the folder that is reused."""
        if self.source is not None:
            runs = reuse_runs(runs, self.source, self.store)
        if self.watcher is not None:
            self.watcher.round(name, runs, _later(planner, runs, tuning_alone=tuning_alone))
        if name != "trials":
            _as_asked(runs, self.store)
        if todo := [planned for planned in runs if planned.todo]:
            execute(todo, engine, self.store, self._done(runs, pages=name != "trials"))

    def _done(self, runs: Sequence[Planned], *, pages: bool) -> Callable[[Planned, RunRecord], None]:
        """Tell the watcher of each run, and write the pages anew as each seed completes; figures come at the end."""
        from bench.report.pages.write import write_pages
        from bench.report.tuned import from_store

        left = Counter(planned.seed_round for planned in runs if planned.todo)

        def done(planned: Planned, record: RunRecord) -> None:
            if self.watcher is not None:
                self.watcher.done(planned, record)
            left[planned.seed_round] -= 1
            if pages and not left[planned.seed_round]:
                write_pages(from_store(self.store), self.store.folder, self.store.costs(), figures=False)

        return done

    def _last_pages(self, runs: Sequence[Planned]) -> "Report":
        from bench.report.pages.write import write_pages
        from bench.report.tuned import from_store

        store, records = self.store, self.store.records()
        if gone := [planned for planned in runs if planned.spec.name not in records]:
            raise StoreError(
                f"{self.request.out}: the records of {len(gone)} of {len(runs)} runs have been taken away meanwhile; "
                "the same command makes them again"
            )
        return write_pages(from_store(store), store.folder, store.costs(), figures=self.request.figures)


def workers(engine: Engine, runs: Sequence[Planned]) -> int | None:
    """Return how many runs an engine will execute at once; None if there is none to be made."""
    todo = [planned for planned in runs if planned.todo]
    if todo:
        engine.prepare(todo)
    return engine.workers if todo else None


def _as_asked(runs: Sequence[Planned], store: Store) -> None:
    """Make a run of what was a trial, where its seed is asked for now: then it is compared."""
    for planned in runs:
        seed = planned.spec.seed
        if not planned.todo and planned.role == "run" and seed in SEEDS and seed in planned.seeds:
            record = store.get(planned.spec.name)
            if record is not None and record.provenance.role == "trial":
                provenance = record.provenance.model_copy(update={"role": "run", "seeds": planned.seeds})
                store.put(record.model_copy(update={"provenance": provenance}), None)


def _later(planner: Planner, runs: Sequence[Planned], *, tuning_alone: bool) -> int:
    """How many runs at most are to be made after these."""
    names = {planned.spec.name for planned in runs}
    known = planner.trials(anew=True) if tuning_alone else planner.known()
    waiting = sum(planned.todo and planned.spec.name not in names for planned in known)
    return waiting + planner.later(anew=tuning_alone)


def _by_name(*plans: Sequence[Planned]) -> list[Planned]:
    """Join plans; a run of several of them is as the last one says."""
    return list({planned.spec.name: planned for plan in plans for planned in plan}.values())


def _measure_costs(
    runs: Sequence[Planned], store: Store, watcher: Watcher | None, engine: Engine, *, debug: bool
) -> None:
    """Measure what a step of each method costs, where that is not known yet: one task set after another.

    It happens where runs execute.
    What a plug-in or the machine prevents is said, and the others are measured without it: their runs are there.
    """
    from bench.costs import measure, to_measure
    from bench.engine.interrupt import UserInterruptError
    from bench.engine.process import without_forks

    def attempt(members: Sequence[Planned]) -> CostRecord | str:
        try:
            with without_forks():
                return engine.call(measure, members)
        except (UserInterruptError, EngineError):
            raise
        except BaseException as problem:  # SystemExit, too: in line it is a plug-in's
            if debug:
                raise
            return one_line(str(problem) or type(problem).__name__, 300)

    for members in to_measure(runs, store.costs(), store.records(), elsewhere=engine.elsewhere):
        if watcher is not None:
            watcher.measuring(members)
        label, found = members[0].task_set_label, attempt(members)
        if isinstance(found, str):  # one of them may spoil it for all: which one is seen when each is alone
            alone = [(planned, attempt([planned])) for planned in members]
            for planned, said in alone:
                if isinstance(said, str):
                    log.warning("what a step of %s on %s costs is not known: %s", planned.method_label, label, said)
            sound = [planned for planned, said in alone if not isinstance(said, str)]
            if not sound:
                continue
            found = attempt(sound) if len(sound) < len(members) else found
        if isinstance(found, str):
            log.warning("what steps cost on %s could not be measured: %s", label, found)
        else:
            store.put_costs(found)


def _require_files(*asked: Names) -> None:
    """Refuse classes that no other process could import."""
    for item in asked:
        for cls in [item] if isinstance(item, str | type) else item:
            if isinstance(cls, type) and source(cls) is None:
                raise UsageError(f"{cls.__qualname__} is in no file: put it in one, or run with engine='inline'")
