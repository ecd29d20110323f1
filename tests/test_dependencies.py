"""Everything that the packages import is declared."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parent.parent
OWN = {"bench", "methods", "tasks"}
ONLY_FOR_TESTS = {"bench/check/grid.py": {"pytest"}}
"""What a file may import although the project runs without it: the file is imported by authors' tests alone."""


def imported(file):
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.partition(".")[0]


def test_every_import_is_of_a_declared_dependency():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.match(r"[\w-]+", requirement)[0].lower().replace("_", "-") for requirement in declared}
    providers = packages_distributions()
    for file in (file for package in OWN for file in (ROOT / package).rglob("*.py")):
        for module in set(imported(file)) - OWN - set(sys.stdlib_module_names):
            if module in ONLY_FOR_TESTS.get(file.relative_to(ROOT).as_posix(), ()):
                continue
            distributions = {name.lower().replace("_", "-") for name in providers.get(module, [module])}
            assert distributions & names, f"{file.relative_to(ROOT)} imports {module}"
