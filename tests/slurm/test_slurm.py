"""One command on a SLURM, while its workers and jobs are taken away."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from one_node import one_node, wait_until

from bench.store import Store

RULES = Path(__file__).parent / "plugin_waits.py"
ENGINE = "dask[jobqueue=slurm,workers=2,cores=1,memory=1GB,interface=lo,walltime=00:05:00,timeout=15]"
CONFIGURATION = """\
jobqueue:
  slurm:
    job-extra-directives: ["--requeue"]
    log-directory: {folder}
"""
"""What users of dask-jobqueue have in a file."""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    with one_node(tmp_path_factory.mktemp("slurm")) as slurm:
        yield slurm


@pytest.fixture(scope="module")
def shared(slurm, tmp_path_factory):
    """The folder that the command and its workers see, with what their environment says of it."""
    folder = tmp_path_factory.mktemp("shared")
    (folder / "jobqueue.yaml").write_text(CONFIGURATION.format(folder=folder))
    environment = {**slurm.environment, "OMP_NUM_THREADS": "1", "DASK_CONFIG": str(folder), "MARKS": str(folder)}
    return SimpleNamespace(folder=folder, environment=environment)


def start(shared, out, *more):
    """Begin the command, with its last words in a file."""
    words = ["--methods", f"{RULES}:Held,{RULES}:Hanging", "--tasks", "scales[tasks=2]", "--seeds", "1"]
    words += ["--protocol", "smoke", "--accelerator", "cpu", "--no-figures", "--out", str(shared.folder / out), *more]
    with (shared.folder / "said").open("wb") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "bench", "run", *words], env=shared.environment, stdout=said, stderr=said
        )


def ended(process, shared):
    """Wait for the command, and return its exit code and what it has said."""
    return process.wait(timeout=120), (shared.folder / "said").read_text("utf-8")


def parent(process):
    """The number of a process's parent."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def test_one_worker_killed_two_jobs_taken_away_and_a_hang(slurm, shared):
    (shared.folder / "hold").touch()
    seen = set()

    def begun(name):
        """The process of a run that has begun since the last call, if there is one."""
        found = {int(mark.stem) for mark in shared.folder.glob(f"*.{name}")} - seen
        seen.update(found)
        return found.pop() if found else None

    def job_of(process):
        [job] = [job for job in slurm.jobs("running") if str(process) in slurm.call("scontrol", "listpids", job)]
        return job

    process = start(shared, "dask", "--engine", ENGINE)
    held = wait_until(lambda: begun("held"), "a run that is held")
    hanging = wait_until(lambda: begun("hanging"), "a run that hangs")
    assert job_of(held) != job_of(hanging)
    os.kill(parent(parent(held)), signal.SIGKILL)  # of the run and of what forked it: the worker
    held = wait_until(lambda: begun("held"), "the same run, begun again")
    slurm.call("scancel", job_of(held))
    held = wait_until(lambda: begun("held"), "the same run, begun for the third time")
    requeued = job_of(held)
    slurm.call("scontrol", "requeue", requeued)
    wait_until(lambda: begun("held"), "the same run, begun for the fourth time")
    assert "Restarts=1" in slurm.call("scontrol", "show", "job", requeued)
    (shared.folder / "hold").unlink()
    code, said = ended(process, shared)
    assert code == 1, said
    statuses = {r.method_label.rpartition(":")[2]: r.result for r in Store(shared.folder / "dask").records().values()}
    assert statuses["Hanging"].reason == "it took more than 15 s"
    assert {result.status for name, result in statuses.items() if name != "Hanging"} == {"ok"}
    wait_until(lambda: not slurm.jobs("pending,running,completing"), "an end of all jobs with the command")


def test_the_table_is_that_of_one_process(shared):
    """What hung is repeated in the same folder, and does not hang again."""
    for folder, again in (("dask", ["--retry"]), ("inline", [])):
        code, said = ended(start(shared, folder, "--engine", "inline", *again), shared)
        assert code == 0, said
    tables = [
        [(shared.folder / f / name).read_bytes() for name in ("runs.csv", "leaderboard.csv")]
        for f in ("dask", "inline")
    ]
    assert tables[0] == tables[1]
