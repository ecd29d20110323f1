"""Errors of task sets, in a place of their own: they can be raised, and told apart, without importing torch."""


class DataError(ValueError):
    """The data is not what the task set declares, or cannot be had; says what would help."""


def in_words(problem: BaseException) -> str:
    """Say an exception in one line. The type is left out where the message is a sentence of its own."""
    message = " ".join(str(problem).split()) if isinstance(problem, DataError) else str(problem).partition("\n")[0]
    if isinstance(problem, ValueError | TypeError) and message:
        return message
    return f"{type(problem).__name__}: {message}" if message else type(problem).__name__
