"""Files that are written whole or not at all, and what writers leave that were killed."""

import contextlib
import os
import re
import secrets
import time
from pathlib import Path

OLD = 3600.0
"""Seconds after which nobody writes a file any more that is still not in its place."""
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")


def temporary(file: Path) -> Path:
    """Return the name under which a file is written before it is renamed; no two writers get the same.

    (Not a process's number: containers that share a volume have the same ones.)
    """
    name = file.name.encode()[:200].decode(errors="ignore")  # a name has at most 255 bytes
    return file.with_name(f".{name}.{secrets.token_hex(8)}.tmp")


def sweep(folder: Path) -> None:
    """Remove the temporary files in a folder whose writers were killed: those that are old."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if TEMPORARY.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    if time.time() - entry.stat(follow_symlinks=False).st_mtime > OLD:
                        os.unlink(entry.path)
