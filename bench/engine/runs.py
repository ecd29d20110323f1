"""Executes one run in this process, and writes the record of its result or its failure.

It imports torch when a run begins: to choose an engine, a command need not pay for that.
"""

import contextlib
import importlib.metadata
import os
import platform
import subprocess
import traceback
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from bench.catalogue import task_set
from bench.engine.interrupt import UserInterruptError
from bench.engine.process import without_forks
from bench.planning.plan import Planned
from bench.records import FINAL, Provenance, RunRecord
from bench.spec import STL, Cost, Result, Status
from bench.store import Store, StoreError
from methods.core.average import Average
from methods.core.rules import heads, reads_average

LOG_LINES = 60
"""How much of a failed run's log its record keeps: a dump of the stack is about 40 lines."""
LOG_BYTES = 1 << 20
"""How long a log may become. The end of a longer one is kept."""


def train_run(
    planned: Planned, store: Store, *, checkpoint_every: int = 0, debug: bool = False, tried: bool = False
) -> RunRecord:
    """Train one run in this process and store its record, also if it fails.

    With `checkpoint_every` it leaves its state after so many steps, and goes on from one that it finds. With `tried`
    the parts of the task set are not tried on each other again.
    """
    from bench.checkpoint import Checkpoint
    from bench.training.loop import train
    from methods.core.compose import compose

    checkpoint = Checkpoint(store.checkpoint(planned.spec.name), planned.key, checkpoint_every)

    accelerator, _, devices = planned.parts.device.partition("×")
    try:
        if missing := _missing(planned, store):
            return store.put(_failed(planned, "skipped", missing), None)
        teachers = [store.weights(name) for name in planned.teachers]
        with without_forks():
            result, cost, state = train(
                planned.spec,
                partial(task_set, planned.task_set, tried),
                partial(compose, planned.rule.parts, average=_average(planned, store)) if planned.rule else None,
                teachers,
                accelerator=accelerator,
                devices=int(devices or 1),
                checkpoint=checkpoint if checkpoint_every else None,
            )
    except (StoreError, UserInterruptError):  # a full disk, say, or Ctrl-C: no failure of this run
        raise
    except BaseException as problem:  # whatever a plug-in may raise, SystemExit too: this run's failure, nobody else's
        if debug:
            raise
        status: Status = "out_of_memory" if _is_memory(problem) else "crashed"
        log = traceback.format_exc().splitlines()[-LOG_LINES:]
        return store.put(_failed(planned, status, _line(problem), log), None)
    record = store.put(_record(planned, result, cost), state)
    checkpoint.remove()
    return record


def record_failure(planned: Planned, status: Status, reason: str, store: Store) -> RunRecord:
    """Store the record of a run that left none, with the last lines of its log, and return it.

    Raises:
        StoreError: it cannot be written.
    """
    return store.put(_failed(planned, status, reason, _tail(store.log(planned.spec.name))), None)


def record_since(before: tuple[int, int] | None, planned: Planned, store: Store) -> RunRecord | None:
    """Return the record that a run has left since the stamp of its record was `before`; None if it left none.

    A result that was there before counts too: another command on this folder has made it.
    """
    record = store.get(planned.spec.name)
    if record is None or record.key != planned.key:
        return None
    return record if store.stamp(record.name) != before or is_made(planned, store) else None


def is_made(planned: Planned, store: Store) -> bool:
    """Whether the store has a result of this run, complete, so that it need not be made again."""
    record = store.get(planned.spec.name)
    if record is None or record.key != planned.key or record.result.status not in FINAL:
        return False
    if record.result.status == "skipped":
        return not planned.parts.upstream  # what it lacked may be there by now
    return planned.spec.method != STL or record.result.status != "ok" or store.has_weights(record)


def shorten(log: Path) -> None:
    """Keep the end of a log that has become too long. Its writer appends, so that it goes on behind that."""
    with contextlib.suppress(OSError):
        if log.stat().st_size > LOG_BYTES and log.is_file():
            with log.open("r+b") as stream:
                stream.seek(-LOG_BYTES // 2, os.SEEK_END)
                kept = stream.read(LOG_BYTES // 2)
                stream.seek(0)
                stream.truncate()
                stream.write(kept)


def _tail(log: Path) -> list[str]:
    """The last lines of a log, if there is one."""
    shorten(log)
    with contextlib.suppress(OSError):
        if log.is_file():
            return log.read_text("utf-8", errors="replace").splitlines()[-LOG_LINES:]
    return []


def _failed(planned: Planned, status: Status, reason: str, log: Sequence[str] = ()) -> RunRecord:
    """The record of a run that gave no result."""
    return _record(planned, Result(status=status, reason=reason), Cost(), log)


def _record(planned: Planned, result: Result, cost: Cost, log: Sequence[str] = ()) -> RunRecord:
    return RunRecord(
        name=planned.spec.name,
        key=planned.key,
        spec=planned.spec,
        parts=planned.parts,
        task_set_label=planned.task_set_label,
        method_label=planned.method_label,
        protocol_label=planned.protocol_label,
        result=result,
        cost=cost,
        provenance=Provenance(**environment(), seeds=planned.seeds, role=planned.role),
        log=tuple(log),
    )


def _is_memory(problem: BaseException) -> bool:
    from torch import OutOfMemoryError

    # On the CPU torch says it in words: "DefaultCPUAllocator: can't allocate memory".
    return isinstance(problem, MemoryError | OutOfMemoryError) or "t allocate memory" in str(problem)


def _missing(planned: Planned, store: Store) -> str:
    """Say which run that this one reads has failed; nothing if none did."""
    for name in (*planned.teachers, *filter(None, [planned.average_of])):
        record = store.get(name)
        status = "missing" if record is None else record.result.status
        if name == planned.average_of:
            if status != "ok":
                return f"the rule whose weights it fixes is {status}"
            assert record is not None
            if record.result.mean_weights is None:
                return f"{record.method_label} has no weights that could be fixed"
        elif record is None or status != "ok" or not store.has_weights(record):
            task = "" if record is None else f" of task {record.spec.tasks[0]}"
            return f"its teacher{task} is {status}"
    return ""


def _average(planned: Planned, store: Store) -> Average | None:
    """Return the average weights that a run fixes, if its rule does."""
    other = reads_average(planned.rule) if planned.rule is not None else None
    record = store.get(planned.average_of) if other is not None else None
    if other is None or record is None or record.result.mean_weights is None:
        return None
    weights = tuple(record.result.mean_weights[task] for task in planned.spec.tasks)
    return Average(weights, heads(other))


def environment() -> dict[str, Any]:
    """Return what made the runs of this process: commit, versions, hardware."""
    return _inherited or _environment()


_inherited: dict[str, Any] = {}


def inherit(found: dict[str, Any]) -> None:
    """Take over what a process of the same machine and code found: to ask anew takes longer than a process to start."""
    _inherited.update(found)


@cache
def _environment() -> dict[str, Any]:
    import torch

    packages = ("mtl-bench", "torch", "numpy", "lightning-fabric", "torchmetrics")
    versions = {"python": platform.python_version()}
    for name in packages:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    hardware = {"machine": platform.machine(), "system": platform.system(), "processor": _processor()}
    hardware["cores"] = str(os.cpu_count())
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)  # a worker sees no other
        hardware |= {"gpu": card.name, "gpu memory": f"{card.total_memory / 2**30:.0f} GiB"}
        versions["cuda"] = str(torch.version.cuda)
    found = {"commit": commit(Path(__file__).parent), "versions": versions, "hardware": hardware}
    return {**found, "host": platform.node()}


def _processor() -> str:
    """The processor's name, where the system tells."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor()


def commit(folder: Path) -> str:
    """Return the commit of the checkout around a folder, marked if there are changes; empty outside a checkout."""
    git = ["git", "-C", str(folder)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        change = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f"{head}+changes" if change.strip() else head


def _line(problem: BaseException) -> str:
    """A failure in one line, with the place it came from."""
    trace = problem.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" ({Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno})" if trace is not None else ""
    said = f"{type(problem).__name__}: {str(problem).partition(chr(10))[0]}".removesuffix(": ")
    return f"{said}{place}"
