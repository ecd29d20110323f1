"""Keeps prepared data on disk between runs. Files are memory-mapped, so that processes share them."""

import contextlib
import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from tasks.core.files import sweep, temporary

Splits = dict[str, dict[str, Tensor]]


def folder() -> Path:
    """Return where prepared data is kept: `MTL_BENCH_CACHE`, or `mtl-bench` in the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("MTL_BENCH_CACHE") or Path(home) / "mtl-bench")


def cached(identity: str, build: Callable[[], Splits]) -> Splits:
    """Return what `build` returned for this identity before, or call it now.

    `identity` must name everything that the data depends on: source, revision, preprocessing and its version. A file
    that is damaged, or was written for another identity, is made again. If the folder cannot be written, the data is
    built each time.
    """
    file = folder() / f"{hashlib.sha256(identity.encode()).hexdigest()[:20]}.safetensors"
    if (flat := _read(file, identity)) is None:
        splits = build()
        _write(file, identity, splits)
        return splits
    splits = {}
    for name, column in flat.items():
        split, _, key = name.partition("/")
        splits.setdefault(split, {})[key] = column
    return splits


def _read(file: Path, identity: str) -> dict[str, Tensor] | None:
    """Return a file's columns, or None if it is missing, damaged or written for another identity."""
    try:
        if not file.is_file():  # a pipe in its place would be waited for
            return None
        with safe_open(file, "pt") as stored:
            metadata = stored.metadata() or {}
        flat = load_file(file)
    except (OSError, SafetensorError):
        return None
    return flat if metadata == {"identity": identity, "content": _digest(flat)} else None


def _write(file: Path, identity: str, splits: Splits) -> None:
    flat = {f"{split}/{name}": column.contiguous() for split, own in splits.items() for name, column in own.items()}
    unfinished = temporary(file)
    with contextlib.suppress(OSError, SafetensorError):
        file.parent.mkdir(parents=True, exist_ok=True)
        sweep(file.parent)
        try:
            save_file(flat, unfinished, metadata={"identity": identity, "content": _digest(flat)})
            unfinished.replace(file)
        finally:
            unfinished.unlink(missing_ok=True)


def _digest(flat: Mapping[str, Tensor]) -> str:
    """The sha256 of every column's name, shape, type and bytes."""
    digest = hashlib.sha256()
    for name, column in sorted(flat.items()):
        digest.update(f"{name} {tuple(column.shape)} {column.dtype}".encode())
        digest.update(column.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
