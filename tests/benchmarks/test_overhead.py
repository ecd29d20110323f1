"""Harness overhead: a `quick` run of equal weights against the same steps in a bare PyTorch loop."""

import time

import pytest
import torch
from trained import train

from bench.catalogue import task_set
from bench.spec import RunSpec
from bench.training.streams import batch_order, build_network


def spec(name):
    chosen = task_set(name)
    tasks = tuple(task.name for task in chosen.tasks)
    return RunSpec(task_set=name, tasks=tasks, method="equal", seed=1000, protocol=chosen.protocols["quick"])


def bare(spec):
    """What a user would write: the same network, batches, optimiser and schedule, without evaluation."""
    chosen, protocol = task_set(spec.task_set), spec.protocol
    train = chosen.splits["train"]
    network = build_network(spec, chosen)
    optimizer = torch.optim.Adam(network.parameters(), lr=protocol.lr, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, protocol.steps)
    order = batch_order(spec, len(train[chosen.inputs[0]]))
    for index in order:
        batch = {name: column[index] for name, column in train.items()}
        predictions = network({name: batch[name] for name in chosen.inputs}).predictions
        losses = []
        for task in chosen.tasks:
            total, count = task.loss(predictions[task.name], batch[task.target])
            losses.append(total / count)
        optimizer.zero_grad()
        sum(losses).backward()
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize("name", ["digits", "scales[ratio=100,tasks=5]"])
@pytest.mark.parametrize("loop", ["bare", "harness"])
def test_cpu_seconds_of_a_quick_run(benchmark, name, loop):
    torch.set_num_threads(1)
    asked = spec(name)
    benchmark.group = f"{name}: {asked.protocol.steps} steps of equal weights"
    benchmark._timer = time.process_time
    if loop == "bare":
        benchmark.pedantic(bare, args=(asked,), rounds=5, warmup_rounds=1)
        return
    costs = []

    def run():
        costs.append(train(asked)[1])

    benchmark.pedantic(run, rounds=5, warmup_rounds=1)
    # Wall-clock, within the run: what of it is evaluation and probes.
    benchmark.extra_info |= {
        "evaluation_seconds": min(cost.evaluation_seconds for cost in costs),
        "probe_seconds": min(cost.probe_seconds for cost in costs),
    }
