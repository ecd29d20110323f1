"""A campaign: rounds of plan → engine → store → pages, from a request to the finished pages.

A round plans the runs that are still to be made, with what the store holds by then; they are executed, and the next
round is planned. One round of reported runs is what `run` does.
"""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from bench.plain import one_line
from bench.planning.forecast import forecast
from bench.planning.plan import Planned, make_plan
from bench.planning.request import Names, Request
from bench.records import CostRecord, RunRecord
from bench.store import Store, StoreError, log
from methods.core.names import UsageError
from methods.core.registry import source

if TYPE_CHECKING:
    from bench.report.board import Report


class Watcher(Protocol):
    """Hears how a command goes."""

    def planned(self, runs: Sequence[Planned], forecast: Sequence[str]) -> None:
        """Hear all runs that are known before the first one, and in lines what they will take and can show."""

    def round(self, name: str, runs: Sequence[Planned]) -> None:
        """Hear that a round begins, and of its runs; those of a later round may be other ones than were known first."""

    def done(self, planned: Planned, record: RunRecord) -> None:
        """Hear of a finished run."""

    def measuring(self, members: Sequence[Planned]) -> None:
        """Hear that the steps of these runs' methods are about to be measured side by side."""


@dataclass(frozen=True)
class Round:
    """A part of a campaign whose runs are planned together."""

    name: str
    plan: Callable[[Request, Store], list[Planned]]
    """Returns the runs of the round, with what the store holds. Before the first round it is called, too: then it
    returns what is known so far."""
    reported: bool = True
    """Whether the pages show its runs."""


ROUNDS = (Round("reported", make_plan),)


@dataclass(frozen=True)
class Campaign:
    """What a request asks for, made in rounds."""

    request: Request
    store: Store
    watcher: Watcher | None = None
    rounds: Sequence[Round] = ROUNDS

    def run(self) -> "Report":
        """Make the runs of all rounds that are not there yet, write the pages, and return what they say.

        Raises:
            UsageError: a name, an option or a number is wrong; says what would be right.
            DataError: the data of a task set cannot be had.
            StoreError: the folder cannot be used, or records were taken away meanwhile.
        """
        request, store, watcher = self.request, self.store, self.watcher
        if not request.inline:
            _require_files(request.methods, request.tasks)
        plans = [round.plan(request, store) for round in self.rounds]
        store.require_writable()
        known = _by_name(*plans)
        if watcher is not None:
            workers = None if request.inline else _places(known, request.workers).get("workers")
            watcher.planned(known, forecast(known, store.records(), workers))
        reported: list[Planned] = []
        for number, round in enumerate(self.rounds):
            runs = round.plan(request, store) if number else plans[0]
            if watcher is not None:
                watcher.round(round.name, runs)
            _execute(runs, store, request, self._done(runs, pages=round.reported))
            reported = _by_name(reported, runs) if round.reported else reported
        _measure_costs(reported, store, watcher, timeout=request.timeout, inline=request.inline, debug=request.debug)
        return self._last_pages(reported)

    def _done(self, runs: Sequence[Planned], *, pages: bool) -> Callable[[Planned, RunRecord], None]:
        """Tell the watcher of each run, and write the pages anew as each seed completes; figures come at the end."""
        from bench.report.pages import write_pages

        left = Counter(planned.seed_round for planned in runs if planned.todo)

        def done(planned: Planned, record: RunRecord) -> None:
            if self.watcher is not None:
                self.watcher.done(planned, record)
            left[planned.seed_round] -= 1
            if pages and not left[planned.seed_round]:
                write_pages(self.store.records().values(), self.store.folder, self.store.costs(), figures=False)

        return done

    def _last_pages(self, runs: Sequence[Planned]) -> "Report":
        from bench.report.pages import write_pages

        store, records = self.store, self.store.records()
        if gone := [planned for planned in runs if planned.spec.name not in records]:
            raise StoreError(
                f"{self.request.out}: the records of {len(gone)} of {len(runs)} runs have been taken away meanwhile; "
                "the same command makes them again"
            )
        return write_pages(records.values(), store.folder, store.costs(), figures=self.request.figures)


def _by_name(*plans: Sequence[Planned]) -> list[Planned]:
    """Join plans; a run of several of them is as the last one says."""
    return list({planned.spec.name: planned for plan in plans for planned in plan}.values())


def _execute(
    runs: Sequence[Planned], store: Store, request: Request, done: Callable[[Planned, RunRecord], None]
) -> None:
    """Make the runs that are to be made, with the engine that was asked for; `done` hears of each."""
    todo = [planned for planned in runs if planned.todo]
    if request.inline:
        from bench.engine.inline import run_inline

        run_inline(todo, store, done, checkpoint_every=request.checkpoint_every, debug=request.debug)
    elif todo:
        from bench.engine.local import run_local

        run_local(
            todo,
            store,
            done,
            **_places(todo, request.workers),
            timeout=request.timeout,
            checkpoint_every=request.checkpoint_every,
        )


def _measure_costs(
    runs: Sequence[Planned], store: Store, watcher: Watcher | None, *, timeout: float, inline: bool, debug: bool
) -> None:
    """Measure what a step of each method costs, where that is not known yet: one task set after another.

    What a plug-in or the machine prevents is said, and the others are measured without it: their runs are there.
    """
    from bench.costs import measure, to_measure
    from bench.engine.interrupt import UserInterruptError
    from bench.engine.local import isolated
    from bench.engine.process import without_forks

    take = measure if inline else partial(isolated, measure, timeout=timeout)

    def attempt(members: Sequence[Planned]) -> CostRecord | str:
        try:
            with without_forks():
                return take(members)
        except UserInterruptError:
            raise
        except BaseException as problem:  # SystemExit, too: in line it is a plug-in's
            if debug:
                raise
            return one_line(str(problem) or type(problem).__name__, 300)

    for members in to_measure(runs, store.costs(), store.records()):
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


def _places(runs: Sequence[Planned], workers: int | str) -> dict[str, Any]:
    """How many workers, and the GPUs of each where the runs want them. More workers than GPUs share them in turn."""
    todo = [planned for planned in runs if planned.todo]
    if not todo:
        return {}
    kind, _, devices = todo[0].parts.device.partition("×")
    each = int(devices or 1)
    gpus = _gpus() if kind == "cuda" else []
    places = [",".join(gpus[i : i + each]) for i in range(0, len(gpus) - each + 1, each)]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max(planned.spec.protocol.threads for planned in todo)
    most = len(places) or max(1, cores // (threads * each))
    chosen = min(int(most if workers == "auto" else workers), len(todo))
    return {"workers": chosen, "gpus": [places[i % len(places)] for i in range(chosen)] if places else []}


def _gpus() -> list[str]:
    """The GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them (by number, or by UUID)."""
    import torch

    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [name.strip() for name in visible.split(",")][:count] if visible else [str(i) for i in range(count)]
