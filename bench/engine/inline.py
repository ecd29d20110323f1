"""Runs in this process, one after another: for debuggers."""

import os
from collections.abc import Sequence

from bench.engine.interrupt import user_interrupts
from bench.engine.runs import Done, execute
from bench.planning.plan import Planned
from bench.store import Store


def run_inline(
    runs: Sequence[Planned], store: Store, done: Done, *, checkpoint_every: int = 0, debug: bool = False
) -> None:
    """Execute runs in order; `done` hears of each. With `debug` a failure is raised, not recorded."""
    folder = os.getcwd()
    with user_interrupts():
        for planned in runs:
            record = execute(planned, store, checkpoint_every=checkpoint_every, debug=debug)
            os.chdir(folder)  # a rule or a task set may have left it
            done(planned, record)
