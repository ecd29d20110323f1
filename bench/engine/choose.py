"""Finds an engine by its name, and reads its options: `local[workers=4,timeout=600]`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any, get_args

from pydantic.fields import FieldInfo

from bench.engine.base import Engine, Setting
from methods.core import names, options
from methods.core.names import UsageError, did_you_mean
from methods.core.options import Option

ENGINES = {
    "local": "bench.engine.local:LocalEngine",
    "dask": "bench.engine.dask:DaskEngine",
    "inline": "bench.engine.inline:InlineEngine",
}
"""The class of each engine, by its name. It is imported when it is chosen or described."""


@dataclass(frozen=True)
class ChosenEngine:
    """An engine with the values of its options."""

    cls: type[Engine]
    values: Mapping[str, Any]

    def open(self, setting: Setting) -> Engine:
        """Return the engine, which does nothing yet.

        Raises:
            UsageError: its options do not go together, or a package that it needs is missing.
        """
        return self.cls(setting, **self.values)


@dataclass(frozen=True)
class Description:
    """What a list of engines shows."""

    summary: str
    options: Mapping[str, Option]


def choose(text: str, **given: Any) -> ChosenEngine:
    """Read an engine and its options, without importing torch.

    Args:
        text: as on the command line, `name` or `name[option=value,…]`.
        given: the values of options that stand on their own on the command line, as `--workers 4` does; None if they
            are left out. Such an option is the same as that of the engine, so the two may not contradict each other.

    Raises:
        UsageError: a name, an option or a value is wrong, or two values contradict each other.
    """
    written = names.read(text)
    cls = _class(written.name)
    known = _options(cls)
    values = {key: option.default for key, option in known.items()}
    for key, value in written.options.items():
        if key not in known:
            hint = did_you_mean(key, known) if known else f": {written.name} takes none"
            raise UsageError(f"engine {written.name} has no option '{key}'{hint}")
        values[key] = _read(known[key], value, f"{written.name}[{key}={value}]")
    for key, value in given.items():
        if value is None:
            continue
        if key not in known:
            raise UsageError(f"--{key} {value}: the engine {written.name} has no such option; leave it out")
        read = _read(known[key], value, f"--{key} {known[key].write(value)}")
        if key in written.options and read != values[key]:
            raise UsageError(f"--engine '{text}' and --{key} {value} contradict each other: give one of them")
        values[key] = read
    return ChosenEngine(cls, values)


def describe() -> dict[str, Description]:
    """Return what each engine does and takes, by name."""
    classes = {name: _class(name) for name in ENGINES}
    return {name: Description((cls.__doc__ or "").partition("\n")[0], _options(cls)) for name, cls in classes.items()}


def _class(name: str) -> type[Engine]:
    if name not in ENGINES:
        raise UsageError(f"--engine '{name}' is not offered{did_you_mean(name, ENGINES)}")
    found: type[Engine] = resolve_name(ENGINES[name])
    return found


def _options(cls: type[Engine]) -> dict[str, Option]:
    """The options of an engine: the arguments of its `__init__` but the setting."""
    found = {name: options.option(a) for name, a in options.arguments(cls).items() if name != "setting"}
    return {name: option for name, option in found.items() if option is not None}


def _read(option: Option, value: Any, where: str) -> Any:
    """Turn text, or a value from Python, into a value of an option; say in one line what it takes if that fails."""
    try:
        return option.read(value) if isinstance(value, str) else option.take(value)
    except ValueError as problem:
        told = [part.description for part in get_args(option.type) if isinstance(part, FieldInfo) and part.description]
        raise UsageError(f"{where}: write {told[0]}" if told else f"{where}: {problem}") from None
