"""Every option of `run` is declared once; both doors and the file of options take it from there."""

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import bench
from bench import cli
from bench.planning.plan import make_plan
from bench.planning.request import Request, read_request
from bench.planning.seeds import parse_seeds
from methods import UsageError
from methods.core.groups import members

SMALL = {"methods": "mgda", "tasks": "scales[tasks=2]", "seeds": 1, "protocol": "smoke", "accelerator": "cpu"}


@pytest.fixture
def config(tmp_path):
    def write(text):
        file = tmp_path / "run.toml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    return write


def said(call, *arguments, **options):
    with pytest.raises(UsageError) as raised:
        call(*arguments, **options)
    assert "\n" not in str(raised.value)
    assert "pydantic" not in str(raised.value)
    return str(raised.value)


def help_of(command, capsys):
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    return " ".join(capsys.readouterr().out.split())


def test_the_help_of_run_has_every_option_with_its_text(capsys):
    shown = help_of("run", capsys)
    for name, field in Request.model_fields.items():
        assert f"--{name.replace('_', '-')} " in shown
        assert field.description in shown


def test_plan_takes_what_concerns_the_plan_and_nothing_else(capsys):
    shown = help_of("plan", capsys)
    taken = ("methods", "tasks", "seeds", "protocol", "out", "precision", "accelerator", "devices", "retry")
    for name in (*taken, "engine", "workers"):
        assert f"--{name} " in shown
    for name in ("timeout", "checkpoint-every", "figures"):
        assert f"--{name} " not in shown


def test_the_python_function_has_the_same_options_defaults_and_texts():
    parameters = dict(inspect.signature(bench.run).parameters)
    assert parameters.pop("watcher").default is None
    assert {name: p.default for name, p in parameters.items()} == {
        name: field.default for name, field in Request.model_fields.items()
    }
    text = " ".join(inspect.getdoc(bench.run).split())
    for name, field in Request.model_fields.items():
        assert f"{name}: {field.description}" in text


def test_an_unknown_argument_in_python_is_a_type_error():
    with pytest.raises(TypeError, match="unexpected keyword argument 'methodz'"):
        bench.run(methodz="equal")


def test_only_the_first_options_have_a_place():
    with pytest.raises(TypeError, match="too many positional arguments"):
        bench.run("equal", "scales", 1, "smoke", "out", "32-true")


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ({"precision": "16"}, "--precision '16' is not offered: there is 32-true, bf16-mixed"),
        ({"accelerator": "gpu"}, "--accelerator 'gpu' is not offered"),
        ({"devices": 0}, "--devices 0: a run needs at least one"),
        ({"devices": "two"}, "--devices 'two': write a whole number"),
        ({"timeout": "long"}, "--timeout 'long': write a number"),
        ({"tuning": "0"}, "--tuning '0': write how many trials each contestant gets (1 to 1000), or none"),
        ({"tuning": "all"}, "--tuning 'all': write how many trials each contestant gets (1 to 1000), or none"),
        ({"tuning": 1.5}, "--tuning 1.5: write how many trials each contestant gets, or none"),
        ({"checkpoint_every": -1}, "--checkpoint-every -1: write a number of steps, or 0 for never"),
        ({"checkpoint_every": 5, "devices": 2}, "--checkpoint-every works on one device, and --devices is 2"),
        ({"retry": "yes"}, "--retry 'yes': write true or false"),
        ({"methods": 3}, "--methods 3: write text, or a list of texts"),
        ({"methods": ["equal", None]}, "--methods ['equal', None]: write text, or a list of texts"),
        ({"seeds": 0}, "seeds '0': write how many"),
        ({"seeds": []}, "seeds '[]': write how many"),
        ({"seeds": [3, -1]}, "seeds '[3, -1]': write how many"),
        ({"seeds": True}, "--seeds True: write how many"),
        ({"seeds": 1.5}, "--seeds 1.5: write how many"),
        ({"out": "~nobody-here/x"}, "there is no such user"),
        ({"protocol": None}, "--protocol None: write text"),
        ({"protokol": "quick"}, "there is no option 'protokol': did you mean 'protocol'?"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_option(wrong, right):
    assert right in said(Request, **wrong)


@pytest.mark.parametrize(
    "seeds", [np.arange(3), {0, 1, 2}, (0, 1, 2), range(3), np.int64(3), "3", 3, (s for s in range(3))]
)
def test_seeds_may_come_in_any_collection(seeds):
    assert parse_seeds(Request(seeds=seeds).seeds) == [0, 1, 2]


def test_a_request_does_not_change():
    with pytest.raises(ValueError, match="frozen"):
        Request().seeds = 3


# The file of options -------------------------------------------------------------------------------------------------


def test_keys_of_the_file_are_written_with_either_dash(config):
    file = config('methods = ["equal", "mgda"]\ncheckpoint-every = 5\nretry = true\ntimeout = 60\nout = "o"\n')
    request = read_request({}, file)
    assert (request.methods, request.checkpoint_every, request.retry) == (["equal", "mgda"], 5, True)
    assert (request.timeout, request.folder) == (60, Path("o"))
    assert read_request({}, config("checkpoint_every = 5")).checkpoint_every == 5


def test_the_command_line_wins_over_the_file(config, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    file = config(
        'methods = "mgda"\ntasks = "scales[tasks=2]"\nseeds = 2\nprotocol = "smoke"\nworkers = 2\nretry = true\n'
    )
    counts = []
    for more in ([], ["--seeds", "1"], ["--seeds", "8"]):  # the default, too, if somebody writes it
        with pytest.raises(SystemExit):
            cli.main(["plan", "--config", str(file), "--accelerator", "cpu", *more])
        counts += [line for line in capsys.readouterr().out.splitlines() if " runs: " in line]
    assert [line.split()[0] for line in counts] == ["8", "4", "32"]


def test_a_switch_of_the_file_can_be_taken_back_on_the_command_line(config, monkeypatch, capsys):
    seen = []

    class Seen:
        present, about = {}, staticmethod(list)

        def __init__(self, request, store, elsewhere):
            seen.append(request)

        def known(self):
            return []

    monkeypatch.setattr("bench.campaign.Planner", Seen)
    file = config("retry = true")
    for more in ([], ["--no-retry"]):
        with pytest.raises(SystemExit):
            cli.main(["plan", "--config", str(file), *more])
    assert [request.retry for request in seen] == [True, False]


def test_debug_of_the_file_shows_the_traceback(config):
    with pytest.raises(UsageError):
        cli.main(["plan", "--config", str(config("debug = true")), "--methods", "mdga"])


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("methodz = 'equal'", "run.toml: there is no option 'methodz': did you mean 'methods'?"),
        ("checkpoint-evry = 5", "run.toml: there is no option 'checkpoint-evry': did you mean 'checkpoint-every'?"),
        ("devices = 'two'", "run.toml: devices 'two': write a whole number"),
        ("devices = true", "run.toml: devices True: write a whole number"),
        ("devices = 0", "run.toml: devices 0: a run needs at least one"),
        ("timeout = '60'", "run.toml: timeout '60': write a number"),
        ("retry = 1", "run.toml: retry 1: write true or false"),
        ("checkpoint-every = -1", "run.toml: checkpoint-every -1: write a number of steps"),
        ("precision = '16'", "run.toml: precision '16' is not offered: there is 32-true"),
        ("seeds = 0", "run.toml: seeds '0': write how many"),
        ("seeds = [1.5]", "run.toml: seeds [1.5]: write how many"),
        ("methods = {a = 1}", "run.toml: [methods] begins a table"),
        ("[run]\nseeds = 1", "run.toml: [run] begins a table"),
        ("checkpoint-every = 1\ncheckpoint_every = 1", "run.toml: checkpoint-every is given twice"),
        ("seeds = ]", "run.toml is not TOML: Invalid value (at line 1"),
        (b"\xff", "run.toml is not TOML: "),
    ],
)
def test_what_is_wrong_in_the_file_is_one_line_with_file_and_key(config, text, right):
    assert right in said(read_request, {}, config(text))


def test_what_is_wrong_on_the_command_line_does_not_name_the_file(config):
    assert said(read_request, {"devices": 0}, config("devices = 2")) == "--devices 0: a run needs at least one"


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    assert "nowhere.toml: there is no such file" in said(read_request, {}, tmp_path / "nowhere.toml")
    assert "there is no such file" in said(read_request, {}, tmp_path)


# Groups --------------------------------------------------------------------------------------------------------------


def plan(tmp_path, **changed):
    from bench.store import Store

    return make_plan(Request(**{**SMALL, **changed}), Store(tmp_path))


def test_the_plan_of_the_default_is_that_of_the_rules_that_people_know(tmp_path):
    asked = {name: value for name, value in SMALL.items() if name != "methods"}
    from bench.store import Store

    default = make_plan(Request(**asked), Store(tmp_path))
    assert default == plan(tmp_path, methods="standard")
    assert len(default) < len(plan(tmp_path, methods="all"))


def test_groups_may_stand_beside_others_and_give_each_rule_once(tmp_path):
    labels = [p.method_label for p in plan(tmp_path, methods="gradient,loss,mgda,mgda[at=features]") if p.rule]
    # Without trials no weights are drawn for `static`, and without weights it is equal weights.
    named = [name for group in ("gradient", "loss") for name in members()[group] if name not in ("equal", "static")]
    assert labels == ["equal", *named, "mgda[at=features]"]
    assert labels == [
        p.method_label for p in plan(tmp_path, methods=["gradient", "loss", "mgda[at=features]"]) if p.rule
    ]


@pytest.mark.parametrize(
    ("methods", "right"),
    [
        ("gradients", "unknown method 'gradients': did you mean 'gradient'?"),
        ("standart", "unknown method 'standart': did you mean 'standard'?"),
        ("mdga", "unknown method 'mdga': did you mean 'mgda'?"),
        ("kd+gradient", "'gradient' is a group of methods: it stands alone"),
        ("loss[lr=1]", "'loss' is a group of methods: it stands alone"),
        ("kd+mdga", "unknown method 'mdga': did you mean 'mgda'?"),
        ("", "no method is named: write standard, all, loss, gradient, distillation, or some of alignedmtl"),
    ],
)
def test_a_wrong_name_is_answered_with_groups_too(tmp_path, methods, right):
    assert right in said(plan, tmp_path, methods=methods)


# Start ---------------------------------------------------------------------------------------------------------------


def test_importing_it_imports_no_torch(without_torch, tmp_path):
    line = [sys.executable, "-c", "import bench.planning.request, bench.cli"]
    subprocess.run(line, env=without_torch, cwd=tmp_path, check=True)
