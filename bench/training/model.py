"""The network of a run on its device, with the losses of its tasks on a batch and their scores on a split."""

from collections.abc import Mapping
from functools import cached_property
from typing import NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.func import functional_call

from bench.spec import RunSpec
from bench.training.scoring import Scores, examples_at_once, losses, on_host, score, stacked
from bench.training.streams import augmentation, batch_order, build_network
from methods.core.errors import DoesNotFitError
from methods.core.gradients import Reduce
from tasks.core.base import Outputs, Task, TaskSet

ON_DEVICE = 8
"""Training data is copied to a GPU before the first step if this many times its size is free there."""

Batch = Mapping[str, Tensor]


class Forward(NamedTuple):
    """The result of passing a batch through the network."""

    outputs: Outputs
    losses: list[Tensor]
    """K scalars in float32, with their graph. On R ranks they are R · total / Σ count, so that their mean over ranks is
    the loss of the whole batch."""
    present: list[bool]
    """Which of the K tasks have a label in the batch, on any rank."""


class Model:
    """A network with its tasks."""

    def __init__(self, fabric: Fabric, spec: RunSpec, task_set: TaskSet) -> None:
        self.fabric, self.task_set = fabric, task_set
        self.tasks: list[Task] = [task_set.task(name) for name in spec.tasks]
        self.network = build_network(spec, task_set).to(fabric.device)
        self.shared = [(name, p) for name, p in self.network.shared if p.requires_grad]
        self.private = [[p for p in self.network.private(name) if p.requires_grad] for name in spec.tasks]
        self.ranks = fabric.world_size
        self.reduce: Reduce | None = fabric.all_reduce if self.ranks > 1 else None  # type: ignore[assignment]
        held_out = spec.protocol.validation
        train = task_set.splits["train"] if held_out else task_set.train_and_validation
        self.columns = {**task_set.splits, "train": _at_hand(train, fabric.device)}
        if not held_out:
            del self.columns["validation"]
        self.at_once = examples_at_once(self.network, task_set, fabric.device, fabric.autocast)
        self.network.train()

    @cached_property
    def last(self) -> nn.Parameter:
        """The weight of the last shared layer."""
        return self.network.last

    def order(self, spec: RunSpec, split: str, *names: str) -> Tensor:
        """Return this rank's examples of every batch of a split `[steps, examples]`, on the device of its columns."""
        self._require(split)
        first = next(iter(self.columns[split].values()))
        whole = batch_order(spec, len(first), *names).to(first.device)
        return whole[:, self.fabric.global_rank :: self.ranks]

    def batch(self, split: str, chosen: Tensor) -> dict[str, Tensor]:
        """Return the `chosen` examples of a split, on the run's device."""
        return {name: column[chosen].to(self.fabric.device) for name, column in self.columns[split].items()}

    def augmented(self, spec: RunSpec, batch: Batch, step: int, *names: str) -> Batch:
        """Return a training batch as the protocol has it: changed at random by the task set, or as it is.

        What is drawn depends on seed and step alone, so that every method, and a run that goes on, sees the same.
        """
        if not spec.protocol.augment:
            return batch
        return self.task_set.augment(batch, augmentation(spec, step, self.fabric.global_rank, *names))

    def inputs(self, batch: Batch) -> dict[str, Tensor]:
        """Return the columns of a batch that a network may see."""
        return {name: batch[name] for name in self.task_set.inputs}

    def forward(self, batch: Batch, tensors: Mapping[str, Tensor] | None = None) -> Forward:
        """Pass a batch through the network. `tensors` replace the parameters and buffers of the same names."""
        with self.fabric.autocast():
            inputs = self.inputs(batch)
            outputs: Outputs = (
                self.network(inputs) if tensors is None else functional_call(self.network, dict(tensors), (inputs,))
            )
        totals, counts = losses(self.tasks, outputs, batch)
        if self.reduce is not None:
            summed = self.reduce(stacked(counts, self.fabric.device).float(), reduce_op="sum")
            counts = list((summed / self.ranks).unbind())
        least = 1 / self.ranks
        means = [
            total / (count.clamp(min=least) if isinstance(count, Tensor) else max(count, least))
            for total, count in zip(totals, counts, strict=True)
        ]
        return Forward(outputs, means, [count > 0 for count in on_host(counts)])

    def values(self, losses: list[Tensor]) -> Tensor:
        """Return the losses `[K]` over all ranks, detached."""
        values = torch.stack([loss.detach() for loss in losses])
        return values if self.reduce is None else self.reduce(values, reduce_op="mean")

    def buffers(self) -> dict[str, Tensor]:
        """Return copies of the network's buffers by name: running statistics, for example."""
        return {name: buffer.clone() for name, buffer in self.network.named_buffers()}

    def score(self, split: str) -> tuple[Scores, Tensor]:
        """Return every metric on a whole split, by task, and the mean losses `[K]`. All ranks return the same."""
        self._require(split)
        return score(
            self.network,
            self.task_set,
            self.tasks,
            split,
            at_once=self.at_once,
            device=self.fabric.device,
            autocast=self.fabric.autocast,
        )

    def _require(self, split: str) -> None:
        if split not in self.columns:
            raise DoesNotFitError(f"it reads the {split} split, and the protocol keeps no examples for it")


def _at_hand(columns: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Return the columns on the device, or as they are if they would take too much of its memory."""
    if device.type != "cuda":
        return columns
    free, _ = torch.cuda.mem_get_info(device)
    fits = ON_DEVICE * sum(column.nbytes for column in columns.values()) <= free
    return {name: column.to(device) for name, column in columns.items()} if fits else columns
