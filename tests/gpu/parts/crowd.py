"""Small networks, seed by seed in one process against several processes that share the card."""

import multiprocessing
import time

import torch
from parts.harness import harness

from bench.training.meters import wait
from bench.training.streams import make_repeatable
from tasks.scales import Scales

WAIT = 120
"""Seconds after which processes give one another up."""


def run(notes, device, small):
    steps = 20 if small else 300
    alone = None
    for processes in (2,) if small else (1, 2, 4, 8):
        context = multiprocessing.get_context("spawn")
        barrier, results = context.Barrier(processes), context.Queue()
        members = [context.Process(target=member, args=(device, steps, barrier, results)) for _ in range(processes)]
        for one in members:
            one.start()
        for one in members:
            one.join()
        codes = {one.exitcode for one in members}
        notes.check(f"{processes} processes train on the device at once", codes == {0}, f"exit codes {codes}")
        if codes == {0}:
            rate = processes * steps / max(results.get(timeout=WAIT) for _ in members)
            alone = alone or rate
            notes.row("scales, equal weights", processes=processes, steps_a_second=rate, times_the_first=rate / alone)


def member(device, steps, barrier, results):
    """Take part, or tell the others at once that this process cannot."""
    try:
        results.put(train(device, steps, barrier))
    except Exception:
        barrier.abort()
        raise


def train(device, steps, barrier):
    """Train for some steps once everybody is ready; return how many seconds they took."""
    torch.set_num_threads(1)
    make_repeatable(torch.device(device))
    run = harness(Scales(), "equal", device)
    order = run.model.order(run.spec, "train")
    for _ in range(3):
        run.step(order[0])
    wait(run.model.fabric.device)
    barrier.wait(timeout=WAIT)
    begin = time.perf_counter()
    for step in range(steps):
        run.step(order[step])
    wait(run.model.fabric.device)
    return time.perf_counter() - begin
