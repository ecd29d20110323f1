"""The engine `local`: runs execute in isolated processes on this machine, one process a run."""

import os
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait

from bench.engine.base import Argument, Ended, Engine, Returned, Setting, Timeout, Workers
from bench.engine.child import Child
from bench.engine.process import isolated
from bench.planning.plan import Planned

LOOK = 0.5
"""Seconds between two looks at the runs in progress, if nothing happens before."""


class LocalEngine(Engine):
    """Runs execute in isolated processes on this machine: a crash, a hang or a kill is that run's alone."""

    def __init__(self, setting: Setting, *, workers: Workers = "auto", timeout: Timeout = 3600.0) -> None:
        super().__init__(setting)
        self._workers = workers
        self._timeout = timeout
        self._free: list[str] = []
        self._places = 0
        self._working: dict[Child, str] = {}
        """The runs in progress, with the GPUs of their places."""

    def prepare(self, runs: Sequence[Planned]) -> None:
        """Make as many places as the machine has for such runs, or as many as were asked for."""
        self._free = gpus_of_places(runs, self._workers)
        self._places = len(self._free)

    @property
    def places(self) -> int:
        """How many processes there are at once."""
        return self._places

    def submit(self, planned: Planned) -> None:
        """Start the process of a run."""
        setting, gpus = self._setting, self._free.pop()
        child = Child(
            planned, setting.store, timeout=self._timeout, gpus=gpus, checkpoint_every=setting.checkpoint_every
        )
        self._working[child] = gpus

    def ended(self) -> list[Ended]:
        """Wait for a process that ends, half a second at most, and return the runs that are over."""
        wait([handle for child in self._working for handle in child.handles], timeout=LOOK)
        over = [child for child in self._working if child.over()]
        self._free += [self._working.pop(child) for child in over]
        return [child.ended() for child in over]

    def call(self, function: Callable[[Argument], Returned], argument: Argument) -> Returned:
        """Call a function in a process of its own, for as long as a run may take."""
        return isolated(function, argument, timeout=self._timeout)

    def close(self) -> None:
        """Kill the processes that are left, and all that they started."""
        for child in self._working:
            child.kill()


def gpus_of_places(runs: Sequence[Planned], workers: Workers) -> list[str]:
    """Return the GPUs of each place, as `CUDA_VISIBLE_DEVICES` names them; empty texts if the runs want none.

    With `auto` there are as many places as GPUs or cores allow. More workers than GPUs share them in turn. No more
    places are made than there are runs.
    """
    kind, _, devices = runs[0].parts.device.partition("×")
    each = int(devices or 1)
    gpus = visible_gpus() if kind == "cuda" else []
    places = [",".join(gpus[i : i + each]) for i in range(0, len(gpus) - each + 1, each)]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max(planned.spec.protocol.threads for planned in runs)
    most = len(places) or max(1, cores // (threads * each))
    chosen = min(most if workers == "auto" else workers, len(runs))
    return [places[i % len(places)] for i in range(chosen)] if places else [""] * chosen


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them (by number, or by UUID)."""
    import torch

    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [name.strip() for name in visible.split(",")][:count] if visible else [str(i) for i in range(count)]
