"""Which processes have the shim in their address space, by device and inode: a library of the same name is not ours."""

import os
import re
from collections.abc import Collection
from pathlib import Path

from tessera.node_agent.enforcement.shim import NAME

_MAPPED = re.compile(r"^\S+ \S+ \S+ ([0-9a-f]+):([0-9a-f]+) (\d+)", re.MULTILINE)

File = tuple[int, int, int]


def installed(folder: Path | None) -> frozenset[File]:
    """The shims below the agent's folder. Containers keep the one they started with, so all that ever were count."""
    stats = [path.stat() for path in folder.glob(f"*/{NAME}")] if folder else []
    return frozenset((os.major(stat.st_dev), os.minor(stat.st_dev), stat.st_ino) for stat in stats)


def has_any(maps: str, files: Collection[File]) -> bool:
    """Whether one of them is mapped, by the lines of /proc/PID/maps."""
    found = _MAPPED.findall(maps)
    return any((int(major, 16), int(minor, 16), int(inode)) in files for major, minor, inode in found)
