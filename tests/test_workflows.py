"""The workflows call nothing that the documentation does not name, so that any other CI can do the same."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PAGES = "".join(page.read_text("utf-8") for page in [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))])
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def commands(node):
    """Every line of every `run`."""
    if isinstance(node, dict):
        yield from (line.strip() for line in str(node.get("run", "")).splitlines())
        for value in node.values():
            yield from commands(value)
    if isinstance(node, list):
        for item in node:
            yield from commands(item)


def test_there_are_workflows():
    assert [file.stem for file in WORKFLOWS] == ["benchmark", "nightly", "tests"]


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_every_command_of_ours_is_one_that_a_page_names(file):
    lines = list(commands(yaml.safe_load(file.read_text("utf-8"))))
    ours = [m for line in lines for m in re.findall(r"python -m bench (?:baseline )?\w+|tox(?: -e [\w,]+)?", line)]
    assert len(ours) >= 2
    for command in ours:
        if command.startswith("tox -e"):
            assert all(f"tox -e {name}" in PAGES for name in command.removeprefix("tox -e ").split(","))
        else:
            assert command in PAGES


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_a_workflow_may_read_and_no_more(file):
    assert yaml.safe_load(file.read_text("utf-8"))["permissions"] == {"contents": "read"}
