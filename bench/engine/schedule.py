"""Decides which run begins when: the order, what a run waits for, how many run at once, and what is repeated."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from graphlib import TopologicalSorter
from heapq import heappop, heappush

from bench.engine.base import Ended, Engine
from bench.engine.runs import record_failure, record_since
from bench.planning.forecast import seconds_of_similar, similar
from bench.planning.plan import Planned
from bench.records import RunRecord
from bench.store import Store

Done = Callable[[Planned, RunRecord], None]
"""Hears of a run that has ended, with its record."""


def execute(runs: Sequence[Planned], engine: Engine, store: Store, done: Done) -> None:
    """Let an engine execute runs, and tell `done` of each as it ends.

    The seed rounds are taken in order, and within a round the run that takes longest comes first. A run waits for those
    of the runs that it reads, whether they succeed or fail. The engine never has more runs than it has places.

    A run that is lost begins again, and alone: if it is what kills the others, it harms none of them then. After as
    many attempts as the engine makes it counts as crashed.

    Raises:
        StoreError: no record can be written, as on a full disk.
        EngineError: no run can be executed any more.
    """
    engine.prepare(runs)
    order = longest_first(runs, store.records())
    position = {planned.spec.name: n for n, planned in enumerate(order)}
    waits = TopologicalSorter({p.spec.name: p.parts.upstream.keys() & position.keys() for p in order})
    waits.prepare()
    ready: list[int] = []
    """The positions of runs that wait for no other, the first on top."""
    again: list[Planned] = []
    lost: Counter[str] = Counter()
    working: dict[str, tuple[int, int] | None] = {}
    """The runs that the engine has, with the stamp of the record that was there when they began."""

    def outcome(ended: Ended) -> RunRecord | None:
        """The record of a run that has ended; None if it is to begin again."""
        name = ended.planned.spec.name
        before = working.pop(name)
        # What an engine believes to be lost may have ended well: its record says so.
        record = ended.record or record_since(before, ended.planned, store)
        if record is not None:
            return record
        lost[name] += 1
        if lost[name] < engine.attempts:
            return None
        return record_failure(ended.planned, "crashed", ended.lost, store)

    while waits.is_active():
        for name in waits.get_ready():
            heappush(ready, position[name])
        while (again or ready) and len(working) < (1 if again or lost.keys() & working.keys() else engine.places):
            planned = again.pop() if again else order[heappop(ready)]
            working[planned.spec.name] = store.stamp(planned.spec.name)
            engine.submit(planned)
        for ended in engine.ended():
            record = outcome(ended)
            if record is None:
                again.append(ended.planned)
            else:
                waits.done(ended.planned.spec.name)
                done(ended.planned, record)


def longest_first(runs: Sequence[Planned], known: Mapping[str, RunRecord]) -> list[Planned]:
    """Order runs by seed round, then by how long runs like them took, as far as records tell, else as planned."""
    seconds = seconds_of_similar(known)

    def order(planned: Planned) -> tuple[int, float]:
        return planned.seed_round, -seconds.get(similar(planned.spec), 0.0)

    return sorted(runs, key=order)
