"""What CONTRIBUTING.md says can be done as it stands there."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer

from bench import cli
from bench.authors.new import write_new
from bench.check import checks_of

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
COMMANDS = [
    *re.findall(r"^ *\$ python -m bench (.+)$", PAGE, re.MULTILINE),
    *re.findall(r"`python -m bench ([^`]+)`", PAGE),
]


@pytest.mark.parametrize("line", COMMANDS)
def test_its_commands_can_be_typed(line):
    command, words, context = typer.main.get_command(cli.app), shlex.split(line), None
    while hasattr(command, "resolve_command"):
        context = command.make_context("bench", words, parent=context)
        _, command, words = command.resolve_command(context, [*context._protected_args, *context.args])
    if words:  # without any, the command is only spoken of
        command.make_context("bench", words, parent=context)


def test_it_names_checks_and_extras_that_there_are():
    [name] = re.findall(r"\[mine\.py:Rule-(\w+)\]", PAGE)
    assert name in [function.__name__ for function in checks_of(is_task_set=False)]
    [extras] = re.findall(r"\.\[([\w,]+)\]", PAGE)
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras.split(",")) <= known.keys()


def test_its_example_runs_on_a_rule_that_new_writes(tmp_path, monkeypatch):
    # Other tests of this process have left a mine.py of theirs on the path.
    monkeypatch.setattr("bench.authors.new._is_a_module", lambda name: False)
    write_new("method", "mine", tmp_path)
    monkeypatch.chdir(tmp_path)
    [block] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names = {}
    exec(compile(block.replace(":Rule", ":Mine"), "CONTRIBUTING.md", "exec"), names)
    [mark] = names["test_it_keeps_its_contract"].pytestmark
    cases = {case.id: case.values[0] for case in mark.args[1]}
    assert len(cases) == 2 * len(checks_of(is_task_set=False))
    names["test_it_keeps_its_contract"](cases["mine.py:Mine[beta=0.5]-can_be_built"])
