"""The engine of dask on a real cluster of two worker processes: each fault is provoked; the tables stay the same."""

import gc
import importlib.util
import logging
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import dask
import pytest
from dask_jobqueue.slurm import SLURMJob
from distributed import Client

import bench
import bench.campaign
from bench.campaign import Campaign
from bench.engine import jobs, remote
from bench.engine.base import EngineError, Setting
from bench.engine.choose import choose
from bench.engine.dask import DaskEngine
from bench.planning import sources
from bench.planning.asked import asked_device
from bench.planning.plan import make_plan
from bench.planning.request import Request
from bench.spec import STL
from bench.store import Store
from methods.core.names import UsageError

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
HELD = f"{HERE / 'plugin_faults.py'}:Held"
ASKED = {"tasks": "scales[tasks=2]", "protocol": "smoke", "accelerator": "cpu", "figures": False}
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
# What a job of several SLURM tasks has: Fabric would start a rank for each in every run, if it saw them.
IN_SLURM = {"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "dask-worker", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}

linux = pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")


def start(port, workers, cwd):
    """Start a cluster; return its process, which is the scheduler, and its address."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / "dask_cluster.py"), str(port), str(workers)],
        env={**ENVIRONMENT, **IN_SLURM},
        cwd=cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    address = process.stdout.readline().strip()
    assert address
    return process, address


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two workers, with one thread each. Their working folder is `folder`."""
    folder = tmp_path_factory.mktemp("cluster")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process, address = start(port, 2, folder)
    yield SimpleNamespace(process=process, address=address, port=port, folder=folder)
    process.kill()
    process.wait()


def run(out, address="", **more):
    """Make runs: on the workers of a cluster, or else in this process."""
    engine = f"dask[address={address},timeout={more.pop('timeout', 300)}]" if address else "inline"
    return bench.run(**{**ASKED, "out": out, "engine": engine, **more})


def tables(out):
    return {name: (out / name).read_bytes() for name in ("leaderboard.csv", "runs.csv")}


@pytest.fixture(autouse=True)
def _unmeasured(request, monkeypatch):
    """Only one test measures what steps cost: it takes longer than all runs."""
    if "two_commands" not in request.node.name:
        monkeypatch.setattr(bench.campaign, "_measure_costs", lambda *_, **__: None)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The tables of two seeds of a rule that reads baselines, made in this process."""
    out = tmp_path_factory.mktemp("plain")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench.campaign, "_measure_costs", lambda *_, **__: None)
        run(out, methods="kd", seeds=2)
    return tables(out)


def eventually(what, seconds=120):
    """Wait until a function returns something that is true, and return that."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def held(until, count):
    """The processes of runs that wait for a file, once there are so many, in the order in which they came."""
    files = eventually(lambda: len(seen := [*until.parent.glob(f"{until.name}.*")]) >= count and seen)
    return [int(file.suffix[1:]) for file in sorted(files, key=lambda file: file.stat().st_mtime_ns)]


def parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def statuses(out):
    return Counter(record.result.status for record in Store(out).records().values())


@linux
def test_a_killed_worker_a_killed_run_and_one_that_hangs_harm_nobody_else(cluster, tmp_path):
    """Three runs wait. The first is killed, the second hangs, and of the third the worker is killed."""
    until, out = tmp_path / "go", tmp_path / "out"
    asked = {"methods": f'{HELD}[until="{until}"]', "seeds": 3}
    with ThreadPoolExecutor(1) as pool:
        command = pool.submit(run, out, cluster.address, timeout=20, **asked)
        os.kill(held(until, 2)[0], signal.SIGKILL)
        pid = held(until, 3)[-1]
        os.kill(parent(parent(pid)), signal.SIGKILL)  # its parent is the server that forks runs
        eventually(lambda: gone(pid))
        eventually(lambda: command.done() or statuses(out)["timeout"])
        until.touch()
        command.result()
    records = Store(out).records().values()
    failed = {record.result.status: record.result.reason for record in records if record.result.status != "ok"}
    assert failed == {
        "crashed": "its process was ended by SIGKILL (out of memory, or killed by somebody)",
        "timeout": "it took more than 20 s",
    }
    assert statuses(out)["ok"] == 10
    assert {record.provenance.host for record in records} == {platform.node()}
    run(out, cluster.address, retry=True, **asked)
    run(tmp_path / "plain", **asked)
    assert tables(out) == tables(tmp_path / "plain")


def test_two_commands_on_one_folder_and_one_cluster_do_no_harm(cluster, plain, tmp_path):
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(run, tmp_path, cluster.address, methods="kd", seeds=2) for _ in range(2)]:
            done.result()
    assert tables(tmp_path) == plain
    assert {cost.method for record in Store(tmp_path).costs() for cost in record.costs} >= {STL, "equal"}
    assert not [*(tmp_path / "shared").iterdir()]


@linux
def test_a_worker_that_cannot_reach_the_folder_or_has_other_code_is_left_out(cluster, plain, monkeypatch, caplog):
    """`/proc/self/cwd` is another folder in each process: a worker that works elsewhere has a folder of its own."""
    monkeypatch.chdir(cluster.folder)
    out = Path("/proc/self/cwd/out")
    elsewhere = cluster.folder / "elsewhere"
    elsewhere.mkdir()
    with Client(cluster.address, set_as_default=False) as client:
        one, other = client.scheduler_info()["workers"]
        client.run(os.chdir, str(elsewhere), workers=[other])
        with caplog.at_level(logging.WARNING, "bench"):
            run(out, cluster.address, methods="kd", seeds=2)
        assert tables(out) == plain
        said = f"worker {other} of dask is left out: the folder {out} of the command is not there: it must be shared"
        assert [r.message for r in caplog.records] == [said]
        client.run(lambda: remote._loaded().update({"bench.training.loop": "older"}), workers=[one])
        with pytest.raises(EngineError) as refused:
            run(out, cluster.address, methods="kd", seeds=3)
        assert str(refused.value).startswith("every worker of dask refuses runs: ")
        assert "\n" not in str(refused.value)
        caplog.clear()
        client.run(os.chdir, str(cluster.folder), workers=[other])
        with caplog.at_level(logging.WARNING, "bench"):
            run(out, cluster.address, methods="kd", seeds=3)
        assert statuses(out) == {"ok": 12}
        [said] = [r.message for r in caplog.records]
        assert said.startswith(f"worker {one} of dask is left out: it would train something else than was planned: ")
        assert "the code of bench.training.loop differs" in said
        client.run(lambda: remote._loaded.cache_clear(), workers=[one])


@linux
def test_ctrl_c_ends_the_runs_on_the_workers_and_the_same_command_goes_on(cluster, tmp_path):
    until, out = tmp_path / "go", tmp_path / "out"
    options = [f"--{name}={value}" for name, value in ASKED.items() if name != "figures"]
    line = ["run", *options, "--no-figures", "--seeds=1", f'--methods={HELD}[until="{until}"]', f"--out={out}"]
    line = [sys.executable, "-m", "bench", *line, f"--engine=dask[address={cluster.address}]"]
    listening = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    command = subprocess.Popen(line, env=ENVIRONMENT, cwd=ROOT, stderr=subprocess.PIPE, text=True, **listening)
    [pid] = held(until, 1)
    command.send_signal(signal.SIGINT)
    said = command.communicate(timeout=120)[1]
    assert command.returncode == 130
    assert said.splitlines()[-1].startswith("interrupted: what is finished is in ")
    assert re.search(r"stl y1 seed 0: ok \([\d.]+ s; \d/4, \d+ s left\)", said)
    assert "Traceback" not in said
    eventually(lambda: gone(pid))
    assert statuses(out) == {"ok": 3}
    until.touch()
    run(out, cluster.address, methods=f'{HELD}[until="{until}"]', seeds=1)
    assert statuses(out) == {"ok": 4}


@linux
def test_a_killed_scheduler_ends_the_command_in_a_line_and_the_same_command_goes_on(cluster, tmp_path):
    """The last test of this cluster. The next one, of a worker, has the same address."""
    until, out = tmp_path / "go", tmp_path / "out"
    asked = {"methods": f'{HELD}[until="{until}"]', "seeds": 1}
    with ThreadPoolExecutor(1) as pool:
        command = pool.submit(run, out, cluster.address, **asked)
        [pid] = held(until, 1)
        cluster.process.kill()
        with pytest.raises(EngineError) as ended:
            command.result()
    gone_ = (
        f"the scheduler of dask at {cluster.address} is gone: what is finished is kept, and the same command goes on"
    )
    assert str(ended.value) == gone_
    eventually(lambda: gone(pid))
    assert statuses(out) == {"ok": 3}
    until.touch()
    process, address = start(cluster.port, 1, cluster.folder)
    with process:
        assert address == cluster.address
        before = {file: file.stat().st_mtime_ns for file in (out / "runs").glob("*.json")}
        run(out, address, **asked)
        process.kill()
    assert all(file.stat().st_mtime_ns == then for file, then in before.items())
    run(tmp_path / "plain", **asked)
    assert tables(out) == tables(tmp_path / "plain")


# --- without a cluster ---


def test_where_no_scheduler_answers_that_is_one_line(tmp_path):
    with dask.config.set({"distributed.comm.timeouts.connect": "100ms"}), pytest.raises(EngineError) as refused:
        run(tmp_path, "tcp://127.0.0.1:1", methods="equal", seeds=1)
    assert str(refused.value).startswith("no scheduler of dask answers at tcp://127.0.0.1:1: ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("", "engine dask: say where: dask[address=tcp://HOST:8786], or dask[jobqueue=slurm,workers=4,walltime=1h]"),
        ("[jobqueue=slurm]", "engine dask: say how many workers: dask[jobqueue=slurm,workers=4]"),
        ("[jobqueue=slurm,workers=2,address=tcp://a:1]",
         "engine dask: address and jobqueue contradict each other: give one of them"),
        ("[address=tcp://a:1,queue=gpu]", "engine dask: queue is for jobs: give jobqueue, too, or leave it out"),
        ("[address=tcp://a:1,workers=2]", "engine dask: workers is for jobs: give jobqueue, too, or leave it out"),
        ("[jobqueue=slrm,workers=2]",
         "dask[jobqueue=slrm]: it takes slurm or pbs or lsf or sge or oar or moab or htcondor"),
        ("[jobqueue=slurm,workers=0]", "dask[workers=0]: write how many workers the jobs are to be"),
    ],
)  # fmt: skip
def test_options_that_do_not_go_together_are_refused_in_a_line(options, said, tmp_path):
    with pytest.raises(UsageError, match=f"^{re.escape(said)}$"):
        choose(f"dask{options}").open(Setting(Store(tmp_path)))


def test_the_address_may_stand_in_dasks_configuration(tmp_path):
    with dask.config.set({"scheduler-address": "tcp://127.0.0.1:1"}):
        assert DaskEngine(Setting(Store(tmp_path)))._address == "tcp://127.0.0.1:1"


@pytest.mark.parametrize("package", ["distributed", "dask_jobqueue"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(package, monkeypatch, tmp_path):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))
    with pytest.raises(UsageError, match=re.escape(f'needs the package {package}: pip install "mtl-bench[dask]"')):
        DaskEngine(Setting(Store(tmp_path)), jobqueue="slurm", workers=2)


def test_jobs_are_made_of_options_then_of_the_users_yaml_then_of_defaults(tmp_path):
    """As dask's users have it: a file in a folder of dask's configuration."""
    yaml = "jobqueue:\n  slurm:\n    queue: gpu\n    cores: 8\n    job-extra-directives: ['--gres=gpu:1']\n"
    (tmp_path / "jobqueue.yaml").write_text(f"{yaml}    job-script-prologue: ['module load cuda']\n")
    with dask.config.set(dask.config.merge(dask.config.config, dask.config.collect([str(tmp_path)], env={}))):
        job = jobs.complete("slurm", {"account": "mine", "walltime": "90 min", "memory": "8GB"}, 2)
        lines = SLURMJob("tcp://a:1", name="one", **job).job_script().splitlines()
    expected = ["-p gpu", "-A mine", "--cpus-per-task=8", "--mem=8G", "-t 01:30:00", "--gres=gpu:1"]
    assert {f"#SBATCH {directive}" for directive in expected} <= {*lines}
    assert lines.index("module load cuda") < lines.index(job["job_script_prologue"][-1])
    assert f"PYTHONPATH={jobs.PACKAGES}" in job["job_script_prologue"][-1]
    assert (jobs.PACKAGES / "bench").samefile(Path(jobs.__file__).parents[1])
    assert lines[-1].endswith("--nthreads 4")  # of two cores each
    assert jobs.complete("slurm", {}, 3)["cores"] == 3


@pytest.mark.parametrize(
    ("text", "written"), [("1h", "01:00:00"), ("30 min", "00:30:00"), ("45", "00:45:00"), ("2-00:00:00", "2-00:00:00")]
)
def test_a_walltime_is_written_as_batch_systems_have_it(text, written):
    assert jobs.walltime(text, seconds=True) == written
    assert jobs.walltime("90 s", seconds=False) == "00:02"


def test_a_walltime_that_is_none_is_refused():
    with pytest.raises(UsageError, match=re.escape("dask[walltime=soon]: write a time: 1h, 90min or 01:30:00")):
        jobs.walltime("soon", seconds=True)


def asked(tmp_path, **more):
    return Request(**{**ASKED, "methods": "equal", "seeds": 4, "out": tmp_path, **more})


def test_a_plan_says_how_many_workers_and_starts_none(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "start", lambda *_: pytest.fail("jobs were submitted"))
    engine = "dask[jobqueue=slurm,workers=3,cores=2,walltime=1h]"
    _, said = Campaign(asked(tmp_path, engine=engine), Store(tmp_path)).plan()
    assert said[:2] == [
        "12 runs: 12 to make, 0 there already",
        "time on 6 workers: not known yet, because no similar run has been made here",
    ]


def test_a_job_that_the_batch_system_refuses_is_one_line(tmp_path, monkeypatch):
    engine = "dask[jobqueue=slurm,workers=1,queue=none,interface=lo]"
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match=r"^there is no sbatch on this machine: "):
        bench.run(**{**ASKED, "methods": "equal", "seeds": 1, "out": tmp_path / "out", "engine": engine})
    sbatch = tmp_path / "sbatch"
    sbatch.write_text("#!/bin/sh\necho 'sbatch: error: invalid partition specified: none' >&2\nexit 1\n")
    sbatch.chmod(0o755)
    with pytest.raises(EngineError) as refused:
        bench.run(**{**ASKED, "methods": "equal", "seeds": 1, "out": tmp_path / "out", "engine": engine})
    assert str(refused.value) == "sbatch refuses the job: sbatch: error: invalid partition specified: none"


def test_what_devices_there_are_elsewhere_is_believed():
    found = [Request(accelerator=kind, devices=n) for kind, n in (("cuda", 1), ("auto", 1), ("cuda", 2))]
    assert [asked_device(request, elsewhere=True) for request in found] == ["cuda", "cpu", "cuda×2"]


def test_runs_on_gpus_ask_for_them_and_get_those_that_are_free(tmp_path, monkeypatch):
    run = SimpleNamespace(
        parts=SimpleNamespace(device="cuda×2"), spec=SimpleNamespace(protocol=SimpleNamespace(threads=1))
    )
    engine = DaskEngine(Setting(Store(tmp_path)), jobqueue="slurm", workers=5, cores=16)
    engine.prepare([run])
    assert (engine._resources, engine.workers) == ({"GPU": 2}, 5)
    monkeypatch.setattr(remote, "visible_gpus", lambda: ["0", "1", "2", "3"])
    with remote._gpus(run) as first, remote._gpus(run) as second:
        assert (first, second) == ("0,1", "2,3")
    with remote._gpus(run) as again:
        assert again == "0,1"


def test_ctrl_c_stays_the_commands_where_jobs_are_submitted():
    """dask_jobqueue would end the process in its own way, as it is imported."""
    lines = (
        "import signal",
        "from bench.engine import jobs",
        "jobs.complete('slurm', {}, 1)",
        "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler",
    )
    listening = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    subprocess.run([sys.executable, "-c", "; ".join(lines)], env=ENVIRONMENT, cwd=ROOT, check=True, **listening)


def test_a_job_that_is_gone_is_submitted_again_and_a_refusal_is_said():
    """A stand-in for dask_jobqueue's cluster, which forgets a worker when its job is gone."""
    corrected = []
    cluster = SimpleNamespace(
        worker_spec={"0": {}, "1": {}},
        workers={"0": None, "1": None},
        _correct_state=lambda: corrected.append(1),
        sync=lambda function: function(),
    )
    jobs.submit_again(cluster)
    assert not corrected
    del cluster.workers["1"]
    jobs.submit_again(cluster)
    assert corrected == [1]

    def refuse():
        raise RuntimeError("Command exited with non-zero exit code.\nstderr:\nsbatch: error: no more jobs\n")

    cluster._correct_state = refuse
    with pytest.raises(
        EngineError, match=r"^a job is gone, and none is submitted in its place: sbatch: error: no more"
    ):
        jobs.submit_again(cluster)


def test_a_worker_of_several_threads_reads_code_in_one_at_a_time(tmp_path, monkeypatch):
    """Dask watches the garbage collector, so that another thread may go on while Python parses."""
    run = make_plan(asked(tmp_path), Store(tmp_path))[-1]
    monkeypatch.setattr(remote, "_data", lambda *_: run.parts.data)
    sources._read.cache_clear()
    remote._loaded.cache_clear()

    def watch(*_):
        time.sleep(0)

    gc.callbacks.append(watch)
    try:
        with ThreadPoolExecutor(4) as pool:
            assert [*pool.map(remote.other, [run] * 4)] == [""] * 4
    finally:
        gc.callbacks.remove(watch)
