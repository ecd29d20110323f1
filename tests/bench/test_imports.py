"""Imports run one way, and the harness knows no plug-in by name."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import bench
import methods
import tasks
from bench.catalogue import task_sets
from bench.records import REFERENCE

PACKAGES = {package.__name__: Path(package.__file__).parent for package in (bench, methods, tasks)}
MAY = {"bench": {"bench", "methods", "tasks"}, "methods": {"methods"}, "tasks": {"tasks"}}


def files(package):
    return sorted(PACKAGES[package].rglob("*.py"))


def imported(file):
    """The full names of all that a file imports, wherever in it."""
    package = [*file.relative_to(PACKAGES["bench"].parent).parts[:-1]]
    found = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


def strings(file):
    """The string constants of a file that are no docstrings."""
    tree = ast.parse(file.read_text("utf-8"))
    texts = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in texts)
    return {node.value for node in constants if isinstance(node.value, str)}


def test_no_file_imports_in_a_circle():
    """Not even by an import inside a function. What is imported for types alone does not count."""
    root = PACKAGES["bench"].parent
    modules = {}
    for package in PACKAGES:
        for file in files(package):
            parts = file.relative_to(root).with_suffix("").parts
            modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    uses = {
        name: {used for used in imported(file) & modules.keys() if not f"{name}.".startswith(f"{used}.")}
        for name, file in modules.items()
    }
    assert len(uses) > 80
    list(TopologicalSorter(uses).static_order())  # raises CycleError, which names the circle


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_those_below_it(package):
    for file in files(package):
        ours = {name.partition(".")[0] for name in imported(file)} & PACKAGES.keys()
        assert ours <= MAY[package], file


def test_the_gate_reads_the_report_and_the_report_does_not_know_the_gate():
    rooms = {room: sorted((PACKAGES["bench"] / room).rglob("*.py")) for room in ("gate", "report")}
    assert all(len(own) > 4 for own in rooms.values())
    assert any(name.startswith("bench.report.") for file in rooms["gate"] for name in imported(file))
    assert not [name for file in rooms["report"] for name in imported(file) if f"{name}.".startswith("bench.gate.")]


def test_only_the_command_line_imports_the_gate():
    users = {file for file in files("bench") for name in imported(file) if f"{name}.".startswith("bench.gate.")}
    assert {file.relative_to(PACKAGES["bench"]).parts[0] for file in users} == {"gate", "cli.py"}


def test_the_library_datasets_is_imported_in_one_file_only():
    users = {file for package in PACKAGES for file in files(package)
             for name in imported(file) if name.partition(".")[0] == "datasets"}  # fmt: skip
    assert users <= {PACKAGES["tasks"] / "core" / "hub.py"}


def test_methods_know_no_file_and_no_harness():
    known = {name.partition(".")[0] for file in files("methods") for name in imported(file)}
    assert not known & {"lightning_fabric", "lightning", "pandas", "torchmetrics", "typer", "rich"}


def test_the_harness_imports_no_method_and_no_task_set_by_name():
    plugins = {f"methods.{name}" for name in methods.registry.entries()} | {
        f"tasks.{name}" for name in task_sets.entries()
    }
    for file in files("bench"):
        assert not [
            name
            for name in imported(file)
            if any(
                f"{name}.".startswith(
                    f"{p}.",
                )
                for p in plugins
            )
        ], file


WORDS = {"config", "log"}
"""Names of rules that are words of the harness, too: an option of its commands, the scale of an axis, a run's log."""


def test_the_harness_names_no_method_but_equal_and_no_task_set():
    names = {*methods.registry.entries(), *task_sets.entries()} - {REFERENCE} - WORDS
    assert len(names) > 3
    for file in files("bench"):
        assert not names & strings(file), file


def test_the_reference_is_named_in_one_place():
    assert [file.name for file in files("bench") if REFERENCE in strings(file)] == ["records.py"]
