"""Prepares data that is too large for memory: once, row by row, as one memory-mapped array a column.

The arrays lie in the folder of prepared data (`tasks.core.cache`). Processes that map them share the pages. Preparing
goes on where it was interrupted, and what is not complete is never read.
"""

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from filelock import FileLock

from tasks.core.cache import Splits, folder
from tasks.core.errors import DataError
from tasks.core.files import temporary
from tasks.core.hub import Copy, Source, Stream, located

AT_ONCE = 8
"""Rows that are read and converted at once."""
KEPT = 64
"""After how many rows the progress is kept, so that an interruption costs no more than these."""
ABANDONED = 7 * 86_400.0
"""An unfinished preparation that nobody has touched for this many seconds is removed."""
VERSION = 1
"""Of what is stored. Arrays of another version are prepared anew."""

Places = Callable[[str, int], np.ndarray]
"""`(split, rows)` -> the place `[rows]` at which each row of a split is stored."""


@dataclass(frozen=True)
class Column:
    """How a column is stored, and which values it may have."""

    dtype: str
    shape: tuple[int, ...]
    """Of one example."""
    low: float
    high: float
    """The smallest and the largest value that it may have."""
    meaning: str
    """What the values are, for the message about others."""


class Mapped(NamedTuple):
    """Prepared data."""

    splits: Splits
    """The columns of each split as they are stored. They are copied on write."""
    digests: dict[str, str]
    """The sha256 of the bytes of every column, by `split.column`."""


def mapped(source: Source, path: str, columns: Mapping[str, Column], places: Places) -> Mapped:
    """Return the columns of a source, mapped into memory. They are prepared if they are not there.

    Args:
        source: what is declared.
        path: a local folder; "" for the hub.
        columns: how each column is stored.
        places: where each row is stored.

    Raises:
        DataError: the data cannot be had, is not as declared, or cannot be stored.
    """
    content, find = located(source, path)
    order = {split: hashlib.sha256(places(split, rows).tobytes()).hexdigest() for split, rows in source.rows.items()}
    identity = f"{content} {dict(columns)} {order} {VERSION}"
    home = folder() / f"{hashlib.sha256(identity.encode()).hexdigest()[:20]}.columns"
    if (found := _read(home, identity)) is not None:
        return found
    with _alone(source, home):
        if (found := _read(home, identity)) is None:  # nobody else has prepared it in the meantime
            _prepare(find(), home, identity, columns, places)
            found = _read(home, identity)
    if found is None:
        raise _cannot_be_stored(source, home, "what was written cannot be read again")
    return found


def _read(home: Path, identity: str) -> Mapped | None:
    """Map the arrays of a folder, or return None if they are missing, damaged or of another identity."""
    try:
        manifest = json.loads((home / "manifest.json").read_text("utf-8"))
        if manifest["identity"] != identity:
            return None
        splits: Splits = {}
        for name, told in manifest["arrays"].items():
            file = home / f"{name}.npy"
            seen = file.stat()
            if not file.is_file() or seen.st_size != told["size"]:
                return None
            if seen.st_mtime_ns != told["time"] and _digest(file) != told["sha256"]:
                return None
            split, _, column = name.partition(".")
            array = np.load(file, mmap_mode="c")  # on write a page is copied, so that no process changes the file
            splits.setdefault(split, {})[column] = torch.from_numpy(array)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Mapped(splits, {name: told["sha256"] for name, told in manifest["arrays"].items()})


@contextmanager
def _alone(source: Source, home: Path) -> Iterator[None]:
    """Let one process at a time prepare a folder. The others wait, and then find it."""
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(home.with_suffix(".lock"))
        lock.acquire()
    except OSError as problem:
        raise _cannot_be_stored(source, home, str(problem)) from problem
    try:
        yield
    finally:
        lock.release()


def _prepare(copy: Copy, home: Path, identity: str, columns: Mapping[str, Column], places: Places) -> None:
    work = home.with_suffix(".unfinished")
    _remove_abandoned(home.parent)
    streams = copy.streams()
    try:
        done = _progress(work, identity)
        if done is None:
            shutil.rmtree(work, ignore_errors=True)
            _require_room(copy.source, home, columns, streams)
            _make(work, columns, streams)
            done = dict.fromkeys(streams, 0)
            _keep(work, identity, done)
        _fill(copy, work, identity, columns, places, streams, done)
        arrays = {}
        for split in streams:
            for name in columns:
                file = work / f"{split}.{name}.npy"
                seen = file.stat()
                arrays[f"{split}.{name}"] = {
                    "sha256": _digest(file), "size": seen.st_size, "time": seen.st_mtime_ns
                }  # fmt: skip
        _write_json(work / "manifest.json", {"identity": identity, "arrays": arrays})
        (work / "progress.json").unlink()
        shutil.rmtree(home, ignore_errors=True)  # a damaged one
        work.rename(home)
    except OSError as problem:
        raise _cannot_be_stored(copy.source, home, str(problem)) from problem


def _fill(
    copy: Copy,
    work: Path,
    identity: str,
    columns: Mapping[str, Column],
    places: Places,
    streams: Mapping[str, Stream],
    done: dict[str, int],
) -> None:
    """Write the rows that are not done yet."""
    show = _Show(copy.source.id, sum(stream.rows for stream in streams.values()), sum(done.values()))
    for split, stream in streams.items():
        if done[split] == stream.rows:
            continue
        place = places(split, stream.rows)
        files = {name: (work / f"{split}.{name}.npy").open("r+b") for name in columns}
        try:
            starts = {name: _start(file) for name, file in files.items()}
            for batch in stream.batches(done[split], AT_ONCE):
                first, count = done[split], len(next(iter(batch.values())))
                for name, column in columns.items():
                    rows = _converted(copy, split, name, column, batch[name], first)
                    for row, where in zip(rows, place[first : first + count], strict=True):
                        files[name].seek(starts[name] + int(where) * row.nbytes)
                        files[name].write(row.data)
                done[split] += count
                show(count)
                if done[split] % KEPT < AT_ONCE:
                    _flush(files.values())
                    _keep(work, identity, done)
            _flush(files.values())
        finally:
            for file in files.values():
                file.close()
        if done[split] != stream.rows:
            raise copy.problem(f"the {split} split gave {done[split]:,} rows, and should have {stream.rows:,}")
        _keep(work, identity, done)
    show.end()


def _converted(copy: Copy, split: str, name: str, column: Column, values: np.ndarray, first: int) -> np.ndarray:
    """Return a batch as it is stored, checked."""
    low, high = values.min(), values.max()  # NaN if there is any
    if not (low >= column.low and high <= column.high):
        rows = f"rows {first} to {first + len(values) - 1}"
        said = f"has values from {low:g} to {high:g} in {rows}, and should have {column.meaning}"
        raise copy.problem(f"the {split} split's {name} {said}")
    return np.ascontiguousarray(values.reshape(len(values), *column.shape).astype(column.dtype))


def _make(work: Path, columns: Mapping[str, Column], streams: Mapping[str, Stream]) -> None:
    work.mkdir(parents=True)
    for split, stream in streams.items():
        for name, column in columns.items():
            shape = (stream.rows, *column.shape)
            np.lib.format.open_memmap(work / f"{split}.{name}.npy", mode="w+", dtype=column.dtype, shape=shape)


def _start(file: Any) -> int:
    """Return where the numbers of a `.npy` file begin."""
    np.lib.format.read_magic(file)
    np.lib.format.read_array_header_1_0(file)
    return int(file.tell())


def _progress(work: Path, identity: str) -> dict[str, int] | None:
    """Return how many rows of each split an interrupted preparation has written."""
    try:
        kept = json.loads((work / "progress.json").read_text("utf-8"))
        return dict(kept["done"]) if kept["identity"] == identity else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep(work: Path, identity: str, done: Mapping[str, int]) -> None:
    _write_json(work / "progress.json", {"identity": identity, "done": dict(done)})


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    unfinished = temporary(file)
    unfinished.write_text(json.dumps(content), "utf-8")
    unfinished.replace(file)


def _flush(files: Any) -> None:
    """Bring what was written to the disk: the progress must not say more than that."""
    for file in files:
        file.flush()
        os.fsync(file.fileno())


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _require_room(source: Source, home: Path, columns: Mapping[str, Column], streams: Mapping[str, Stream]) -> None:
    row = sum(np.dtype(column.dtype).itemsize * int(np.prod(column.shape)) for column in columns.values())
    needed = row * sum(stream.rows for stream in streams.values())
    free = shutil.disk_usage(home.parent).free
    if free < needed:
        raise _cannot_be_stored(source, home, f"it takes {needed / 1e9:.2g} GB, and {free / 1e9:.2g} GB are free")


def _cannot_be_stored(source: Source, home: Path, reason: str) -> DataError:
    said = f"{source.id} cannot be stored in {home.parent}: {reason}"
    return DataError(f"{said}; set MTL_BENCH_CACHE to a folder that can be written")


def _remove_abandoned(place: Path) -> None:
    with suppress(OSError):
        for work in place.glob("*.unfinished"):
            touched = max(file.stat().st_mtime for file in (work, *work.iterdir()))
            if time.time() - touched > ABANDONED:
                shutil.rmtree(work, ignore_errors=True)


@dataclass
class _Show:
    """Says on stderr how far a preparation is: on one line of a terminal, or else twice a minute."""

    what: str
    rows: int
    done: int
    begun: float = field(default_factory=lambda: time.monotonic())
    said: float | None = None
    new: int = 0

    def __call__(self, count: int) -> None:
        self.done, self.new = self.done + count, self.new + count
        now = time.monotonic()
        terminal = sys.stderr.isatty()
        if now - (self.begun if self.said is None else self.said) < (1 if terminal else 30):
            return
        self.said = now
        rate = self.new / (now - self.begun)
        left = (self.rows - self.done) / rate
        text = f"preparing {self.what}: {self.done:,} of {self.rows:,} rows, {rate:.0f} a second, {left:.0f} s left"
        print(f"\r{text}\033[K" if terminal else text, end="" if terminal else "\n", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Leave the line."""
        if self.said is not None and sys.stderr.isatty():
            print(file=sys.stderr, flush=True)
