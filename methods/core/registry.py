"""Finds plug-ins by name, by path or by class, and reads variants of them.

Each built-in plug-in is a file with one public class. The package contains a description of them (`described.json`), so
that a listing or a wrong name does not import torch. Plug-ins by path, and those that other distributions add by entry
point, are imported only when somebody names them.
"""

import importlib.util
import inspect
import json
import logging
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from methods.core import importing, names, options
from methods.core.names import IN_NAMES, UsageError, did_you_mean, quoted, split
from methods.core.options import REQUIRED, Option

DESCRIBED = "described.json"
"""The file in a package that describes its plug-ins. `python -m bench.catalogue` writes it."""
STABLE = "stable.json"
"""The file in a package that lists the options which the stable form writes even at their default."""
STL = "stl"
"""The name of single-task learning, which no plug-in can have."""

log = logging.getLogger(__name__)


class UnknownNameError(UsageError):
    """There is no plug-in of this name."""

    def __init__(self, kind: str, name: str, known: Collection[str]) -> None:
        super().__init__(f"unknown {kind} '{name}'{did_you_mean(name, known)}")
        self.kind = kind
        self.name = name
        self.known = known


@dataclass(frozen=True)
class Entry:
    """One plug-in that can be named."""

    name: str
    """As a variant writes it: a word, or `path.py:Class`."""
    class_name: str
    module: str | None = None
    """The module to import; None for a file by path."""
    file: Path | None = None
    """The file of a plug-in by path."""
    distribution: str = ""
    """The distribution that adds it by an entry point; empty for a built-in plug-in."""
    given: type | None = None
    """The class itself, if it was not defined in a file (in a notebook, for example)."""

    def load(self) -> type:
        """Import the class.

        Raises:
            UsageError: it cannot be imported. The message says in one line what went wrong, and where.
        """
        if self.given is not None:
            return self.given
        module = importing.by_path(self.file) if self.file is not None else importing.by_name(self.module or "")
        found = getattr(module, self.class_name, None)
        if not isinstance(found, type):
            raise UsageError(f"{self.name}: there is no class {self.class_name} in {self.file or self.module}")
        return found

    @property
    def short(self) -> str:
        """The name, without a folder or module."""
        if self.file is not None:
            return f"{quoted(self.file.name, IN_NAMES)}:{self.class_name}"
        return self.name if self.given is None else self.class_name


@dataclass(frozen=True)
class Description:
    """The description of a plug-in: its summary, its options, and facts for the plan."""

    summary: str
    """The first line of its docstring."""
    options: Mapping[str, Option]
    facts: Mapping[str, Any]
    """What a plan needs to know of it; plain values."""
    untold: frozenset[str] = frozenset()
    """Arguments that have a default and whose values no text can express. They are not options."""


@dataclass(frozen=True)
class Part:
    """A plug-in with the values of its options. A frozen value that can be sent to another process."""

    entry: Entry
    values: Mapping[str, Any]
    """The value of each option, except the place of the data."""
    place: Any
    """The folder of the data on this machine, if one was given. It is part of no name."""
    facts: Mapping[str, Any] = field(compare=False)
    full: str
    """Every option written out: what people read."""
    label: str
    """The short form: without options that have their default value, and without the folder of a file."""
    stable: str
    """The form that is hashed and that seeds random streams. An option that was added later than its plug-in is left
    out while it has its default."""

    def __hash__(self) -> int:
        return hash((self.entry, self.full, str(self.place)))

    def load(self) -> type:
        """Import the class. Raises as `Entry.load`."""
        return self.entry.load()


@dataclass(frozen=True)
class Variant:
    """One or more parts, joined by `+`."""

    parts: tuple[Part, ...]

    @property
    def full(self) -> str:
        """Every option written out: what people read."""
        return "+".join(part.full for part in self.parts)

    @property
    def label(self) -> str:
        """The short form, for tables."""
        return "+".join(part.label for part in self.parts)

    @property
    def stable(self) -> str:
        """The form that is hashed and that seeds random streams."""
        return "+".join(part.stable for part in self.parts)


@dataclass(frozen=True)
class Registry:
    """The plug-ins of one kind."""

    kind: str
    package: str
    base: str
    """The base class, as `module:Class`."""
    group: str
    """The group of entry points by which other distributions add plug-ins."""
    facts: Callable[[type], dict[str, Any]]
    """Returns what a plan needs to know about a class, in plain values."""
    common: Callable[[Mapping[str, Any]], Mapping[str, Option]] = field(default=lambda facts: {})
    """Returns the options that a plug-in with these facts has in addition to its own."""
    provided: frozenset[str] = frozenset()
    """Arguments of `__init__` that are not options: whoever creates the object provides them."""
    place: str = ""
    """The name of the option that gives the folder of the data on this machine."""
    groups: frozenset[str] = frozenset({"all"})
    """Names that stand for several plug-ins."""

    @property
    def taken(self) -> frozenset[str]:
        """The names that mean something else, and that no plug-in can have."""
        return self.groups | {STL}

    @property
    def folder(self) -> Path:
        """The folder of the built-in plug-ins."""
        spec = importlib.util.find_spec(self.package)
        assert spec is not None and spec.origin is not None
        return Path(spec.origin).parent

    def built_in(self) -> dict[str, Entry]:
        """Return the built-in plug-ins by name. A file that cannot be imported is left out with a warning."""
        found = {}
        for file in sorted(self.folder.glob("[a-z]*.py")):
            if file.stem in self.taken:
                log.warning("the %s '%s' is left out: the name means something else", self.kind, file.stem)
                continue
            try:
                if entry := self._built_in(file.stem):
                    found[entry.name] = entry
            except UsageError as problem:
                log.warning("the %s '%s' is left out: %s", self.kind, file.stem, problem)
        return found

    def entries(self) -> dict[str, Entry]:
        """Return all plug-ins that have a name: built-in ones, and (not imported) those of other distributions."""
        found = self.built_in()
        for point in entry_points(group=self.group):
            distribution = point.dist.name if point.dist else ""
            module, _, class_name = point.value.partition(":")
            if not re.fullmatch(r"\w+(\.\w+)*", module) or not class_name.isidentifier() or not _is_there(module):
                why = f"there is no {point.value}"
            elif point.name in self.taken or not re.fullmatch(r"[\w.-]+", point.name) or ".py" in point.name:
                why = "the name means something else"
            else:
                found.setdefault(point.name, Entry(point.name, class_name, module, distribution=distribution))
                continue
            whose = f" of {distribution}" if distribution else ""
            log.warning("the %s '%s'%s is left out: %s", self.kind, point.name, whose, why)
        return found

    def find(self, name: "str | type") -> Entry:
        """Return the plug-in with this name, at this `path.py:Class`, or of this class.

        Raises:
            UsageError: there is no such plug-in, or its file cannot be imported.
        """
        if isinstance(name, type):
            return self._of_class(name)
        if at := re.fullmatch(r"(.+\.py)(?::(.*))?", name, re.DOTALL):
            return self._at_path(at[1], at[2] or "")
        if name in self.groups:
            raise UsageError(f"'{name}' is a group of {self.kind}s: it stands alone, without options and without +")
        found = self._built_in(name)
        if found is None:  # only now look at what other distributions add, which reads all their metadata
            entries = self.entries()
            if name not in entries:
                raise UnknownNameError(self.kind, name, entries)
            found = entries[name]
        return found

    def describe(self, entry: Entry) -> Description:
        """Return the description of a plug-in. The plug-in is imported unless the package contains its description.

        Raises:
            UsageError: it cannot be imported, or it is not a plug-in of this kind.
        """
        shipped = self._shipped(entry.name) if entry.module == f"{self.package}.{entry.name}" else None
        if shipped is not None:
            own = {name: options.from_json(described) for name, described in shipped["options"].items()}
            return self._with_common(Description(shipped["summary"], own, shipped["facts"]))
        cls = entry.load()
        if not issubclass(cls, self._base()):
            raise UsageError(f"{self.kind} '{entry.name}': {cls.__name__} is no {self._base().__name__}")
        try:
            return self._with_common(self._seen(cls))
        except TypeError as problem:
            raise UsageError(f"{entry.name}: {problem}") from problem

    def options(self, entry: Entry) -> Mapping[str, Option]:
        """Return all options of a plug-in, by name. Raises as `describe`."""
        return self.describe(entry).options

    def parse(self, variant: "str | type", **given: Any) -> Variant:
        """Read a variant, `name[key=value,…]+name[…]`. A variant of one part may get its options as `given`.

        Raises:
            UsageError: a name, an option or a value is wrong.
        """
        if isinstance(variant, type):
            return Variant((self._part(self.find(variant), {}, given),))
        texts = split(variant, "+")
        if given and len(texts) > 1:
            raise UsageError(f"{variant}: give the options of its parts in brackets")
        found = []
        for written in map(names.read, texts):
            if twice := given.keys() & written.options.keys():
                raise UsageError(f"'{variant}': {min(twice)} is given twice")
            found.append(self._part(self.find(written.name), written.options, given))
        return Variant(tuple(found))

    def change(self, part: Part, texts: Mapping[str, str]) -> Part:
        """Return a part with some options changed, written as in a variant. Raises as `parse`."""
        known = self.options(part.entry)
        given = {} if part.place is None else {self.place: part.place}
        written = {name: known[name].write(value) for name, value in part.values.items()}
        return self._part(part.entry, {**written, **texts}, given)

    def ship(self) -> str:
        """Return the text of `described.json`, made from the classes of the built-in plug-ins."""
        found = {}
        for entry in self.built_in().values():
            cls = entry.load()
            seen = self._seen(cls)
            files = {Path(inspect.getfile(base)) for base in cls.__mro__ if self._defines(base.__module__)}
            found[entry.name] = {
                "class": cls.__name__,
                "sha256": {file.name: _sha256(file) for file in sorted(files)},
                "summary": seen.summary,
                "options": {name: options.as_json(option) for name, option in seen.options.items()},
                "facts": seen.facts,
            }
        lines = [f"{json.dumps(name)}: {json.dumps(own, ensure_ascii=False)}" for name, own in found.items()]
        return "{\n" + ",\n".join(lines) + "\n}\n"

    def _built_in(self, name: str) -> Entry | None:
        file = self.folder / f"{name}.py"
        if not name.isidentifier() or name in self.taken or not file.is_file():
            return None
        module = f"{self.package}.{name}"
        if (shipped := self._shipped(name)) is not None:
            return Entry(name, shipped["class"], module)
        own = self._classes(importing.by_name(module))
        return Entry(name, own[0], module) if len(own) == 1 else None

    def _at_path(self, path: str, class_name: str) -> Entry:
        what = f"{self.kind} '{path}{':' * bool(class_name)}{class_name}'"
        file = _file(path, what)
        module = importing.by_path(file)
        classes = self._classes(module)
        if not class_name and len(classes) == 1:
            class_name = classes[0]
        found = getattr(module, class_name, None) if class_name else None
        if not (isinstance(found, type) and issubclass(found, self._base())):
            which = f"there is no class {class_name}" if class_name else "name the class"
            raise UsageError(f"{what}: {which}; {path} has {', '.join(classes) or 'none'}")
        here = Path.cwd()
        shown = file.relative_to(here) if file.is_relative_to(here) else file
        return Entry(f"{quoted(shown.as_posix(), IN_NAMES)}:{class_name}", class_name, file=file)

    def _of_class(self, cls: type) -> Entry:
        if not issubclass(cls, self._base()):
            raise UsageError(f"{self.kind} {cls.__qualname__}: it is no subclass of {self._base().__name__}")
        for name, entry in self.entries().items():
            if (entry.module, entry.class_name) == (cls.__module__, cls.__qualname__):
                return self.find(name)
        if (file := source(cls)) is None:
            return Entry(quoted(f"{cls.__module__}:{cls.__qualname__}", IN_NAMES), cls.__name__, given=cls)
        return self._at_path(file, cls.__qualname__)

    def _part(self, entry: Entry, written: Mapping[str, str], given: Mapping[str, Any]) -> Part:
        described = self.describe(entry)
        known, name = described.options, entry.name
        values = {key: option.default for key, option in known.items()}
        for key, value in {**written, **given}.items():
            if key in described.untold:
                raise UsageError(f"{name} has no option '{key}': its argument must be annotated as {options.TYPES}")
            if key not in known:
                hint = did_you_mean(key, known) if known else f": {name} takes none"
                raise UsageError(f"{name} has no option '{key}'{hint}")
            try:
                values[key] = known[key].read(value) if key in written else known[key].take(value)
            except ValueError as problem:
                raise UsageError(f"{name}[{key}={value}]: {problem}") from None
        for key, value in values.items():
            if value is REQUIRED:
                raise UsageError(f"{name} needs {key}: write {name}[{key}=…] ({known[key].describe()})")
        place = values.pop(self.place, None)
        texts = {key: known[key].write(value) for key, value in values.items()}
        changed = {
            key: text
            for key, text in texts.items()
            if known[key].default is REQUIRED or text != known[key].write(known[key].default)
        }
        stable = {key: text for key, text in texts.items() if key in changed or key in self._written(name)}
        return Part(
            entry,
            values,
            place,
            described.facts,
            full=names.written(name, texts),
            label=names.written(entry.short, changed),
            stable=names.written(name, stable),
        )

    def _classes(self, module: Any) -> list[str]:
        """The public classes that a module defines and that descend from the base class."""
        base = self._base()
        return [
            name
            for name, value in vars(module).items()
            if isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__
            if not name.startswith("_") and value.__name__ == name
        ]

    def _base(self) -> type:
        module, _, name = self.base.partition(":")
        found: type = getattr(importing.by_name(module), name)
        return found

    def _seen(self, cls: type) -> Description:
        own = {n: a for n, a in options.arguments(cls).items() if n not in self.provided}
        summary = (inspect.getdoc(cls) or "").partition("\n")[0] if cls.__doc__ else ""
        found = {name: option for name, a in own.items() if (option := options.option(a)) is not None}
        return Description(summary, found, self.facts(cls), frozenset(own.keys() - found.keys()))

    def _with_common(self, described: Description) -> Description:
        every = {**described.options, **self.common(described.facts)}
        return replace(described, options=every)

    def _defines(self, module: str) -> bool:
        """Whether a module belongs to a built-in plug-in."""
        return module.startswith(f"{self.package}.") and not module.startswith(f"{self.package}.core")

    def _shipped(self, name: str) -> Any:
        """Return the stored description of a built-in plug-in, or None if one of its files has changed since."""
        found = _json(self.folder / DESCRIBED).get(name)
        fits = found and all(_sha256(self.folder / file) == digest for file, digest in found["sha256"].items())
        return found if fits else None

    def _written(self, name: str) -> Sequence[str]:
        written: Sequence[str] = _json(self.folder / STABLE).get(name, ())
        return written


def source(cls: type) -> str | None:
    """Return the file that defines a class, or None if it was not defined in a file (in a notebook, for example).

    Raises:
        UsageError: it is defined inside a function or another class, where another process cannot find it.
    """
    try:
        file = inspect.getfile(cls)
    except (TypeError, OSError):
        return None
    if not Path(file).is_file() or not file.endswith(".py"):
        return None
    if "." in cls.__qualname__:
        raise UsageError(f"{cls.__qualname__}: define the class at the top of its file {file}")
    return file


def _file(path: str, what: str) -> Path:
    try:
        if (file := Path(path).expanduser()).is_file():
            return file.resolve()
    except (OSError, ValueError, RuntimeError):  # a name too long, say, or nobody's home
        pass
    raise UsageError(f"{what}: there is no file {path}")


def _is_there(module: str) -> bool:
    """Whether the package of a module can be found; nothing of it is imported."""
    try:
        return importlib.util.find_spec(module.partition(".")[0]) is not None
    except ValueError:  # one that is imported already, and does not say from where
        return True


def _sha256(file: Path) -> str:
    return sha256(file.read_bytes()).hexdigest() if file.is_file() else ""


@cache
def _json(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    return found
