"""The optimiser and the learning-rate schedule that a protocol asks for."""

from collections.abc import Iterable

from torch import nn, optim

from tasks.core.protocol import Protocol


def build_optimiser(protocol: Protocol, parameters: Iterable[nn.Parameter]) -> optim.Optimizer:
    """Return the protocol's optimiser for these parameters, in torch's fused form."""
    lr, decay = protocol.lr, protocol.weight_decay
    if protocol.optimizer == "sgd":
        return optim.SGD(parameters, lr=lr, momentum=protocol.momentum, weight_decay=decay, fused=True)
    if protocol.optimizer == "adamw":
        return optim.AdamW(parameters, lr=lr, weight_decay=decay, fused=True)
    return optim.Adam(parameters, lr=lr, weight_decay=decay, fused=True)


def build_schedule(protocol: Protocol, optimiser: optim.Optimizer) -> optim.lr_scheduler.LRScheduler:
    """Return the protocol's schedule: one call of its `step` after every step of the optimiser."""
    if protocol.schedule == "cosine":
        return optim.lr_scheduler.CosineAnnealingLR(optimiser, protocol.steps)
    if protocol.schedule == "halving":
        return optim.lr_scheduler.StepLR(optimiser, protocol.halve_every * protocol.steps_per_epoch, gamma=0.5)
    return optim.lr_scheduler.ConstantLR(optimiser, factor=1.0)
