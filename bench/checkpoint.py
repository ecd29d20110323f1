"""Keeps the state of a run on disk, so that a long run can continue after a stop. It uses no pickle."""

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from bench.store import write


@dataclass(frozen=True)
class Checkpoint:
    """Where and how often a run leaves its state."""

    file: Path
    key: str
    """The key of the run. A state that was saved under another key is ignored."""
    every: int
    """The number of steps between two states."""

    def save(self, state: dict[str, Any]) -> None:
        """Write a state of nested dictionaries, lists, tensors and plain values. It is written whole or not at all.

        Raises:
            StoreError: the file cannot be written.
        """
        tensors: dict[str, Tensor] = {}
        text = json.dumps(_pack(state, tensors))
        write(self.file, save(tensors, metadata={"key": self.key, "state": text}))

    def load(self) -> dict[str, Any] | None:
        """Return the state that this run has saved, or None."""
        if not self.file.is_file():  # a pipe in its place would be waited for
            return None
        with contextlib.suppress(OSError, SafetensorError), safe_open(self.file, "pt") as stored:
            metadata = stored.metadata() or {}
            if metadata.get("key") == self.key:
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - it is no dict
                state: dict[str, Any] = _unpack(json.loads(metadata["state"]), tensors)
                return state
        return None

    def remove(self) -> None:
        """Remove the state after the run has ended."""
        with contextlib.suppress(OSError):  # the run's record is there, and it says that the run has ended
            self.file.unlink(missing_ok=True)


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Turn a state into values for JSON, each a pair of its kind and content. Its tensors are put into `tensors`."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().contiguous().clone()
        return ["tensor", name]
    if isinstance(value, dict):  # as pairs: an optimiser's keys are numbers
        return ["dict", [[key, _pack(item, tensors)] for key, item in value.items()]]
    if isinstance(value, list | tuple):
        return ["list", [_pack(item, tensors) for item in value]]
    return ["plain", value]


def _unpack(value: Any, tensors: dict[str, Tensor]) -> Any:
    kind, content = value
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _unpack(item, tensors) for key, item in content}
    if kind == "list":
        return [_unpack(item, tensors) for item in content]
    return content
