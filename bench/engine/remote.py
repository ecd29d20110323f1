"""What a worker of a cluster does with a run: it makes it in a process of its own, whose record is written there.

The worker and the command share the folder of the records. All that travels between them is which run to make, and
what became of it.
"""

import contextlib
import importlib.metadata
import multiprocessing
import pickle
import threading
from collections.abc import Iterator
from functools import cache
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Literal, NamedTuple

from bench.engine.child import Child
from bench.engine.local import LOOK, visible_gpus
from bench.engine.process import CallError, isolated
from bench.engine.runs import environment, inherit, is_made
from bench.planning.plan import COMPOSE, TRAINING, Planned, sources_of
from bench.planning.sources import closure
from bench.store import Store, StoreError
from methods.core.registry import Variant

BUILD = 600.0
"""Seconds that a worker may take to build a task set, whose data it compares with the plan's."""


class Answer(NamedTuple):
    """What a worker says of a run."""

    worker: str
    """The worker's address."""
    kind: Literal["ended", "lost", "refused"]
    """Its record is in the store; it was lost; or this worker does not make such runs."""
    why: str = ""


def work(sent: bytes, folder: str, mark: str, timeout: float, checkpoint_every: int) -> Answer:
    """Make a run, unless the store has its record already.

    Args:
        sent: the run, a pickled `Planned`: what a worker with other code cannot read is refused in words.
        folder: of the store.
        mark: a file that the command has written there, as it is seen from that folder.
        timeout: seconds after which the run is killed.
        checkpoint_every: after how many steps the run leaves its state; 0: never.

    Raises:
        StoreError: no record can be written, as on a full disk.
    """
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()
    multiprocessing.current_process().daemon = False  # dask's workers are daemons, which may have no children
    if not (Path(folder) / mark).exists():
        return Answer(worker.address, "refused", f"the folder {folder} of the command is not there: it must be shared")
    try:
        planned = pickle.loads(sent)
    except Exception as problem:  # whatever other code makes of it
        said = f"its mtl-bench is another one ({type(problem).__name__}: {problem})"
        return Answer(worker.address, "refused", said)
    store = Store(Path(folder))
    if is_made(planned, store):
        return Answer(worker.address, "ended")
    if said := other(planned):
        return Answer(worker.address, "refused", said)
    inherit(_environment())
    with _gpus(planned) as gpus:
        child = Child(planned, store, timeout=timeout, gpus=gpus, checkpoint_every=checkpoint_every)
        while not child.over():
            task = worker.state.tasks.get(key)
            closing = worker.status.name in ("closing", "closed", "failed")  # its scheduler is gone, perhaps
            if closing or task is None or task.state == "cancelled":  # nobody waits for it any more
                child.kill()
                return Answer(worker.address, "lost", "the command has given it up")
            wait(child.handles, timeout=LOOK)
    ended = child.ended()
    return Answer(worker.address, "lost", ended.lost) if ended.record is None else Answer(worker.address, "ended")


def call(sent: bytes, timeout: float) -> Any:
    """Call a function in a process of its own. What is sent is the function with its argument, pickled.

    Raises as `isolated`.
    """
    multiprocessing.current_process().daemon = False
    function, argument = pickle.loads(sent)
    return isolated(function, argument, timeout=timeout)


def other(planned: Planned) -> str:
    """Say in which way this worker's key of a run would be another one than the plan's; nothing if it is the same."""
    parts = planned.parts
    kind, _, devices = parts.device.partition("×")
    if kind == "cuda" and len(visible_gpus()) < int(devices or 1):
        return f"it has {len(visible_gpus())} GPUs"
    try:
        with _reading:
            on_disk = sources_of(planned.task_set, planned.rule)
            sources = {name: _loaded().get(name, digest) for name, digest in on_disk.items()}
    except OSError as problem:
        return f"{problem.filename} is not there: the files of rules and task sets must be shared, too"
    versions = {name: importlib.metadata.version(name) for name in parts.versions}
    here = parts.model_copy(update={"sources": sources, "versions": versions})
    if not here.differences(parts):
        try:
            here = here.model_copy(update={"data": _data(planned.task_set, parts.data)})
        except (CallError, StoreError) as problem:
            return f"the task set {planned.task_set_label} cannot be built there: {problem}"
    if found := here.differences(parts):
        return f"it would train something else than was planned: {', '.join(found)} differs; restart it with the same"
    return ""


@cache
def _environment() -> dict[str, Any]:
    """What makes runs here. A process that has imported torch already finds it out: this one need not."""
    return isolated(_found, None, timeout=BUILD)


def _found(nothing: None) -> dict[str, Any]:
    return environment()


_reading = threading.Lock()
"""Who has it may parse code: two threads that do so at once make Python 3.11 raise SystemError."""


@cache
def _loaded() -> dict[str, str]:
    """The code of training, as the first run finds it: what forks the runs of this process loads it then, once."""
    return closure([TRAINING, COMPOSE])


@cache
def _data(variant: Variant, planned: str) -> str:
    """The fingerprint of a task set's data, asked once for each that was planned.

    The set is built in a process of its own, as somebody's code is.

    Raises:
        CallError: the set cannot be built.
    """
    return isolated(_fingerprint, variant, timeout=BUILD)


def _fingerprint(variant: Variant) -> str:
    from bench.catalogue import task_set

    return task_set(variant, tried=True).fingerprint


_taken: list[str] = []
"""The GPUs on which runs of this process execute."""
_lock = threading.Lock()


@contextlib.contextmanager
def _gpus(planned: Planned) -> Iterator[str]:
    """Give a run the GPUs that it needs of those of this worker, as `CUDA_VISIBLE_DEVICES` names them, if any."""
    kind, _, devices = planned.parts.device.partition("×")
    if kind != "cuda":
        yield ""
        return
    with _lock:
        own = visible_gpus()
        # If the worker promises more of them than it has, they are shared.
        given = sorted(own, key=_taken.count)[: int(devices or 1)]
        _taken.extend(given)
    try:
        yield ",".join(given)
    finally:
        with _lock:
            for gpu in given:
                _taken.remove(gpu)
