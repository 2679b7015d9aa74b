"""Durable small files: a file is there whole or not at all, and survives a power cut once the call returned."""

import asyncio
import json
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Protocol


class Disk(Protocol):
    """The few steps that durability is made of; each may be the last one before a crash."""

    def write_synced(self, path: Path, data: bytes, mode: int) -> None:
        """Writes a new file, in place of one that a crash left there, and flushes it to the device."""

    def rename(self, source: Path, target: Path) -> None:
        """Moves a file over another in one step."""

    def sync_folder(self, folder: Path) -> None:
        """Flushes a folder's entries to the device."""

    def unlink(self, path: Path) -> None:
        """Removes a file; a missing one is no error."""


class LocalDisk:
    """The machine's file system."""

    def write_synced(self, path: Path, data: bytes, mode: int) -> None:
        path.unlink(missing_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, mode)
            file.write(data)
            file.flush()
            os.fsync(handle)

    def rename(self, source: Path, target: Path) -> None:
        source.replace(target)

    def sync_folder(self, folder: Path) -> None:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def unlink(self, path: Path) -> None:
        path.unlink(missing_ok=True)


def replace_durably(disk: Disk, path: Path, data: bytes, mode: int = 0o644) -> None:
    """Puts ``data`` at ``path``. The temporary file lies in the same folder and ends in ``.tmp``: older CDI caches
    watch only for renames within a folder, and readers of ``*.json`` must not see half a file."""
    temporary = path.with_name(f".{path.name}.tmp")
    disk.write_synced(temporary, data, mode)
    disk.rename(temporary, path)
    disk.sync_folder(path.parent)


def remove_durably(disk: Disk, path: Path) -> None:
    """Removes ``path`` for good."""
    disk.unlink(path)
    disk.sync_folder(path.parent)


def write_json(disk: Disk, path: Path, value: Any, mode: int = 0o600) -> None:
    """Puts ``value`` at ``path`` as JSON."""
    replace_durably(disk, path, json_bytes(value), mode)


def json_bytes(value: Any) -> bytes:
    """What ``write_json`` puts there."""
    return json.dumps(value, separators=(",", ":")).encode()


def read_json(path: Path) -> Any:
    """The content of ``path``, or ``None`` if it is missing or no JSON."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


async def to_the_end(work: Coroutine[None, None, None]) -> None:
    """Runs disk work that a cancelled caller must not leave half done: the cancellation waits for it."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
