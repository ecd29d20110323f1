"""The same door in Python as on the command line."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bench.plain import one_line
from bench.planning.forecast import forecast
from bench.planning.plan import Names, Planned, Request, make_plan
from bench.records import CostRecord, RunRecord
from bench.store import Store, log
from methods.core.names import UsageError, did_you_mean
from methods.core.registry import source

if TYPE_CHECKING:
    import pandas as pd

    from bench.report.board import Report, Rules


class Watcher(Protocol):
    """Hears how a command goes."""

    def planned(self, runs: Sequence[Planned], forecast: Sequence[str]) -> None:
        """Hear the whole plan, and in lines what it will take and can show, before the first run."""

    def done(self, planned: Planned, record: RunRecord) -> None:
        """Hear of a finished run."""

    def measuring(self, members: Sequence[Planned]) -> None:
        """Hear that the steps of these runs' methods are about to be measured side by side."""


def run(
    methods: Names = "all",
    tasks: Names = "all",
    seeds: int | str | Sequence[int] = 8,
    protocol: str = "quick",
    out: str | Path = "results/local",
    *,
    reuse: str | Path | None = None,
    precision: str = "32-true",
    accelerator: str = "auto",
    devices: int = 1,
    retry: bool = False,
    engine: str = "local",
    workers: int | str = "auto",
    timeout: float = 3600.0,
    checkpoint_every: int = 0,
    figures: bool = True,
    debug: bool = False,
    watcher: Watcher | None = None,
) -> "pd.DataFrame":
    """Train what is not there yet, write the pages to `out`, and return the leaderboard.

    Args:
        methods: variants as text ("all", "mgda[at=features],equal"), classes, or a list of both. Other processes import
            a class from its file; one without a file (of a notebook) needs the inline engine.
        tasks: as `methods`.
        seeds: how many (0, 1, …), or which (a list, or text such as "100-107").
        protocol: the recipe, as on the command line; "quick[lr=0.1]" changes one of its fields.
        precision: "32-true" or "bf16-mixed".
        accelerator: "auto", "cpu" or "cuda".
        devices: within one run.
        out: the folder of the records and pages.
        reuse: another folder of records. What it has with the same key is copied to `out`, and not trained again.
        retry: repeat runs that failed for reasons of the machine.
        engine: "local" (isolated processes) or "inline" (in this one, for debuggers).
        workers: how many processes at once; "auto" is one per core, or per GPU.
        timeout: seconds after which a run is killed; not inline.
        checkpoint_every: after how many steps a run leaves its state, from which it goes on if it is stopped; 0: never.
        figures: draw the page's figures, a third of a second each.
        debug: raise a run's failure instead of recording it.
        watcher: hears of the plan and of every finished run.

    Raises:
        UsageError: a name, an option or a number is wrong; says what would be right.
        StoreError: the folder cannot be used.
    """
    store = Store(path(out))
    _check(engine, workers, timeout, checkpoint_every, devices)
    inline = engine == "inline" or debug
    if not inline:
        _require_files(methods, tasks)
    request = Request(methods, tasks, _text(seeds), protocol, precision, accelerator, devices, retry)
    runs = make_plan(request, store)
    store.require_writable()
    source = _source(reuse) if reuse is not None else None
    if source is not None:
        from bench.reuse import reuse_runs

        reuse_runs(runs, request, source, store)
        runs = make_plan(request, store)
    todo = [planned for planned in runs if planned.todo]
    places = _places(todo, workers) if todo and not inline else {}
    if watcher is not None:
        watcher.planned(runs, forecast(runs, store.records(), places.get("workers")))
    done = _pages_by_round(runs, store, watcher)
    if inline:
        from bench.engine.inline import run_inline

        run_inline(todo, store, done, checkpoint_every=checkpoint_every, debug=debug)
    elif todo:
        from bench.engine.local import run_local

        run_local(todo, store, done, **places, timeout=timeout, checkpoint_every=checkpoint_every)
    if source is not None:
        from bench.reuse import reuse_costs

        reuse_costs(runs, source, store)
    _measure_costs(runs, store, watcher, timeout=timeout, inline=inline, debug=debug)
    return report(store.folder, figures=figures)


def _source(folder: str | Path) -> Store:
    """Return the folder whose records are to be reused."""
    from bench.store import FOLDER, StoreError

    source = Store(path(folder))
    if not (source.folder / FOLDER).is_dir():
        raise StoreError(f"--reuse {folder}: there are no records in this folder")
    return source


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


def _pages_by_round(
    runs: Sequence[Planned], store: Store, watcher: Watcher | None
) -> Callable[[Planned, RunRecord], None]:
    """Tell the watcher of each run, and write the pages anew as each seed completes; figures come at the end."""
    from bench.report.pages import write_pages

    left = Counter(planned.seed_round for planned in runs if planned.todo)

    def done(planned: Planned, record: RunRecord) -> None:
        if watcher is not None:
            watcher.done(planned, record)
        left[planned.seed_round] -= 1
        if not left[planned.seed_round]:
            write_pages(store.records().values(), store.folder, store.costs(), figures=False)

    return done


def _check(engine: str, workers: int | str, timeout: float, checkpoint_every: int, devices: int) -> None:
    if engine not in ("local", "inline"):
        raise UsageError(f"--engine '{engine}' is not offered{did_you_mean(engine, ('local', 'inline'))}")
    if workers != "auto" and not (str(workers).isdigit() and int(workers) > 0):
        raise UsageError(f"--workers '{workers}': write auto, or how many")
    if not timeout > 0:
        raise UsageError(f"--timeout {timeout:g}: write seconds above 0")
    if checkpoint_every < 0:
        raise UsageError(f"--checkpoint-every {checkpoint_every}: write a number of steps, or 0 for never")
    if checkpoint_every and devices > 1:
        raise UsageError(f"--checkpoint-every works on one device, and --devices is {devices}: leave one of them out")


def _require_files(*asked: Names) -> None:
    """Refuse classes that no other process could import."""
    for item in asked:
        for cls in [item] if isinstance(item, str | type) else item:
            if isinstance(cls, type) and source(cls) is None:
                raise UsageError(f"{cls.__qualname__} is in no file: put it in one, or run with engine='inline'")


def _places(todo: Sequence[Planned], workers: int | str) -> dict[str, Any]:
    """How many workers, and the GPUs of each where the runs want them. More workers than GPUs share them in turn."""
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


def report(
    source: str | Path,
    out: str | Path | None = None,
    *,
    margin: float = 1.0,
    correction: str = "max-t",
    figures: bool = True,
) -> "pd.DataFrame":
    """Rebuild every page from the records of a folder, or from a tidy CSV file; return the leaderboard.

    Args:
        source: a folder of records, or anybody's file with a row per metric of each run (its columns are
            `bench.report.runs.NEEDED`).
        out: where the pages go; by default into that folder, or beside the file into `NAME-report`.
        margin: points of Δ task within which two methods are called equivalent.
        correction: for the family of all methods, "max-t" or "holm".
        figures: draw the page's figures, a third of a second each.

    Raises:
        UsageError: there is no such margin or correction.
        StoreError: there is no record, or the file is not such a one.
    """
    from bench.report.table import leaderboard

    return leaderboard(publish(source, out, margin=margin, correction=correction, figures=figures))


def publish(source: str | Path, out: str | Path | None, *, margin: float, correction: str, figures: bool) -> "Report":
    """Rebuild every page and return all that they say. Arguments and errors are those of `report`."""
    from bench.report.pages import write_pages

    rules = _rules(margin, correction)
    records, measured = _read(path(source))
    return write_pages(records, pages_folder(source, out), measured, rules=rules, figures=figures)


def compare(source: str | Path) -> "Report":
    """Return all that the pages of a folder, or of a tidy CSV file, say, without writing them. Raises as `report`."""
    from bench.report.analyse import analyse

    return analyse(*_read(path(source)))


def _rules(margin: float, correction: str) -> "Rules":
    from bench.report.board import CORRECTIONS, Rules

    if not margin > 0:
        raise UsageError(f"--margin {margin:g}: write points above 0")
    if correction not in CORRECTIONS:
        raise UsageError(f"--correction '{correction}' is not offered{did_you_mean(correction, CORRECTIONS)}")
    return Rules(margin, correction)


def pages_folder(source: str | Path, out: str | Path | None = None) -> Path:
    """Return where the pages of a folder or file go."""
    if out is not None:
        return path(out)
    there = path(source)
    return there.with_name(f"{there.stem}-report") if there.is_file() else there


def path(text: str | Path) -> Path:
    """Return a path that somebody wrote, its tilde expanded: a shell leaves that of `--out=~/x` as it is.

    Raises:
        UsageError: the tilde names a user that there is not.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UsageError(f"{text}: there is no such user: write the whole path") from None


def _read(source: Path) -> tuple[list[RunRecord], list[CostRecord]]:
    from bench.store import StoreError

    if source.is_file():
        from bench.report.given import read_tidy

        return read_tidy(source), []
    if source.suffix == ".csv" and not source.exists():
        raise StoreError(f"there is no file {source}")
    store = Store(source)
    records = list(store.records().values())
    if not records:
        raise StoreError(f"{source} has no records: python -m bench run --out {source} makes them")
    return records, store.costs()


def _text(seeds: int | str | Sequence[int]) -> str:
    """Write seeds as on the command line."""
    return str(seeds) if isinstance(seeds, str | int) else ",".join(f"{seed}-{seed}" for seed in seeds)
