"""A SLURM of one node, in a folder of its own and on free ports. It needs no root, and no set-up of the machine."""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from getpass import getuser
from pathlib import Path
from typing import TypeVar

import pytest

PROGRAMS = ["munged", "slurmctld", "slurmd", "sbatch", "scancel", "scontrol", "sinfo", "squeue"]
SEARCH = os.pathsep.join([os.environ["PATH"], "/usr/sbin"])
"""Where programs are: the daemons are in a folder that the shell of a user may not search."""
PATIENCE = 180.0
"""Seconds after which what is waited for counts as never coming."""
CONFIGURATION = """\
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldPort={control}
SlurmdPort={node}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SchedulerType=sched/backfill
SchedulerParameters=defer,batch_sched_delay=1,sched_interval=2,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MpiDefault=none
KillWait=5
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=2000 State=UNKNOWN
PartitionName=p Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
"""`cred_expire` is also how long a requeued job has to wait until it may start again: 120 seconds if it is left out."""
Found = TypeVar("Found")


@dataclass(frozen=True)
class Slurm:
    """The cluster, as a shell on its node has it."""

    environment: dict[str, str]

    def call(self, *words: str) -> str:
        """Return what one of SLURM's commands prints."""
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
        return done.stdout

    def jobs(self, states: str = "all") -> list[str]:
        """Return the numbers of the jobs in some states, the oldest first."""
        return self.call("squeue", "--noheader", "--format=%A", "--sort=i", f"--states={states}").split()


@contextlib.contextmanager
def one_node(folder: Path) -> Iterator[Slurm]:
    """Start the daemons, wait until the node takes jobs, and end all jobs and daemons."""
    if missing := [name for name in PROGRAMS if shutil.which(name, path=SEARCH) is None]:
        pytest.fail(f"there is no {', no '.join(missing)} here: apt-get install slurm-wlm munge", pytrace=False)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    configuration, key = folder / "slurm.conf", folder / "munge.key"
    key.touch(0o600)
    key.write_bytes(secrets.token_bytes(128))
    host = socket.gethostname().partition(".")[0]
    control, node = _free_ports(2)
    values = {"host": host, "user": getuser(), "folder": folder, "control": control, "node": node}
    configuration.write_text(CONFIGURATION.format(**values), "utf-8")
    files = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "log", "pid", "seed")]
    daemons = [
        # --force: else it stops because nobody but its own user may look into the folder.
        ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *files],
        ["slurmctld", "-D", "-f", str(configuration)],
        ["slurmd", "-D", "-f", str(configuration), "-N", host],
    ]
    slurm = Slurm({**os.environ, "PATH": SEARCH, "SLURM_CONF": str(configuration)})
    with contextlib.ExitStack() as ends:
        processes = [ends.enter_context(_daemon(words, folder, slurm.environment)) for words in daemons]
        wait_until(lambda: _is_idle(slurm, processes), f"an idle node: see the logs in {folder}")
        ends.callback(_end_jobs, slurm)  # before the daemons, which alone know all processes of a job
        yield slurm


def wait_until(holds: Callable[[], Found], what: str) -> Found:
    """Return what `holds` returns, as soon as that is true; fail if it never is."""
    until = time.monotonic() + PATIENCE
    while not (found := holds()):
        if time.monotonic() > until:
            pytest.fail(f"in {PATIENCE:g} seconds there was not {what}", pytrace=False)
        time.sleep(0.1)
    return found


def _free_ports(count: int) -> list[int]:
    """Return ports on which nobody listens, all different."""
    with contextlib.ExitStack() as ends:
        sockets = [ends.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def _daemon(words: list[str], folder: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a daemon in the foreground, and end it. What it says is in the folder."""
    # If this process is killed, the daemon dies with it.
    words = ["setpriv", "--pdeathsig", "KILL", *words]
    with (folder / f"{words[3]}.log").open("wb") as log:
        process = subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _is_idle(slurm: Slurm, daemons: list[subprocess.Popen[bytes]]) -> bool:
    assert [daemon.args for daemon in daemons if daemon.poll() is not None] == [], "a daemon has ended"
    line = ["sinfo", "--noheader", "--format=%T"]
    return subprocess.run(line, env=slurm.environment, capture_output=True, check=False).stdout.strip() == b"idle"


def _end_jobs(slurm: Slurm) -> None:
    for job in slurm.jobs("pending,configuring,running,suspended"):
        slurm.call("scancel", job)
    wait_until(lambda: not slurm.jobs("running,completing"), "an end of all jobs")
