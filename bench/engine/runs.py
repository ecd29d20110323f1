"""One run: its training, its failures, its record."""

import contextlib
import importlib.metadata
import os
import platform
import subprocess
import traceback
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import OutOfMemoryError

from bench.catalogue import task_set
from bench.engine.interrupt import UserInterruptError
from bench.engine.process import without_forks
from bench.planning.plan import Planned
from bench.records import Provenance, RunRecord
from bench.spec import Cost, Result, Status
from bench.store import Store, StoreError

LOG_LINES = 60
"""How much of a failed run's log its record keeps: a dump of the stack is about 40 lines."""

Done = Callable[[Planned, RunRecord], None]


def execute(planned: Planned, store: Store, *, checkpoint_every: int = 0, debug: bool = False) -> RunRecord:
    """Train one run in this process and store its record, also if it fails.

    With `checkpoint_every` it leaves its state after so many steps, and goes on from one that it finds.
    """
    from bench.checkpoint import Checkpoint
    from bench.training.loop import train
    from methods.core.compose import compose

    checkpoint = Checkpoint(store.checkpoint(planned.spec.name), planned.key, checkpoint_every)

    accelerator, _, devices = planned.parts.device.partition("×")
    try:
        if missing := _missing_teacher(planned, store):
            return store.put(failed(planned, "skipped", missing), None)
        teachers = [store.weights(name) for name in planned.parts.upstream]
        with without_forks():
            result, cost, state = train(
                planned.spec,
                partial(task_set, planned.task_set),
                partial(compose, planned.rule.parts) if planned.rule is not None else None,
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
        return store.put(failed(planned, status, _line(problem), log), None)
    record = store.put(_record(planned, result, cost), state)
    checkpoint.remove()
    return record


def failed(planned: Planned, status: Status, reason: str, log: Sequence[str] = ()) -> RunRecord:
    """Return the record of a run that gave no result."""
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
        provenance=Provenance(**environment(), seeds=planned.seeds),
        log=tuple(log),
    )


def _is_memory(problem: BaseException) -> bool:
    # On the CPU torch says it in words: "DefaultCPUAllocator: can't allocate memory".
    return isinstance(problem, MemoryError | OutOfMemoryError) or "t allocate memory" in str(problem)


def _missing_teacher(planned: Planned, store: Store) -> str:
    """Say which baseline that the run reads failed; nothing if none did."""
    for name in planned.parts.upstream:
        record = store.get(name)
        if record is None or record.result.status != "ok" or not store.has_weights(record):
            status = "missing" if record is None else record.result.status
            task = "" if record is None else f" of task {record.spec.tasks[0]}"
            return f"its teacher{task} is {status}"
    return ""


@cache
def environment() -> dict[str, Any]:
    """Return what made the runs of this process: commit, versions, hardware."""
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
    return {"commit": commit(Path(__file__).parent), "versions": versions, "hardware": hardware}


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
