"""Options of plug-ins: finds them in a class's arguments, and reads and writes their values as text."""

import inspect
import typing
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, SimpleNamespace, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from methods.core.names import IN_ITEMS, IN_VALUES, is_nested, plain, quoted, split

REQUIRED = object()
"""The default of an option that must be given."""

WORDS = {"int": int, "float": float, "str": str, "bool": bool, "path": Path}
"""The basic types of options, by the words that stand for them in `described.json`."""

TYPES = "int, float, str, bool, Path, Literal[…], a list or tuple of one of them, or one of them | None"
"""The types of options."""


@dataclass(frozen=True)
class Option:
    """One option of a plug-in: its type and its default."""

    type: Any
    default: Any = REQUIRED

    def read(self, text: str) -> Any:
        """Turn what was written into a value of the type.

        Raises:
            ValueError: the type has no such value. The message says what the option takes.
        """
        if text == "none" and NoneType in _members(self.type):
            return None
        value = text if is_nested(text) else plain(text)
        for choice in self._choices:
            if _text(choice) == value:
                return choice
        if self._is_list:
            return self._valid([plain(item) for item in split(text, ":")] if text else [])
        return self._valid(value)

    def take(self, value: Any) -> Any:
        """Turn a Python value, or text, into a value of the type. Raises as `read`."""
        return self.read(quoted(value, '"') if value else value) if isinstance(value, str) else self._valid(value)

    def write(self, value: Any) -> str:
        """Return the text that `read` turns into this value."""
        if isinstance(value, Collection) and not isinstance(value, str):
            return ":".join(quoted(_text(item), IN_ITEMS) for item in value)
        text = _text(value)
        if value is None or (self._is_list and not text):
            return text
        if text == "none" and NoneType in _members(self.type):
            return '"none"'
        return text if is_nested(text) else quoted(text, IN_VALUES)

    def describe(self) -> str:
        """Say in words what the option takes."""
        if self._choices:
            return " or ".join(_text(choice) for choice in self._choices)
        kinds = [kind for kind in _members(self.type) if kind is not NoneType]
        found = []
        for kind in kinds:
            if _is_list(kind):
                item = next(iter(get_args(kind)), str)
                found.append(f"{getattr(item, '__name__', item)}s separated by ':'")
            else:
                found.append(f"a value of type {getattr(kind, '__name__', kind)}")
        return " or ".join(found)

    def _valid(self, value: Any) -> Any:
        try:
            return TypeAdapter(self.type).validate_python(value)
        except ValidationError as problem:
            raise ValueError(f"it takes {self.describe()}") from problem

    @property
    def _choices(self) -> tuple[Any, ...]:
        """The values of a `Literal`."""
        kinds = [kind for kind in _members(self.type) if kind is not NoneType]
        if any(get_origin(kind) is Literal for kind in kinds):
            return tuple(choice for kind in kinds for choice in get_args(kind))
        return ()

    @property
    def _is_list(self) -> bool:
        return any(_is_list(kind) for kind in _members(self.type))


def arguments(cls: type) -> dict[str, inspect.Parameter]:
    """Return the named arguments of a class's `__init__`, and those of its base class if it passes `**others` on."""
    found: dict[str, inspect.Parameter] = {}
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        function = vars(base)["__init__"]
        own = list(inspect.signature(function).parameters.values())[1:]
        for argument in own:
            if argument.kind in (argument.POSITIONAL_OR_KEYWORD, argument.KEYWORD_ONLY):
                found.setdefault(argument.name, argument.replace(annotation=_annotation(argument, function)))
        if all(argument.kind is not argument.VAR_KEYWORD for argument in own):
            break
    return found


def option(argument: inspect.Parameter) -> Option | None:
    """Turn an argument into an option. Return None if no text can express its values, but it has a default.

    Raises:
        TypeError: no text can express its values, and it has no default.
    """
    kind, default = argument.annotation, argument.default
    if kind is argument.empty:  # its default tells the type; without one it is text
        plainly = default is not argument.empty and type(default) in WORDS.values()
        kind = type(default) if plainly else str | None if default is None else str
    if _is_written(kind):
        return Option(kind, REQUIRED if default is argument.empty else default)
    if default is not argument.empty:
        return None
    raise TypeError(f"the option {argument.name} must be annotated as {TYPES}")


def as_json(option: Option) -> dict[str, Any]:
    """Describe an option in JSON. Raises TypeError if its type is not made of `WORDS`."""
    found = {"type": _type_as_json(option.type)}
    return found if option.default is REQUIRED else {**found, "default": option.default}


def from_json(described: Mapping[str, Any]) -> Option:
    """Return the option that `as_json` described."""
    kind = _type_from_json(described["type"])
    return Option(kind, Option(kind).take(described["default"]) if "default" in described else REQUIRED)


def _type_as_json(kind: Any) -> Any:
    members, origin = _members(kind), get_origin(kind)
    if NoneType in members:
        [other] = [member for member in members if member is not NoneType]
        return {"or none": _type_as_json(other)}
    if origin is Literal:
        return {"one of": list(get_args(kind))}
    if origin is list or (origin is tuple and get_args(kind)[1:] == (...,)):
        return {origin.__name__: _type_as_json(get_args(kind)[0])}
    for word, found in WORDS.items():
        if kind is found:
            return word
    raise TypeError(f"{kind} is none of {', '.join(WORDS)}, Literal, list, tuple and one of them or None")


def _type_from_json(described: Any) -> Any:
    if isinstance(described, str):
        return WORDS[described]
    [(how, of)] = described.items()
    if how == "one of":
        return Literal[tuple(of)]
    kind = _type_from_json(of)
    if how == "or none":
        return kind | None
    container: Any = {"list": list, "tuple": tuple}[how]
    return container[kind, ...] if how == "tuple" else container[kind]


def _annotation(argument: inspect.Parameter, function: Any) -> Any:
    """Return the annotation as a type. A text is looked up where the function was defined, and kept if that fails."""
    if not isinstance(argument.annotation, str):
        return argument.annotation
    asked = SimpleNamespace(__annotations__={argument.name: argument.annotation})
    try:
        return typing.get_type_hints(asked, inspect.unwrap(function).__globals__, include_extras=True)[argument.name]
    except (NameError, AttributeError, TypeError, SyntaxError):
        return argument.annotation


def _members(kind: Any) -> tuple[Any, ...]:
    """Return the types of a union. Any other type is returned alone."""
    if get_origin(kind) is Annotated:
        return _members(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return tuple(member for part in get_args(kind) for member in _members(part))
    return (kind,)


def _is_written(kind: Any) -> bool:
    """Whether text can express the values of a type in every process. A plug-in's own types are known in one only."""
    if len(members := _members(kind)) > 1:
        return all(map(_is_written, members))
    [member] = members
    if _is_list(member):
        return all(_is_written(item) for item in get_args(member) if item is not ...)
    return get_origin(member) is Literal or member in (*WORDS.values(), NoneType)


def _is_list(kind: Any) -> bool:
    base = get_origin(kind) or kind
    if not isinstance(base, type) or base.__module__ not in ("builtins", "collections.abc"):
        return False  # a tensor or an array is a collection, too, and so is what a plug-in defines
    return issubclass(base, Collection) and not issubclass(base, str | bytes | Mapping)


def _text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, float):
        short = f"{value:.15g}"
        return short if float(short) == value else repr(value)
    return str(value)
