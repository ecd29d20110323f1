"""Defines what an engine is: it executes runs that it is given, and tells of those that have ended.

`schedule` decides which run is given when, and so no engine knows of order, dependencies or repetition.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Self, TypeVar

from pydantic import Field, PositiveInt

from bench.planning.plan import Planned
from bench.records import RunRecord
from bench.store import Store

Argument = TypeVar("Argument")
Returned = TypeVar("Returned")

Workers = Annotated[Literal["auto"] | PositiveInt, Field(description="auto, or how many")]
"""How many runs execute at once; `auto` is one per core, or per GPU."""
Timeout = Annotated[float, Field(gt=0, description="seconds above 0")]
"""Seconds after which a run is killed."""


class EngineError(Exception):
    """Where runs execute has gone away, or does not do its work; says which, and what would help."""


@dataclass(frozen=True)
class Setting:
    """What every engine is given beside its options."""

    store: Store
    checkpoint_every: int = 0
    """After how many steps a run leaves its state; 0: never."""
    debug: bool = False
    """Raise a run's failure instead of recording it. Only an engine in this process does."""


@dataclass(frozen=True)
class Ended:
    """A run that an engine was given and that is over."""

    planned: Planned
    record: RunRecord | None
    """What it left in the store, also if it failed; None if the run was lost."""
    lost: str = ""
    """How it was lost: through no fault of its own that is known, as when its machine went away."""


class Engine(ABC):
    """Executes runs. The keyword arguments of a subclass's `__init__` are the options that `--engine` takes.

    It serves a whole command, and is closed at the end of a `with` block, also on Ctrl-C.
    """

    in_this_process: ClassVar[bool] = False
    """Whether runs execute in this process. If not, each has a process of its own, and a time limit: `timeout`."""
    elsewhere: ClassVar[bool] = False
    """Whether runs execute on other machines: then this one tells nothing of their devices."""
    attempts: ClassVar[int] = 3
    """How often a run is begun that is lost each time through no fault of its own that is known."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting

    def prepare(self, runs: Sequence[Planned]) -> None:  # noqa: B027 - not every engine takes its size from runs
        """Hear of all runs of a round, at least one, before the first is submitted.

        Raises:
            EngineError: there is nothing on which they could execute.
        """

    @property
    @abstractmethod
    def places(self) -> int:
        """How many runs it takes at once. The number may change while it works."""

    @property
    def workers(self) -> int:
        """How many runs of those that it was prepared for execute at once; the others that it has taken wait."""
        return self.places

    @abstractmethod
    def submit(self, planned: Planned) -> None:
        """Begin a run. There is a place for it, and the runs that it reads have ended."""

    @abstractmethod
    def ended(self) -> list[Ended]:
        """Wait a moment for news, and return the runs that have ended since the last call: each submitted one once.

        Raises:
            StoreError: no record can be written, as on a full disk.
            EngineError: no run can be executed any more.
        """

    @abstractmethod
    def call(self, function: Callable[[Argument], Returned], argument: Argument) -> Returned:
        """Call a function of a module where runs execute, and return what it returns. No run is in progress.

        Raises:
            CallError: where runs are processes of their own, the function raised anything, took too long, or died.
            StoreError: the function did.
            EngineError: nothing can be executed any more.
        """

    @abstractmethod
    def close(self) -> None:
        """Kill the runs that are still in progress. They leave no record, so the same command makes them next time."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
