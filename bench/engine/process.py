"""A call in a process of its own: whatever becomes of the process, its caller is told and is not harmed.

Each call gets a fresh process, forked from a server that has imported what every run needs, so that it starts in a
tenth of a second; where there is no such server (Windows), a spawned one. Nothing is shared between two calls: no
queue and no lock, which a process that is killed at a bad moment would leave broken for the others.
"""

import contextlib
import ctypes
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, TypeVar

from bench.store import StoreError

Argument = TypeVar("Argument")
Returned = TypeVar("Returned")

START = 120.0
"""Seconds that a process may take until its call begins, as the first one waits for the server to import everything."""
PRELOADED = ["bench.training.loop", "torch._dynamo", "sklearn.datasets", "bench.engine.child"]
PACKAGES = Path(__file__).resolve().parents[2]
"""The folder that holds the package `bench`."""


_ONE_AT_A_TIME = threading.Lock()
"""Who has it may change this process's environment: a worker of a cluster starts runs from several threads."""


class CallError(Exception):
    """A call in another process gave no result; says what became of it."""


class Call:
    """A function that runs in a process of its own. The process ends with the call, and so does all that it started.

    Whether it starts, ends or is killed is seen in `over`, never as an exception.
    """

    def __init__(self, function: Callable[..., Any], *arguments: Any, timeout: float) -> None:
        self.timed_out = False
        self.result: Any = None
        self.problem: Exception | None = None
        """What the function raised: a `StoreError` as it is, anything else as a `CallError` that names it."""
        self.exitcode: int | None = None
        """Of a process that ended without a result and without a problem."""
        self.lost = False
        """Whether the process ended before the call had begun, or because the server of all processes had."""
        self.server: int | None = None
        """The process that forked this one; None until the call has begun."""
        self._answered = False
        self._timeout = timeout
        self._deadline = time.monotonic() + START + timeout
        context = _context()
        reader, writer = context.Pipe(duplex=False)
        self._messages: Connection | None = reader
        search = {name: os.environ.get(name) for name in ("PYTHONPATH", "PYTHONSAFEPATH")}
        self._process = context.Process(target=_serve, args=(writer, search, function, arguments))
        try:
            with _environment():
                self._process.start()
        except (OSError, EOFError):  # the server, or the new process, was killed at this moment
            self._close()
        finally:
            writer.close()

    @property
    def handles(self) -> list[Any]:
        """What becomes ready when there is news."""
        started = [] if self._process.pid is None else [self._process.sentinel]
        return [*started, *([] if self._messages is None else [self._messages])]

    def over(self) -> bool:
        """Whether the call has ended; if so, nothing of its process is left."""
        alive = self._process.pid is not None and self._process.is_alive()
        self._listen()  # after that look: what a process sent before it ended is heard
        if alive and not self._answered:
            self.timed_out = time.monotonic() > self._deadline
            if not self.timed_out:
                return False
        if not alive and not self._answered:
            self.exitcode = self._process.exitcode if self._process.pid is not None else None
            # Of a process whose server is gone nobody knows the exit code; multiprocessing says 255.
            patience = 0.5 if self.exitcode == 255 else 0.0
            self.lost = self.server is None or _ended(self.server, patience)
        self.kill()
        return True

    def kill(self) -> None:
        """End the process and all that it started."""
        pid = self._process.pid
        if pid is not None:
            if hasattr(os, "killpg"):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)
            self._process.kill()  # it may have had no group yet
            if self.server is not None and _ended(self.server):  # then multiprocessing takes it for dead
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            self._process.join(timeout=10)
        self._close()

    def _close(self) -> None:
        if self._messages is not None:
            self._messages.close()
            self._messages = None

    def _listen(self) -> None:
        """Take in what the process has said: first the server that forked it, then how the function ended."""
        try:
            while self._messages is not None and self._messages.poll():
                kind, content = self._messages.recv()
                if kind == "began":
                    self.server = content
                    self._deadline = time.monotonic() + self._timeout  # starting is not the call's time
                else:
                    self._answered = True
                    setattr(self, kind, content)
        except Exception:  # somebody's code closed it, or wrote into it
            self._close()


def outcome(function: Callable[..., Any], *arguments: Any, timeout: float) -> Any:
    """Call a function in a process of its own, and return what it returns.

    Raises:
        StoreError: the function did.
        CallError: it raised anything else, took too long, or its process died.
    """
    call = Call(function, *arguments, timeout=timeout)
    try:
        while not call.over():
            wait(call.handles, timeout=1.0)
    finally:
        call.kill()
    if call.problem is not None:
        raise call.problem
    if call.timed_out:
        raise CallError(f"it took more than {timeout:g} s")
    if call.exitcode is not None or call.lost:
        raise CallError(cause(call))
    return call.result


def isolated(function: Callable[[Argument], Returned], argument: Argument, *, timeout: float) -> Returned:
    """Call a function in a process of its own, with stdout and stderr silenced, and return what it returns.

    Raises:
        StoreError: the function did.
        CallError: it raised anything else, took too long, or its process died.
    """
    returned: Returned = outcome(_quietly, function, argument, timeout=timeout)
    return returned


def _quietly(function: Callable[[Argument], Returned], argument: Argument) -> Returned:
    """Call a function with stdout and stderr silenced: torch's profiler prints."""
    with open(os.devnull, "wb") as nowhere:
        for descriptor in (1, 2):
            os.dup2(nowhere.fileno(), descriptor)
    return function(argument)


def cause(call: Call) -> str:
    """Say how the process of a call without an answer ended."""
    if call.lost and call.server is not None:
        return "the process that starts the runs was killed"
    code = call.exitcode
    before = " before it began" if call.lost else ""
    if code is None:
        return "its process could not be started"
    if code >= 0:
        return f"its process ended with exit code {code}{before}"
    try:
        name = signal.Signals(-code).name
    except ValueError:  # a real-time signal
        name = f"signal {-code}"
    hint = " (out of memory, or killed by somebody)" if name == "SIGKILL" else ""
    return f"its process was ended by {name}{hint}{before}"


def _serve(
    messages: Connection, search: Mapping[str, str | None], function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    """Call the function in this process, which exists for it alone, and tell how it ended."""
    _begin()
    _set(search)
    try:
        messages.send(("began", os.getppid()))
    except OSError:  # its caller has given it up
        os._exit(1)
    answer: tuple[str, Any]
    try:
        with without_forks():
            answer = "result", function(*arguments)
    except StoreError as problem:
        answer = "problem", problem
    except BaseException as problem:
        answer = "problem", CallError(f"{type(problem).__name__}: {problem}")
    try:
        messages.send(answer)
    except (OSError, ValueError, TypeError, AttributeError, pickle.PicklingError):
        pass  # somebody's code closed the pipe, or the result cannot travel: the exit code stays
    finally:
        # Not by returning, which waits for threads and children that somebody's code has left.
        os._exit(0)


@contextlib.contextmanager
def without_forks() -> Iterator[None]:
    """End a process here that somebody's code has forked within: what follows is for its parent alone to do."""
    process = os.getpid()
    try:
        yield
    finally:
        if os.getpid() != process:
            os._exit(1)


def _begin() -> None:
    """Make this process the first of a group, which is killed as a whole, and let it die with its server.

    And the server dies with its caller.
    """
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C the command decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # The server ends when nobody has the other end of this pipe any more: its caller alone shall have it, not this run.
    server: Any = forkserver._forkserver
    alive = getattr(server, "_forkserver_alive_fd", None)
    if alive is not None:
        os.close(alive)
        server._forkserver_alive_fd = None
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            parent_death_signal = 1  # PR_SET_PDEATHSIG
            ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGKILL)


def _context() -> Any:
    """Return the way in which processes are started here."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """Set what the server and its children need; a run sets its own number of threads when it starts.

    The server's Python would look for our packages in the working folder first: a bench.py there must not be taken
    for ours.
    """
    search = os.pathsep.join([str(PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])])
    wanted = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONSAFEPATH": "1", "PYTHONPATH": search}
    with _ONE_AT_A_TIME:
        before = {name: os.environ.get(name) for name in wanted}
        _set(wanted)
        try:
            yield
        finally:
            _set(before)


def _set(variables: Mapping[str, str | None]) -> None:
    """Set environment variables; take those away that are None."""
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _ended(child: int, patience: float = 0.0) -> bool:
    """Whether a child of this process has ended, or does so within some seconds. `multiprocessing` reaps it."""
    if not hasattr(os, "waitid"):
        return False
    until = time.monotonic() + patience
    try:
        while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if time.monotonic() >= until:
                return False
            time.sleep(0.01)
    except ChildProcessError:  # reaped already
        pass
    return True
