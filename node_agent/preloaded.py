"""Which processes have the shim in their address space, by device and inode: a library of the same name is not ours."""

import ctypes
import functools
import mmap
import re
from collections.abc import Collection
from pathlib import Path

from tessera.node_agent.enforcement.shim import NAME

_MAPPED = re.compile(r"^(\S+)-\S+ \S+ \S+ ([0-9a-f]+):([0-9a-f]+) (\d+)", re.MULTILINE)

File = tuple[int, int, int]


def installed(folder: Path | None) -> frozenset[File]:
    """The shims below the agent's folder. Containers keep the one they started with, so all that ever were count."""
    found = [(path, path.stat()) for path in folder.glob(f"*/{NAME}")] if folder else []
    return frozenset(_as_mapped(path, stat.st_dev, stat.st_ino) for path, stat in found if stat.st_size)


def has_any(maps: str, files: Collection[File]) -> bool:
    """Whether one of them is mapped, by the lines of /proc/PID/maps."""
    return any(file in files for file in _mapped(maps).values())


@functools.cache
def _as_mapped(path: Path, device: int, inode: int) -> File:
    """Device and inode as /proc/PID/maps has them. On overlays and btrfs ``stat`` tells another device, so the file is
    mapped and this process's own line is read; ``device`` and ``inode`` are those of ``stat``, for the cache."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 1, access=mmap.ACCESS_COPY) as page:
        window = ctypes.c_char.from_buffer(page)
        mapped = _mapped(Path("/proc/self/maps").read_text(errors="replace"))[ctypes.addressof(window)]
        del window  # it would keep the mapping open
    return mapped


def _mapped(maps: str) -> dict[int, File]:
    """By where each mapping begins."""
    found = _MAPPED.findall(maps)
    return {int(start, 16): (int(major, 16), int(minor, 16), int(inode)) for start, major, minor, inode in found}
