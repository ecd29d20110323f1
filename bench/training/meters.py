"""Measures a run from outside: the seconds that its parts take, and the passes through the network."""

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from tasks.core.base import Network, Outputs

PARTS = ("training", "probe", "evaluation", "checkpoint")
"""The parts into which a run's time is divided."""


def wait(device: torch.device) -> None:
    """Wait until the device has finished its work, so that a clock includes it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def reset_peak_memory(device: torch.device) -> None:
    """Reset the peak memory, because an earlier run of this process had its own peak."""
    if device.type == "cuda":
        torch.cuda.init()  # without it there is nothing to reset, which torch calls an error
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> int | None:
    """Return the most bytes that tensors took on the GPU at once since the reset; None on a CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


@dataclass
class Clock:
    """Seconds spent in the parts of a run. One part runs at a time."""

    device: torch.device
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    part: str = "training"
    since: float = field(default_factory=time.perf_counter)

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        """Charge what is done inside to `part`."""
        before = self.part
        self.turn(part)
        try:
            yield
        finally:
            self.turn(before)

    def turn(self, part: str) -> None:
        """End the current part and begin another."""
        wait(self.device)
        now = time.perf_counter()
        self.seconds[self.part] += now - self.since
        self.part, self.since = part, now


class Passes:
    """Counts passes by hooks, so that the counts are right whatever a method does.

    A backward pass counts once for each forward pass whose graph it goes through. It counts for the heads if it reaches
    a prediction, and for the trunk if it reaches the output of the first shared layer that learns.
    """

    def __init__(self, network: Network, teachers: Sequence[nn.Module]) -> None:
        self.counts = {"forward": 0, "heads": 0, "trunk": 0, "teacher": 0}
        self.counting = True
        self._forwards = 0
        self._backward = -1
        self._met: set[tuple[str, int]] = set()
        """What the current backward pass has reached: pairs of "heads" or "trunk" and the number of a forward pass."""
        network.register_forward_hook(self._forward)
        first = next((parameter for _, parameter in network.shared if parameter.requires_grad), None)
        if first is not None:
            owners = (m for m in network.modules() if any(p is first for p in m.parameters(recurse=False)))
            next(owners).register_forward_hook(self._through_the_first)
        for teacher in teachers:
            teacher.register_forward_hook(lambda *_: self._count("teacher"))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Count nothing inside the block."""
        before, self.counting = self.counting, False
        try:
            yield
        finally:
            self.counting = before

    def _forward(self, network: nn.Module, inputs: object, outputs: Outputs) -> None:
        self._count("forward")
        self._forwards += 1
        self._watch("heads", outputs.predictions.values())

    def _through_the_first(self, layer: nn.Module, inputs: object, output: object) -> None:
        self._watch("trunk", [output] if isinstance(output, Tensor) else tree_leaves(output))

    def _watch(self, what: str, tensors: Iterable[object]) -> None:
        """Count the backward passes that meet one of these tensors of the current forward pass."""
        number = self._forwards

        def meet(gradient: Tensor) -> None:
            # One backward may come through several heads, or several times through a layer.
            backward = torch._C._current_graph_task_id()
            if backward != self._backward:
                self._backward = backward
                self._met.clear()
            if (what, number) not in self._met:
                self._met.add((what, number))
                self._count(what)

        for tensor in tensors:
            if isinstance(tensor, Tensor) and tensor.requires_grad:
                tensor.register_hook(meet)

    def _count(self, what: str) -> None:
        self.counts[what] += self.counting


class MeanWeights:
    """The average weights of a run: the mean of w / Σ|w|, times the mean of Σ|w|."""

    def __init__(self) -> None:
        self.steps = 0
        self.sums: Tensor | None = None
        """`[K + 1]` over the steps so far, of w / Σ|w| and of Σ|w|. In float64, on the host."""

    def add(self, weights: Tensor) -> None:
        """Add the weights of some steps `[S, K]`. Weights that are all zero have no shares, and count as zero."""
        values = weights.detach().to("cpu", torch.float64)
        lengths = values.abs().sum(1, keepdim=True)
        shares = torch.where(lengths > 0, values / lengths, torch.zeros_like(values))
        sums = torch.cat([shares, lengths], 1).sum(0)
        self.sums = sums if self.sums is None else self.sums + sums
        self.steps += len(values)

    def mean(self, tasks: Sequence[str]) -> dict[str, float] | None:
        """Return the average weight of each task; None if there were no weights, or none that are finite."""
        if self.sums is None:
            return None
        means = self.sums / self.steps
        found = (means[:-1] * means[-1]).tolist()
        return dict(zip(tasks, found, strict=True)) if all(map(math.isfinite, found)) else None

    def state(self) -> dict[str, Any]:
        """Return what later steps add to."""
        return {"steps": self.steps, "sums": self.sums}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        self.steps, self.sums = state["steps"], state["sums"]
