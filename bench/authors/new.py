"""Writes a commented file with a rule or a task set that works, for an author to change."""

import ast
import builtins
import keyword
import re
import shlex
import sys
from importlib.machinery import PathFinder
from importlib.resources import files
from pathlib import Path
from string import Template

import methods
from bench.catalogue import task_sets
from methods.core.importing import OURS
from methods.core.names import IN_NAMES, UsageError, did_you_mean, quoted

KINDS = {"method": "--methods", "taskset": "--tasks"}
"""What can be written, and the option of `run` that takes it."""


def write_new(kind: str, name: str, folder: Path) -> list[str]:
    """Write `name.py` into a folder, which is made if need be; return lines that say so and what to type next.

    Args:
        kind: "method" or "taskset"; "task_set" and "task-set" are the same.
        name: a Python name, `my_rule`; the class is then `MyRule`.
        folder: a path as somebody typed it, which the lines repeat.

    Raises:
        UsageError: there is no such kind, the name cannot be used, or the file is there already.
    """
    kind = re.sub("[-_]", "", kind)
    if kind not in KINDS:
        raise UsageError(f"new '{kind}'{did_you_mean(kind, KINDS)}")
    _require_free(name, folder)
    class_name = "".join(word[0].upper() + word[1:] for word in name.split("_") if word)
    template = Template((files("bench.authors") / f"{kind}.txt").read_text("utf-8"))
    text = template.substitute(class_name=class_name, file=f"{name}.py")
    if hasattr(builtins, class_name) or class_name in _imported(text):
        raise UsageError(f"'{name}': its class {class_name} would hide another that the file needs: write my_{name}")
    file = folder / f"{name}.py"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError:
        raise UsageError(f"{file} is there already: choose another name, or another folder with --out") from None
    variant = shlex.quote(f"{quoted(file.as_posix(), IN_NAMES)}:{class_name}")
    run = f"python -m bench run {KINDS[kind]} {variant}"
    return [
        f"written: {file}",
        "It works as it is. What to type next:",
        f"  python -m bench check {variant}",
        f"  {run} --protocol smoke --seeds 1",
        f"  {run}",
    ]


def _require_free(name: str, folder: Path) -> None:
    """Raise UsageError unless a file and a class can have this name."""
    if not name.isidentifier() or keyword.iskeyword(name) or not name[0].isalpha():
        right = re.sub(r"\W+", "_", name.removesuffix(".py")).strip("_")
        right = right if right.isidentifier() and not keyword.iskeyword(right) else f"my_{right or 'own'}"
        raise UsageError(f"'{name}' is no name for a Python file: use letters, digits and _, a letter first: {right}")
    if any(name in registry.taken or name in registry.built_in() for registry in (methods.registry, task_sets)):
        raise UsageError(f"'{name}' is the name of something built in: choose another, my_{name} for one")
    if not (folder / f"{name}.py").exists() and _is_a_module(name):
        raise UsageError(f"{name}.py would hide the Python module '{name}': choose another name, my_{name} for one")


def _is_a_module(name: str) -> bool:
    """Whether Python, this project or an installed package has a module of this name; files lying here do not count."""
    if name in OURS or name in sys.stdlib_module_names:
        return True
    found = PathFinder.find_spec(name)  # of what lies on the path, not of what some code has imported
    if found is None or found.origin is None:
        return False
    return Path.cwd() not in Path(found.origin).parents[:2]


def _imported(text: str) -> set[str]:
    """The names that a file imports."""
    statements = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom))
    return {alias.asname or alias.name for node in statements for alias in node.names}
