"""Where a run executes: its device, its ranks, its precision."""

from typing import Any

from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment


def start_fabric(accelerator: str, precision: Any, devices: int = 1) -> Fabric:
    """Return the Fabric of a run, which starts its own ranks.

    Without the last argument, Fabric would take the tasks of a SLURM job for the ranks of a run, and would ask for
    `srun` on every machine that has it.
    """
    strategy = "auto" if devices == 1 else "ddp_spawn"
    return Fabric(
        accelerator=accelerator,
        strategy=strategy,
        devices=devices,
        precision=precision,
        plugins=LightningEnvironment(),
    )
