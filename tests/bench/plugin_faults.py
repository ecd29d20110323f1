"""Rules that take their process down, each in its own way."""

import ctypes
import os
import re
import signal
import time
from pathlib import Path

import torch

from methods import Method


class _Fault(Method):
    def weigh(self, losses):
        if self.steps == 2:
            print("about to fail", flush=True)
            self.fail()
        return torch.ones_like(losses)


class Segfault(_Fault):
    def fail(self):
        ctypes.string_at(0)


class Killed(_Fault):
    def fail(self):
        os.kill(os.getpid(), signal.SIGKILL)


class Endless(_Fault):
    """Inside C, with the interpreter's lock held."""

    def fail(self):
        re.match(r"(a+)+$", "a" * 64 + "b")


class Greedy(_Fault):
    def fail(self):
        torch.zeros(64 << 30, dtype=torch.uint8)


class Exiting(_Fault):
    def fail(self):
        os._exit(7)


class Raising(_Fault):
    def fail(self):
        raise KeyError("no such thing")


class Poisoned(_Fault):
    def fail(self):
        pass

    def weigh(self, losses):
        return losses * (float("nan") if self.steps == 2 else 1.0)


class Held(Method):
    """Says that it is there, in a file with its process's number, and waits at its second step for a file."""

    def __init__(self, num_tasks: int, *, until: str) -> None:
        super().__init__(num_tasks)
        self.until = Path(until)

    def weigh(self, losses):
        if self.steps == 2 and not self.until.exists():
            self.until.with_name(f"{self.until.name}.{os.getpid()}").touch()
            while not self.until.exists():
                time.sleep(0.02)
        return torch.ones_like(losses)


class KilledOnce(Method):
    """Writes down every step, and is killed at one of them. What it learns must survive."""

    def __init__(self, num_tasks: int) -> None:
        super().__init__(num_tasks)
        self.register_buffer("sum", torch.zeros(num_tasks))

    def weigh(self, losses):
        if self.steps == int(os.environ["KILLED_AT"]):
            os.kill(os.getpid(), signal.SIGKILL)
        with open(os.environ["KILLED_ONCE"], "a") as stream:
            print(self.steps, file=stream)
        self.sum += losses
        return 1 / self.sum + 0.1 * torch.rand(self.num_tasks, generator=self.generator)
