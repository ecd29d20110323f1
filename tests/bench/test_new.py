"""`new` writes a rule or a task set that works as it is, and refuses names that would do harm."""

import re
import shlex

import pytest

import methods
from bench.authors.new import write_new
from bench.check import check

KINDS = ["method", "taskset"]


@pytest.mark.parametrize(
    ("kind", "less"),
    [("method", ("--tasks", "scales")), ("taskset", ("--methods", "equal"))],
)
def test_what_is_written_does_what_its_next_commands_ask(command, tmp_path, kind, less):
    done = command("new", kind, "my_own", "--out", "a, b", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    first, _, *commands = done.stdout.splitlines()
    assert first == "written: a, b/my_own.py"
    try_it, smoke, _ = [shlex.split(line)[3:] for line in commands]
    done = command(*try_it, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    done = command(*smoke, *less, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "my_own.py" in done.stdout and "MyOwn" in done.stdout


def test_the_other_door_of_the_written_rule_works_too(tmp_path, monkeypatch):
    # Other tests of this process have left a mine.py of theirs on the path.
    monkeypatch.setattr("bench.authors.new._is_a_module", lambda name: False)
    write_new("method", "mine", tmp_path)
    text = (tmp_path / "mine.py").read_text("utf-8")
    start = text.index("    # The names of the arguments say")
    other = text.index("    # Another door")
    rest = text[other:].replace("\n    #    ", "\n    ")
    (tmp_path / "mine.py").write_text(text[:start] + rest, "utf-8")
    findings = list(check(f"{tmp_path / 'mine.py'}:Mine"))
    assert not [finding for finding in findings if finding.outcome == "fails"]
    assert "zero_gradients" in vars(methods.registry.find(f"{tmp_path / 'mine.py'}:Mine").load())


@pytest.mark.parametrize("kind", ["taskset", "task_set", "task-set"])
def test_a_task_set_may_be_spelt_in_three_ways(tmp_path, kind):
    assert write_new(kind, "my_set", tmp_path)[0] == f"written: {tmp_path / 'my_set.py'}"


@pytest.mark.parametrize("kind", KINDS)
def test_the_next_commands_of_the_plain_case_are_plain(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    lines = write_new(kind, "my_own", tmp_path.relative_to(tmp_path))
    option = {"method": "--methods", "taskset": "--tasks"}[kind]
    assert lines[2:] == [
        "  python -m bench check my_own.py:MyOwn",
        f"  python -m bench run {option} my_own.py:MyOwn --protocol smoke --seeds 1",
        f"  python -m bench run {option} my_own.py:MyOwn",
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_fits_the_screen_and_names_itself_throughout(tmp_path, kind):
    write_new(kind, "my_own", tmp_path)
    text = (tmp_path / "my_own.py").read_text("utf-8")
    assert max(map(len, text.splitlines())) <= 120
    assert "$" not in text
    assert set(re.findall(r"(\w+)\.py:(\w+)", text)) == {("my_own", "MyOwn")}


def test_a_file_that_is_there_is_left_alone(command, tmp_path):
    (tmp_path / "mine.py").write_text("precious\n")
    done = command("new", "method", "mine", cwd=tmp_path)
    said = "error: mine.py is there already: choose another name, or another folder with --out\n"
    assert (done.returncode, done.stderr) == (2, said)
    assert (tmp_path / "mine.py").read_text() == "precious\n"


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("rule", "mine", "new 'rule': there is method, taskset"),
        ("metod", "mine", "new 'metod': did you mean 'method'?"),
        ("method", "a b", "'a b' is no name for a Python file: use letters, digits and _, a letter first: a_b"),
        ("method", "mine.py", "a letter first: mine"),
        ("method", "7up", "a letter first: my_7up"),
        ("method", "_", "a letter first: my_own"),
        ("method", "", "a letter first: my_own"),
        ("method", "class", "a letter first: my_class"),
        ("method", "../mine", "a letter first: mine"),
        ("method", "mgda", "'mgda' is the name of something built in: choose another, my_mgda for one"),
        ("method", "scales", "'scales' is the name of something built in"),
        ("taskset", "all", "'all' is the name of something built in"),
        ("method", "torch", "torch.py would hide the Python module 'torch': choose another name, my_torch for one"),
        ("taskset", "tasks", "tasks.py would hide the Python module 'tasks'"),
        ("taskset", "random", "random.py would hide the Python module 'random'"),
        ("method", "method", "'method': its class Method would hide another that the file needs: write my_method"),
        ("taskset", "card", "its class Card would hide another"),
        ("method", "none", "its class None would hide another"),
        ("method", "value_error", "its class ValueError would hide another"),
    ],
)
def test_a_name_that_would_do_harm_is_refused_with_one_that_would_not(tmp_path, kind, name, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        write_new(kind, name, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()
    assert not list(tmp_path.iterdir())


def test_a_file_is_written_without_importing_torch(command, without_torch, tmp_path):
    done = command("new", "taskset", "my_set", cwd=tmp_path, env=without_torch)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "my_set.py").is_file()
