"""Rules that say which process trains them, in the folder MARKS, and that wait there."""

import os
import time
from pathlib import Path

import torch

from methods import Method


class _Waiting(Method):
    def weigh(self, losses):
        if self.steps == 2:
            self.wait(Path(os.environ["MARKS"]))
        return torch.ones_like(losses)


class Held(_Waiting):
    """Waits as long as there is a file `hold`."""

    def wait(self, marks):
        (marks / f"{os.getpid()}.held").touch()
        while (marks / "hold").exists():
            time.sleep(0.05)


class Hanging(_Waiting):
    """Hangs the first time, and never again."""

    def wait(self, marks):
        if not list(marks.glob("*.hanging")):
            (marks / f"{os.getpid()}.hanging").touch()
            time.sleep(3600)
