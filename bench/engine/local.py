"""Runs in isolated processes on this machine, one each: a crash, a hang or a kill is one run's and nobody else's."""

import contextlib
import faulthandler
import os
import sys
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import TypeVar

from bench.engine.process import Call, cause, outcome
from bench.engine.runs import LOG_LINES, Done, execute, failed
from bench.planning.forecast import seconds_of_similar, similar
from bench.planning.plan import Planned
from bench.records import FINAL, RunRecord
from bench.spec import Status
from bench.store import Store, StoreError

Argument = TypeVar("Argument")
Returned = TypeVar("Returned")

ATTEMPTS = 3
"""How often a run is begun whose process is lost through no fault of its own that is known."""
LOG_BYTES = 1 << 20
"""How long a log may become; of a longer one the end is kept."""
LOOK = 0.5
"""Seconds between two looks at the runs in progress, if nothing happens before."""


@dataclass
class _Working:
    """A run in progress."""

    planned: Planned
    gpu: str
    call: Call
    before: tuple[int, int] | None
    """The stamp of the record that was there when the run began."""


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

    A run whose process is lost (killed before it began, or with the server of all processes) begins again, and alone:
    if it is what kills the others, it harms none of them then.

    Raises:
        StoreError: no record can be written, as on a full disk.
    """
    waiting = deque(longest_first(runs, store.records()))
    working: list[_Working] = []
    free = list(gpus) or [""] * workers
    lost: Counter[str] = Counter()
    try:
        while waiting or working:
            while free and (planned := _next(waiting, working, lost)) is not None:
                waiting.remove(planned)
                before = store.stamp(planned.spec.name)
                given = planned, store.folder, free[-1], checkpoint_every
                working.append(_Working(planned, free.pop(), Call(_work, *given, timeout=timeout), before))
            wait([handle for one in working for handle in one.call.handles], timeout=LOOK)
            for one in working:
                shorten(store.log(one.planned.spec.name))
            for one in [one for one in working if one.call.over()]:
                working.remove(one)
                free.append(one.gpu)
                name = one.planned.spec.name
                if one.call.lost and store.stamp(name) == one.before and lost[name] + 1 < ATTEMPTS:
                    lost[name] += 1
                    waiting.appendleft(one.planned)
                else:
                    done(one.planned, _record(one, store, timeout))
    finally:
        # Also on Ctrl-C: what is finished is stored; what is not is killed, and left for the next time.
        for one in working:
            one.call.kill()


def _next(waiting: Sequence[Planned], working: Sequence[_Working], lost: Mapping[str, int]) -> Planned | None:
    """Return the run that may begin now, if there is one."""
    if any(one.planned.spec.name in lost for one in working):
        return None
    busy = {planned.spec.name for planned in [*waiting, *(one.planned for one in working)]}
    ready = next((planned for planned in waiting if busy.isdisjoint(planned.parts.upstream)), None)
    return None if ready is not None and ready.spec.name in lost and working else ready


def isolated(function: Callable[[Argument], Returned], argument: Argument, *, timeout: float) -> Returned:
    """Call a function in a process of its own, and return what it returns.

    Raises:
        StoreError: the function did.
        CallError: it raised anything else, took too long, or its process died.
    """
    returned: Returned = outcome(_quietly, function, argument, timeout=timeout)
    return returned


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


def _work(planned: Planned, folder: Path, gpu: str, checkpoint_every: int) -> None:
    """Execute a run in this process, which exists for it alone. What it prints goes to its log."""
    if gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    store = Store(folder)
    there = store.get(planned.spec.name)
    if there is not None and there.key == planned.key and there.result.status in FINAL:
        return  # another command on this folder has made it meanwhile
    log = store.log(planned.spec.name)
    with store.new_log(planned.spec.name) as stream:
        for descriptor in (1, 2):
            os.dup2(stream.fileno(), descriptor)
    faulthandler.enable(2)
    execute(planned, store, checkpoint_every=checkpoint_every)
    with contextlib.suppress(OSError, ValueError):  # somebody's code may have closed them
        sys.stdout.flush()
        sys.stderr.flush()
    with contextlib.suppress(OSError):  # another command on this folder may have taken it away
        if log.stat().st_size == 0:
            log.unlink()


def _record(one: _Working, store: Store, timeout: float) -> RunRecord:
    """Return the record that the run's process wrote, or write the one of its failure."""
    planned, call = one.planned, one.call
    record = store.get(planned.spec.name)
    new = store.stamp(planned.spec.name) != one.before
    if record is not None and record.key == planned.key and (new or record.result.status in FINAL):
        return record
    status: Status = "crashed"
    if call.timed_out:
        status, reason = "timeout", f"it took more than {timeout:g} s"
    elif isinstance(call.problem, StoreError):
        # A full disk ends the command, as no run could leave its record; a run that limits its own files does not.
        try:
            store.require_writable(call.problem.size)
        except StoreError:
            raise call.problem from None
        reason = f"{type(call.problem).__name__}: {call.problem}"
    elif call.problem is not None:
        reason = str(call.problem)
    elif call.exitcode is not None or call.lost:
        reason = cause(call)
    else:
        reason = "its process left no record"
    return store.put(failed(planned, status, reason, tail(store.log(planned.spec.name))), None)


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


def tail(log: Path) -> list[str]:
    """Return the last lines of a log, if there is one."""
    shorten(log)
    with contextlib.suppress(OSError):
        if log.is_file():
            return log.read_text("utf-8", errors="replace").splitlines()[-LOG_LINES:]
    return []
