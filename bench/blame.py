"""Turns an exception of a plug-in into one line that names the plug-in and the line of its file."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from methods.core.names import UsageError
from methods.core.registry import Entry
from tasks.core.errors import DataError, in_words


@contextmanager
def blame(entry: Entry) -> Iterator[None]:
    """Report any exception inside the block as a fault of this plug-in. Ctrl-C is not changed.

    Raises:
        DataError: the plug-in's data cannot be read or fetched, or is not what it declares.
        UsageError: any other exception was raised.
    """
    try:
        yield
    except UsageError:
        raise
    except DataError as problem:
        raise DataError(f"{entry.name}: {in_words(problem)}") from problem
    except (Exception, SystemExit) as problem:
        raise UsageError(f"{entry.name}: {in_words(problem)}{place_in(entry.file, problem)}") from problem


def place_in(file: Path | None, problem: BaseException | None) -> str:
    """Return the line of a file where an exception or its cause came from, ` (file.py:38)`, or an empty text."""
    found = ""
    while file is not None and problem is not None:
        for frame in traceback.extract_tb(problem.__traceback__):
            if Path(frame.filename).resolve() == file.resolve():
                found = f" ({file.name}:{frame.lineno})"
        problem = problem.__cause__
    return found
