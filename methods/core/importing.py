"""Imports plug-ins: modules by their name, and files by their path together with what lies next to them."""

import importlib
import importlib.util
import itertools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, TracebackType

from methods.core.names import UsageError

OURS = frozenset({"bench", "methods", "tasks"})
"""The project's own packages. They never count as part of a plug-in that lies next to them."""

_loaded: dict[Path, tuple[ModuleType, dict[Path, int]]] = {}
"""The imported modules by file, each with the files that it was made of and the times of their last changes."""
_loading: set[Path] = set()
_numbers = itertools.count()


def by_name(module: str) -> ModuleType:
    """Import a module.

    Raises:
        UsageError: it cannot be imported. The message says in one line what went wrong, and where.
    """
    with _explained(module):
        return importlib.import_module(module)


def by_path(file: Path) -> ModuleType:
    """Import a file in its present state: again only if it, or a file that it imports from its folder, has changed.

    The file can import its neighbours with and without a dot, whether its folder is a package or not.

    Raises:
        UsageError: as `by_name`.
    """
    if file in _loading:
        raise UsageError(f"{file} asks for itself while it is imported: put that under if __name__ == '__main__':")
    if file in _loaded and all(_changed(part) == when for part, when in _loaded[file][1].items()):
        return _loaded[file][0]
    folder, around = package(file)
    # A package of its own for each import, in which relative imports find what is next to the file.
    parent = ModuleType(f"mtl_bench_plugin_{next(_numbers)}")
    parent.__path__ = [str(folder)]
    before, writes = set(sys.modules), sys.dont_write_bytecode
    sys.modules[parent.__name__] = parent
    sys.path.insert(0, str(file.parent))
    sys.dont_write_bytecode = True  # a file may be edited, and imported again, within the second that bytecode notes
    importlib.invalidate_caches()
    _loading.add(file)
    try:
        with _explained(str(file), file.parent):
            inside = importlib.import_module(".".join([parent.__name__, *around])).__name__
            module = _execute(f"{inside}.{file.stem.replace('.', '_')}", file)
    finally:
        _loading.discard(file)
        sys.path.remove(str(file.parent))
        sys.dont_write_bytecode = writes
        parts = {name: path for name in set(sys.modules) - before if (path := _next_to(name, parent, file))}
        for name in parts:  # another plug-in's folder may have a module of the same name
            if not name.startswith(parent.__name__):
                del sys.modules[name]
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))  # for imports inside functions
    _loaded[file] = module, {part: _changed(part) for part in {file, *parts.values()}}
    return module


def package(file: Path) -> tuple[Path, list[str]]:
    """Return the folder of a file, or of the outermost package around it, and the names of the packages around it."""
    folder, around = file.parent, list[str]()
    while (folder / "__init__.py").exists() and folder.name.isidentifier():
        around.insert(0, folder.name)
        folder = folder.parent
    return folder, around


def _execute(name: str, file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _next_to(name: str, parent: ModuleType, file: Path) -> Path | None:
    """The file of an imported module, if it was found next to the plug-in's file, or in its package."""
    found = Path(getattr(sys.modules[name], "__file__", None) or "")
    pieces = name.removeprefix(f"{parent.__name__}.").split(".")
    if pieces[0] in OURS:
        return None
    wanted = [Path(folder, *pieces) for folder in {str(file.parent), *parent.__path__}]
    return found if any(found in (path.with_suffix(".py"), path / "__init__.py") for path in wanted) else None


def _changed(file: Path) -> int:
    return file.stat().st_mtime_ns if file.exists() else 0


@contextmanager
def _explained(what: str, folder: Path | None = None) -> Iterator[None]:
    """Turn whatever an import raises into a UsageError of one line, with the last place in `folder`."""
    try:
        yield
    except UsageError:
        raise
    except SyntaxError as problem:
        where = problem.filename or what
        raise UsageError(f"{where} is not Python: {problem.msg} (line {problem.lineno})") from problem
    except (Exception, SystemExit) as problem:
        said = " ".join(str(problem).split())
        place = _place(problem.__traceback__, folder).replace(f"{what}, ", "")
        raise UsageError(f"{what} cannot be imported: {type(problem).__name__}: {said}{place}") from problem


def _place(trace: TracebackType | None, folder: Path | None) -> str:
    found = ""
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        own = file.suffix == ".py" and "importlib" not in file.parts and file != Path(__file__)
        if own and (folder is None or file.is_relative_to(folder)):
            found = f" ({file}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return found
