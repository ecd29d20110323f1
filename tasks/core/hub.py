"""Finds data sets on the Hugging Face hub or in local folders, checks them, and prepares them once.

This is the only file that imports `datasets`, and it does so only to read data that is not prepared yet. It uses the
network only for data that is in no cache, and never under `HF_HUB_OFFLINE=1`. Nothing that was fetched is executed or
unpickled: the data is Parquet, CSV or MATLAB's arrays. Importing this file does not import torch, so that missing data
is reported at once.
"""

import hashlib
import inspect
import os
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tasks.core.errors import DataError
from tasks.core.files import temporary

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset
    from torch import Tensor

    from tasks.core.cache import Splits

PATIENCE = 2.5
"""Seconds within which the hub must answer. Its own client would try for 23 s, or even for 6 minutes."""
OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")


@dataclass(frozen=True)
class Source:
    """A data set on the hub, with the columns and the numbers of rows that it must have."""

    hub: str
    """Its `id@commit`. Data that is on no hub has a name alone."""
    rows: Mapping[str, int]
    """The number of rows of each split. A local folder may contain fewer: the first ones."""
    columns: Mapping[str, str]
    """The features of the columns that are read: "Image", "ClassLabel(10)", "int64", "Array2D(288×384, int64)"."""
    files: tuple[str, ...] = ("*.parquet", "README.md")
    """Patterns of the files that are fetched."""
    local: str = ""
    """Of data that is on no hub: which files a folder must contain, and where they are from."""

    @property
    def id(self) -> str:
        """Its name on the hub."""
        return self.hub.partition("@")[0]

    @property
    def commit(self) -> str:
        """The commit that is used. Other commits in the cache are ignored."""
        return self.hub.partition("@")[2]


@dataclass(frozen=True)
class Stream:
    """A split that is read piece by piece."""

    rows: int
    batches: "Callable[[int, int], Iterator[dict[str, np.ndarray]]]"
    """`(start, size)` -> the declared columns of the rows from `start` on, at most `size` rows at a time."""


@dataclass(frozen=True)
class Copy:
    """A source on this machine."""

    source: Source
    folder: Path
    fetched: bool
    """Whether it was fetched from the hub. Then it must have every row."""

    def problem(self, text: str) -> DataError:
        """Say in one line what is wrong with it."""
        return DataError(f"{self.source.id} in {self.folder}: {text}")

    def check(self, split: str, columns: Mapping[str, str], rows: int) -> None:
        """Raise DataError unless a split has the declared columns, with their features, and number of rows."""
        for name, feature in self.source.columns.items():
            if name not in columns:
                raise self.problem(f"the {split} split lacks the column {name}: it has {', '.join(columns) or 'none'}")
            if columns[name] != feature:
                raise self.problem(f"the {split} split's {name} is {columns[name]}, and should be {feature}")
        whole = self.source.rows[split]
        if rows > whole or (rows < whole and self.fetched):
            raise self.problem(f"the {split} split has {rows:,} rows, and should have {whole:,}")

    def read(self) -> "dict[str, Dataset]":
        """Read the declared splits of Parquet files into memory, checked.

        Raises:
            DataError: they cannot be read, or are not as declared.
        """
        import datasets

        datasets.disable_progress_bars()
        try:
            # A cache of its own, gone at the end: what is kept are tensors. A folder's whole path: a hub's id could be
            # shadowed by a folder of that name here.
            with TemporaryDirectory() as arrow:
                builder = datasets.load_dataset_builder(str(self.folder.resolve()), cache_dir=arrow)
                if builder.name == "parquet":
                    builder.download_and_prepare(verification_mode="no_checks")  # ours are stricter
                    found = builder.as_dataset(in_memory=True)
        except Exception as problem:  # whatever is wrong with files of somebody else's making
            raise self.problem(_first_line(problem)) from problem
        if builder.name != "parquet":  # other formats may run code
            raise self.problem(f"its data is {builder.name}, and should be Parquet")
        for split in self.source.rows:
            if split not in found:
                raise self.problem(f"there is no {split} split: it has {', '.join(found)}")
            features = {name: _describe(feature) for name, feature in found[split].features.items()}
            self.check(split, features, len(found[split]))
        return {split: found[split] for split in self.source.rows}

    def streams(self) -> dict[str, Stream]:
        """Open the declared splits of Parquet files, checked, to read them piece by piece.

        Raises:
            DataError: they cannot be read, or are not as declared. Reading a batch raises it, too.
        """
        import datasets
        import pyarrow.parquet

        names = list(self.source.columns)
        try:
            with TemporaryDirectory() as empty:  # nothing is written there
                folder = str(self.folder.resolve())
                builder = datasets.load_dataset_builder(folder, cache_dir=empty)
                if builder.name == "parquet":
                    files = {split: list(own) for split, own in (builder.config.data_files or {}).items()}
                    found = builder.as_streaming_dataset()
                    features = {str(split): dict(own.features or {}) for split, own in found.items()}
                    rows = {s: sum(pyarrow.parquet.read_metadata(f).num_rows for f in own) for s, own in files.items()}
        except Exception as problem:  # whatever is wrong with files of somebody else's making
            raise self.problem(_first_line(problem)) from problem
        if builder.name != "parquet":  # other formats may run code
            raise self.problem(f"its data is {builder.name}, and should be Parquet")
        for split in self.source.rows:
            if split not in features:
                raise self.problem(f"there is no {split} split: it has {', '.join(features)}")
            self.check(split, {name: _describe(feature) for name, feature in features[split].items()}, rows[split])

        def batches(split: str, start: int, size: int) -> "Iterator[dict[str, np.ndarray]]":
            try:
                with TemporaryDirectory() as empty:
                    # The reader decodes as many rows at once as it is asked for, and only these columns.
                    read = datasets.load_dataset_builder(folder, cache_dir=empty, columns=names, batch_size=size)
                    part = read.as_streaming_dataset(split).skip(start).with_format("numpy")
                    yield from part.iter(size)
            except Exception as problem:
                raise self.problem(_first_line(problem)) from problem
            finally:
                pyarrow.default_memory_pool().release_unused()  # it would keep some gigabytes

        return {split: Stream(rows[split], partial(batches, split)) for split in self.source.rows}

    def pixels(self, images: Iterable[Any], height: int, width: int) -> "Tensor":
        """Decode grey images into `[N, height, width]`, uint8."""
        import numpy as np
        import torch

        try:
            decoded = [np.asarray(image) for image in images]
        except (OSError, ValueError) as problem:
            raise self.problem(_first_line(problem)) from problem
        for array in decoded:
            if array.shape != (height, width) or array.dtype != np.uint8:
                odd = f"{'×'.join(map(str, array.shape))} of {array.dtype}"
                raise self.problem(f"an image is {odd}, and should be {height}×{width} of uint8")
        return torch.from_numpy(np.stack(decoded))


def require(hub: str, path: str) -> None:
    """Raise DataError if the data certainly cannot be read or fetched. Nothing slow is imported for that.

    Args:
        hub: `id@commit`.
        path: a local folder; "" for the hub.
    """
    source = Source(hub, rows={}, columns={})
    if path:
        _folder(source, path)
        return
    from huggingface_hub import constants

    repository = Path(constants.HF_HUB_CACHE, f"datasets--{source.id.replace('/', '--')}")
    if not (repository / "snapshots" / source.commit).is_dir():
        _ask(source)


def require_folder(name: str, local: str, path: str) -> None:
    """Raise DataError unless there is a folder for data that is on no hub.

    Args:
        name: of the data.
        local: which files the folder must contain, and where they are from.
        path: the folder; "" if none was named.
    """
    if not path:
        raise DataError(f"{name} is not fetched: name a folder by [path=…] that contains {local}")
    _folder(Source(name, rows={}, columns={}), path)


def prepared(source: Source, path: str, build: "Callable[[Copy], Splits]") -> "Splits":
    """Return the data as `build` prepares it. It comes from the cache unless the data or the code has changed.

    Args:
        source: what is declared.
        path: a local folder, in the hub's layout if the data is on the hub; "" for the hub.
        build: a function or method, whose file and this one are the preprocessing's version.

    Raises:
        DataError: the data cannot be had, or is not as declared.
    """
    from tasks.core.cache import cached

    if source.local:
        require_folder(source.id, source.local, path)
    code = _digest((file.name, file) for file in (Path(__file__), Path(inspect.getfile(build))))
    if not path:  # a commit stands for its content
        return cached(f"{source} {code}", lambda: build(_snapshot(source)))
    copy = _folder(source, path)
    if not _has_data(copy):
        raise copy.problem(f"the folder has no {source.local or source.files[0]}")
    content = _digest((file.relative_to(copy.folder).as_posix(), file) for file in _files(copy))
    return cached(f"{source} {content} {code}", lambda: build(copy))


def located(source: Source, path: str) -> "tuple[str, Callable[[], Copy]]":
    """Return what stands for the content of the data, and a function that finds it, or fetches it.

    It is for data that is too large for `prepared`. The content of a local folder is that of its files, which are read
    again when their sizes or times have changed.

    Raises:
        DataError: the data cannot be had.
    """
    from tasks.core.cache import folder

    if source.local:
        require_folder(source.id, source.local, path)
    if not path:
        return f"{source}", lambda: _snapshot(source)
    copy = _folder(source, path)
    if not _has_data(copy):
        raise copy.problem(f"the folder has no {source.local or source.files[0]}")
    files = [(file.relative_to(copy.folder).as_posix(), file) for file in _files(copy)]
    seen = [f"{file.resolve()} {file.stat().st_size} {file.stat().st_mtime_ns}" for _, file in files]
    note = folder() / f"{hashlib.sha256(chr(10).join(seen).encode()).hexdigest()[:20]}.content"
    with suppress(OSError):
        if len(known := note.read_text()) == 64:
            return f"{source} {known}", lambda: copy
    content = _digest(files)
    with suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        unfinished = temporary(note)
        unfinished.write_text(content)
        unfinished.replace(note)
    return f"{source} {content}", lambda: copy


def _folder(source: Source, path: str) -> Copy:
    copy = Copy(source, Path(path).expanduser(), fetched=False)
    if not copy.folder.is_dir():
        raise copy.problem("there is no such folder")
    return copy


def _snapshot(source: Source) -> Copy:
    """The hub's files: those in its cache, or else fetched."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    # Unlike `load_dataset`, this does not take another commit from the cache when it is offline.
    patterns = list(source.files)
    take = partial(snapshot_download, source.id, repo_type="dataset", revision=source.commit, allow_patterns=patterns)
    with suppress(LocalEntryNotFoundError):
        copy = Copy(source, Path(take(local_files_only=True)), fetched=True)
        if _has_data(copy):  # others may have fetched the README alone
            return copy
    _ask(source)
    try:
        return Copy(source, Path(take()), fetched=True)
    except Exception as problem:  # also errors of the HTTP library below, whose types change between releases
        raise _out_of_reach(source, _first_line(problem)) from problem


def _ask(source: Source) -> None:
    """Raise DataError if we are offline by request, or if the hub does not answer."""
    flag = next((flag for flag in OFFLINE if os.environ.get(flag, "").upper() in ("1", "ON", "YES", "TRUE")), None)
    if flag is not None:
        raise _out_of_reach(source, f"{flag} is set")
    if not _answers():
        raise _out_of_reach(source, "the hub does not answer")


def _out_of_reach(source: Source, reason: str) -> DataError:
    return DataError(
        f"{source.id} (commit {source.commit[:7]}) is not in the hub's cache, and cannot be fetched ({reason}): set "
        "HF_HOME to a cache that has it, name a local folder of its files by [path=…], or take the embedded sets "
        "(--tasks all)"
    )


def _answers() -> bool:
    """Whether the hub, or the proxy before it, accepts a connection. Its client would try for minutes."""
    hub = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    proxy = None if urllib.request.proxy_bypass(hub.hostname or "") else urllib.request.getproxies().get(hub.scheme)
    target = urlsplit(proxy if "://" in proxy else f"http://{proxy}") if proxy else hub
    address = (target.hostname or "", target.port or (443 if target.scheme == "https" else 80))
    answered = threading.Event()

    def knock() -> None:
        with suppress(OSError):
            socket.create_connection(address, timeout=PATIENCE).close()
            answered.set()

    # In a thread, because looking up a name has no time limit, and several addresses have one each.
    thread = threading.Thread(target=knock, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return answered.is_set()


def _files(copy: Copy) -> list[Path]:
    """Return the source's files in a folder, at any depth."""
    return sorted({file for pattern in copy.source.files for file in copy.folder.rglob(pattern)})


def _has_data(copy: Copy) -> bool:
    return any(file.suffix != ".md" for file in _files(copy))


def _digest(files: Iterable[tuple[str, Path]]) -> str:
    """The sha256 of files with their names."""
    digest = hashlib.sha256()
    for name, file in files:
        with file.open("rb") as stream:
            digest.update(f"{name} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def _describe(feature: Any) -> str:
    """Write a feature in the way in which a source declares it."""
    kind = type(feature).__name__
    if kind == "ClassLabel":
        return f"{kind}({feature.num_classes})"
    if kind.startswith("Array"):
        return f"{kind}({'×'.join(map(str, feature.shape))}, {feature.dtype})"
    return str(feature.dtype) if kind == "Value" else kind


def _first_line(problem: BaseException) -> str:
    """Return the first line of the error that caused this one."""
    while problem.__cause__ is not None:
        problem = problem.__cause__
    return str(problem).partition("\n")[0] or type(problem).__name__
