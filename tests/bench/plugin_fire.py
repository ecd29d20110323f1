"""Rules that do what no rule should, each in its own way. What they do must be their run's loss alone."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import torch

from methods import Method


class _Fire(Method):
    """Balances equally, and does its harm at the third step."""

    def weigh(self, losses):
        if self.steps == 2:
            self.harm()
        return torch.ones_like(losses)


class Exits(_Fire):
    def harm(self):
        sys.exit(0)


class ExitsAtOnce(_Fire):
    def harm(self):
        os._exit(0)


class ExitsWith255(_Fire):
    def harm(self):
        os._exit(255)


class Aborts(_Fire):
    def harm(self):
        os.abort()


class RealTime(_Fire):
    """Ends by a signal that has no name."""

    def harm(self):
        os.kill(os.getpid(), signal.SIGRTMIN + 3)


class Interrupts(_Fire):
    def harm(self):
        raise KeyboardInterrupt


class Odd(BaseException):
    pass


class Raises(_Fire):
    def harm(self):
        raise Odd("neither here\nnor there")


class Long(_Fire):
    def harm(self):
        raise ValueError("x" * 5_000_000)


class Surrogate(_Fire):
    def harm(self):
        print("\udcff", file=sys.stderr)
        raise ValueError("a lone \ud800 surrogate")


class Talks(_Fire):
    """Prints 20 MB and ends."""

    def harm(self):
        for _ in range(20):
            print("y" * 1_000_000)
        print("the end", flush=True)
        os._exit(9)


class Limits(_Fire):
    """Allows itself no file."""

    def harm(self):
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))


class KillsTheServer(_Fire):
    def harm(self):
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)


class Moves(_Fire):
    def harm(self):
        os.chdir("/")


class Closes(_Fire):
    """Closes all that it did not open."""

    def harm(self):
        os.closerange(0, 256)


class Leaves(_Fire):
    """Leaves a child, a thread and a process of multiprocessing behind."""

    def harm(self):
        child = subprocess.Popen(["sleep", "97"])
        Path(os.environ["LEFT"]).write_text(str(child.pid))
        threading.Thread(target=time.sleep, args=(97,)).start()


class Forks(_Fire):
    """Forks, and both come back: the child first, by an exception, and the parent later."""

    def harm(self):
        if child := os.fork():
            os.waitpid(child, 0)
        else:
            raise SystemExit(3)


class Deletes(_Fire):
    """Takes away what its own run has written so far."""

    def harm(self):
        shutil.rmtree(Path(os.environ["FOLDER"]) / "logs")


class Erases(_Fire):
    """Takes away the whole folder of the command, once."""

    def harm(self):
        folder = Path(os.environ["FOLDER"])
        if len(list(folder.glob("runs/*.json"))) > 1:
            shutil.rmtree(folder)


class PressesCtrlC(_Fire):
    """What it does stands for the user."""

    def harm(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
