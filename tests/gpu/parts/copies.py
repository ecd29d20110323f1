"""How often the host waits for the device in a step, and where: per rule, on a reference network and in the harness."""

import linecache
import traceback
import warnings
from collections import Counter
from contextlib import contextmanager
from inspect import signature
from pathlib import Path

import torch
from networks import Problem, rules
from parts.harness import harness
from torch.utils._python_dispatch import TorchDispatchMode

from bench.training.streams import make_repeatable
from tasks.scales import Scales

ROOT = Path(__file__).resolve().parents[3]
READS = ("_local_scalar_dense", "nonzero")
"""Operations by which the host reads a tensor: on a CPU they stand for its waiting."""


def run(notes, device, small):
    make_repeatable(torch.device(device))
    for network in ("mlp",) if small else ("mlp", "conv"):
        problem = Problem(network, device, small=small)
        for rule in rules():
            if small and rule not in ("equal", "mgda"):
                continue
            method = problem.method(rule)
            for _ in range(2):  # what is built once
                problem.backward(method, *problem.forward())
            outputs, losses = problem.forward()
            with counted(device) as places:
                problem.backward(method, outputs, losses)
            # What a rule names is what it needs: a Gramian is one copy to the host, losses alone are none.
            most = int(measures(method))
            write(notes, "backward", network, rule, places, most, copies(problem, method, device))
    for rule in ("equal", "mgda", "stl"):
        run = harness(Scales(), rule, device)
        order = run.model.order(run.spec, "train")
        for _ in range(2):
            run.step(order[0])
        with counted(device) as places:
            run.step(order[1])
        write(notes, "harness step", "scales", rule, places, int(rule == "mgda"), {})


def write(notes, what, network, rule, places, most, copied):
    """Write down one step: how often the host waited, what was copied, and where."""
    waits = places.total()
    notes.row(f"waits of a {what}", network=network, rule=rule, waits=waits, goal=most, **copied)
    for place, times in places.most_common():
        notes.row(f"places of a {what}", network=network, rule=rule, times=times, place=place)
    judged = waits <= most if torch.cuda.is_available() else None
    notes.check(f"{rule} on {network}: the host waits at most {most}× in a {what}", judged, f"{waits}×")


def measures(method):
    """Whether the rule measures gradients: the names of its arguments say what it needs."""
    names = {*signature(method.weigh).parameters, *signature(method.combine).parameters}
    return bool({"gramian", "jacobian"} & names)


@contextmanager
def counted(device):
    """Count, by place in the source, how often the host waits for the device inside."""
    places = Counter()
    if device == "cpu":
        with Reads(places):
            yield places
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield places
        finally:
            torch.cuda.set_sync_debug_mode("default")
    for one in caught:
        if "called a synchronizing" in str(one.message):
            places[spot(one.filename, one.lineno)] += 1


class Reads(TorchDispatchMode):
    """Counts the operations by which the host reads tensors, by place."""

    def __init__(self, places):
        super().__init__()
        self.places = places

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function._schema.name.removeprefix("aten::") in READS:
            ours = [f for f in traceback.extract_stack() if str(ROOT) in f.filename and "tests/gpu" not in f.filename]
            self.places[spot(ours[-1].filename, ours[-1].lineno) if ours else "elsewhere"] += 1
        return function(*args, **(kwargs or {}))


def spot(file, line):
    """Name a line of source, and show it."""
    path = Path(file)
    name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path.name
    return f"{name}:{line} `{linecache.getline(file, line).strip().replace('|', '∣')}`"


def copies(problem, method, device):
    """Count, by the profiler, what one more backward copies between host and device."""
    if device == "cpu":
        return {}
    outputs, losses = problem.forward()
    torch.cuda.synchronize()
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profiler:
        problem.backward(method, outputs, losses)
        torch.cuda.synchronize()
    names = [event.name for event in profiler.events()]
    return {
        "to the host": sum(name.startswith("Memcpy DtoH") for name in names),
        "to the device": sum(name.startswith("Memcpy HtoD") for name in names),
        "kernels": sum(name == "cudaLaunchKernel" or name == "cuLaunchKernel" for name in names),
    }
