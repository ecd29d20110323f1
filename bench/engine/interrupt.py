"""Tells the user's Ctrl-C from a `KeyboardInterrupt` that somebody's code raises."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn


class UserInterruptError(KeyboardInterrupt):
    """The user stopped the command. A plug-in that raises `KeyboardInterrupt` itself does not raise this."""


def interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Raise `UserInterruptError`: this is the handler of a signal that the user sends."""
    raise UserInterruptError


@contextlib.contextmanager
def user_interrupts() -> Iterator[None]:
    """While this lasts, Ctrl-C raises `UserInterruptError`. Only the main thread hears signals; others are let be."""
    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(previous):
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        try:
            previous(number, frame)
        except UserInterruptError:
            raise
        except KeyboardInterrupt:
            raise UserInterruptError from None

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
