"""Temporary files, under whose names files are written before they are renamed, and removal of old ones."""

import contextlib
import os
import re
import secrets
import time
from pathlib import Path

OLD = 3600.0
"""A temporary file that is older than this many seconds has no writer any more."""
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")


def temporary(file: Path) -> Path:
    """Return a name under which a file is written before it is renamed. Two writers never get the same name.

    (A process number would not do: containers that share a volume may have the same numbers.)
    """
    name = file.name.encode()[:200].decode(errors="ignore")  # a name has at most 255 bytes
    return file.with_name(f".{name}.{secrets.token_hex(8)}.tmp")


def sweep(folder: Path) -> None:
    """Remove old temporary files from a folder: their writers were killed."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if TEMPORARY.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    if time.time() - entry.stat(follow_symlinks=False).st_mtime > OLD:
                        os.unlink(entry.path)
