"""Where a run executes: its device, its ranks, its precision."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from safetensors.torch import load_file, save_file
from torch import Tensor

from bench.spec import Cost, Result

Outcome = tuple[Result, Cost, dict[str, Tensor] | None]
"""What a run returns, with the network's state if it is a baseline."""


def launch(train: Callable[..., Outcome], *given: Any, accelerator: str, precision: Any, devices: int = 1) -> Outcome:
    """Call `train(fabric, *given)` on every device of a run, and return what the first rank returns.

    Several ranks are processes. What the first one returns is left in files: through the queue that Fabric has for it,
    a tensor is lost when its process ends first, and what is larger than a pipe's buffer is never sent.
    """
    fabric = start_fabric(accelerator, precision, devices)
    if devices == 1:
        alone: Outcome = fabric.launch(train, *given)
        return alone
    with TemporaryDirectory(prefix="mtl-bench-ranks-") as name:
        folder = Path(name)
        fabric.launch(_train_and_leave, folder, train, *given)  # type: ignore[arg-type]
        result = Result.model_validate_json((folder / "result.json").read_text("utf-8"))
        cost = Cost.model_validate_json((folder / "cost.json").read_text("utf-8"))
        state = folder / "state.safetensors"
        return result, cost, load_file(state) if state.exists() else None


def start_fabric(accelerator: str, precision: Any, devices: int = 1) -> Fabric:
    """Return the Fabric of a run, which starts its own ranks.

    Without the last argument, Fabric would take the tasks of a SLURM job for the ranks of a run, and would ask for
    `srun` on every machine that has it.
    """
    return Fabric(
        accelerator=accelerator,
        strategy="auto" if devices == 1 else "ddp_spawn",
        devices=devices,
        precision=precision,
        plugins=LightningEnvironment(),
    )


def _train_and_leave(fabric: Fabric, folder: Path, train: Callable[..., Outcome], *given: Any) -> None:
    result, cost, state = train(fabric, *given)
    if fabric.global_rank == 0:
        (folder / "result.json").write_text(result.model_dump_json(), "utf-8")
        (folder / "cost.json").write_text(cost.model_dump_json(), "utf-8")
        if state is not None:
            save_file(state, folder / "state.safetensors")
