"""Named streams of random numbers: a seed fixes initial weights, batch order, dropout and augmentation.

They are the same for every method.
"""

import hashlib
import os
from functools import lru_cache

import torch
from torch import Tensor

from bench.spec import RunSpec
from tasks.core.base import Network, TaskSet, modules_with_parameters


@lru_cache(maxsize=256)
def stream(seed: int, *names: str) -> int:
    """Return the seed of a named stream of random numbers: 63 bits of a sha256."""
    text = "\0".join([str(seed), *names])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def build_network(spec: RunSpec, task_set: TaskSet) -> Network:
    """Build the network of a run and draw its initial weights.

    Every module draws from a stream that is named after it. So a module starts with the same weights for every method,
    whatever other heads the network has.

    Raises:
        TypeError: a module has parameters but no `reset_parameters` to draw them.
    """
    network = task_set.network(spec.tasks)
    for name, module in modules_with_parameters(network):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream(spec.seed, "init", spec.task_set, name))
            module.reset_parameters()  # type: ignore[operator]
    return network


@lru_cache(maxsize=8)
def batch_order(spec: RunSpec, examples: int, *names: str) -> Tensor:
    """Return the examples of every batch `[steps, batch_size]`: shuffled passes over the data, end to end.

    `names` name a further stream, for rules that take more than one batch a step. The result is cached, so do not write
    to it.
    """
    wanted = spec.protocol.steps * spec.protocol.batch_size
    generator = torch.Generator().manual_seed(stream(spec.seed, "order", spec.task_set, *names))
    passes = [torch.randperm(examples, generator=generator) for _ in range(-(-wanted // examples))]
    return torch.cat(passes)[:wanted].view(spec.protocol.steps, spec.protocol.batch_size)


def dropout_seed(spec: RunSpec, step: int) -> int:
    """Return the seed of the dropout of a step, the same for every method."""
    return stream(spec.seed, "dropout", spec.task_set) + step


def augmentation(spec: RunSpec, step: int, rank: int, *names: str) -> torch.Generator:
    """Return what the augmentation of a step's batch draws from: the same for every method, another on each rank.

    `names` name a further batch of the step, as in `batch_order`.
    """
    return torch.Generator().manual_seed(stream(spec.seed, "augment", spec.task_set, str(step), str(rank), *names))


def seed_global(seed: int, device: torch.device) -> None:
    """Seed the generators that dropout on this device draws from.

    `torch.manual_seed` seeds all backends, and takes a stack trace for each: a sixth of the time of a small step.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def make_repeatable(device: torch.device) -> None:
    """Let this process compute the same bytes each time on a device of this kind, and float32 in float32.

    On CUDA the fastest kernels may add in any order, and convolutions of float32 numbers round them to TF32 by default.
    An operation that has no deterministic kernel there warns and goes on.
    """
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it is first used
        torch.use_deterministic_algorithms(True, warn_only=True)
        # No code here reads memory that it has not written.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # the module has it
