"""The source closure: finds the modules that a run's numbers depend on, and hashes the code of each."""

import ast
import hashlib
import importlib.util
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from methods.core.importing import OURS, package


class _Import(NamedTuple):
    """A module that a file may import. With dots it is relative to the package around the file."""

    dots: int
    module: str


def closure(modules: Iterable[str] = (), files: Iterable[Path] = ()) -> dict[str, str]:
    """Return `{module: digest}` of these modules and files and of the project's modules that they import.

    Imports are followed transitively, also those inside functions. They lead to the project's packages, to a plug-in's
    own package, and to files next to a plug-in's file. A digest hashes the syntax tree without docstrings, so comments,
    layout and docstrings do not count.
    """
    packages = OURS | {module.partition(".")[0] for module in modules}
    found: dict[str, str] = {}
    outside: dict[Path, tuple[str, str]] = {}
    waiting = [located for module in modules for located in _located(module)]
    beside = [(part, file) for file in files for part in _with_packages(file)]
    while waiting or beside:
        if waiting:
            name, file = waiting.pop()
            if name in found:
                continue
            found[name], imported = _read(file, file.stat().st_mtime_ns)
            wanted = [".".join(filter(None, [*_around(name, file, i.dots), i.module])) for i in imported]
        else:
            file, plugin = beside.pop()
            if file in outside:
                continue
            digest, imported = _read(file, file.stat().st_mtime_ns)
            folder, _ = package(plugin)
            outside[file] = file.relative_to(folder).as_posix() if file.is_relative_to(folder) else file.name, digest
            for asked in imported:
                beside += [(part, plugin) for part in _beside(file, asked, (plugin.parent, folder))]
            wanted = [asked.module for asked in imported if not asked.dots]
        for module in wanted:
            if module.partition(".")[0] in packages:
                waiting += _located(module)
    alike = Counter(name for name, _ in outside.values())
    found |= {name if alike[name] == 1 else file.as_posix(): digest for file, (name, digest) in outside.items()}
    return dict(sorted(found.items()))


def _with_packages(file: Path) -> list[Path]:
    """A plug-in's file, and those of the packages around it."""
    _, around = package(file)
    return [file, *(file.parents[depth] / "__init__.py" for depth in range(len(around)))]


def _around(name: str, file: Path, dots: int) -> list[str]:
    """The package that a module's relative import starts from; nothing for an absolute one."""
    if not dots:
        return []
    pieces = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
    return pieces[: len(pieces) - dots + 1]


def _located(module: str) -> list[tuple[str, Path]]:
    """Return a module's file and those of the packages around it. A name that is not a module has no files."""
    pieces = module.split(".")
    located = []
    for depth in range(1, len(pieces) + 1):
        name = ".".join(pieces[:depth])
        try:
            spec = importlib.util.find_spec(name)
        except (ModuleNotFoundError, ValueError):
            break
        if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
            break
        located.append((name, Path(spec.origin)))
        if spec.submodule_search_locations is None:  # in a module there are only names; to look would import it
            break
    return located


def _beside(file: Path, asked: _Import, folders: Iterable[Path]) -> list[Path]:
    """Return the files next to a plug-in's file, or in its package, that an import reads."""
    pieces = asked.module.split(".") if asked.module else []
    if asked.dots > len(file.parents) or (not asked.dots and (not pieces or pieces[0] in OURS)):
        return []
    for start in [file.parents[asked.dots - 1]] if asked.dots else folders:
        steps = [start.joinpath(*pieces[:depth]) for depth in range(1, len(pieces) + 1)]
        paths = [path for step in steps for path in (step / "__init__.py", step.parent / f"{step.name}.py")]
        if found := [path for path in paths if path.is_file()]:
            return found
    return []


@cache
def _read(file: Path, modified: int) -> tuple[str, frozenset[_Import]]:
    """Return the digest of a file, and what it may import. `modified` makes the cache read an edited file again."""
    tree = ast.parse(file.read_bytes())
    imported: set[_Import] = set()
    # A package counts for what it imports on import, not for what its functions offer on use.
    for node in _walk(tree, into_functions=file.name != "__init__.py"):
        if isinstance(node, ast.Import):
            imported.update(_Import(0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = [".".join(filter(None, [node.module, alias.name])) for alias in node.names]
            imported.update(_Import(node.level, name) for name in [node.module or "", *names])
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [s for s in body if not _is_text(s)] or [ast.Pass()]  # type: ignore[attr-defined]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:20], frozenset(imported)


def _walk(node: ast.AST, *, into_functions: bool) -> Iterator[ast.AST]:
    yield node
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not into_functions:
        return
    for child in ast.iter_child_nodes(node):
        if not _is_for_types(child):
            yield from _walk(child, into_functions=into_functions)


def _is_for_types(node: ast.AST) -> bool:
    """Whether only type checkers read a statement: `if TYPE_CHECKING: …`."""
    names = "TYPE_CHECKING", "typing.TYPE_CHECKING"
    return isinstance(node, ast.If) and not node.orelse and ast.unparse(node.test) in names


def _is_text(statement: ast.AST) -> bool:
    constant = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return constant and isinstance(statement.value.value, str)  # type: ignore[attr-defined]
