"""Everything that the packages import is declared."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parent.parent
OWN = {"bench", "methods", "tasks"}
OPTIONAL = {
    "bench/check/grid.py": {"pytest"},
    "bench/engine/dask.py": {"dask", "distributed"},
    "bench/engine/jobs.py": {"dask", "dask_jobqueue"},
    "bench/engine/remote.py": {"distributed"},
}
"""What a file may import although the project runs without it: the first file is imported by authors' tests alone, and
the others need the extra `dask`."""


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
            if module in OPTIONAL.get(file.relative_to(ROOT).as_posix(), ()):
                continue
            distributions = {name.lower().replace("_", "-") for name in providers.get(module, [module])}
            assert distributions & names, f"{file.relative_to(ROOT)} imports {module}"


def test_where_an_extra_is_missing_the_engines_are_listed_all_the_same():
    """What an extra brings is imported inside functions alone."""
    for name in OPTIONAL.keys() - {"bench/check/grid.py"}:
        tree = ast.parse((ROOT / name).read_bytes())
        outside = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        modules = {name.name for node in outside for name in node.names} | {getattr(n, "module", "") for n in outside}
        assert not OPTIONAL[name] & modules
