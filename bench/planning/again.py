"""Plans runs that a folder of records, or a tidy CSV file, already has: what would make each of them again.

A record says itself what was asked for. A tidy file says less: its labels name task set, method, protocol and seed, and
learning rates come from the choices, as in the command that made the file.
"""

import csv
import importlib.metadata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import methods
from bench.catalogue import parse_task_set, task_set
from bench.planning.asked import require_data
from bench.planning.plan import LIBRARIES, Planned, Planner, sources_of
from bench.planning.request import Request
from bench.records import REFERENCE, KeyParts, RunRecord
from bench.report.pages.csv import as_meant
from bench.report.scores import Run
from bench.spec import STL
from bench.store import Store, StoreError
from methods.core.names import UsageError, split
from methods.core.registry import Variant
from methods.core.rules import reads_average
from tasks.core.errors import DataError

Plan = Planned | str
"""The run as it would be made again; or why it cannot be."""
PRECISIONS = ("32-true", "bf16-mixed")


def plan_records(records: Mapping[str, RunRecord]) -> dict[str, Plan]:
    """Plan each record's run, by name, with the code, the data and the machine that are here.

    Raises:
        StoreError: records read each other in a circle, as no run can.
    """
    found: dict[str, Plan] = {}
    order = TopologicalSorter({name: record.parts.upstream.keys() for name, record in records.items()})
    try:
        names = list(order.static_order())
    except ValueError as problem:  # CycleError is one
        raise StoreError(f"these records read each other in a circle: {', '.join(problem.args[1])}") from None
    for name in names:
        found[name] = _planned(records[name], found) if name in records else "its record is not there"
    return {name: found[name] for name in records}


def _planned(record: RunRecord, found: Mapping[str, Plan]) -> Plan:
    """Plan one record's run; those that it reads are planned already."""
    spec = record.spec
    known = _variants(spec.task_set, spec.method)
    if isinstance(known, str):
        return known
    variant, rule, data, tasks = known
    if gone := set(spec.tasks) - set(tasks):
        return f"{variant.label} has no task {min(gone)} any more"
    read = []
    for name in record.parts.upstream:
        other = found[name]
        if isinstance(other, str):
            return f"it reads the run {name[:10]}: {other}"
        read.append(other)
    singles = {other.spec.tasks[0]: other.spec.name for other in read if other.spec.method == STL}
    distils = rule is not None and methods.reads_teachers(rule) is not None
    if distils and set(singles) != set(spec.tasks):
        return "it distils networks that its record does not name"
    averaged = [other.spec.name for other in read if other.spec.method != STL]
    if (rule is not None and reads_average(rule) is not None) != (len(averaged) == 1):
        return "its record does not name the run whose average weights it fixes"
    parts = KeyParts(
        data=data,
        threads=spec.protocol.threads,
        device=_device(record.parts.device),
        versions=_versions(),
        upstream={other.spec.name: other.key for other in read},
        sources=_sources(variant, rule),
    )
    return Planned(
        spec,
        parts,
        parts.key(record.name),
        variant,
        rule,
        record.protocol_label or spec.protocol.name,
        todo=True,
        why="to be compared with its record",
        seed_round=spec.seed,
        seeds=record.provenance.seeds,
        asked_method=spec.method,
        asked_protocol=spec.protocol,
        role=record.provenance.role,
        teachers=tuple(singles[task] for task in spec.tasks) if distils else (),
        average_of=averaged[0] if averaged else "",
    )


@cache
def _variants(set_name: str, method: str) -> tuple[Variant, Variant | None, str, tuple[str, ...]] | str:
    """Return task set and rule (None for single-task learning), the data's fingerprint and the tasks; or what is wrong.

    Both are as records write them. One that would be written in another way now is another one.
    """
    try:
        variant = parse_task_set(set_name)
        rule = methods.parse(method) if method != STL else None
        for now, before in ((variant, set_name), (rule, method)):
            if now is not None and now.stable != before:
                return f"{before} is {now.stable} now"
        require_data(variant)
        built = task_set(variant)
        return variant, rule, built.fingerprint, tuple(task.name for task in built.tasks)
    except (UsageError, DataError) as problem:
        return str(problem)


_sources = cache(sources_of)


@cache
def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


def _device(recorded: str) -> str:
    """The kind of device that a run was made on, if it is here; else the CPU."""
    import torch

    kind, _, devices = recorded.partition("×")
    is_here = kind != "cuda" or torch.cuda.device_count() >= int(devices or 1)
    return recorded if is_here else recorded.replace("cuda", "cpu")


def plan_table(runs: Iterable[Run], folder: Path) -> tuple[list[tuple[Run, Plan]], dict[str, Planned]]:
    """Plan the runs of a table that was read from a tidy file.

    Rates are those of the choices in the folder, else of those that the package ships. If the folder has a
    `leaderboard.csv`, that says whether there were choices; a run that had another rate there cannot be made again.

    Returns:
        Each run with its plan; and everything that is planned by name, with the runs that others read.
    """
    boards: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        boards[run.set_name].append(run)
    rates = _rates(folder / "leaderboard.csv")
    found: list[tuple[Run, Plan]] = []
    everything: dict[str, Planned] = {}
    for label, own in boards.items():
        planned = _board(label, own, folder, rates)
        if isinstance(planned, str):
            found += [(run, planned) for run in own]
            continue
        everything |= {one.spec.name: one for one in planned.values()}
        found += [(run, _in_plan(run, planned, rates)) for run in own]
    return found, everything


Rates = Mapping[tuple[str, str], str]
"""By task set and method, the multiple of the protocol's rate as `leaderboard.csv` has it; empty without a choice."""
Contestant = tuple[str, int, tuple[str, ...]]
"""Stable form of the method, seed, and the task of a single-task network."""


def _rates(board: Path) -> Rates:
    try:
        with board.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error):
        return {}
    return {
        (as_meant(row.get("task_set") or ""), as_meant(row.get("method") or "")): row.get("lr_factor") or ""
        for row in rows
    }


def _board(label: str, runs: Iterable[Run], folder: Path, rates: Rates) -> dict[Contestant, Planned] | str:
    """Plan all runs of one task set as the command would that made them; or say why that cannot be."""
    try:
        name, *more = split(label, "@")
        asked = {"tasks": name}
        for word in more:
            if word.startswith("tuning="):
                asked["tuning"] = word.removeprefix("tuning=")
            else:
                asked["precision" if word in PRECISIONS else "protocol"] = word
        if any(own == label for own, _ in rates) and not any(rates[key] for key in rates if key[0] == label):
            asked["tuning"] = "none"
        wanted = list(runs)
        rules = [stable for method in {run.method for run in wanted} - {STL} if (stable := _stable(method))]
        request = Request(methods=rules or REFERENCE, seeds=sorted({run.seed for run in wanted}), out=folder, **asked)
        planner = Planner(request, Store(folder))
        planned = planner.reported("tuned" if planner.tunes else "own")
    except (UsageError, DataError) as problem:
        return str(problem)
    return {(one.asked_method, one.spec.seed, _task(one.spec.tasks, one.spec.method)): one for one in planned}


def _task(tasks: tuple[str, ...], method: str) -> tuple[str, ...]:
    return tasks if method == STL else ()


def _stable(method: str) -> str:
    """The stable form of a method as a table calls it; empty if there is no such method."""
    try:
        return methods.parse(method).stable if method != STL else STL
    except UsageError:
        return ""


def _in_plan(run: Run, planned: Mapping[Contestant, Planned], rates: Rates) -> Plan:
    """Find a table's run in the plan of its task set; or say why it is not there."""
    if run.role not in ("contestant", "remainder"):
        return "points of a curve are not made again from a table: only from records"
    stable = _stable(run.method)
    if not stable:
        return f"there is no method {run.method} here"
    found = planned.get((stable, run.seed, _task(run.tasks, run.method)))
    if found is None:
        return "no choice of its learning rate is there or shipped, or its task is not in the set any more"
    ours = found.spec.protocol.lr / found.asked_protocol.lr
    theirs = rates.get((run.set_name, run.method), "")
    if run.method == STL:
        theirs = dict(word.partition("=")[::2] for word in theirs.split()).get(run.tasks[0], "")
    if theirs and f"{float(theirs):.6g}" != f"{ours:.6g}":
        return f"it was trained at {theirs} times the protocol's rate, and the choice that is here says {ours:g}"
    return found
