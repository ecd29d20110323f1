"""Time the steps of two versions of the project in turn: is the code here slower than that of another checkout?

Two processes hold the same runs. One imports the code here, the other that of the base. They take turns, and the
smallest time of each method counts. On a shared machine, interference slows both versions alike, and the minimum over
rounds is nearly free of it.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bench.gate.baseline import Key
from bench.gate.judge import SLOWER_IN_TURN
from bench.report.groups import groups
from bench.report.scores import Run, Scores
from bench.spec import STL, RunSpec
from bench.store import NothingToCompareError
from methods.core.names import UsageError

ROUNDS = 30
REPEATS = 3
"""Passes, each in fresh processes, where the first pass finds something slower. Their median counts."""
TIMEOUT = 900.0
"""Seconds for one pass over one task set."""
MODULES = ("bench.gate.interleave", "bench.interleave")
"""Where a checkout has this module. Older checkouts have it in the second place."""


class TimingError(NothingToCompareError):
    """One of the versions could not take the steps. The message says which one, and how it failed."""


class _Asked(NamedTuple):
    """A run whose steps a version is asked to time."""

    spec: RunSpec
    taught: bool
    """Whether it reads teachers. The code here finds that out by itself; that of an older base asks."""


def slowdowns(base: Path, scores: Scores, known: Collection[Key], timing: Callable[[str], None]) -> dict[Key, float]:
    """Return how many times as long a step takes here as with the code in the checkout `base`.

    Runs that the base has made and that were reused here are not timed, because the code of their steps is the same.

    Args:
        base: a checkout of this project.
        scores: one run of each method on each task set is timed. Its data must lie in its default place.
        known: the methods that the base has, too, by task set and method.
        timing: hears the label of each task set before its steps are timed.

    Returns:
        The factors by task set and method. That of single-task learning is of the task that became slowest.

    Raises:
        UsageError: `base` is not a checkout of this project.
        TimingError: one of the versions could not take the steps.
    """
    _module(base)
    reused = _clean_commit(base)
    found: dict[Key, float] = {}
    for group in groups(scores):
        runs: dict[tuple[str, tuple[str, ...]], Run] = {}
        for run in group.members:
            if _can_be_timed(run, reused) and (group.label, run.method) in known:
                runs.setdefault((run.method, run.tasks), run)
        if not runs:
            continue
        timing(group.label)
        made = [(run.spec, run.parts) for run in runs.values() if run.spec is not None and run.parts is not None]
        asked = [_Asked(spec, bool(parts.upstream)) for spec, parts in made]
        device = made[0][1].device
        for (method, _), factor in zip(runs, _factors(base, asked, device), strict=True):
            key = group.label, method
            found[key] = max(factor, found.get(key, 0.0))
    return found


def _can_be_timed(run: Run, reused: str | None) -> bool:
    """Whether a run is ok, was made on one device, and was not taken over from the base, whose commit is `reused`."""
    if run.status != "ok" or run.parts is None or run.provenance is None:
        return False
    return "×" not in run.parts.device and run.provenance.commit != reused


def _module(checkout: Path) -> str:
    """Return the name of this module in a checkout."""
    for module in MODULES:
        if checkout.joinpath(*module.split(".")).with_suffix(".py").is_file():
            return module
    raise UsageError(f"--base {checkout}: there is no bench/gate/interleave.py; name a checkout of this project")


def _clean_commit(checkout: Path) -> str | None:
    """Return the commit of a checkout; None if it has changes, or is a copy of a checkout."""
    from bench.engine.runs import commit  # imports torch, which a wrong --base need not pay for

    found = commit(checkout) if (checkout / ".git").exists() else ""
    return None if not found or found.endswith("+changes") else found


def _factors(base: Path, asked: Sequence[_Asked], device: str) -> list[float]:
    found = [_pass(base, asked, device)]
    if max(found[0]) > SLOWER_IN_TURN:
        found += [_pass(base, asked, device) for _ in range(REPEATS - 1)]
    return [median(own) for own in zip(*found, strict=True)]


def _pass(base: Path, asked: Sequence[_Asked], device: str) -> list[float]:
    here = Path(__file__).parents[2]
    with _version(base, asked, device) as there, _version(here, asked, device) as now:
        both = there, now
        times: tuple[list[list[float]], list[list[float]]] = ([], [])
        for number in range(ROUNDS):
            for which in (0, 1) if number % 2 else (1, 0):  # neither is always first
                times[which].append(both[which]())
    before, after = ([min(own) for own in zip(*side, strict=True)] for side in times)
    return [new / old for new, old in zip(after, before, strict=True)]


@contextlib.contextmanager
def _version(folder: Path, asked: Sequence[_Asked], device: str) -> Iterator[Callable[[], list[float]]]:
    """Start the code of a checkout with some runs; yield a function that times a round of them."""
    path = os.pathsep.join(filter(None, [str(folder.resolve()), os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    # Nothing is imported from the working directory (-P), which may be either checkout.
    command = [sys.executable, "-P", "-m", _module(folder)]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True
        )
        watch = threading.Timer(TIMEOUT, process.kill)
        watch.start()
        assert process.stdin is not None and process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def ask(question: str) -> Any:
            with contextlib.suppress(BrokenPipeError):
                stdin.write(question + "\n")
                stdin.flush()
            if not (answer := stdout.readline()):
                process.wait()
                said.seek(0)
                last = said.read().decode(errors="replace").strip().rpartition("\n")[2]
                raise TimingError(f"the code of {folder} could not take the steps: {last or 'it ended or was stopped'}")
            return json.loads(answer)

        try:
            ask(
                json.dumps(
                    {"device": device, "runs": [[run.spec.model_dump(mode="json"), run.taught] for run in asked]}
                )
            )
            yield lambda: [float(seconds) for seconds in ask("round")]
        finally:
            watch.cancel()
            process.kill()
            process.communicate()


def _serve() -> None:
    """Be one of the versions: build the runs of the first line of stdin, and time a round for each further line."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # whatever else prints, prints elsewhere, and before what ends the process
        sys.stdout = sys.stderr
        import methods
        from bench.catalogue import parse_task_set
        from bench.costs import Steps

        asked = json.loads(sys.stdin.readline())
        specs = [RunSpec.model_validate(spec) for spec, _ in asked["runs"]]
        rules = [None if spec.method == STL else methods.parse(spec.method) for spec in specs]
        members = [(spec, parse_task_set(spec.task_set), rule) for spec, rule in zip(specs, rules, strict=True)]
        steps = Steps(members, asked["device"])
        print("true", file=answers, flush=True)
        for _ in sys.stdin:
            print(json.dumps(steps.round()), file=answers, flush=True)


if __name__ == "__main__":
    _serve()
