"""Under fire: what plug-ins, killers, odd files and odd command lines do is one line or one status, never the end."""

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench import cli
from bench.engine.process import Call, CallError, outcome
from bench.planning.seeds import LARGEST_SEED, parse_seeds
from bench.records import SCHEMA
from bench.store import Store
from methods.core.names import UsageError

HERE = Path(__file__).parent
RULES = HERE / "plugin_fire.py"
SET = ["--tasks", "scales[tasks=2]", "--protocol", "smoke", "--accelerator", "cpu"]


@pytest.fixture
def main(capfd):
    """Call the command line in this process; return the exit code and what it printed."""

    def call(*arguments):
        with pytest.raises(SystemExit) as caught:
            cli.main([str(argument) for argument in arguments])
        printed = capfd.readouterr()
        return SimpleNamespace(code=caught.value.code, out=printed.out, err=printed.err)

    return call


def assert_one_line(done, *words):
    [line] = done.err.splitlines()
    assert line.startswith("error: ")
    assert all(word in line for word in words), line
    assert len(line) < 2200


# --- what a plug-in does, in a real worker ---

WORKS = ("Moves", "Closes", "Leaves", "Forks", "Deletes")
REASONS = {
    "Exits": r"SystemExit: 0 \(plugin_fire.py:\d+\)",
    "ExitsAtOnce": "its process ended with exit code 0",
    "ExitsWith255": "its process ended with exit code 255",
    "Aborts": "its process was ended by SIGABRT",
    "RealTime": rf"its process was ended by (signal {signal.SIGRTMIN + 3}|SIGRTMIN\+3)",
    "Interrupts": r"KeyboardInterrupt \(plugin_fire.py:\d+\)",
    "Raises": r"Odd: neither here \(plugin_fire.py:\d+\)",
    "Long": r"ValueError: x{400,500} … \(50\d+ characters\)",
    "Surrogate": r"ValueError: a lone \\ud800 surrogate \(plugin_fire.py:\d+\)",
    "Talks": "its process ended with exit code 9",
    "Limits": r"StoreError: .*\.json cannot be written: File too large",
    "KillsTheServer": "the process that starts the runs was killed",
}


@pytest.fixture(scope="module")
def burnt(command, environment, tmp_path_factory):
    """Every harm at once, beside a rule that does none."""
    cwd = tmp_path_factory.mktemp("fire")
    out = cwd / "out"
    env = environment(LEFT=str(cwd / "left"), FOLDER=str(out))
    rules = ",".join(f"{RULES}:{name}" for name in (*REASONS, *WORKS))
    more = ["--methods", f"{rules},mgda", *SET, "--seeds", "1", "--no-figures", "--timeout", "250", "--out", "out"]
    began = time.monotonic()
    done = command("run", *more, cwd=cwd, env=env)
    seconds = time.monotonic() - began
    records = {r.method_label.rpartition(":")[2]: r for r in Store(out).records().values()}
    return SimpleNamespace(done=done, out=out, records=records, seconds=seconds, left=int((cwd / "left").read_text()))


@pytest.mark.parametrize("name", REASONS)
def test_what_a_plug_in_does_is_its_runs_status_with_a_true_reason(burnt, name):
    result = burnt.records[name].result
    assert result.status == "crashed"
    assert re.fullmatch(REASONS[name], result.reason), result.reason


@pytest.mark.parametrize("name", ["mgda", "equal", *WORKS])
def test_the_others_go_on(burnt, name):
    assert burnt.records[name].result.status == "ok", burnt.records[name].result.reason


def test_the_command_ends_with_its_pages_and_its_code(burnt):
    assert burnt.done.returncode == 1
    assert "Traceback" not in burnt.done.stderr
    assert "internal error" not in burnt.done.stderr
    assert (burnt.out / "leaderboard.html").exists()
    assert f"{len(REASONS)} of {len(REASONS) + len(WORKS) + 4} runs: crashed" in burnt.done.stderr


def test_nothing_waits_for_the_timeout(burnt):
    assert burnt.seconds < 250


def test_what_a_run_leaves_behind_ends_with_it(burnt):
    state = Path(f"/proc/{burnt.left}/stat")
    with contextlib.suppress(FileNotFoundError):
        assert state.read_text().rpartition(")")[2].split()[0] == "Z"


def test_logs_and_records_keep_the_end_of_much(burnt):
    assert all(len(line) < 1100 for record in burnt.records.values() for line in record.log)
    assert "the end" in burnt.records["Talks"].log
    files = [file for file in burnt.out.rglob("*") if file.is_file()]
    assert max(file.stat().st_size for file in files if file.suffix in (".log", ".json")) < 1.1 * 2**20


def test_inline_it_is_the_runs_status_too(main, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rules = ",".join(f"{RULES}:{name}" for name in ("Exits", "Interrupts", "Raises", "Moves"))
    done = main("run", "--methods", rules, *SET, "--seeds", 1, "--engine", "inline", "--no-figures", "--out", "out")
    assert done.code == 1
    assert "written: out/leaderboard.csv" in done.out
    records = {r.method_label.rpartition(":")[2]: r.result for r in Store(tmp_path / "out").records().values()}
    for name in ("Exits", "Interrupts", "Raises"):
        assert re.fullmatch(REASONS[name], records[name].reason)
    assert records["Moves"].status == "ok"


def test_a_child_that_a_rule_forks_does_not_go_on_with_the_command(command, tmp_path):
    rule = f"{RULES}:Forks"
    line = ["run", "--methods", rule, *SET, "--seeds", "1", "--engine", "inline", "--no-figures", "--out", "out"]
    done = command(*line, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("written: ") == 1
    assert {r.result.status for r in Store(tmp_path / "out").records().values()} == {"ok"}


def test_ctrl_c_of_the_user_still_interrupts_inline(hears_ctrl_c, main, tmp_path):
    done = main(
        "run", "--methods", f"{RULES}:PressesCtrlC", *SET, "--seeds", 1, "--engine", "inline", "--out", tmp_path
    )
    assert done.code == 130
    assert "the same command goes on from there" in done.err
    assert {r.result.status for r in Store(tmp_path).records().values()} == {"ok"}


def test_a_folder_that_is_taken_away_meanwhile_is_one_line(main, tmp_path, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setenv("FOLDER", str(out))
    rule = f"{RULES}:Erases"
    done = main("run", "--methods", rule, *SET, "--seeds", 1, "--engine", "inline", "--no-figures", "--out", out)
    assert done.code == 2
    [line] = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert line == (
        f"error: {out}: the records of 3 of 4 runs have been taken away meanwhile; the same command makes them again"
    )


def test_check_fails_for_a_rule_that_exits(main):
    done = main("check", f"{RULES}:Exits")
    assert done.code == 1
    assert re.search(r"^FAILS .*: SystemExit: 0$", done.out, re.MULTILINE)
    passed, of = re.search(r"^passed: (\d+) of (\d+)", done.out, re.MULTILINE).groups()
    assert int(passed) < int(of)


@pytest.mark.parametrize("what", ["sys.exit(0)", "raise KeyboardInterrupt", "raise SystemExit(1)"])
def test_a_file_that_exits_when_it_is_imported_is_an_error(main, tmp_path, what):
    file = tmp_path / "mine.py"
    file.write_text(f"import sys\nfrom methods import Method\n{what}\nclass Mine(Method):\n    '''It.'''\n")
    done = main("plan", "--methods", f"{file}:Mine", *SET, "--seeds", 1, "--out", tmp_path / "out")
    assert done.code == 2
    assert_one_line(done)


# --- processes ---


def _double(number):
    return 2 * number


def _kill_me(_):
    os.kill(os.getpid(), signal.SIGKILL)


def _raise(_):
    raise KeyError("no")


def test_a_call_returns_raises_or_says_how_its_process_ended():
    assert outcome(_double, 21, timeout=60) == 42
    for function, said in ((_kill_me, "ended by SIGKILL"), (_raise, "KeyError: 'no'")):
        with pytest.raises(CallError, match=said):
            outcome(function, 1, timeout=60)
    with pytest.raises(CallError, match=r"more than 0\.5 s"):
        outcome(time.sleep, 60, timeout=0.5)


def test_the_time_limit_of_a_call_does_not_count_the_start_of_the_server(environment):
    """A fresh process has no server yet, and to start it takes more than a second."""
    line = "from bench.engine.process import outcome; print(outcome(abs, -3, timeout=0.5))"
    done = subprocess.run([sys.executable, "-c", line], env=environment(), capture_output=True, text=True, check=False)
    assert done.stdout == "3\n", done.stderr


@pytest.mark.parametrize("delay", [0.0, 0.002, 0.01, 0.05])
def test_a_process_that_is_killed_at_its_birth_is_lost_and_known_to_be(delay):
    outcome(_double, 1, timeout=60)  # the server is there
    call = Call(time.sleep, 60, timeout=60)
    time.sleep(delay)
    os.kill(call._process.pid, signal.SIGKILL)
    until = time.monotonic() + 20
    while not call.over() and time.monotonic() < until:
        time.sleep(0.01)
    assert not call.timed_out
    assert call.lost == (call.server is None)
    assert call.exitcode == -signal.SIGKILL
    assert outcome(_double, 21, timeout=60) == 42


# --- files, output, the working folder ---


def test_a_closed_pipe_and_a_full_disk_end_quietly(environment):
    for line, code, said in (("| true", 141, ""), ("> /dev/full", 2, "error: the output cannot be written: No space")):
        shell = f"{sys.executable} -m bench list {line}; echo ${{PIPESTATUS[0]}} >&2"
        done = subprocess.run(["bash", "-c", shell], env=environment(), capture_output=True, text=True, check=True)
        assert done.stderr.splitlines()[-1] == str(code)
        assert done.stderr.startswith(said)
        assert len(done.stderr.splitlines()) == (2 if said else 1)


@pytest.mark.parametrize("name", ["tasks", "methods"])
def test_a_file_that_hides_a_package_is_named(environment, tmp_path, name):
    """On PYTHONPATH, where it is meant to be found first."""
    (tmp_path / f"{name}.py").write_text("raise RuntimeError('imported')\n")
    line = [sys.executable, "-m", "bench", "list", "tasks"]
    done = subprocess.run(line, env=environment(tmp_path), cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert_one_line(done_of(done), f"{name}.py hides the package '{name}'", "PYTHONPATH")


def done_of(process):
    return SimpleNamespace(code=process.returncode, out=process.stdout, err=process.stderr)


@pytest.fixture
def script(tmp_path):
    """`mtl-bench`, as an install makes it."""
    file = tmp_path / "bin" / "mtl-bench"
    file.parent.mkdir()
    file.write_text("from bench.cli import main\nif __name__ == '__main__':\n    main()\n")
    return file


@pytest.mark.parametrize("door", ["module", "script"])
def test_files_of_our_names_in_the_working_folder_do_no_harm(environment, tmp_path, script, door):
    """Neither to the command nor to the processes of its runs."""
    work = tmp_path / "work"
    work.mkdir()
    for name in ("tasks", "methods", "results", *(["bench"] if door == "script" else [])):
        (work / f"{name}.py").write_text("raise RuntimeError('imported')\n")
    begin = [sys.executable, *(["-m", "bench"] if door == "module" else [script])]
    for line, said in (
        (["list", "tasks"], "digits"),
        (["run", "--methods", "equal", *SET, "--seeds", "1", "--workers", "2", "--no-figures"], "written: "),
        (["report"], "written: "),
    ):
        done = subprocess.run([*begin, *line], env=environment(), cwd=work, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert said in done.stdout
        assert "Traceback" not in done.stderr
        assert "imported" not in done.stderr


def test_the_tilde_of_an_option_is_expanded(main, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    done = main("list", "runs", "--out=~/file")
    assert done.code == 0
    (tmp_path / "file").write_text("")
    assert_one_line(main("list", "runs", "--out=~/file"), f"{tmp_path}/file is a file")
    assert_one_line(main("list", "runs", "--out=~nobody-here/x"), "no such user")


@pytest.mark.parametrize("path", ["a" * 300, "/".join("a" * 2500), "a" * 100_000], ids=["name", "path", "both"])
@pytest.mark.parametrize("line", [["list", "runs", "--out"], ["report"], ["plan", "--out"], ["power"]], ids=" ".join)
def test_a_path_that_is_too_long_is_one_line(main, tmp_path, monkeypatch, line, path):
    monkeypatch.chdir(tmp_path)
    done = main(*line, path)
    assert done.code == 2
    assert_one_line(done, "File name too long")


def test_an_argument_that_is_no_text_is_one_line(main):
    done = main("list", "runs", "--out", "/tmp/\udcff")
    assert done.code == 2
    assert_one_line(done, "is not text in UTF-8")


def planned_run(seed):
    """A run as the watcher sees it."""
    spec = SimpleNamespace(name=str(seed), seed=seed)
    return SimpleNamespace(todo=True, method_label="mgda", task_set_label="toy", role="run", spec=spec)


def test_the_time_left_does_not_charge_the_start_to_every_run(made, capsys, monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    watcher = cli._Watcher()
    planned = [planned_run(n) for n in range(11)]
    watcher.planned(planned, [])
    now += 31.0  # thirty seconds to start, and one for the run
    record = made("mgda", scores={("left", "accuracy", True): 0.5})
    watcher.done(planned[0], record.model_copy(update={"cost": record.cost.model_copy(update={"total_seconds": 1.0})}))
    assert "1/11, 10 s left" in capsys.readouterr().err


def test_of_a_reason_without_end_the_beginning_is_printed_on_one_line(made, capsys):
    cli._Watcher().done(planned_run(0), made("mgda", status="crashed", reason="first\nsecond\x1b[31m" + "x" * 500))
    [line] = capsys.readouterr().err.splitlines()
    assert "first second [31mxxx" in line
    assert len(line) < 400
    assert line.endswith("…")


# --- seeds ---


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("20261126", "write 20261126-20261126"),
        ("99999999999", "at most 10000"),
        ("9" * 19, "at most 10000"),
        ("9" * 5000, "write how many"),
        ("0-999999999999", "1000000000000 seeds"),
        ("5,0-9999999999999999999", "at most 10000"),
        ("1_000", "plain digits"),
        ("1_0-2_0", "plain digits"),
        ("٣", "plain digits"),
        ("²", "plain digits"),
        ("+3", "plain digits"),
        ("3-1", "at least one seed"),
        ("-5", "at least one seed"),
        ("1-2-3", "write how many"),
        ("1,,2", "write how many"),
        ("", "write how many"),
        (f"{LARGEST_SEED}-{LARGEST_SEED + 1}", "a seed is at most"),
    ],
)
def test_seeds_are_looked_at_before_they_are_counted_out(text, said):
    began = time.perf_counter()
    with pytest.raises(UsageError, match=re.escape(said)):
        parse_seeds(text)
    assert time.perf_counter() - began < 0.1


def test_a_large_seed_alone_is_one_seed():
    assert parse_seeds("20261126-20261126") == [20261126]
    assert parse_seeds(" 3 , 1 - 2 ") == [1, 2, 3]


# --- by chance, with a fixed seed ---

WORDS = [
    *("list", "plan", "report", "show", "power", "compare", "baseline", "update", "literature", "run", "check", "x"),
    *("methods", "tasks", "runs", "--out", "--seeds", "--methods", "--tasks", "--protocol", "--retry", "--debug-not"),
    *(
        "--margin",
        "--target",
        "--tolerance",
        "--baseline",
        "--junit",
        "--reason",
        "--workers",
        "--timeout",
        "--devices",
    ),
    *("0", "-1", "nan", "1e999", "8-3", "1_0", "٣", "", " ", "[", "]", "a[", "a]b", "mgda[", "mgda[at=", "mgda[at=x]"),
    *("kd+", "+", "kd+kd", "a:b", "x.py:", ":X", "nothing.py:X", "mgda,,mgda", "scales[tasks=0]", "scales[tasks=-1]"),
    *("all", "equal", "stl", "smoke", "quick", ".", "/", "/dev/null", "/proc/self/mem", "~", "\x1b[31m", "‮", "\x00"),
    *("--", "-", "--help", "=", "--out=", "--seeds=0", "--protocol=none", "\ud800", "é" * 200, "[bold]", "results"),
]


def test_no_command_line_is_an_internal_error(main, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    chance = random.Random(12)
    for _ in range(250):
        words = [chance.choice(WORDS[:9]), *chance.choices(WORDS, k=chance.randrange(6))]
        began = time.monotonic()
        done = main(*words)
        assert done.code in (0, 1, 2, 3, 4), (words, done.err)
        assert "internal error" not in done.err, (words, done.err)
        assert time.monotonic() - began < 30, words
        assert "\x1b[31m" not in done.err, words


def _mutated(value, chance):
    """Return JSON's value with something of it replaced, taken away or doubled."""
    odd = [
        None,
        True,
        -1,
        0,
        10**30,
        1e308,
        float("nan"),
        float("inf"),
        "",
        "\ud800",
        "x" * 2000,
        [],
        {},
        [[]],
        {"a": 1},
    ]
    if chance.random() < 0.15 or not isinstance(value, dict | list) or not value:
        return chance.choice(odd)
    if isinstance(value, list):
        n = chance.randrange(len(value))
        return [_mutated(item, chance) if i == n else item for i, item in enumerate(value)]
    key = chance.choice(list(value))
    if chance.random() < 0.15:
        return {k: v for k, v in value.items() if k != key}
    return {**value, key: _mutated(value[key], chance)}


def test_no_file_among_the_records_blocks_a_command(main, made, tmp_path):
    chance = random.Random(7)
    store = Store(tmp_path)
    good, other = (store.put(made(name, scores={("left", "accuracy", True): 0.5}), None) for name in ("mgda", "equal"))
    file = tmp_path / "runs" / f"{other.name}.json"
    text = file.read_bytes()
    for n in range(300):
        if n % 3:
            file.write_text(json.dumps(_mutated(json.loads(text), chance)))
        else:
            cut = chance.randrange(len(text))
            file.write_bytes(text[:cut] + chance.randbytes(chance.randrange(4)) + text[cut + 2 :])
        version = re.search(rb'"schema_version": ([0-9e+.]+)', file.read_bytes())
        newer = version is not None and float(version[1]) > SCHEMA
        done = main("list", "runs", "--out", tmp_path)
        assert "internal error" not in done.err
        assert done.code == (2 if newer and "has schema" in done.err else 0), done.err
        assert newer or good.name[:10] in done.out
        file.unlink(missing_ok=True)
    assert list((tmp_path / "set-aside").iterdir())
