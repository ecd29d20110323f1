"""Records on disk: one JSON document a run, and a baseline's weights beside its record."""

import contextlib
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from bench.records import RunRecord

if TYPE_CHECKING:
    from torch import Tensor

FOLDER = "runs"


class StoreProblem(Exception):
    """The folder or a file in it cannot be used; says which, and what would help."""


class Store:
    """The records of one folder. Whole or not at all: a reader never sees half a record."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for part in (folder, *folder.parents):
            if part.exists() and not part.is_dir():
                raise StoreProblem(f"{part} is a file: name a folder")

    def records(self) -> dict[str, RunRecord]:
        """Return all records by name, in the order of their names.

        Raises:
            StoreProblem: a file is not a record.
        """
        found = (self.read(file) for file in sorted((self.folder / FOLDER).glob("*.json")))
        return {record.name: record for record in found}

    def get(self, name: str) -> RunRecord | None:
        """Return the record of this name, if there is one."""
        file = self._file(name, "json")
        return self.read(file) if file.exists() else None

    def read(self, file: Path) -> RunRecord:
        """Read one record and check that it is what its name says."""
        try:
            record = RunRecord.model_validate_json(file.read_bytes())
        except ValidationError as problem:
            first = problem.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise StoreProblem(
                f"{file} is not a run's record ({where or 'JSON'}: {first['msg']}): move it away"
            ) from None
        except OSError as problem:
            raise StoreProblem(f"{file} cannot be read: {problem.strerror}") from None
        if not record.name == record.spec.name == file.stem or record.key != record.parts.key(record.name):
            raise StoreProblem(f"{file} is another run's record, or was edited: move it away")
        return record

    def put(self, record: RunRecord, state: "dict[str, Tensor] | None") -> RunRecord:
        """Write a record and, before it, its network's state. Returns the record with the state's sha256."""
        if state is not None:
            from safetensors.torch import save  # imports torch, which a reader of records does not need

            data = save(state)
            result = record.result.model_copy(update={"weights_sha256": hashlib.sha256(data).hexdigest()})
            record = record.model_copy(update={"result": result})
            write(self._file(record.name, "safetensors"), data)
        write(self._file(record.name, "json"), record.model_dump_json(indent=1).encode() + b"\n")
        return record

    def has_weights(self, record: RunRecord) -> bool:
        """Whether the file of a record's weights is there and is the one that the record speaks of."""
        file = self._file(record.name, "safetensors")
        return file.exists() and hashlib.sha256(file.read_bytes()).hexdigest() == record.result.weights_sha256

    def weights(self, name: str) -> "dict[str, Tensor]":
        """Return the trained network's state that a baseline left."""
        from safetensors.torch import load

        return load(self._file(name, "safetensors").read_bytes())

    def log(self, name: str) -> Path:
        """Return the file for what a run prints."""
        return self.folder / "logs" / f"{name}.log"

    def _file(self, name: str, ending: str) -> Path:
        return self.folder / FOLDER / f"{name}.{ending}"


def write(file: Path, data: bytes) -> None:
    """Write a file whole or not at all: a temporary one beside it, flushed to disk, renamed.

    Raises:
        StoreProblem: it cannot be written.
    """
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    except OSError as problem:
        raise StoreProblem(f"{file} cannot be written: {problem.strerror}") from problem
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
