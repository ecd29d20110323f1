"""The Python API: the operations of the command line as functions."""

from dataclasses import astuple
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.campaign import Campaign, Watcher
from bench.planning.request import Request, arguments, path, signature
from bench.records import CostRecord
from bench.spec import STL
from bench.store import Store
from methods.core.names import UsageError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

    from bench.report.board import Report, Rules
    from bench.report.scores import Scores


def run(*positional: Any, **named: Any) -> "pd.DataFrame":  # noqa: D103 - its docstring is made below
    given = run.__signature__.bind(*positional, **named).arguments  # type: ignore[attr-defined]
    watcher = given.pop("watcher", None)
    request = Request(**given)
    from bench.report.pages.csv import leaderboard

    return leaderboard(Campaign(request, Store(request.folder), watcher).run())


run.__signature__ = signature(  # type: ignore[attr-defined]
    "pd.DataFrame",
    watcher=Parameter("watcher", Parameter.KEYWORD_ONLY, default=None, annotation=Watcher | None),
)
run.__doc__ = f"""Train what is not there yet, write the pages to `out`, and return the leaderboard.

Args:
{arguments()}
    watcher: an object that hears of the plan and of every finished run (see `bench.campaign.Watcher`).

Raises:
    UsageError: a name, an option or a number is wrong; says what would be right.
    DataError: the data of a task set cannot be had, or is not what it declares.
    StoreError: the folder cannot be used.
"""


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
            `bench.report.scores.NEEDED`).
        out: where the pages go; by default into that folder, or beside the file into `NAME-report`.
        margin: points of Δ task within which two methods are called equivalent.
        correction: for the family of all methods, "max-t" or "holm".
        figures: draw the page's figures, a third of a second each.

    Raises:
        UsageError: there is no such margin or correction.
        StoreError: there is no record, or the file is not such a one.
    """
    from bench.report.pages.csv import leaderboard

    return leaderboard(publish(source, out, margin=margin, correction=correction, figures=figures))


def publish(source: str | Path, out: str | Path | None, *, margin: float, correction: str, figures: bool) -> "Report":
    """Rebuild every page and return all that they say. Arguments and errors are those of `report`."""
    from bench.report.pages.write import write_pages

    rules = _rules(margin, correction)
    scores, measured = _read(path(source))
    return write_pages(scores, pages_folder(source, out), measured, rules=rules, figures=figures)


def compare(source: str | Path) -> "Report":
    """Return all that the pages of a folder, or of a tidy CSV file, say, without writing them. Raises as `report`."""
    from bench.report.analyse import analyse

    return analyse(*_read(path(source)))


def versus(source: str | Path, method: str, *, margin: float = 1.0, correction: str = "max-t") -> "pd.DataFrame":
    """Compare all methods of a folder, or of a tidy CSV file, with one of them.

    Args:
        source: a folder of records, or anybody's file, as in `report`.
        method: the reference, as the leaderboard writes it: `static`, `mgda[at=features]`.
        margin: points of Δ task within which two methods are called equivalent.
        correction: for the family of all other methods, "max-t" or "holm".

    Returns:
        A row per task set and method, those over all task sets first: `task_set`, `method`, `difference`, `low`, `high`
        (points of Δ task, positive where the method is better than the reference), `p`, `verdict`, `wins`, `pairs`.

    Raises:
        UsageError: there is no such method, or it can be compared with none; no such margin or correction.
        StoreError: there is no record, or the file is not such a one.
    """
    import pandas as pd

    from bench.report.analyse import versus as compare_with

    rules = _rules(margin, correction)
    scores, _ = _read(path(source))
    there = sorted({run.method for run in scores.runs if run.role == "contestant"} - {STL})
    if method == STL:
        raise UsageError(f"versus {STL}: the leaderboard compares every method with single-task learning (Δ task)")
    if method not in there:
        raise UsageError(f"versus '{method}': there are no runs of it here{did_you_mean(method, there)}")
    found = compare_with(scores, method, rules)
    if not found:
        raise UsageError(f"versus {method}: on no task set can it be compared with another method")
    columns = ("task_set", "method", "difference", "low", "high", "p", "verdict", "wins", "pairs")
    rows = [
        (label, other, *astuple(own.difference), own.p, own.verdict, own.wins, own.pairs)
        for label, family in found.items()
        for other, own in sorted(family.items(), key=lambda item: -item[1].difference.mean)
    ]
    return pd.DataFrame(rows, columns=columns)


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


def _read(source: Path) -> "tuple[Scores, list[CostRecord]]":
    from bench.report.tuned import from_store
    from bench.store import StoreError

    if source.is_file():
        from bench.report.given import read_tidy

        return read_tidy(source), []
    if source.suffix == ".csv" and not source.exists():
        raise StoreError(f"there is no file {source}")
    store = Store(source)
    scores = from_store(store)
    if not scores.runs:
        raise StoreError(f"{source} has no records: python -m bench run --out {source} makes them")
    return scores, store.costs()
