"""Where runs execute: here, one after another."""

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

from bench.plan import Planned
from bench.records import Cost, Provenance, Result, RunRecord
from bench.store import Store

Done = Callable[[Planned, RunRecord], None]


def run_inline(runs: Iterable[Planned], store: Store, done: Done, *, debug: bool = False) -> None:
    """Execute runs in this process, in order; `done` hears of each. With `debug` a failure is raised, not recorded."""
    for planned in runs:
        done(planned, execute(planned, store, debug=debug))


def execute(planned: Planned, store: Store, *, debug: bool = False) -> RunRecord:
    """Train one run and store its record, also if it fails."""
    import torch

    from bench.training import train

    accelerator, _, devices = planned.parts.device.partition("×")
    state = None
    try:
        if missing := _missing_teacher(planned, store):
            result, cost = Result(status="skipped", reason=missing), Cost()
        else:
            teachers = [store.weights(name) for name in planned.parts.upstream]
            result, cost, state = train(planned.spec, teachers, accelerator=accelerator, devices=int(devices or 1))
    except (MemoryError, torch.OutOfMemoryError) as problem:
        if debug:
            raise
        result, cost = Result(status="out_of_memory", reason=_line(problem)), Cost()
    except Exception as problem:  # whatever a plug-in may raise: this run's failure, and nobody else's
        if debug:
            raise
        result, cost = Result(status="crashed", reason=_line(problem)), Cost()
    record = RunRecord(
        name=planned.spec.name,
        key=planned.key,
        spec=planned.spec,
        parts=planned.parts,
        task_set_label=planned.task_set_label,
        method_label=planned.method_label,
        result=result,
        cost=cost,
        provenance=provenance(),
    )
    return store.put(record, state)


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
def provenance() -> Provenance:
    """Return what made the runs of this process."""
    packages = ("mtl-bench", "torch", "numpy", "lightning-fabric", "torchmetrics")
    versions = {"python": platform.python_version()}
    for name in packages:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    hardware = {"machine": platform.machine(), "system": platform.system(), "cores": str(os.cpu_count())}
    return Provenance(commit=_commit(), versions=versions, hardware=hardware)


def _commit() -> str:
    """The checkout's commit, marked if there are changes; empty outside one."""
    folder = Path(__file__).parent
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
    return f"{type(problem).__name__}: {str(problem).partition(chr(10))[0]}{place}"
