"""Small JSON files that are there whole or not at all, and stay once the call has returned."""

import json
import os
from pathlib import Path
from typing import Any


def write_json(path: Path, value: Any, mode: int = 0o600) -> None:
    """Puts ``value`` at ``path``: a file beside it, flushed, renamed over it, and the folder flushed."""
    temporary = path.with_name(f".{path.name}.tmp")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
    with os.fdopen(handle, "w") as file:
        os.fchmod(handle, mode)
        json.dump(value, file, separators=(",", ":"))
        file.flush()
        os.fsync(handle)
    temporary.replace(path)
    sync_folder(path.parent)


def read_json(path: Path) -> Any:
    """The content of ``path``, or ``None`` if it is missing or no JSON."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def remove(path: Path) -> None:
    """Removes a file for good; a missing one is no error."""
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flushes the folder's entries to the device."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
