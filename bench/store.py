"""Records on disk: one JSON document a run, and a baseline's weights beside its record."""

import contextlib
import hashlib
import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from bench.records import SCHEMA, CostRecord, RunRecord, upgrade
from bench.spec import digest

if TYPE_CHECKING:
    from torch import Tensor

FOLDER = "runs"
COSTS = "costs"
ASIDE = "set-aside"
"""The folder of files that are in the place of a record and are none."""

log = logging.getLogger("bench")


class StoreError(Exception):
    """The folder or a file in it cannot be used; says which, and what would help."""


class NothingToCompareError(StoreError):
    """What was to be compared is not there, on one side or the other."""


class RecordError(StoreError):
    """A file is not a run's record."""


class Store:
    """The records of one folder. Whole or not at all: a reader never sees half a record."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for part in (folder, *folder.parents):
            if part.exists() and not part.is_dir():
                raise StoreError(f"{part} is a file: name a folder")

    def require_writable(self) -> None:
        """Make the folder, and raise StoreError unless files can be written there."""
        probe = self.folder / FOLDER / "probe"
        write(probe, b"")
        probe.unlink(missing_ok=True)

    def records(self) -> dict[str, RunRecord]:
        """Return all records by name, in the order of their names. What is none is set aside, and named in the log.

        Raises:
            StoreError: a record cannot be read, or is of a newer schema.
        """
        found = (self.get(file.stem) for file in sorted((self.folder / FOLDER).glob("*.json")))
        return {record.name: record for record in found if record is not None}

    def get(self, name: str) -> RunRecord | None:
        """Return the record of this name, if there is one. What is none is set aside, and named in the log."""
        file = self._file(name, "json")
        try:
            return self.read(file)
        except FileNotFoundError:
            return None
        except RecordError as problem:
            aside = self.folder / ASIDE / file.name
            with contextlib.suppress(OSError):  # where it cannot be moved it stays, and counts as missing all the same
                aside.parent.mkdir(exist_ok=True)
                file.replace(aside)
            log.warning("%s: set aside as %s", problem, aside)
            return None

    def read(self, file: Path) -> RunRecord:
        """Read one record, of this schema or an older one, and check that it is what its name says.

        Raises:
            FileNotFoundError: there is none.
            RecordError: it is not a record, or not the one that its name says.
            StoreError: it cannot be read, or is of a newer schema.
        """
        try:
            document = json.loads(file.read_bytes())
            version = document.get("schema_version") if isinstance(document, dict) else None
            if isinstance(version, int) and version > SCHEMA:
                raise StoreError(
                    f"{file} has schema {version}, and this mtl-bench knows those up to {SCHEMA}: install the newer "
                    "one that wrote it, or name another folder (--out)"
                )
            record = RunRecord.model_validate(upgrade(document) if version else document)
        except ValidationError as problem:
            first = problem.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise RecordError(f"{file} is not a run's record ({where or 'JSON'}: {first['msg']})") from None
        except ValueError as problem:
            raise RecordError(f"{file} is not a run's record (JSON: {problem})") from None
        except FileNotFoundError:
            raise
        except OSError as problem:
            raise StoreError(f"{file} cannot be read: {problem.strerror}") from None
        if not record.name == record.spec.name == file.stem or record.key != record.parts.key(record.name):
            raise RecordError(f"{file} is another run's record, or was edited")
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

    def costs(self) -> list[CostRecord]:
        """Return what steps were measured to cost, in the order of the files. What cannot be read is not there."""
        found = []
        for file in sorted((self.folder / COSTS).glob("*.json")):
            with contextlib.suppress(OSError, ValidationError):
                found.append(CostRecord.model_validate_json(file.read_bytes()))
        return found

    def put_costs(self, record: CostRecord) -> None:
        """Write what was measured, in the place of what was measured before of the same methods."""
        methods = sorted((cost.method, cost.tasks) for cost in record.costs)
        name = digest([record.task_set, record.protocol.model_dump(mode="json"), record.precision, methods])
        write(self.folder / COSTS / f"{name}.json", record.model_dump_json(indent=1).encode() + b"\n")

    def has_weights(self, record: RunRecord) -> bool:
        """Whether the file of a record's weights is there and is the one that the record speaks of."""
        file = self._file(record.name, "safetensors")
        return file.exists() and hashlib.sha256(file.read_bytes()).hexdigest() == record.result.weights_sha256

    def weights(self, name: str) -> "dict[str, Tensor]":
        """Return the trained network's state that a baseline left."""
        from safetensors.torch import load

        return load(self._file(name, "safetensors").read_bytes())

    def checkpoint(self, name: str) -> Path:
        """Return the file for the state of a run in progress."""
        return self.folder / "checkpoints" / f"{name}.safetensors"

    def log(self, name: str) -> Path:
        """Return the file for what a run prints."""
        return self.folder / "logs" / f"{name}.log"

    def _file(self, name: str, ending: str) -> Path:
        return self.folder / FOLDER / f"{name}.{ending}"


def write(file: Path, data: bytes) -> None:
    """Write a file whole or not at all: a temporary one beside it, flushed to disk, renamed.

    Raises:
        StoreError: it cannot be written.
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
        raise StoreError(f"{file} cannot be written: {problem.strerror}") from problem
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
