"""The same door in Python as on the command line."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from bench.plan import Planned, Request, make_plan
from bench.records import RunRecord
from bench.store import Store

if TYPE_CHECKING:
    import pandas as pd


class Watcher(Protocol):
    """Hears how a command goes."""

    def planned(self, runs: Sequence[Planned]) -> None:
        """Hear the whole plan, before the first run."""

    def done(self, planned: Planned, record: RunRecord) -> None:
        """Hear of a finished run."""


def run(
    methods: str | Sequence[str] = "all",
    tasks: str | Sequence[str] = "all",
    seeds: int | str | Sequence[int] = 8,
    protocol: str = "quick",
    out: str | Path = "results/local",
    *,
    precision: str = "32-true",
    accelerator: str = "auto",
    devices: int = 1,
    retry: bool = False,
    debug: bool = False,
    watcher: Watcher | None = None,
) -> "pd.DataFrame":
    """Train what is not there yet, write the pages to `out`, and return the leaderboard.

    Args:
        methods, tasks: variants, or "all".
        seeds: how many (0, 1, …), or which (a list, or text such as "100-107").
        protocol, precision, accelerator, devices: as on the command line.
        out: the folder of the records and pages.
        retry: repeat runs that failed for reasons of the machine.
        debug: raise a run's failure instead of recording it.
        watcher: hears of the plan and of every finished run.

    Raises:
        NameProblem: a name, an option or a number is wrong; says what would be right.
        StoreProblem: the folder cannot be used.
    """
    store = Store(Path(out))
    request = Request(_text(methods), _text(tasks), _text(seeds), protocol, precision, accelerator, devices, retry)
    runs = make_plan(request, store)
    if watcher is not None:
        watcher.planned(runs)
    execute_plan(runs, store, (lambda planned, record: None) if watcher is None else watcher.done, debug=debug)
    return report(out)


def execute_plan(
    runs: Sequence[Planned], store: Store, done: Callable[[Planned, RunRecord], None], *, debug: bool = False
) -> None:
    """Make the runs that are not there, seed by seed; after each seed the pages are written anew."""
    from bench.engine import run_inline
    from bench.report.pages import write_pages

    for seed in sorted({planned.turn for planned in runs}):
        todo = [planned for planned in runs if planned.todo and planned.turn == seed]
        if todo:
            run_inline(todo, store, done, debug=debug)
            write_pages(store.records().values(), store.folder)


def report(folder: str | Path) -> "pd.DataFrame":
    """Rebuild every page of a folder from its records, without training; return the leaderboard.

    Raises:
        StoreProblem: there is no record, or a file is not one.
    """
    from bench.report.pages import write_pages
    from bench.store import StoreProblem

    store = Store(Path(folder))
    records = store.records()
    if not records:
        raise StoreProblem(f"{folder} has no records: python -m bench run --out {folder} makes them")
    return write_pages(records.values(), store.folder)


def _text(value: int | str | Sequence[int] | Sequence[str]) -> str:
    """Write a Python argument as on the command line."""
    if isinstance(value, str | int):
        return str(value)
    return ",".join(f"{item}-{item}" if isinstance(item, int) else item for item in value)
