"""Measures what a step of each method costs. All methods of a task set take turns in one process, round by round.

The times of runs that shared the machine with others tell little. Here every method takes a few steps in each round,
and its fastest round counts. The profiler counts what a step allocates; that is the same in every repetition.
"""

import gc
import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from lightning_fabric import Fabric
from torch._C._profiler import _EventType
from torch.profiler import ProfilerActivity, profile

import methods
from bench.catalogue import task_set
from bench.engine.runs import environment
from bench.planning.plan import Planned
from bench.records import CostRecord, RunRecord, StepCost
from bench.spec import STL, RunSpec, digest
from bench.training.fabric import start_fabric
from bench.training.loop import Run
from bench.training.meters import wait
from bench.training.streams import build_network, make_repeatable
from methods.core.average import Average
from methods.core.compose import compose
from methods.core.registry import Variant
from methods.core.rules import heads, reads_average

ROUNDS = 20
STEPS = 5
"""Steps of each method in a round."""
BUDGET = 120.0
"""After this many seconds no further round begins, if there were at least three."""


def to_measure(
    runs: Sequence[Planned], known: Sequence[CostRecord], records: dict[str, RunRecord], *, elsewhere: bool = False
) -> list[list[Planned]]:
    """Return the groups of runs whose steps are not measured yet, with one run for each method that has trained.

    A measurement counts if it was taken on hardware like this machine's; if runs execute `elsewhere`, on any.
    """
    groups: dict[tuple[str, str, str], dict[tuple[str, tuple[str, ...]], Planned]] = defaultdict(dict)
    for planned in runs:
        spec = planned.spec
        trained = spec.name in records and records[spec.name].result.status == "ok"
        if trained and "×" not in planned.parts.device:
            group = groups[spec.task_set, planned.asked_protocol.model_dump_json(), spec.precision]
            group.setdefault((spec.method, spec.tasks), planned)
    found = [list(group.values()) for group in groups.values()]
    here = environment()["hardware"]

    def is_known(members: list[Planned]) -> bool:
        return any(record.key == cost_key(members, record.hardware if elsewhere else here) for record in known)

    return [members for members in found if not is_known(members)]


def cost_key(members: Sequence[Planned], hardware: Mapping[str, str]) -> str:
    """Return the hash of everything that a measurement depends on, except seeds and teachers."""
    what = [
        {
            **p.spec.model_dump(mode="json", exclude={"seed", "protocol", "reads"}),
            "protocol": p.asked_protocol.model_dump(mode="json"),  # what a step takes does not depend on its rate
            **p.parts.model_dump(exclude={"upstream"}),
        }
        for p in members
    ]
    return digest([what, hardware, ROUNDS, STEPS])


def measure(members: Sequence[Planned]) -> CostRecord:
    """Measure one step of each of these runs, which have the same task set and protocol.

    A round times `STEPS` steps of each run in turn. All rounds together take no more steps than a run of the protocol
    has. The cost of an epoch's end (for a rule that reads validation losses) is measured apart, and divided among the
    steps of an epoch.
    """
    first = members[0]
    steps = Steps(((planned.spec, planned.task_set, planned.rule) for planned in members), first.parts.device)
    fabric = steps.fabric
    memory = [_memory(fabric, take) for take in steps.take]
    rounds: list[list[float]] = []
    begin = time.perf_counter()
    while len(rounds) < max(1, min(ROUNDS, (first.spec.protocol.steps - 2) // STEPS)):
        if len(rounds) >= 3 and time.perf_counter() - begin > BUDGET:
            break
        rounds.append(steps.round())
    costs = [
        StepCost(
            method=planned.spec.method,
            tasks=planned.spec.tasks,
            step_seconds=min(own) + _epoch_seconds(fabric, run),
            allocated_bytes=allocated,
            peak_bytes=peak,
        )
        for planned, run, own, (allocated, peak) in zip(
            members, steps.runs, zip(*rounds, strict=True), memory, strict=True
        )
    ]
    return CostRecord(
        key=cost_key(members, environment()["hardware"]),
        task_set=first.spec.task_set,
        protocol=first.asked_protocol,
        precision=first.spec.precision,
        device=first.parts.device,
        hardware=environment()["hardware"],
        rounds=len(rounds),
        costs=costs,
    )


class Steps:
    """Runs of one task set in one process, ready to be timed in turn. Each has taken its first step, which is slow.

    Args:
        members: the specification, the task set and the rule of each run. Its teachers are not trained here, because
            trained ones cost the same.
        device: the device of all runs.
    """

    def __init__(self, members: Iterable[tuple[RunSpec, Variant, Variant | None]], device: str) -> None:
        asked = list(members)
        first = asked[0][0]
        torch.set_num_threads(first.protocol.threads)
        self.fabric = start_fabric(device, first.precision)
        make_repeatable(self.fabric.device)
        self.runs = [_build(self.fabric, *member) for member in asked]
        for run in self.runs[1:]:
            run.model.columns = self.runs[0].model.columns  # one copy on the device serves all
        self.take = [_taking(run) for run in self.runs]
        for take in self.take:
            take()

    def round(self) -> list[float]:
        """Time `STEPS` steps of each run, and return the mean seconds of a step `[runs]`."""
        return [self._seconds(take) for take in self.take]

    def _seconds(self, take: Callable[[], None]) -> float:
        wait(self.fabric.device)
        begin = time.perf_counter()
        for _ in range(STEPS):
            take()
        wait(self.fabric.device)
        return (time.perf_counter() - begin) / STEPS


def _build(fabric: Fabric, spec: RunSpec, variant: Variant, rule: Variant | None) -> Run:
    built, taught = task_set(variant), rule is not None and methods.reads_teachers(rule)
    singles = [spec.model_copy(update={"method": STL, "tasks": (task,)}) for task in spec.tasks] if taught else []
    teachers = [build_network(single, built).state_dict() for single in singles]
    other = reads_average(rule) if rule is not None else None
    average = Average((1.0,) * len(spec.tasks), heads(other)) if other is not None else None
    make = partial(compose, rule.parts, average=average) if rule is not None else None
    run = Run(fabric, spec, built, make, teachers)
    run.hears_epochs = False  # they are measured apart, and must not end inside a round
    return run


def _taking(run: Run) -> Callable[[], None]:
    """Return a function that takes the next step. After the last batch of the protocol comes the first one again."""
    order = itertools.cycle(run.model.order(run.spec, "train"))
    return lambda: run.step(next(order))


def _epoch_seconds(fabric: Fabric, run: Run) -> float:
    """Return the seconds that the end of an epoch takes, divided by its steps."""
    if run.method is None or not run.method.overrides("after_epoch"):
        return 0.0
    found = []
    for _ in range(3):
        run.losses_since["epoch"].append(run.losses_since["point"][-1])
        wait(fabric.device)
        begin = time.perf_counter()
        run.end_epoch()
        wait(fabric.device)
        found.append(time.perf_counter() - begin)
    return min(found) / run.protocol.steps_per_epoch


def _memory(fabric: Fabric, step: Callable[[], None]) -> tuple[int, int]:
    """Return the bytes that a step allocates in total, and the most that it holds at once."""
    if fabric.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_stats()
        step()
        after = torch.cuda.memory_stats()
        allocated = after["allocated_bytes.all.allocated"] - before["allocated_bytes.all.allocated"]
        return allocated, after["allocated_bytes.all.peak"] - before["allocated_bytes.all.current"]
    gc.collect()
    gc.disable()  # the collector would free memory at a different moment each time
    try:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            step()
    finally:
        gc.enable()
    assert profiler.profiler is not None and profiler.profiler.kineto_results is not None
    held: dict[int, int] = {}  # by address
    allocated = now = peak = 0
    for event in sorted(_allocations(profiler.profiler.kineto_results), key=lambda event: event.start_time_ns):
        size, address = event.extra_fields.alloc_size, event.extra_fields.ptr
        if size > 0:
            held[address] = size
            allocated, now = allocated + size, now + size
            peak = max(peak, now)
        else:  # what an earlier step allocated counts nowhere: the profiler knows the sizes of some of it only
            now -= held.pop(address, 0)
    return allocated, peak


def _allocations(results: Any) -> Iterator[Any]:
    """Yield the events in which the profiler saw memory being allocated or freed."""
    waiting = list(results.experimental_event_tree())
    while waiting:
        event = waiting.pop()
        waiting += event.children
        if event.tag == _EventType.Allocation:
            yield event
