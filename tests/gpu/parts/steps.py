"""Step times and memory: every rule on the reference networks, and the harness on large images beside a bare loop."""

import itertools
import statistics
import time
from unittest.mock import patch

import torch
from networks import Problem, bare_step, own_step, rules
from parts.harness import bare, harness

from bench.training.meters import peak_memory, reset_peak_memory, wait
from bench.training.streams import make_repeatable
from tasks import scenes

STEPS = 10
"""Steps between two looks at the clock: the host may run ahead of the device within them, as in training."""
GOAL = 0.95
"""Equal weights through `method.backward` are to reach this part of a bare loop's speed."""


def run(notes, device, small):
    device = torch.device(device)
    usual = torch.backends.cudnn.allow_tf32
    make_repeatable(device)
    images(notes, device, small, usual)
    for network in ("mlp",) if small else ("mlp", "conv"):
        reference_network(notes, network, device, small)


def reference_network(notes, network, device, small):
    """Time every rule on one of the two networks, each block of steps beside one of a bare loop."""
    rounds = 2 if small else 8
    plain = bare_step(Problem(network, device, small=small))
    for rule in rules():
        if small and rule not in ("equal", "mgda"):
            continue
        step = own_step(Problem(network, device, small=small), rule)
        speed, own, theirs = compared(step, plain, device, rounds)
        memory = memory_of(step, device)
        notes.row("step", network=network, rule=rule, ms=own, bare_ms=theirs, speed=speed, peak_mb=memory)
        if rule == "equal":
            judge(notes, f"equal weights on {network}", speed, device)


def images(notes, device, small, usual):
    """Time the harness on few rooms of `scenes` at 288×384, beside a bare loop in the same and in usual arithmetic."""
    task_set = scenes.Scenes(**({} if small else {"height": 288, "width": 384}))
    with patch.dict(scenes.COUNTS, {"train": 16, "validation": 2, "test": 2}):
        _ = task_set.splits  # a thousand rooms of this size would take minutes to render
    label = f"scenes {task_set.height}×{task_set.width}"
    rounds = 2 if small else 8
    for rule in ("equal",) if small else ("equal", "mgda", "mgda[at=features]"):
        run = harness(task_set, rule, str(device))
        chosen = itertools.cycle(run.model.order(run.spec, "train"))
        plain, theirs = bare(run), itertools.cycle(run.model.order(run.spec, "train"))
        step = lambda run=run, chosen=chosen: run.step(next(chosen))  # noqa: E731
        beside = lambda plain=plain, theirs=theirs: plain(next(theirs))  # noqa: E731
        speed, own, bare_ms = compared(step, beside, device, rounds)
        memory = memory_of(step, device)
        notes.row("step of the harness", set=label, rule=rule, ms=own, bare_ms=bare_ms, speed=speed, peak_mb=memory)
        if rule == "equal":
            judge(notes, f"equal weights in the harness on {label}", speed, device)
            if device.type == "cuda":
                as_usual(notes, label, beside, device, rounds, usual, bare_ms)


def as_usual(notes, label, step, device, rounds, usual, repeatable_ms):
    """Say what determinism and full float32 cost: a bare loop without them."""
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32 = False, usual
    block(step, device)
    fast = statistics.median(block(step, device) for _ in range(rounds))
    notes.row("bare loop", set=label, repeatable_ms=repeatable_ms, torch_defaults_ms=fast)
    make_repeatable(device)


def judge(notes, what, speed, device):
    holds = speed >= GOAL if device.type == "cuda" else None
    notes.check(f"{what}: at least {GOAL} of a bare loop's speed", holds, f"{speed:.3f}")


def compared(step, beside, device, rounds):
    """Return the median over rounds of speed relative to `beside`, and the median milliseconds of both."""
    for warm in (step, beside):
        block(warm, device)
    pairs = [(block(step, device), block(beside, device)) for _ in range(rounds)]
    own, theirs = zip(*pairs, strict=True)
    speed = statistics.median(b / a for a, b in pairs)
    return speed, statistics.median(own), statistics.median(theirs)


def block(step, device, steps=STEPS):
    """Return the mean milliseconds of a step."""
    wait(device)
    begin = time.perf_counter()
    for _ in range(steps):
        step()
    wait(device)
    return 1000 * (time.perf_counter() - begin) / steps


def memory_of(step, device):
    """Return the megabytes that tensors take at most at once during a step; None on a CPU."""
    reset_peak_memory(device)
    step()
    peak = peak_memory(device)
    return None if peak is None else peak / 1e6
