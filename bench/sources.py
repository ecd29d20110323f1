"""The source closure: which modules define a run's numbers, and a digest of what each of them says."""

import ast
import hashlib
import importlib.util
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from methods.core.registry import package_of

PACKAGES = frozenset({"bench", "methods", "tasks"})


def closure(modules: Iterable[str] = (), files: Iterable[Path] = ()) -> dict[str, str]:
    """Return `{module: digest}` of these modules and files and of the project's modules that they import.

    Imports are followed transitively, those inside functions too. A plug-in's own package is followed as the
    project's are. A digest is of the syntax tree without docstrings: comments, layout and docstrings do not count.
    """
    packages = PACKAGES | {module.partition(".")[0] for module in modules}
    found: dict[str, str] = {}
    chosen = list(files)
    names = [file.name for file in chosen]
    waiting = [(file.name if names.count(file.name) == 1 else file.as_posix(), file) for file in chosen]
    for module in modules:
        waiting += _located(module)
    while waiting:
        name, file = waiting.pop()
        if name in found:
            continue
        found[name], imported = _read(file, file.stat().st_mtime_ns)
        for module in imported:
            if module.partition(".")[0] in packages:
                waiting += _located(module)
    return dict(sorted(found.items()))


def _located(module: str) -> list[tuple[str, Path]]:
    """The module's file and those of the packages around it; nothing for what is not a module (an imported name)."""
    pieces = module.split(".")
    located = []
    for depth in range(1, len(pieces) + 1):
        name = ".".join(pieces[:depth])
        try:
            spec = importlib.util.find_spec(name)
        except ModuleNotFoundError:
            break
        if spec is None or spec.origin is None:
            break
        located.append((name, Path(spec.origin)))
    return located


@cache
def _read(file: Path, modified: int) -> tuple[str, frozenset[str]]:
    """The digest of a file, and the modules it may import. `modified` lets an edited file be read again."""
    tree = ast.parse(file.read_bytes())
    imported: set[str] = set()
    # A package counts for what it imports on import, not for what its functions offer on use.
    for node in _walk(tree, into_functions=file.name != "__init__.py"):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                around = package_of(file)
                package = around[: len(around) - node.level + 1]
                module = ".".join([*package, *([module] if module else [])])
            imported.update([module, *(f"{module}.{alias.name}" for alias in node.names)])
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [s for s in body if not _is_text(s)] or [ast.Pass()]  # type: ignore[attr-defined]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:20], frozenset(imported)


def _walk(node: ast.AST, *, into_functions: bool) -> Iterator[ast.AST]:
    yield node
    if into_functions or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        for child in ast.iter_child_nodes(node):
            yield from _walk(child, into_functions=into_functions)


def _is_text(statement: ast.AST) -> bool:
    constant = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return constant and isinstance(statement.value.value, str)  # type: ignore[attr-defined]
