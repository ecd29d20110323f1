"""The error of data, in a place of its own: it can be raised, and told apart, without importing torch."""


class DataError(ValueError):
    """The data is not what the task set declares, or cannot be had; says what would help."""
