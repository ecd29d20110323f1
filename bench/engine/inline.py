"""The engine `inline`: runs execute in this process, one after another."""

import os
from collections.abc import Callable

from bench.engine.base import Argument, Ended, Engine, Returned, Setting
from bench.engine.interrupt import user_interrupts
from bench.engine.runs import train_run
from bench.planning.plan import Planned


class InlineEngine(Engine):
    """Runs execute in this process, one after another: for debuggers."""

    in_this_process = True
    places = 1

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._submitted: list[Planned] = []
        self._folder = os.getcwd()

    def submit(self, planned: Planned) -> None:
        """Remember a run; it executes while its end is waited for."""
        self._submitted.append(planned)

    def ended(self) -> list[Ended]:
        """Execute the run, and return it. In debugging its failure is raised."""
        setting, planned = self._setting, self._submitted.pop()
        with user_interrupts():
            record = train_run(planned, setting.store, checkpoint_every=setting.checkpoint_every, debug=setting.debug)
        os.chdir(self._folder)  # a rule or a task set may have left it
        return [Ended(planned, record)]

    def call(self, function: Callable[[Argument], Returned], argument: Argument) -> Returned:
        """Call a function in this process; what it raises is raised."""
        return function(argument)

    def close(self) -> None:
        """Nothing is in progress while this process does something else."""
