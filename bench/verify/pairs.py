"""A recorded run beside the same run trained again: whether they are the same, and if not, what may excuse that."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from bench.plain import one_line
from bench.records import RunRecord
from bench.report.scores import Metric
from bench.spec import RunSpec, Score, Status

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

ENOUGH = 3
"""So many runs that are the same, and more than half of those compared, show that this machine rounds alike."""
OF_A_FILE = "where and by which code the runs of the file were made, which it does not say"
HARDWARE = ("processor", "machine", "system", "gpu")


@dataclass(frozen=True)
class Recorded:
    """A run as it was recorded."""

    spec: RunSpec
    task_set: str
    """What tables call the task set, with a protocol and precision that are not the usual ones."""
    method: str
    status: Status
    scores: Mapping[str, Mapping[str, Score]]
    record: RunRecord | None = None
    """None for a run of a tidy file, which has test scores alone."""

    @property
    def name(self) -> str:
        """The name of the run."""
        return self.spec.name

    @property
    def label(self) -> str:
        """The run in words."""
        which = f" {self.spec.tasks[0]}" if len(self.spec.tasks) == 1 else ""
        return f"{self.task_set} {self.method}{which} seed {self.spec.seed} (run {self.name[:10]})"

    @property
    def cell(self) -> Hashable:
        """What it has in common with its runs of other seeds."""
        spec = self.spec
        return spec.task_set, spec.method, spec.tasks, spec.protocol, spec.precision


@dataclass(frozen=True)
class Pair:
    """A recorded run, and the record of the same run trained again."""

    was: Recorded
    now: RunRecord

    @cached_property
    def same(self) -> bool:
        """Whether the results are the same: byte for byte, or for a run of a tidy file digit for digit."""
        was, now = self.was, self.now.result
        if was.record is not None:
            return was.record.result.model_dump_json() == now.model_dump_json()
        here = digits(now.scores)
        before = digits(was.scores)
        return was.status == now.status and before == {metric: here.get(metric) for metric in before}

    @cached_property
    def excuses(self) -> tuple[str, ...]:
        """What may move its numbers, as it is other here than where the run was made; empty if nothing is known."""
        return (OF_A_FILE,) if self.was.record is None else differences(self.was.record, self.now)

    @property
    def change(self) -> str:
        """What has changed, in words."""
        was, now = self.was, self.now.result
        if was.status != now.status:
            return f"it was {was.status}, and is {now.status}{f': {one_line(now.reason, 200)}' if now.reason else ''}"
        before, after = digits(was.scores), digits(now.scores)
        moved = [metric for metric in before if before[metric] != after.get(metric)]
        if moved:
            largest = max(moved, key=lambda metric: _share(before[metric], after.get(metric)))
            others = f", and {len(moved) - 1} other scores differ" if len(moved) > 1 else ""
            return f"{'.'.join(largest)} {before[largest]} → {after.get(largest, 'not there')}{others}"
        mine = was.record.result.model_dump(mode="json") if was.record is not None else {}
        theirs = now.model_dump(mode="json")
        fields = [name for name in theirs if mine.get(name) != theirs[name]]
        return f"its scores agree to ten digits; what differs: {', '.join(fields)}"


def digits(scores: Mapping[str, Mapping[str, Score]]) -> dict[Metric, str]:
    """Return scores as tidy files write them, to ten digits."""
    return {
        (task, name): "none" if score.value is None else f"{score.value:.10g}"
        for task, own in scores.items()
        for name, score in own.items()
    }


def _share(before: str, after: str | None) -> float:
    """By which share of itself a score has changed; infinite if one of the two is no number."""
    if after is None or "none" in (before, after):
        return float("inf")
    was = float(before)
    return abs(float(after) - was) / abs(was) if was else float("inf")


def differences(was: RunRecord, now: RunRecord) -> tuple[str, ...]:
    """Name everything that differs between where two runs were made, as far as it moves numbers."""
    parts = was.parts.differences(now.parts)
    code = [part for part in parts if part.startswith("the code of ")]
    read = [part for part in parts if part.startswith("its baseline ")]
    found = [part for part in parts if part not in code and part not in read]
    if code:
        found.append(code[0] + (f" and {len(code) - 1} more" if len(code) > 1 else ""))
    if read and not found:
        found.append("the code of a run that it reads")
    for what in HARDWARE:
        before, after = was.provenance.hardware.get(what, ""), now.provenance.hardware.get(what, "")
        if before != after:
            found.append(f"the {what} (was {one_line(before, 60) or 'not recorded'})")
    before, after = (one.provenance.versions.get("python", "") for one in (was, now))
    if before.split(".")[:2] != after.split(".")[:2]:  # Python 3.12 sums floats in another way than 3.11
        found.append(f"python (was {before or 'not recorded'})")
    if not now.parts.device.startswith("cpu"):
        found.append("the order of sums on a GPU, which is not fixed")
    return tuple(found)


def divide(pairs: Iterable[Pair]) -> tuple[list[Pair], list[Pair]]:
    """Return the pairs that have to be the same, and those that are to be compared statistically.

    Runs of one task set that have the same excuses are judged together. They have to be the same without an excuse,
    and also with one if most of them are: then it moves no number here, and excuses nobody.
    """
    exact: list[Pair] = []
    loose: list[Pair] = []
    for (_, excuses), own in grouped(pairs, lambda pair: (pair.was.task_set, pair.excuses)).items():
        same = sum(pair.same for pair in own)
        is_exact = not excuses or (same >= ENOUGH and 2 * same > len(own))
        (exact if is_exact else loose).extend(own)
    return exact, loose


def grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Return items by what they have in common, in the order in which they are met."""
    found: dict[K, list[T]] = defaultdict(list)
    for item in items:
        found[key(item)].append(item)
    return found
