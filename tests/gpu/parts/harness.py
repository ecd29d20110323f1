"""A run of the harness in this process, and the same steps in a bare loop."""

from functools import partial

import torch
from lightning_fabric import Fabric

import methods
from bench.spec import STL, RunSpec
from bench.training.loop import Run
from bench.training.streams import build_network


def harness(task_set, method, device):
    """Return a run of the `quick` protocol, with fresh weights, ready to take steps. `stl` learns the first task."""
    names = tuple(task.name for task in task_set.tasks)
    spec = RunSpec(
        task_set=type(task_set).__name__.lower(),
        tasks=names[:1] if method == STL else names,
        method=method,
        seed=0,
        protocol=task_set.protocols["quick"],
    )
    fabric = Fabric(accelerator=device, devices=1)
    return Run(fabric, spec, task_set, None if method == STL else partial(methods.create, method), ())


def bare(run):
    """Return a step as somebody would write it: the run's network, data, order and optimiser, and no harness."""
    network = build_network(run.spec, run.model.task_set).to(run.model.fabric.device)
    optimizer = torch.optim.Adam(network.parameters(), lr=run.protocol.lr, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, run.protocol.steps)

    def step(chosen):
        batch = run.model.batch("train", chosen)
        predictions = network(run.model.inputs(batch)).predictions
        losses = []
        for task in run.model.tasks:
            total, count = task.loss(predictions[task.name], batch[task.target])
            losses.append(total / count)
        optimizer.zero_grad()
        sum(losses).backward()
        optimizer.step()
        schedule.step()

    return step
