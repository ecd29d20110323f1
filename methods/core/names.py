"""Reads and writes variants, `name[key=value,…]+name`. A name or value that contains such signs stands in quotes."""

import difflib
import itertools
import re
from collections.abc import Collection
from dataclasses import dataclass

IN_NAMES = ',+[]"'
IN_VALUES = ',[]"'
IN_ITEMS = ':,[]"'
"""A name, an option's value or an item of a list is written in quotes if it contains one of these signs."""

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|.', re.DOTALL)
"""One token: a single sign, or a text in quotes, in which a backslash makes the next sign a plain one."""

_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


class UsageError(ValueError):
    """A name, an option or a number is wrong. The message says what would be right."""


@dataclass(frozen=True)
class Written:
    """One part of a variant, as somebody wrote it. Values are still in their quotes."""

    name: str
    options: dict[str, str]


def split(text: str, separator: str) -> list[str]:
    """Split at a separator, but not inside brackets and quotes.

    Raises:
        UsageError: a quote is not closed.
    """
    pieces, depth = [""], 0
    for token in _tokens(text):
        depth += (token == "[") - (token == "]")
        if token == separator and depth == 0:
            pieces.append("")
        else:
            pieces[-1] += token
    return pieces


def read(text: str) -> Written:
    """Read one part, `name[key=value,…]`.

    Raises:
        UsageError: the text does not have this form.
    """
    tokens = _tokens(text.strip())
    end = tokens.index("[") if "[" in tokens else len(tokens)
    name, inside = plain("".join(tokens[:end])), "".join(tokens[end + 1 :])
    if end < len(tokens) and tokens[-1] != "]":
        raise UsageError(f"'{text}': a bracket is not closed; options are written {name}[key=value,…]")
    options: dict[str, str] = {}
    for item in split(inside[:-1], ",") if inside[:-1].strip() else []:
        key, equals, value = item.partition("=")
        if not equals:
            raise UsageError(f"'{text}': options are written {name}[key=value,…]")
        if key.strip() in options:
            raise UsageError(f"'{text}': {key.strip()} is given twice")
        options[key.strip()] = value.strip()
    return Written(name, options)


def plain(text: str) -> str:
    """Return a text without the space around it and without its quotes."""
    tokens = _tokens(text.strip())
    return "".join(_ESCAPED.sub(r"\1", token[1:-1]) if len(token) > 1 else token for token in tokens)


def is_nested(text: str) -> bool:
    """Whether a text is a whole variant in brackets, which needs no quotes as a value: `[mgda[at=features]]`."""
    tokens: list[str] = _TOKEN.findall(text)
    depths = list(itertools.accumulate((token == "[") - (token == "]") for token in tokens))
    closed = text.startswith("[") and depths[-1] == 0 and '"' not in tokens
    return closed and all(depth > 0 for depth in depths[:-1])


def quoted(text: str, signs: str) -> str:
    """Return a text that `plain` reads back: in quotes if it is empty, has space around it or one of these signs."""
    if text and text == text.strip() and not set(text) & set(signs):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def written(name: str, options: dict[str, str]) -> str:
    """Write a part: its name, and its options in the order of their names."""
    inside = ",".join(f"{key}={value}" for key, value in sorted(options.items()))
    return f"{name}[{inside}]" if inside else name


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Return `: did you mean 'x'?` if a known name is similar, else the list of the known names."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f": did you mean '{near[0]}'?" if near else f": there is {', '.join(known)}"


def _tokens(text: str) -> list[str]:
    tokens: list[str] = _TOKEN.findall(text)
    if '"' in tokens:
        raise UsageError(f'{text}: a quote is not closed; a quote itself is written \\" inside of quotes')
    return tokens
