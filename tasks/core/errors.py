"""Errors of task sets. They have a file of their own, so that raising and catching them does not import torch."""

import textwrap


class DataError(ValueError):
    """The data cannot be read or fetched, or is not what the task set declares. The message says what would help."""


def in_words(problem: BaseException) -> str:
    """Describe an exception in one line of bounded length. Its type is left out if its message is a sentence."""
    if isinstance(problem, ValueError | TypeError):
        message = textwrap.shorten(str(problem), 500, placeholder=" …")
        return message or type(problem).__name__
    message = textwrap.shorten(str(problem).partition("\n")[0], 500, placeholder=" …")  # torch adds where in C++
    return f"{type(problem).__name__}: {message}" if message else type(problem).__name__
