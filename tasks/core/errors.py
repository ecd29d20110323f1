"""Errors of task sets, in a place of their own: they can be raised, and told apart, without importing torch."""

import textwrap


class DataError(ValueError):
    """The data is not what the task set declares, or cannot be had; says what would help."""


def in_words(problem: BaseException) -> str:
    """Say an exception in one line of bounded length. Where its message is a sentence, its type is left out."""
    if isinstance(problem, ValueError | TypeError):
        message = textwrap.shorten(str(problem), 500, placeholder=" …")
        return message or type(problem).__name__
    message = textwrap.shorten(str(problem).partition("\n")[0], 500, placeholder=" …")  # torch adds where in C++
    return f"{type(problem).__name__}: {message}" if message else type(problem).__name__
