"""Isolated runs, through the command line: each fault is provoked in a real worker."""

import contextlib
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from bench.store import Store
from tasks.core.files import TEMPORARY

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
FAULTS = HERE / "plugin_faults.py"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def command(out, *more):
    line = [
        "run",
        "--tasks",
        "scales[tasks=2]",
        "--protocol",
        "smoke",
        "--accelerator",
        "cpu",
        "--no-figures",
        "--out",
        str(out),
        *more,
    ]
    return [sys.executable, "-m", "bench", *line]


def call(out, *more):
    done = subprocess.run(command(out, *more), env=ENVIRONMENT, capture_output=True, text=True, check=False, cwd=ROOT)
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def troubled(tmp_path_factory):
    """Every fault at once, beside a rule that works."""
    out = tmp_path_factory.mktemp("faults")
    names = ["Segfault", "Killed", "Endless", "Greedy", "Exiting", "Raising", "Poisoned"]
    rules = ",".join(f"{FAULTS}:{name}" for name in names)
    done = call(out, "--methods", f"{rules},mgda", "--seeds", "1", "--timeout", "20")
    records = {r.method_label.rpartition(":")[2]: r for r in Store(out).records().values() if r.spec.method != "stl"}
    return SimpleNamespace(done=done, records=records, out=out, board=pd.read_csv(out / "leaderboard.csv"))


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("Segfault", "crashed", "its process was ended by SIGSEGV"),
        ("Killed", "crashed", "its process was ended by SIGKILL (out of memory, or killed by somebody)"),
        ("Endless", "timeout", "it took more than 20 s"),
        ("Greedy", "out_of_memory", "RuntimeError: "),
        ("Exiting", "crashed", "its process ended with exit code 7"),
        ("Raising", "crashed", "KeyError: 'no such thing' (plugin_faults.py:"),
        ("Poisoned", "diverged", "the weight of task y1 is not finite at step 2"),
    ],
)
def test_each_fault_is_that_runs_status(troubled, name, status, reason):
    result = troubled.records[name].result
    assert (result.status, result.reason[: len(reason)]) == (status, reason)


def test_the_others_go_on_and_the_table_shows_all(troubled):
    assert troubled.done.returncode == 1
    assert {name for name, r in troubled.records.items() if r.result.status == "ok"} == {"equal", "mgda"}
    failed = troubled.board.set_index("method").failed.drop("stl")
    assert failed.sum() == 7
    assert failed[["equal", "mgda"]].sum() == 0


@pytest.mark.parametrize("name", ["Segfault", "Killed", "Exiting", "Endless"])
def test_a_failed_runs_last_lines_are_shown(troubled, name):
    record = troubled.records[name]
    assert "about to fail" in record.log
    show = [sys.executable, "-m", "bench", "show", record.name[:12], "--out", str(troubled.out)]
    shown = subprocess.run(show, env=ENVIRONMENT, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert "about to fail" in shown
    assert f"status    {record.result.status}: " in shown


def test_failures_are_repeated_only_on_request(troubled):
    asked = [word for word in command(troubled.out)[4:] if word != "--no-figures"]
    plan = [sys.executable, "-m", "bench", "plan", *asked, "--seeds", "1"]
    rule = f"{FAULTS}:Segfault"

    def todo(*more):
        line = [*plan, "--methods", f"{rule},mgda", *more]
        return subprocess.run(line, env=ENVIRONMENT, capture_output=True, text=True, check=True, cwd=ROOT).stdout

    assert "5 runs: 0 to make" in todo()
    assert "5 runs: 1 to make" in todo("--retry")


def test_pages_are_the_same_bytes_whatever_the_engine_and_the_number_of_workers(tmp_path):
    pages = []
    for n, engine in enumerate((["inline"], ["local", "--workers", "1"], ["local[workers=3]"])):
        done = call(tmp_path / str(n), "--methods", "kd,uncertainty", "--seeds", "2", "--engine", *engine)
        assert done.returncode == 0, done.stderr
        pages.append([(tmp_path / str(n) / name).read_bytes() for name in ("leaderboard.csv", "runs.csv")])
    assert pages[0] == pages[1] == pages[2]


def test_a_full_disk_is_one_line_and_nothing_is_lost(tmp_path):
    """The system refuses to let any file grow beyond what a network's weights, or a record with its sources, take."""
    limit = 4_000

    def full():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    out = tmp_path / "full"
    more = ["--methods", "kd", "--seeds"]
    assert call(out, *more, "1").returncode == 0
    before = {file: file.read_bytes() for file in out.rglob("*.*") if file.is_file()}
    line = command(out, *more, "2")
    done = subprocess.run(line, env=ENVIRONMENT, capture_output=True, text=True, check=False, cwd=ROOT, preexec_fn=full)
    assert done.returncode == 2
    [said] = [text for text in done.stderr.splitlines() if text.startswith("error: ")]
    assert re.search(r"\.(safetensors|json) cannot be written: File too large$", said)
    assert "Traceback" not in done.stderr
    assert all(file.read_bytes() == content for file, content in before.items())
    again = call(out, *more, "2")
    assert int(re.search(r"(\d) there already", again.stderr)[1]) >= 4
    assert call(tmp_path / "whole", *more, "2").returncode == again.returncode == 0
    for name in ("leaderboard.csv", "runs.csv"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_killed_run_goes_on_from_its_checkpoint_to_the_same_end(tmp_path):
    """The rule kills its process once, at step 13, and says which steps it sees."""
    rule = f"{FAULTS}:KilledOnce"
    steps = tmp_path / "steps"
    env = {**ENVIRONMENT, "KILLED_ONCE": str(steps)}
    pages = []
    for out, limit in ((tmp_path / "cut", "13"), (tmp_path / "whole", "99")):
        steps.unlink(missing_ok=True)
        line = [*command(out, "--methods", rule, "--seeds", "1", "--checkpoint-every", "5"), "--retry"]
        codes = [subprocess.run(line, env={**env, "KILLED_AT": limit}, check=False, cwd=ROOT).returncode]
        seen = steps.read_text().split()
        if limit == "13":
            assert len(list((out / "checkpoints").iterdir())) == 1
            codes.append(subprocess.run(line, env={**env, "KILLED_AT": "99"}, check=False, cwd=ROOT).returncode)
            assert steps.read_text().split()[len(seen) :][:10] == [str(n) for n in range(10, 20)]
            assert codes == [1, 0]
        else:
            assert codes == [0]
        assert not list((out / "checkpoints").iterdir())
        pages.append([(out / name).read_bytes() for name in ("leaderboard.csv", "runs.csv")])
    assert pages[0] == pages[1]


def children(pid):
    """All that a process has started, and what they have."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def heard():
    """Let a process hear what a shell's background job and nohup ignore."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


SIX = ["--methods", "mgda", "--seeds", "6"]
"""24 runs."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The pages of SIX, made by a command that nobody disturbs."""
    out = tmp_path_factory.mktemp("whole")
    assert call(out, *SIX).returncode == 0
    return pages(out)


def pages(out):
    return {name: (out / name).read_bytes() for name in ("leaderboard.csv", "runs.csv")}


@pytest.mark.skipif(sys.platform != "linux", reason="parents and children are read from /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_stopped_at_any_moment_nothing_is_torn_nothing_lost_and_nobody_left(tmp_path, whole, how):
    process = subprocess.Popen(
        command(tmp_path / "cut", *SIX),
        env=ENVIRONMENT,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        preexec_fn=heard,
    )
    runs = tmp_path / "cut" / "runs"
    deadline = time.monotonic() + 120
    while len(list(runs.glob("*.json"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.02)
    family = children(process.pid)
    assert family
    process.send_signal(how)
    process.wait(timeout=60)
    assert process.returncode == (-9 if how == signal.SIGKILL else 130)
    deadline = time.monotonic() + 30
    while any(map(alive, family)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, family))
    kept = Store(tmp_path / "cut").records()  # reads, and so checks, every one
    assert 5 <= len(kept) < 24
    again = call(tmp_path / "cut", *SIX)
    assert again.returncode == 0
    assert f"{24 - len(kept)} to make" in again.stderr
    assert pages(tmp_path / "cut") == whole
    # A run that is ended while it writes leaves a temporary file, which a later command sweeps when it is old.
    assert all(TEMPORARY.fullmatch(file.name) for file in (tmp_path / "cut").rglob(".*"))


def command_line(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except FileNotFoundError:
        return ""


@pytest.mark.skipif(sys.platform != "linux", reason="parents and children are read from /proc")
def test_killed_thirty_times_it_ends_as_if_nothing_had_happened(tmp_path, whole):
    """Workers, the server that forks them, and the command itself, at moments drawn with a fixed seed."""
    chance = random.Random(30)
    victims = ["worker"] * 26 + ["server"] * 2 + ["command"] * 2
    chance.shuffle(victims)
    killed, commands, process = [], 0, None
    deadline = time.monotonic() + 600
    out = tmp_path / "cut"
    while len(killed) < len(victims):
        assert time.monotonic() < deadline, f"{len(killed)} kills in time"
        if process is None or process.poll() is not None:
            if process is not None and process.returncode in (0, 1):  # it has survived, and has nothing more to do
                shutil.rmtree(out / "runs", ignore_errors=True)
            else:
                assert process is None or process.returncode == -signal.SIGKILL
            with (tmp_path / f"said-{commands}").open("wb") as said:
                line = [*command(out, *SIX), "--retry", "--workers", "2"]
                process = subprocess.Popen(line, env=ENVIRONMENT, cwd=ROOT, stderr=said, stdout=said)
            commands += 1
        servers = {pid for pid in children(process.pid) if "forkserver" in command_line(pid)}
        workers = {pid for server in servers for pid in children(server)}
        kinds = {"worker": workers, "server": servers - workers, "command": {process.pid} if workers else set()}
        if candidates := sorted(kinds[victims[len(killed)]]):
            time.sleep(chance.random() * 0.15)
            with contextlib.suppress(ProcessLookupError):
                os.kill(chance.choice(candidates), signal.SIGKILL)
                killed.append(victims[len(killed)])
                if killed[-1] == "command":
                    process.wait(timeout=60)
    assert process.wait(timeout=200) in (0, 1, -signal.SIGKILL)
    again = call(out, *SIX, "--retry")
    assert again.returncode == 0, again.stderr
    assert pages(out) == whole
    for said in tmp_path.glob("said-*"):
        assert "Traceback" not in said.read_text()
        assert "internal error" not in said.read_text()


def test_two_commands_on_one_folder_do_no_harm(tmp_path, whole):
    pair = [subprocess.Popen(command(tmp_path, *SIX), env=ENVIRONMENT, cwd=ROOT) for _ in range(2)]
    assert [process.wait(timeout=200) for process in pair] == [0, 0]
    assert pages(tmp_path) == whole
