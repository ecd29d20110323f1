"""The engine `dask`: runs execute on the workers of a dask cluster, each in an isolated process there.

A scheduler's opinion of a run is not the truth about it: its record is, in the folder that command and workers share.
So it does no harm if dask makes a run twice, or moves it to another worker. `remote` is what a worker does.
"""

import contextlib
import importlib.util
import logging
import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from secrets import token_hex
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PositiveInt

from bench.engine import jobs, remote
from bench.engine.base import Argument, Ended, Engine, EngineError, Returned, Setting, Timeout
from bench.engine.runs import record_since
from bench.plain import one_line
from bench.planning.plan import Planned
from bench.store import StoreError, log, write
from methods.core.names import UsageError

if TYPE_CHECKING:
    from distributed import Client, Future

RELIABLE = {"distributed": {"scheduler": {"allowed-failures": 3, "worker-saturation": 1.0}}}
"""What the scheduler of our own jobs is told, where dask's configuration leaves the default: a worker dies for reasons
of its machine, as a run is a process of its own, and so what it had goes on elsewhere."""
QUEUED = 2
"""How many runs dask has for each that executes: a worker that becomes free need not wait for the command."""
LOOK = 0.5
"""Seconds between two looks at the cluster, if nothing happens before."""
ALONE = 60.0
"""Seconds without a worker after which that is said."""
FETCH = 10.0
"""Seconds that a worker may take to say what became of a run that has ended."""
LATE = 90.0
"""Seconds that a shared folder may take to show what another machine wrote. (NFS looks again after 60.)"""
MARKS = "shared"
"""The folder of the files by which workers know the store's folder."""

Jobs = Annotated[Literal["auto"] | PositiveInt, Field(description="how many workers the jobs are to be")]


@dataclass(frozen=True)
class _Given:
    """A run that dask has."""

    planned: Planned
    before: tuple[int, int] | None
    """The stamp of the record that was there."""
    fit: frozenset[str]
    """The workers that may make it; empty if all may."""


class DaskEngine(Engine):
    """Runs execute on the workers of a dask cluster: one that is there, or one made of jobs of a batch system.

    Args:
        setting: the store, whose folder the workers see under the same path.
        address: of a scheduler that somebody runs (`tcp://…`), or the file that `dask scheduler --scheduler-file` has
            written. If neither it nor `jobqueue` is given, dask's configuration says it (`scheduler-address`).
        jobqueue: the batch system to which jobs are submitted; they end with the command.
        workers: how many workers the jobs are to be.
        walltime: of a job: `1h`, or as the batch system writes it.
        queue: the queue or partition of the jobs.
        account: who pays for the jobs.
        cores: of a job, for all its workers.
        memory: of a job.
        interface: the network interface by which workers reach this machine (`ib0`).
        timeout: seconds after which a run is killed.
    """

    elsewhere = True
    attempts = 2

    def __init__(
        self,
        setting: Setting,
        *,
        address: str = "",
        jobqueue: Literal["slurm", "pbs", "lsf", "sge", "oar", "moab", "htcondor"] | None = None,
        workers: Jobs = "auto",
        walltime: str = "",
        queue: str = "",
        account: str = "",
        cores: PositiveInt | None = None,
        memory: str = "",
        interface: str = "",
        timeout: Timeout = 3600.0,
    ) -> None:
        super().__init__(setting)
        asked = {
            "walltime": walltime,
            "queue": queue,
            "account": account,
            "cores": cores,
            "memory": memory,
            "interface": interface,
        }
        self._job: dict[str, Any] = {name: value for name, value in asked.items() if value}
        self._system, self._wanted, self._timeout = jobqueue, workers, timeout
        self._address = address
        self._require_packages()
        self._check()
        self._cluster: Any = None
        self._client: Client | None = None
        self._mark = f"{MARKS}/{token_hex(8)}"
        self._resources: dict[str, int] = {}
        """What a run takes of a worker beside one of its threads."""
        self._slots = 1
        """How many runs a worker of our own jobs makes at once."""
        self._given: dict[Future[Any], _Given] = {}
        self._news: SimpleQueue[Future[Any]] = SimpleQueue()
        self._count = 0
        self._unfit: dict[str, str] = {}
        """Workers that refuse runs, with the reason."""
        self._alone_since = self._looked = time.monotonic()

    def _require_packages(self) -> None:
        for package in ("distributed", *(["dask_jobqueue"] if self._system else [])):
            if importlib.util.find_spec(package) is None:
                raise UsageError(f'--engine dask needs the package {package}: pip install "mtl-bench[dask]"')

    def _check(self) -> None:
        """Refuse options that do not go together, and see what dask's configuration says of the address."""
        if self._system:
            if self._address:
                raise UsageError("engine dask: address and jobqueue contradict each other: give one of them")
            if self._wanted == "auto":
                raise UsageError(f"engine dask: say how many workers: dask[jobqueue={self._system},workers=4]")
            return
        for name in [*self._job, *([] if self._wanted == "auto" else ["workers"])]:
            raise UsageError(f"engine dask: {name} is for jobs: give jobqueue, too, or leave it out")
        import dask

        self._address = self._address or dask.config.get("scheduler-address", None) or ""
        if not self._address:
            raise UsageError(
                "engine dask: say where: dask[address=tcp://HOST:8786], or dask[jobqueue=slurm,workers=4,walltime=1h]"
            )

    # Its size ----------------------------------------------------------------------------------------------

    def prepare(self, runs: Sequence[Planned]) -> None:
        """See what a run takes of a worker; ask a scheduler that is there for its workers.

        Raises:
            EngineError: there is no scheduler at this address.
        """
        kind, _, devices = runs[0].parts.device.partition("×")
        each = int(devices or 1)
        self._resources = {"GPU": each} if kind == "cuda" else {}
        if self._system:
            threads = max(planned.spec.protocol.threads for planned in runs) * (1 if self._resources else each)
            self._threads = threads
            self._slots = 1 if self._resources else jobs.slots(jobs.complete(self._system, self._job, threads), threads)
        else:
            self._connect()

    @property
    def workers(self) -> int:
        """How many runs execute at once: so many as were asked for, or as the workers that are there can make."""
        if self._wanted != "auto":
            return self._wanted * self._slots
        return sum(self._fit_workers().values())

    @property
    def places(self) -> int:
        """How many runs dask is given at once."""
        return QUEUED * max(1, self.workers)

    def _fit_workers(self) -> dict[str, int]:
        """How many runs each worker that is there makes at once.

        Raises:
            EngineError: the scheduler is gone.
        """
        with self._talking() as client:
            found = client.scheduler_info(n_workers=-1)["workers"]
        fit = {}
        for address, worker in found.items():
            rooms = [int(worker["resources"].get(name, 0) // count) for name, count in self._resources.items()]
            if address not in self._unfit and min([worker["nthreads"], *rooms]) > 0:
                fit[address] = min([worker["nthreads"], *rooms])
        if fit:
            self._alone_since = time.monotonic()
        return fit

    # Its cluster -------------------------------------------------------------------------------------------

    def _connect(self) -> "Client":
        """Return the client of the cluster; submit the jobs first if it is made of jobs.

        Raises:
            EngineError: there is no scheduler at this address, or jobs cannot be submitted.
        """
        if self._client is not None:
            return self._client
        import dask
        from distributed import Client

        for name in ("distributed.client", "distributed.core", "distributed.scheduler"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # what goes wrong is said here, once
        if self._system:
            assert self._wanted != "auto"
            dask.config.update_defaults(RELIABLE)
            job = jobs.complete(self._system, self._job, self._threads)
            self._cluster = jobs.start(self._system, self._wanted, job, self._resources.get("GPU", 0))
            self._client = Client(self._cluster, set_as_default=False)
        else:
            file = Path(self._address).expanduser()
            where = {"scheduler_file": str(file)} if file.is_file() else {"address": self._address}
            try:
                self._client = Client(**where, set_as_default=False)
            except (OSError, ValueError) as problem:
                said = one_line(str(problem), 200)
                raise EngineError(f"no scheduler of dask answers at {self._address}: {said}") from None
        self._alone_since = time.monotonic()
        write(self._setting.store.folder / self._mark, b"")
        return self._client

    @contextlib.contextmanager
    def _talking(self) -> Iterator["Client"]:
        """Use the client; say in one line that the scheduler is gone.

        Raises:
            EngineError: it is.
        """
        client = self._connect()
        where = self._address or "this machine"
        gone = f"the scheduler of dask at {where} is gone: what is finished is kept, and the same command goes on"
        if client.status != "running":
            raise EngineError(gone)
        try:
            yield client
        except (OSError, TimeoutError):
            raise EngineError(gone) from None

    # Runs --------------------------------------------------------------------------------------------------

    def submit(self, planned: Planned) -> None:
        """Give dask a run. Workers that refuse runs are left out."""
        store = self._setting.store
        fit = frozenset(self._fit_workers() if self._unfit else ())
        given = _Given(planned, store.stamp(planned.spec.name), fit)
        self._count += 1
        with self._talking() as client:
            future = client.submit(
                remote.work,
                pickle.dumps(planned),
                str(store.folder),
                self._mark,
                self._timeout,
                self._setting.checkpoint_every,
                key=f"{planned.task_set_label} {planned.method_label}-{token_hex(16)}",
                workers=sorted(fit) or None,
                resources=self._resources or None,
                priority=-self._count,
                pure=False,
            )
        self._given[future] = given
        future.add_done_callback(self._news.put)

    def ended(self) -> list[Ended]:
        """Wait for a run that ends, half a second at most, and return the runs that are over."""
        over: list[Future[Any]] = []
        with contextlib.suppress(Empty):
            over.append(self._news.get(timeout=LOOK))
            while True:
                over.append(self._news.get_nowait())
        if not over or time.monotonic() - self._looked > LOOK:
            self._look_around()
            self._looked = time.monotonic()
        return [ended for future in over if (ended := self._end(future)) is not None]

    def _end(self, future: "Future[Any]") -> Ended | None:
        """Return how a run ended; None if another worker is to make it.

        Raises:
            EngineError: no worker can make it.
            StoreError: no record can be written.
        """
        from distributed import CancelledError, KilledWorker

        given = self._given.get(future)
        if given is None:  # it was given to others meanwhile
            return None
        planned = given.planned
        if record := record_since(given.before, planned, self._setting.store):
            del self._given[future]
            return Ended(planned, record)
        with self._talking():
            try:
                answer: remote.Answer = future.result(timeout=FETCH)
            except TimeoutError:  # the worker that knows it has just died: dask asks another one
                self._news.put(future)
                return None
            except KilledWorker as problem:
                del self._given[future]
                return Ended(planned, None, f"{problem.allowed_failures + 1} workers died while they had it")
            except CancelledError:  # as all are when the scheduler goes away
                raise OSError from None
            except (StoreError, OSError):
                raise
            except Exception as problem:  # of a worker that cannot even call what it was sent
                said = one_line(f"{type(problem).__name__}: {problem}", 200)
                raise EngineError(
                    f"the workers of dask cannot make runs ({said}): install the same mtl-bench on all of them"
                ) from None
        del self._given[future]
        if answer.kind == "refused":
            self._refused(answer)
            self.submit(planned)
            return None
        if answer.kind == "lost":
            return Ended(planned, None, f"{answer.why} (worker {answer.worker})")
        return Ended(planned, self._record(given), f"its record is not in the store (worker {answer.worker})")

    def _record(self, given: _Given) -> Any:
        """Return the record that a worker has written, as soon as this machine sees it."""
        store, deadline = self._setting.store, time.monotonic() + LATE
        while (record := record_since(given.before, given.planned, store)) is None and time.monotonic() < deadline:
            store.require_writable()  # a network folder into which one writes shows what others have written
            time.sleep(LOOK)
        return record

    def _refused(self, answer: remote.Answer) -> None:
        """Leave a worker out.

        Raises:
            EngineError: there is no other.
        """
        if answer.worker not in self._unfit:
            self._unfit[answer.worker] = answer.why
            if not self._fit_workers():
                raise EngineError(f"every worker of dask refuses runs: {answer.worker}: {answer.why}")
            log.warning("worker %s of dask is left out: %s", answer.worker, answer.why)

    def _look_around(self) -> None:
        """Give those runs to others whose workers are gone, and replace jobs; say if there is no worker for a while."""
        there = self._fit_workers()
        if self._cluster is not None:
            try:
                jobs.submit_again(self._cluster)
            except EngineError as problem:  # the other jobs go on
                log.warning("%s", problem)
        for future, given in [*self._given.items()]:
            if given.fit and not given.fit & there.keys():
                del self._given[future]
                future.release()
                self.submit(given.planned)
        if not there and time.monotonic() - self._alone_since > ALONE:
            self._alone_since = time.monotonic()
            needed = "".join(f" with the resource {name}={count}" for name, count in self._resources.items())
            log.warning("dask has had no worker%s for %.0f s: runs wait for one", needed, ALONE)

    def call(self, function: Callable[[Argument], Returned], argument: Argument) -> Returned:
        """Call a function on a worker, in a process of its own, for as long as a run may take."""
        with self._talking() as client:
            future = client.submit(
                remote.call,
                pickle.dumps((function, argument)),
                self._timeout,
                key=f"{function.__name__}-{token_hex(16)}",
                workers=sorted(self._fit_workers()) or None,
                allow_other_workers=True,
                resources=self._resources or None,
                pure=False,
            )
        future.add_done_callback(self._news.put)
        while not future.done():
            self.ended()
        with self._talking():
            returned: Returned = future.result()
        return returned

    def close(self) -> None:
        """Give up the runs in progress, which their workers then kill; end the jobs."""
        (self._setting.store.folder / self._mark).unlink(missing_ok=True)
        for open_ in (self._client, self._cluster):
            if open_ is not None:
                with contextlib.suppress(OSError, TimeoutError):
                    open_.close(timeout=10)
        self._client = self._cluster = None
