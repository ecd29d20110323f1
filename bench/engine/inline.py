"""Runs in this process, one after another: for debuggers."""

from collections.abc import Sequence

from bench.engine.runs import Done, execute
from bench.plan import Planned
from bench.store import Store


def run_inline(
    runs: Sequence[Planned], store: Store, done: Done, *, checkpoint_every: int = 0, debug: bool = False
) -> None:
    """Execute runs in order; `done` hears of each. With `debug` a failure is raised, not recorded."""
    for planned in runs:
        done(planned, execute(planned, store, checkpoint_every=checkpoint_every, debug=debug))
