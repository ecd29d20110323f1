"""Which run begins when: the schedule on an engine that trains nothing, ends runs in any order, loses some, is late."""

import tempfile
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.catalogue import parse_task_set
from bench.engine.base import Ended, Engine
from bench.engine.runs import record_failure
from bench.engine.schedule import execute
from bench.planning.plan import Planned
from bench.records import KeyParts, RunRecord
from bench.spec import STL, Cost, RunSpec
from bench.store import Store
from tasks.core.protocol import Protocol

TOY = parse_task_set("scales[tasks=2]")
RECIPE = Protocol(name="toy", steps=1, batch_size=1, lr=0.1, steps_per_epoch=1)


def run(number, reads=(), seed_round=0, task="y1"):
    """Plan a run that reads others; its seed is its number."""
    spec = RunSpec(task_set=TOY.stable, tasks=(task,), method=STL, seed=number, protocol=RECIPE, precision="32-true")
    upstream = {other.spec.name: other.key for other in reads}
    parts = KeyParts(data="d", threads=1, device="cpu", versions={}, upstream=upstream, sources={})
    key = parts.key(spec.name)
    return Planned(spec, parts, key, TOY, None, "", True, "missing", seed_round, (number,), STL, RECIPE)


def end(planned, store, status="diverged"):
    """Write the record of a run that has ended."""
    return record_failure(planned, status, "it has ended", store)


class Unsteady(Engine):
    """Ends runs in any order, several at once or none, and loses some; it checks what it is given."""

    def __init__(self, runs, store, places, chance=None, losses=None, late=False):
        self.names = {planned.spec.name for planned in runs}
        self.store, self.chance, self.losses, self.late = store, chance or Random(0), losses or {}, late
        self._places = places
        self.working: list[Planned] = []
        self.begun: list[Planned] = []
        self.lost: Counter[str] = Counter()
        self.told: list[tuple[Planned, RunRecord]] = []
        self.patience = 3

    @property
    def places(self) -> int:
        return self._places

    def submit(self, planned: Planned) -> None:
        self.begun.append(planned)
        self.working.append(planned)
        assert len(self.working) <= self.places
        assert self.names & planned.parts.upstream.keys() <= {one.spec.name for one, _ in self.told}
        assert len(self.working) == 1 or not any(self.lost[one.spec.name] for one in self.working)

    def ended(self) -> list[Ended]:
        self.chance.shuffle(self.working)
        count = self.chance.randint(0 if self.patience else 1, len(self.working))
        self.patience = 3 if count else self.patience - 1
        over, self.working = self.working[:count], self.working[count:]
        return [self.end(planned) for planned in over]

    def end(self, planned: Planned) -> Ended:
        """End a run. One that is late has left its record, and is believed to be lost all the same."""
        name = planned.spec.name
        if self.lost[name] < self.losses.get(name, 0):
            self.lost[name] += 1
            return Ended(planned, None, "its machine went away")
        record = end(planned, self.store)
        return Ended(planned, None, "its machine went away after that") if self.late else Ended(planned, record)

    def call(self, function, argument):
        return function(argument)

    def close(self) -> None:
        self.working.clear()

    def go(self, runs):
        """Execute runs; return the seeds of all that begin, in this order."""
        execute(runs, self, self.store, lambda *told: self.told.append(told))
        return [planned.spec.seed for planned in self.begun]


@st.composite
def plans(draw):
    """Draw runs that read some of those before them, in any order; how often each is lost; and a number of places."""
    runs: list[Planned] = []
    for number in range(draw(st.integers(1, 12))):
        reads = draw(st.lists(st.sampled_from(runs), unique_by=id, max_size=3)) if runs else []
        runs.append(run(number, reads, seed_round=draw(st.integers(0, 2))))
    losses = {planned.spec.name: draw(st.sampled_from([0, 0, 0, 1, 2, 3, 5])) for planned in runs}
    return draw(st.permutations(runs)), losses, draw(st.integers(1, 4))


@settings(max_examples=60, deadline=None)
@given(plans(), st.randoms(use_true_random=False), st.booleans())
def test_every_run_begins_after_those_it_reads_ends_once_and_is_repeated_only_if_it_is_lost(plan, chance, late):
    runs, losses, places = plan
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        engine = Unsteady(runs, store, places, chance, losses, late)
        engine.go(runs)
        stored = store.records()
    assert sorted(planned.spec.name for planned, _ in engine.told) == sorted(engine.names)
    assert Counter(p.spec.name for p in engine.begun) == {n: min(losses[n] + 1, Engine.attempts) for n in engine.names}
    for planned, record in engine.told:
        given_up = losses[planned.spec.name] >= Engine.attempts
        expected = ("crashed", "its machine went away") if given_up else ("diverged", "it has ended")
        assert (record.result.status, record.result.reason) == expected
        assert stored[planned.spec.name] == record


class Steady(Unsteady):
    """Ends runs one by one, in the order in which they began."""

    def ended(self):
        return [self.end(self.working.pop(0))]


def begun(runs, store, places=1, losses=()):
    """Return the seeds of the runs in the order in which they begin; `losses` are by seed."""
    by_name = {planned.spec.name: dict(losses).get(planned.spec.seed, 0) for planned in runs}
    return Steady(runs, store, places, losses=by_name).go(runs)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def test_seed_rounds_come_in_turn_and_within_one_the_longest_run_first(store):
    for task, seconds in (("y1", 1.0), ("y2", 9.0)):
        known = end(run(100, task=task), store)
        store.put(known.model_copy(update={"cost": Cost(total_seconds=seconds)}), None)
    runs = [run(0, seed_round=1, task="y2"), run(1), run(2, task="y2"), run(3), run(4, seed_round=1)]
    assert begun(runs, store) == [2, 1, 3, 0, 4]


def test_a_free_place_goes_to_a_run_of_the_next_round_while_others_wait_for_what_they_read(store):
    first = run(0)
    assert begun([first, run(1, [first]), run(2, seed_round=1)], store, places=2) == [0, 2, 1]


def test_a_run_does_not_wait_for_one_that_is_not_to_be_made(store):
    assert begun([run(1, [run(0)])], store) == [1]


def test_a_lost_run_comes_before_the_others_and_the_others_wait(store):
    assert begun([run(0), run(1), run(2), run(3)], store, places=2, losses={0: 1}) == [0, 1, 0, 2, 3]


def test_a_run_that_is_lost_again_and_again_does_not_keep_those_that_read_it_waiting(store):
    first = run(0)
    assert begun([first, run(1, [first])], store, losses={0: 9}) == [0] * Engine.attempts + [1]


def test_a_failed_record_that_was_there_before_is_not_taken_for_the_lost_runs(store):
    planned = run(0)
    end(planned, store, "crashed")
    assert begun([planned], store, losses={0: 2}) == [0, 0, 0]
    assert store.get(planned.spec.name).result.reason == "it has ended"


def test_an_engine_without_a_place_is_asked_until_it_has_one(store):
    class Arriving(Steady):
        def ended(self):
            self._places += 1
            return super().ended() if self.working else []

    runs = [run(0), run(1)]
    assert Arriving(runs, store, 0).go(runs) == [0, 1]


def test_an_engine_is_closed_whatever_is_raised(store):
    def interrupted(planned, record):
        raise KeyboardInterrupt

    runs = [run(number) for number in range(4)]
    with pytest.raises(KeyboardInterrupt), Steady(runs, store, 2) as engine:
        execute(runs, engine, store, interrupted)
    assert len(engine.begun) == 2
    assert not engine.working
