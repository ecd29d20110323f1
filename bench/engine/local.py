"""Runs in isolated processes on this machine, one run each: a crash, a hang or a kill is that run's and nobody else's.

Each run gets a fresh process, forked from a server that has imported what every run needs, so that it starts in a
tenth of a second; where there is no such server (Windows), a spawned one.
"""

import concurrent.futures
import contextlib
import ctypes
import faulthandler
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from pebble import ProcessExpired, ProcessPool

from bench.engine.runs import LOG_LINES, Done, execute, failed
from bench.forecast import seconds_of_similar, similar
from bench.plan import Planned
from bench.records import FINAL, RunRecord
from bench.spec import Status
from bench.store import Store, StoreError

Argument = TypeVar("Argument")
Returned = TypeVar("Returned")

PRELOADED = ["bench.training.loop", "torch._dynamo", "sklearn.datasets", "bench.engine.local"]


def run_local(
    runs: Sequence[Planned],
    store: Store,
    done: Done,
    *,
    workers: int,
    timeout: float,
    gpus: Sequence[str] = (),
    checkpoint_every: int = 0,
) -> None:
    """Execute runs on so many workers; `done` hears of each as it ends.

    Turns are taken in order; within one the longest run first, by what the store remembers of its like; a run waits
    for the baselines that it reads. One that takes more than `timeout` seconds is killed. With `gpus` each worker has
    one of them.
    """
    waiting = deque(longest_first(runs, store.records()))
    running: dict[Future[None], Planned] = {}
    free = list(gpus) or [""] * workers
    held: dict[Future[None], str] = {}
    pool = _pool(len(free))
    try:
        while waiting or running:
            busy = {planned.spec.name for planned in [*waiting, *running.values()]}
            ready = (planned for planned in waiting if busy.isdisjoint(planned.parts.upstream))
            if free and (planned := next(ready, None)) is not None:
                waiting.remove(planned)
                given = planned, store.folder, free[-1], checkpoint_every
                future: Future[None] = pool.schedule(_work, given, timeout=timeout)
                running[future], held[future] = planned, free.pop()
                continue
            ended, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in ended:
                planned = running.pop(future)
                free.append(held.pop(future))
                done(planned, _outcome(future, planned, store, timeout))
    finally:
        # Also on Ctrl-C: what is finished is stored; what is not is killed, and left for the next time.
        pool.stop()
        pool.join()


def isolated(function: Callable[[Argument], Returned], argument: Argument, *, timeout: float) -> Returned:
    """Call a function in a process of its own, and return what it returns; raise what it raises."""
    pool = _pool(1)
    try:
        future: Future[Returned] = pool.schedule(_quietly, (function, argument), timeout=timeout)
        return future.result()
    finally:
        pool.stop()
        pool.join()


def _pool(workers: int) -> ProcessPool:
    """A pool whose processes take one task each."""
    # For the server and its children; a run sets its own number of threads when it starts.
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if "forkserver" in methods:
        context.set_forkserver_preload(PRELOADED)
    return ProcessPool(max_workers=workers, max_tasks=1, initializer=_begin, context=context)


def _quietly(function: Callable[[Argument], Returned], argument: Argument) -> Returned:
    """Call a function whose process prints nothing: torch's profiler talks."""
    with open(os.devnull, "wb") as nowhere:
        for descriptor in (1, 2):
            os.dup2(nowhere.fileno(), descriptor)
    return function(argument)


def longest_first(runs: Sequence[Planned], known: Mapping[str, RunRecord]) -> list[Planned]:
    """Order runs by turn, then by how long the like of them took, as far as records tell, else as planned."""
    seconds = seconds_of_similar(known)

    def order(planned: Planned) -> tuple[int, float]:
        return planned.seed_round, -seconds.get(similar(planned.spec), 0.0)

    return sorted(runs, key=order)


def _begin() -> None:
    """Make a worker die when it is told to, even inside C, and when the server that forked it dies."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            parent_death_signal = 1  # PR_SET_PDEATHSIG
            ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGKILL)


def _work(planned: Planned, folder: Path, gpu: str, checkpoint_every: int) -> None:
    """Execute a run in this process, which exists for it alone. What it prints goes to its log."""
    if gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    store = Store(folder)
    there = store.get(planned.spec.name)
    if there is not None and there.key == planned.key and there.result.status in FINAL:
        return  # another command on this folder has made it meanwhile
    log = store.log(planned.spec.name)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as stream:
        for descriptor in (1, 2):
            os.dup2(stream.fileno(), descriptor)
        faulthandler.enable(stream)
        execute(planned, store, checkpoint_every=checkpoint_every)
        sys.stdout.flush()
        sys.stderr.flush()
    with contextlib.suppress(OSError):  # another command on this folder may have taken it away
        if log.stat().st_size == 0:
            log.unlink()


def _outcome(future: "Future[None]", planned: Planned, store: Store, timeout: float) -> RunRecord:
    """The record that the run's process wrote, or the one of its failure."""
    status: Status = "crashed"
    try:
        future.result()
    except concurrent.futures.TimeoutError:
        status, reason = "timeout", f"it took more than {timeout:g} s"
    except ProcessExpired as problem:
        status, reason = "crashed", _cause(problem.exitcode)
    except StoreError:  # a full disk, say: no run could leave its record
        raise
    except Exception as problem:
        status, reason = "crashed", f"{type(problem).__name__}: {problem}"
    else:
        record = store.get(planned.spec.name)
        if record is not None and record.key == planned.key:
            return record
        status, reason = "crashed", "its process left no record"
    return store.put(failed(planned, status, reason, tail(store.log(planned.spec.name))), None)


def _cause(exitcode: int) -> str:
    if exitcode >= 0:
        return f"its process ended with exit code {exitcode}"
    name = signal.Signals(-exitcode).name
    hint = " (out of memory, or killed by somebody)" if name == "SIGKILL" else ""
    return f"its process was ended by {name}{hint}"


def tail(log: Path) -> list[str]:
    """Return the last lines of a log, if there is one."""
    with contextlib.suppress(OSError):
        return log.read_text("utf-8", errors="replace").splitlines()[-LOG_LINES:]
    return []
