"""What is to be known of a group's /dev/shm after the agent has started anew, kept beside the pipe folder."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tessera.durable import LocalDisk, read_json, write_json
from tessera.node_agent.enforcement.shm_sweep import Inode


@dataclass(frozen=True, slots=True)
class Record:
    """``device``: the tmpfs that the daemon was started with; ``daemons``: the files in it that are older than all
    slices, ``None``: no slice has come yet."""

    device: int | None = None
    daemons: frozenset[Inode] | None = None


class RecordFile:
    """A file that is missing or broken says that nothing is known."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Record:
        try:
            return _record(read_json(self._path))
        except (OSError, ValueError):
            return Record()

    def write(self, device: int, daemons: Collection[Inode] | None) -> None:
        """Raises ``OSError``."""
        value = {"device": device, "daemons": None if daemons is None else sorted(daemons)}
        write_json(LocalDisk(), self._path, value)


def _record(value: Any) -> Record:
    match value:
        case {"device": int(device), "daemons": None}:
            return Record(device)
        case {"device": int(device), "daemons": [*inodes]} if all(isinstance(inode, int) for inode in inodes):
            return Record(device, frozenset(inodes))
    raise ValueError(f"found {value!r}; allowed: a device and inodes")
