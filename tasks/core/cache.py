"""Prepared data, kept between runs: memory-mapped, shared by processes, written whole or not at all."""

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

Splits = dict[str, dict[str, Tensor]]


def folder() -> Path:
    """Return where prepared data is kept: `MTL_BENCH_CACHE`, or `mtl-bench` in the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("MTL_BENCH_CACHE") or Path(home) / "mtl-bench")


def cached(identity: str, build: Callable[[], Splits]) -> Splits:
    """Return what `build` made the last time for this identity, or build it now.

    `identity` must say all that the data depends on: source, revision, preprocessing and its version. A file that
    cannot be read is made again; a folder that cannot be written costs only the time.
    """
    file = folder() / f"{hashlib.sha256(identity.encode()).hexdigest()[:20]}.safetensors"
    with contextlib.suppress(OSError, SafetensorError):
        flat = load_file(file)
        splits: Splits = {}
        for name, column in flat.items():
            split, _, key = name.partition("/")
            splits.setdefault(split, {})[key] = column
        return splits
    splits = build()
    flat = {f"{split}/{name}": column.contiguous() for split, own in splits.items() for name, column in own.items()}
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            save_file(flat, temporary)
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)
    return splits
