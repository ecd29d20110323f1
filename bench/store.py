"""Records on disk: one JSON document a run, and a baseline's weights beside its record."""

import contextlib
import errno
import gc
import hashlib
import itertools
import logging
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from bench.records import SCHEMA, CostRecord, RunRecord, upgrade
from bench.spec import digest
from bench.tuning.choose import Choice
from tasks.core.files import sweep, temporary

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

FOLDER = "runs"
COSTS = "costs"
CHOICES = "choices"
REPLACED = "replaced"
"""The folder in that of the choices of those that were replaced."""
CHECKPOINTS = "checkpoints"
ENDING = ".json"
"""Of a record's file."""
ASIDE = "set-aside"
"""The folder of files that are in the place of a record and are none."""
CHOICE_SCHEMA = 1
LONGEST_REASON = 500
LONGEST_LINE = 1000
"""Characters of a reason and of a line of a log that a record keeps."""

_JSON = TypeAdapter[Any](Any)
"""Reads JSON. It refuses lone surrogates, which nothing could print or write, and what is nested too deeply."""

log = logging.getLogger("bench")


class StoreError(Exception):
    """The folder or a file in it cannot be used; says which, and what would help."""

    size = 0
    """How many bytes could not be written, if that is what went wrong."""


class NothingToCompareError(StoreError):
    """What was to be compared is not there, on one side or the other."""


class RecordError(StoreError):
    """A file is not a run's record."""


class Store:
    """The records of one folder. Whole or not at all: a reader never sees half a record."""

    def __init__(self, folder: Path) -> None:
        try:
            self.folder = folder.absolute()  # somebody's code may leave the working folder
            for part in (self.folder, *self.folder.parents):
                if part.exists() and not part.is_dir():
                    raise StoreError(f"{part} is a file: name a folder")
        except OSError as problem:
            raise StoreError(f"{_short(folder)} cannot be used: {problem.strerror}") from None

    def require_writable(self, size: int = 0) -> None:
        """Make the folder, and raise StoreError unless a file of so many bytes can be written there."""
        probe = self.folder / FOLDER / "probe"
        write(probe, bytes(size))
        probe.unlink(missing_ok=True)

    def records(self) -> dict[str, RunRecord]:
        """Return all records by name, in the order of their names. What is none is set aside, and named in the log.

        Raises:
            StoreError: a record cannot be read, or is of a newer schema.
        """
        return {record.name: record for record in self.each(lambda record: record)}

    def each(self, keep: Callable[[RunRecord], T]) -> list[T]:
        """Return what is to be kept of each record, in the order of their names; else as `records`."""
        for folder in (self.folder, *(self.folder / name for name in (FOLDER, COSTS, CHECKPOINTS))):
            sweep(folder)
        with _uncollected():
            found = map(self.get, _names(self.folder / FOLDER))
            return [keep(record) for record in found if record is not None]

    def get(self, name: str) -> RunRecord | None:
        """Return the record of this name, if there is one. What is none is set aside, and named in the log.

        Raises:
            StoreError: the record is of a newer schema.
        """
        file = self._file(name, "json")
        try:
            return self.read(file)
        except FileNotFoundError:
            return None
        except RecordError as problem:
            try:
                aside = self._set_aside(file)
            except OSError as why:  # it stays, and counts as missing all the same
                log.warning("%s: left out, and not set aside: %s", problem, why.strerror)
            else:
                log.warning("%s: set aside as %s", problem, aside)
            return None

    def _set_aside(self, file: Path) -> Path:
        """Move what is in the place of a record to where it harms nobody, and replaces nothing there."""
        folder = self.folder / ASIDE
        folder.mkdir(exist_ok=True)
        places = (folder / (f"{file.name}.{n}" if n else file.name) for n in itertools.count())
        aside = next(place for place in places if not os.path.lexists(place))
        file.replace(aside)
        return aside

    def read(self, file: Path) -> RunRecord:
        """Read one record, of this schema or an older one, and check that it is what its name says.

        Raises:
            FileNotFoundError: there is none.
            RecordError: it is not a record, or not the one that its name says; or it cannot be read.
            StoreError: it is of a newer schema.
        """
        try:
            data = _read(file)
            try:
                record = RunRecord.model_validate_json(data)
            except ValidationError:  # of another schema, or no record: read again, to upgrade it or to say what it is
                record = _upgraded(file, data)
            own = record.name == record.spec.name == file.stem and record.key == record.parts.key(record.name)
        except ValidationError as problem:
            first = problem.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise RecordError(_plain(f"{file} is not a run's record ({where or 'JSON'}: {first['msg']})")) from None
        except FileNotFoundError:
            raise
        except OSError as problem:
            raise RecordError(f"{file} is not a run's record (it cannot be read: {problem.strerror})") from None
        except (ValueError, TypeError) as problem:
            raise RecordError(_plain(f"{file} is not a run's record (JSON: {problem})")) from None
        if not own:
            raise RecordError(f"{file} is another run's record, or was edited")
        return record

    def stamp(self, name: str) -> tuple[int, int] | None:
        """Return what tells one writing of a record from the next; None if there is no record."""
        try:
            found = self._file(name, "json").stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    def put(self, record: RunRecord, state: "dict[str, Tensor] | None") -> RunRecord:
        """Write a record and, before it, its network's state.

        Returns what was written: with the state's sha256, and with what somebody's code has said in the length and
        the characters that a record can hold.
        """
        lines = tuple(_plain(line, LONGEST_LINE) for line in record.log)
        told = record.result.model_copy(update={"reason": _plain(record.result.reason)})
        record = record.model_copy(update={"result": told, "log": lines})
        if state is not None:
            from safetensors.torch import save  # imports torch, which a reader of records does not need

            data = save(state)
            result = record.result.model_copy(update={"weights_sha256": hashlib.sha256(data).hexdigest()})
            record = record.model_copy(update={"result": result})
            write(self._file(record.name, "safetensors"), data)
        write(self._file(record.name, "json"), record.model_dump_json(indent=1).encode() + b"\n")
        return record

    def copy(self, name: str, source: "Store") -> None:
        """Copy a record from another folder and, before it, its weights if it has any.

        Raises:
            StoreError: it cannot be written.
        """
        for ending in ("safetensors", "json"):
            file = source._file(name, ending)
            if file.exists():
                write(self._file(name, ending), file.read_bytes())

    def costs(self) -> list[CostRecord]:
        """Return what steps were measured to cost, in the order of the files. What cannot be read is not there."""
        found = []
        for file in sorted((self.folder / COSTS).glob("*.json")):
            with contextlib.suppress(OSError, ValidationError):
                if file.is_file():
                    found.append(CostRecord.model_validate_json(file.read_bytes()))
        return found

    def put_costs(self, record: CostRecord) -> None:
        """Write what was measured, in the place of what was measured before of the same methods."""
        methods = sorted((cost.method, cost.tasks) for cost in record.costs)
        name = digest([record.task_set, record.protocol.model_dump(mode="json"), record.precision, methods])
        write(self.folder / COSTS / f"{name}.json", record.model_dump_json(indent=1).encode() + b"\n")

    def choices(self) -> dict[str, Choice]:
        """Return what was chosen by trials, by the choices' names. What cannot be read is not there, as the log says.

        Raises:
            StoreError: a choice is of a newer schema.
        """
        files = sorted((self.folder / CHOICES).glob("*.json"))
        return {choice.name: choice for file in files for choice in _choice(file) if choice.name == file.stem}

    def replaced(self) -> list[Choice]:
        """Return the choices in whose place others are: runs that were trained with them are no contestant's."""
        return [
            choice for file in sorted((self.folder / CHOICES / REPLACED).glob("*.json")) for choice in _choice(file)
        ]

    def put_choice(self, choice: Choice) -> None:
        """Write a choice, in the place of an older one of the same contestant, which is kept if it trains another."""
        folder = self.folder / CHOICES
        file = folder / f"{choice.name}.json"
        for before in _choice(file):
            if (before.variant, before.factor) != (choice.variant, choice.factor):
                name = digest([choice.name, before.variant, before.factor])
                write(folder / REPLACED / f"{name}.json", file.read_bytes())
        write(file, choice.model_dump_json(indent=1).encode() + b"\n")

    def has_weights(self, record: RunRecord) -> bool:
        """Whether the file of a record's weights is there and is the one that the record speaks of."""
        file = self._file(record.name, "safetensors")
        return file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == record.result.weights_sha256

    def weights(self, name: str) -> "dict[str, Tensor]":
        """Return the trained network's state that a baseline left."""
        from safetensors.torch import load

        return load(self._file(name, "safetensors").read_bytes())

    def checkpoint(self, name: str) -> Path:
        """Return the file for the state of a run in progress."""
        return self.folder / CHECKPOINTS / f"{name}.safetensors"

    def log(self, name: str) -> Path:
        """Return the file for what a run prints."""
        return self.folder / "logs" / f"{name}.log"

    def new_log(self, name: str) -> IO[bytes]:
        """Open an empty file for what a run prints, to append to.

        Raises:
            StoreError: it cannot be written.
        """
        file = self.log(name)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.unlink(missing_ok=True)
            return file.open("ab")
        except OSError as problem:
            raise StoreError(f"{file} cannot be written: {problem.strerror}") from problem

    def _file(self, name: str, ending: str) -> Path:
        return self.folder / FOLDER / f"{name}.{ending}"


def _choice(file: Path) -> list[Choice]:
    """Return the choice in a file; nothing, and a line in the log, if there is none in it.

    Raises:
        StoreError: it is of a newer schema.
    """
    if not file.is_file():  # a pipe would be waited for
        return []
    try:
        data = file.read_bytes()
        return [Choice.model_validate_json(data)]
    except OSError as problem:
        log.warning("%s cannot be read, and counts as missing: %s", file, problem.strerror)
    except ValidationError:
        with contextlib.suppress(ValidationError):
            document = _JSON.validate_json(data)
            version = document.get("schema_version") if isinstance(document, dict) else None
            if isinstance(version, int) and version > CHOICE_SCHEMA:
                raise StoreError(
                    f"{file} has schema {version}, and this mtl-bench knows those up to {CHOICE_SCHEMA}: install the "
                    "newer mtl-bench, or remove the file"
                ) from None
        log.warning("%s is not a choice, and counts as missing", file)
    return []


def _names(folder: Path) -> list[str]:
    """Return the names of the records in a folder, in their order."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name[: -len(ENDING)] for entry in entries if entry.name.endswith(ENDING))
    except OSError:
        return []


def _read(file: Path) -> bytes:
    """Read a file that may be something else: a pipe in its place would be waited for."""
    try:
        regular = stat.S_ISREG(os.stat(file).st_mode)
    except FileNotFoundError:
        if not file.is_symlink():
            raise
        regular = False  # a link that leads nowhere
    if not regular:
        raise RecordError(f"{file} is not a run's record (it is no file)")
    try:
        return file.read_bytes()
    except OSError as problem:
        if problem.errno != errno.ESTALE:
            raise
        return file.read_bytes()  # on a network folder it was replaced in this very moment


def _upgraded(file: Path, data: bytes) -> RunRecord:
    """Read a record that is not of this schema. Raises what `Store.read` turns into one line."""
    document = _JSON.validate_json(data)
    version = document.get("schema_version") if isinstance(document, dict) else None
    if isinstance(version, int) and version > SCHEMA:
        raise StoreError(
            f"{file} has schema {version}, and this mtl-bench knows those up to {SCHEMA}: install the newer "
            "one that wrote it, or name another folder (--out)"
        )
    return RunRecord.model_validate(upgrade(document) if version else document)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Read many records without Python's garbage collector.

    Records have no circles, so it finds nothing; but it walks all that were read again and again, which takes three
    times as long as reading them. At the end they count as old, which spares the walk through the newest objects.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.unfreeze()
        gc.enable()


def write(file: Path, data: bytes) -> None:
    """Write a file whole or not at all: a temporary one beside it, flushed to disk, renamed.

    Raises:
        StoreError: it cannot be written.
    """
    unfinished = temporary(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(file)
    except OSError as problem:
        error = StoreError(f"{_short(file)} cannot be written: {problem.strerror}")
        error.size = len(data)
        raise error from problem
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


def _plain(text: str, most: int = LONGEST_REASON) -> str:
    """Return a text that UTF-8 can hold, of at most so many characters: of a longer one the beginning."""
    text = text if len(text) <= most else f"{text[:most]} … ({len(text)} characters)"
    return text.encode(errors="backslashreplace").decode()


def _short(path: Path) -> str:
    """Return a path for a message; of one that is too long to be one, the beginning."""
    return _plain(str(path), 300)
