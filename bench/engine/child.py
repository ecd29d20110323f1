"""One run in a process of its own: whatever becomes of the process, the run has a record, or is known to be lost."""

import contextlib
import faulthandler
import os
import sys
from pathlib import Path
from typing import Any

from bench.engine.base import Ended
from bench.engine.process import Call, cause
from bench.engine.runs import environment, inherit, is_made, record_failure, record_since, shorten, train_run
from bench.planning.plan import Planned
from bench.records import RunRecord
from bench.store import Store, StoreError


class Child:
    """A run in a process of its own, which is killed after `timeout` seconds.

    The process writes the run's record; if it leaves none, this process writes the one of its failure.
    """

    def __init__(
        self, planned: Planned, store: Store, *, timeout: float, gpus: str = "", checkpoint_every: int = 0
    ) -> None:
        self._planned = planned
        self._store = store
        self._timeout = timeout
        self._before = store.stamp(planned.spec.name)
        found = {} if gpus else environment()  # with a GPU only the process that has it can say which
        self._call = Call(_work, planned, store.folder, gpus, checkpoint_every, found, timeout=timeout)

    @property
    def handles(self) -> list[Any]:
        """What becomes ready when there is news."""
        return self._call.handles

    def over(self) -> bool:
        """Whether the run has ended; if so, nothing of its process is left."""
        shorten(self._store.log(self._planned.spec.name))
        return self._call.over()

    def ended(self) -> Ended:
        """Return how the run ended, once it is over.

        Raises:
            StoreError: no record can be written, as on a full disk.
        """
        if self._call.lost:
            return Ended(self._planned, None, cause(self._call))
        return Ended(self._planned, record_since(self._before, self._planned, self._store) or self._failure())

    def kill(self) -> None:
        """End the process and all that it started."""
        self._call.kill()

    def _failure(self) -> RunRecord:
        """Write the record of a run whose process left none."""
        call = self._call
        if call.timed_out:
            return record_failure(self._planned, "timeout", f"it took more than {self._timeout:g} s", self._store)
        if isinstance(call.problem, StoreError):
            # A full disk ends the command, as no run could leave its record; a run that limits its own files does not.
            try:
                self._store.require_writable(call.problem.size)
            except StoreError:
                raise call.problem from None
            reason = f"{type(call.problem).__name__}: {call.problem}"
        elif call.problem is not None:
            reason = str(call.problem)
        elif call.exitcode is not None:
            reason = cause(call)
        else:
            reason = "its process left no record"
        return record_failure(self._planned, "crashed", reason, self._store)


def _work(planned: Planned, folder: Path, gpus: str, checkpoint_every: int, found: dict[str, Any]) -> None:
    """Execute a run in this process, which exists for it alone. What it prints goes to its log."""
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus
    store = Store(folder)
    if is_made(planned, store):
        return  # another command on this folder has made it meanwhile
    log = store.log(planned.spec.name)
    with store.new_log(planned.spec.name) as stream:
        for descriptor in (1, 2):
            os.dup2(stream.fileno(), descriptor)
    faulthandler.enable(2)
    inherit(found)
    train_run(planned, store, checkpoint_every=checkpoint_every, tried=True)
    with contextlib.suppress(OSError, ValueError):  # somebody's code may have closed them
        sys.stdout.flush()
        sys.stderr.flush()
    with contextlib.suppress(OSError):  # another command on this folder may have taken it away
        if log.stat().st_size == 0:
            log.unlink()
