"""Workers of dask as jobs of a batch system: SLURM and its kin, through `dask_jobqueue`.

What is not given comes from dask's configuration (`jobqueue.slurm.queue` and so on), as its users have it.
"""

import contextlib
import logging
import math
import re
import shlex
import shutil
import signal
import warnings
from collections.abc import Mapping
from typing import Any

from bench.engine.base import EngineError
from bench.engine.process import PACKAGES
from methods.core.names import UsageError

CLUSTERS = {
    "slurm": "SLURMCluster",
    "pbs": "PBSCluster",
    "lsf": "LSFCluster",
    "sge": "SGECluster",
    "oar": "OARCluster",
    "moab": "MoabCluster",
    "htcondor": "HTCondorCluster",
}
"""The class of `dask_jobqueue` for each batch system."""
MEMORY = "4GB"
"""Of a job, if nobody says how much."""


def complete(system: str, options: Mapping[str, Any], threads: int) -> dict[str, Any]:
    """Return the options of a job with what dask's configuration or, at last, this project adds.

    Args:
        system: one of `CLUSTERS`.
        options: what the user gave.
        threads: how many cores a run takes.
    """
    import dask

    _dask_jobqueue()  # it reads its part of the configuration

    def configured(name: str, default: Any) -> Any:
        found = dask.config.get(f"jobqueue.{system}.{name}", None)
        return default if found is None else found

    found = dict(options)
    found.setdefault("cores", configured("cores", threads))
    found.setdefault("memory", configured("memory", MEMORY))
    found.setdefault("processes", configured("processes", 1))
    if "walltime" in found:
        found["walltime"] = walltime(found["walltime"], seconds=system != "lsf")
    search = f"export PYTHONSAFEPATH=1 PYTHONPATH={shlex.quote(str(PACKAGES))}${{PYTHONPATH:+:$PYTHONPATH}}"
    found["job_script_prologue"] = [*configured("job-script-prologue", []), search]
    found["worker_extra_args"] = [*configured("worker-extra-args", []), "--nthreads", str(slots(found, threads))]
    return found


def slots(job: Mapping[str, Any], threads: int) -> int:
    """How many runs a worker of such a job makes at once, if each takes so many cores."""
    found: int = max(1, job["cores"] // job["processes"] // threads)
    return found


def walltime(text: str, *, seconds: bool) -> str:
    """Write a time such as `1h` or `90 min` as batch systems have it, `01:30:00`; anything with a colon as it is.

    Raises:
        UsageError: it is no time.
    """
    from dask.utils import parse_timedelta

    if ":" in text:
        return text
    try:
        given = parse_timedelta(re.sub(r"min$", "minutes", text.strip()), default="minutes")
    except (KeyError, ValueError):
        raise UsageError(f"dask[walltime={text}]: write a time: 1h, 90min or 01:30:00") from None
    minutes = math.ceil(given / 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}{':00' * seconds}"


def start(system: str, workers: int, job: Mapping[str, Any], gpus: int) -> Any:
    """Submit jobs that are so many workers, and return the cluster with its scheduler, which is in this process.

    Args:
        system: one of `CLUSTERS`.
        workers: how many.
        job: what `complete` returns.
        gpus: how many of them a worker has.

    Raises:
        EngineError: a job cannot be submitted.
        UsageError: the batch system has no such option.
    """
    cls = getattr(_dask_jobqueue(), CLUSTERS[system])
    command = cls.job_cls.submit_command.split()[0]
    if shutil.which(command) is None:
        raise EngineError(
            f"there is no {command} on this machine: run the command where jobs of {system} are submitted"
        )
    extra = [*job["worker_extra_args"], *(["--resources", f"GPU={gpus}"] if gpus else [])]
    for name in ("tornado.application", "distributed.deploy.spec"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what they would print is raised below, too
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Port 8787 is already in use")  # then its pages are on another one
            cluster = cls(**{**job, "worker_extra_args": extra})
    except (ValueError, TypeError) as problem:
        raise UsageError(f"engine dask: {system} refuses its options: {_short(problem)}") from None

    async def submit() -> None:
        cluster.scale(workers)
        await cluster._correct_state()  # as scale does by itself, but in vain if a job is refused

    try:
        cluster.sync(submit)
    except (RuntimeError, OSError) as problem:
        with contextlib.suppress(AssertionError):  # dask's own, about the jobs that were never there
            cluster.close(timeout=10)
        raise EngineError(f"{command} refuses the job: {_short(problem)}") from None
    return cluster


def submit_again(cluster: Any) -> None:
    """Submit a job in the place of each that is gone: it was cancelled, or it has reached its time limit.

    A job counts as gone 15 seconds after its worker (`distributed.deploy.lost-worker-timeout`). If it is still there
    then, dask has cancelled it.

    Raises:
        EngineError: a job cannot be submitted. It is not tried again.
    """
    if cluster.worker_spec.keys() <= cluster.workers.keys():
        return
    try:
        cluster.sync(cluster._correct_state)
    except (RuntimeError, OSError) as problem:
        raise EngineError(f"a job is gone, and none is submitted in its place: {_short(problem)}") from None


def _dask_jobqueue() -> Any:
    """Import the package, which takes Ctrl-C for itself as it is imported; give that back."""
    before = signal.getsignal(signal.SIGINT)
    import dask_jobqueue

    if before is not None and signal.getsignal(signal.SIGINT) is not before:
        signal.signal(signal.SIGINT, before)
    return dask_jobqueue


def _short(problem: Exception) -> str:
    """The line of a message that says most: what the batch system printed, if it did."""
    text = str(problem)
    printed = re.search(r"stderr:\n(.+)", text)
    return printed[1] if printed else text.partition("\n")[0]
