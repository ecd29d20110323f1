"""One command on a SLURM, while its workers and jobs are taken away."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from one_node import PATIENCE, one_node, wait_until

import bench
from bench.store import Store

RULES = Path(__file__).parent / "plugin_waits.py"
REQUEST = {
    "methods": f"{RULES}:Held,{RULES}:Hanging",
    "tasks": "scales[tasks=2]",
    "seeds": 1,
    "protocol": "smoke",
    "accelerator": "cpu",
}
ENGINE = "dask[jobqueue=slurm,workers=2,cores=1,memory=1GB,interface=lo,walltime=00:05:00,timeout=20]"
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


def parent(process):
    """The number of a process's parent."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


@contextlib.contextmanager
def command(shared):
    """The command at work on the cluster; it is killed if a test fails meanwhile."""
    words = [word for name, value in REQUEST.items() for word in (f"--{name}", str(value))]
    words += ["--no-figures", "--out", str(shared.folder / "dask"), "--engine", ENGINE]
    with (shared.folder / "said").open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench", "run", *words], env=shared.environment, stdout=said, stderr=said
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_one_worker_killed_two_jobs_taken_away_and_a_hang(slurm, shared):
    (shared.folder / "hold").touch()
    seen = set()

    with command(shared) as process:

        def begun(name):
            """The process of a run that has begun since the last call, if there is one."""
            assert process.poll() is None, (shared.folder / "said").read_text("utf-8")
            found = {int(mark.stem) for mark in shared.folder.glob(f"*.{name}")} - seen
            seen.update(found)
            return found.pop() if found else None

        def job_of(run):
            [job] = [
                job for job in slurm.jobs("running") if str(run) in slurm.call("scontrol", "listpids", job).split()
            ]
            return job

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
        wait_until(lambda: len(slurm.jobs()) > 2, "a job in the place of the one that was cancelled")
        (shared.folder / "hold").unlink()
        code = process.wait(timeout=PATIENCE)
    assert code == 1, (shared.folder / "said").read_text("utf-8")  # a run has failed
    statuses = {r.method_label.rpartition(":")[2]: r.result for r in Store(shared.folder / "dask").records().values()}
    assert statuses["Hanging"].reason == "it took more than 20 s"
    assert {result.status for name, result in statuses.items() if name != "Hanging"} == {"ok"}
    wait_until(lambda: not slurm.jobs("pending,running,completing"), "an end of all jobs with the command")
    assert not any(log.stat().st_size for log in (shared.folder / "dask" / "logs").glob("*.log"))  # no hints about srun


def test_the_table_is_that_of_one_process(shared, monkeypatch):
    """What hung is repeated in the same folder, and does not hang again."""
    monkeypatch.setenv("MARKS", str(shared.folder))
    tables = []
    for out in (shared.folder / "dask", shared.folder / "inline"):
        bench.run(**REQUEST, engine="inline", retry=True, figures=False, out=out)
        tables.append([(out / name).read_bytes() for name in ("runs.csv", "leaderboard.csv")])
    assert tables[0] == tables[1]
