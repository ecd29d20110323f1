"""Names and options of plug-ins, read from their files without importing them.

A folder's listing is its registry: one file a plug-in, with one public class. Outsiders come by path
(`path.py:Class`) or by entry point. What there is, what it says of itself and which options it takes is read from
the syntax tree, so that a listing or a wrong name costs no import of torch; the class is imported on use.
"""

import ast
import difflib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

REQUIRED = object()
"""The default of an option that must be given."""

PLACE = "path"
"""The option that says where on this machine a plug-in finds its data; no part of a variant's name."""

_TYPES: dict[str, Any] = {
    "__builtins__": {},
    **{kind.__name__: kind for kind in (int, float, str, bool, tuple)},
    "Literal": Literal,
}


class UsageError(ValueError):
    """A name or an option is wrong; the message says what would be right."""


@dataclass(frozen=True)
class Option:
    """One option of a plug-in: its type and its default."""

    type: Any
    default: Any = REQUIRED

    def read(self, value: Any) -> Any:
        """Turn what was written (text, or a Python value) into a value of the type, or raise ValueError."""
        if isinstance(value, str):
            if value == "none" and NoneType in get_args(self.type):
                return None
            if self._tuple is not None:
                value = value.split(":")
        try:
            return TypeAdapter(self.type).validate_python(value)
        except ValidationError as problem:
            raise ValueError(f"it takes {self.describe()}") from problem

    @property
    def _tuple(self) -> Any:
        """The tuple type among what the option takes, if there is one."""
        return next((kind for kind in (self.type, *get_args(self.type)) if get_origin(kind) is tuple), None)

    def describe(self) -> str:
        """Say in words what the option takes."""
        if get_origin(self.type) is Literal:
            return " or ".join(str(choice) for choice in get_args(self.type))
        if self._tuple is not None:
            return f"{get_args(self._tuple)[0].__name__}s separated by ':'"
        kinds = [kind for kind in get_args(self.type) or [self.type] if kind is not NoneType]
        return " or ".join([f"a value of type {kind.__name__}" for kind in kinds])


@dataclass(frozen=True)
class Entry:
    """One plug-in, as its file tells."""

    name: str
    file: Path
    class_name: str
    module: str | None
    """The module to import, or None for a file outside any package."""

    @cached_property
    def _classes(self) -> list[ast.ClassDef]:
        """The class and the bases that its own package or file defines, most derived first."""
        return list(_lineage(self.file, self.class_name))

    @property
    def doc(self) -> str:
        """The class's docstring."""
        return ast.get_docstring(self._classes[0]) or ""

    @property
    def summary(self) -> str:
        """Its first line."""
        return self.doc.partition("\n")[0]

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """Class attributes whose values are literals; of a dictionary that is none, its keys."""
        found: dict[str, Any] = {}
        for node in reversed(self._classes):
            for statement in node.body:
                value = getattr(statement, "value", None)
                if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                    name = statement.targets[0].id
                elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                    name = statement.target.id
                else:
                    continue
                if isinstance(value, ast.Dict):
                    found[name] = tuple(k.value for k in value.keys if isinstance(k, ast.Constant))
                elif isinstance(value, ast.Constant):
                    found[name] = value.value
        return found

    @cached_property
    def functions(self) -> dict[str, ast.FunctionDef]:
        """The functions that the class defines or inherits below the base class."""
        nodes = (statement for node in reversed(self._classes) for statement in node.body)
        return {node.name: node for node in nodes if isinstance(node, ast.FunctionDef)}

    def arguments(self, function: str) -> tuple[str, ...]:
        """The names of the arguments of one of the class's functions, without `self`; empty if it has none."""
        if function not in self.functions:
            return ()
        arguments = self.functions[function].args
        return tuple(argument.arg for argument in [*arguments.args[1:], *arguments.kwonlyargs])

    @cached_property
    def options(self) -> dict[str, Option]:
        """The arguments of `__init__`, with their types and defaults."""
        if "__init__" not in self.functions:
            return {}
        arguments = self.functions["__init__"].args
        positional = arguments.args[1:]
        padding: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
        pairs = [
            *zip(positional, [*padding, *arguments.defaults], strict=True),
            *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
        ]
        return {argument.arg: self._option(argument, default) for argument, default in pairs}

    def _option(self, argument: ast.arg, default: ast.expr | None) -> Option:
        try:
            expression = argument.annotation or ast.Name("str", ast.Load())
            kind = eval(compile(ast.fix_missing_locations(ast.Expression(expression)), "", "eval"), _TYPES)
        except (NameError, TypeError):
            kind = None  # what the harness provides (teachers, say) may have any type
        try:
            return Option(kind, REQUIRED if default is None else ast.literal_eval(default))
        except ValueError as problem:
            raise UsageError(f"{self.name}: the default of {argument.arg} must be a literal") from problem

    def load(self) -> type:
        """Import the class."""
        if self.module is not None:
            module = importlib.import_module(self.module)
        else:
            # Named after its state, too: an edited file is another module.
            name = f"mtl_bench_plugin_{abs(hash((str(self.file.resolve()), self.file.stat().st_mtime_ns)))}"
            if name not in sys.modules:
                spec = importlib.util.spec_from_file_location(name, self.file)
                assert spec is not None and spec.loader is not None
                sys.modules[name] = importlib.util.module_from_spec(spec)
                try:
                    # Not by its loader, which would take bytecode of a file edited within the same second.
                    exec(compile(self.file.read_bytes(), self.file, "exec"), sys.modules[name].__dict__)
                except BaseException:
                    del sys.modules[name]
                    raise
            module = sys.modules[name]
        return getattr(module, self.class_name)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Part:
    """A plug-in with its options: a variant is one or more of them."""

    entry: Entry
    values: Mapping[str, Any]
    options: Mapping[str, Option]

    def text(self, *, full: bool = True) -> str:
        """Write the part: options sorted, defaults written out if `full` and left out if not."""
        chosen = {
            name: value
            for name, value in sorted(self.values.items())
            if name != PLACE and (full or value != self.options[name].default)
        }
        inside = ",".join(f"{name}={_write(value)}" for name, value in chosen.items())
        name = self.entry.name if full else self.entry.name.rpartition("/")[2]
        return f"{name}[{inside}]" if inside else name


@dataclass(frozen=True)
class Registry:
    """The plug-ins of one kind."""

    kind: str
    package: str
    base: str
    """The name of the base class: a file's other classes are no plug-ins."""
    group: str
    """The entry-point group by which other distributions add theirs."""
    provided: frozenset[str] = frozenset()
    """Arguments of `__init__` that are not options: whoever creates the object provides them."""
    common: Callable[[Entry], Mapping[str, Option]] = field(default=lambda entry: {})
    """Options that a plug-in has beside its own."""

    @property
    def folder(self) -> Path:
        """Where the built-in ones are."""
        spec = importlib.util.find_spec(self.package)
        assert spec is not None and spec.origin is not None
        return Path(spec.origin).parent

    def entries(self) -> dict[str, Entry]:
        """All that can be named, built-in ones first."""
        found = {}
        for file in sorted(self.folder.glob("[a-z]*.py")):
            if entry := self._built_in(file.stem):
                found[entry.name] = entry
        for point in entry_points(group=self.group):
            module, _, class_name = point.value.partition(":")
            where = _module_file(module)  # one that is broken does not take the others along
            if where is not None:
                found.setdefault(point.name, Entry(point.name, where, class_name, module))
        return found

    def find(self, name: str) -> Entry:
        """Return the plug-in called `name`, or at `path.py:Class`."""
        if ".py" in name:
            return self._at_path(name)
        found = self._built_in(name)
        if found is None:  # only now look at what other distributions add, which reads all their metadata
            entries = self.entries()
            if name not in entries:
                raise UsageError(f"unknown {self.kind} '{name}'{did_you_mean(name, entries)}")
            found = entries[name]
        return found

    def _built_in(self, name: str) -> Entry | None:
        file = self.folder / f"{name}.py"
        classes = self._classes(file) if name.isidentifier() and file.is_file() else []
        return Entry(name, file, classes[0], f"{self.package}.{name}") if len(classes) == 1 else None

    def _classes(self, file: Path) -> list[str]:
        """The public classes of a file that descend from the base class."""
        names = [n.name for n in _tree(file).body if isinstance(n, ast.ClassDef) and not n.name.startswith("_")]
        return [name for name in names if self.base in _base_names(_lineage(file, name))]

    def options(self, entry: Entry) -> dict[str, Option]:
        """All options of a plug-in, by name."""
        own = {name: option for name, option in entry.options.items() if name not in self.provided}
        for name, option in own.items():
            if option.type is None:
                kinds = "int, float, str, bool, Literal[…], tuple[…, ...] or one of them | None"
                raise UsageError(f"{entry.name}: the option {name} must be annotated as {kinds}")
        return {**own, **self.common(entry)}

    def parse(self, variant: str, **options: Any) -> list[Part]:
        """Read a variant, `name[key=value,…]+name[…]`; `options` are those of a variant of one part.

        Raises:
            UsageError: a name, an option or a value is wrong.
        """
        texts = split(variant, "+")
        if options and len(texts) > 1:
            raise UsageError(f"{variant}: give the options of its parts in brackets")
        return [self._part(text, options) for text in texts]

    def _part(self, text: str, given: Mapping[str, Any]) -> Part:
        name, bracket, inside = text.strip().partition("[")
        if bracket and not inside.endswith("]"):
            raise UsageError(f"'{text}': a bracket is not closed; options are written {name}[key=value,…]")
        entry = self.find(name)
        known = self.options(entry)
        written: dict[str, Any] = dict(given)
        for item in split(inside[:-1], ",") if inside[:-1] else []:
            key, equals, value = item.partition("=")
            if not equals:
                raise UsageError(f"'{text}': options are written {name}[key=value,…]")
            if key.strip() in written:
                raise UsageError(f"'{text}': {key.strip()} is given twice")
            written[key.strip()] = value.strip()
        values = {key: option.default for key, option in known.items()}
        for key, value in written.items():
            if key not in known:
                hint = did_you_mean(key, known) if known else f": {name} takes none"
                raise UsageError(f"{name} has no option '{key}'{hint}")
            try:
                values[key] = known[key].read(value)
            except ValueError as problem:
                raise UsageError(f"{name}[{key}={value}]: {problem}") from None
        missing = [key for key, value in values.items() if value is REQUIRED]
        if missing:
            raise UsageError(
                f"{name} needs {missing[0]}: write {name}[{missing[0]}=…] ({known[missing[0]].describe()})"
            )
        return Part(entry, values, known)

    def _at_path(self, name: str) -> Entry:
        path, _, class_name = name.partition(":")
        file = Path(path)
        if not file.is_file():
            raise UsageError(f"{self.kind} '{name}': there is no file {path}")
        classes = self._classes(file)
        if not class_name and len(classes) == 1:
            class_name = classes[0]
        if class_name not in classes:
            which = f"there is no class {class_name}" if class_name else "name the class"
            raise UsageError(f"{self.kind} '{name}': {which}; {path} has {', '.join(classes) or 'none'}")
        return Entry(f"{file.as_posix()}:{class_name}", file, class_name, None)


def canonical(parts: Sequence[Part]) -> str:
    """Write a variant in its one canonical form."""
    return "+".join(part.text() for part in parts)


def label(parts: Sequence[Part]) -> str:
    """Write a variant as short as it can be read: without defaults, a plug-in's file without its folder."""
    return "+".join(part.text(full=False) for part in parts)


def split(text: str, separator: str) -> list[str]:
    """Split at a separator, outside brackets only."""
    parts, depth = [""], 0
    for character in text:
        depth += (character == "[") - (character == "]")
        if character == separator and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def did_you_mean(name: str, known: Mapping[str, Any] | Sequence[str]) -> str:
    """`: did you mean 'x'?`, or what there is."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f": did you mean '{near[0]}'?" if near else f": there is {', '.join(known)}"


def _write(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.15g}"
    if isinstance(value, tuple | list):
        return ":".join(_write(item) for item in value)
    return str(value)


def _tree(file: Path) -> ast.Module:
    return _parsed(file, file.read_bytes())


@lru_cache(maxsize=256)
def _parsed(file: Path, content: bytes) -> ast.Module:
    """The syntax tree of a file; parsed once as long as it says the same."""
    try:
        return ast.parse(content)
    except (SyntaxError, ValueError) as problem:
        raise UsageError(f"{file} is not Python: {problem}") from problem


def _base_names(lineage: Sequence[ast.ClassDef]) -> set[str]:
    """The last parts of the names of all bases."""
    return {ast.unparse(base).rpartition(".")[2] for node in lineage for base in node.bases}


def _module_file(module: str) -> Path | None:
    """The file of a module, without importing it (but for the packages around it); None if there is none."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec is not None and spec.origin and spec.origin.endswith(".py") else None


def _lineage(file: Path, class_name: str) -> list[ast.ClassDef]:
    """The class and its bases, followed by name through the files' imports, up to those in a `core` package."""
    tree = _tree(file)
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    if class_name not in classes:
        return []
    imported = _imported(tree, file)
    found = [classes[class_name]]
    for base in map(ast.unparse, classes[class_name].bases):
        root, _, rest = base.partition(".")
        if base in classes:
            found += _lineage(file, base)
        elif root in imported:
            module, _, name = ".".join(filter(None, [imported[root], rest])).rpartition(".")
            outside = None if ".core" in module or module.startswith("torch") else _module_file(module)
            found += _lineage(outside, name) if outside else []
    return found


def _imported(tree: ast.Module, file: Path) -> dict[str, str]:
    """What each name that the module imports stands for, with dots."""
    found = {}
    for statement in tree.body:
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                found[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(statement, ast.ImportFrom):
            around = package_of(file)
            pieces = around[: len(around) - statement.level + 1] if statement.level else []
            module = ".".join([*pieces, *([statement.module] if statement.module else [])])
            found |= {alias.asname or alias.name: f"{module}.{alias.name}" for alias in statement.names}
    return found


def package_of(file: Path) -> list[str]:
    """Return the package that a file is in, by the `__init__.py` files around it."""
    pieces: list[str] = []
    folder = file.parent
    while (folder / "__init__.py").exists():
        pieces.insert(0, folder.name)
        folder = folder.parent
    return pieces
