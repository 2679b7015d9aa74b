"""The files of a shared /dev/shm and who has them, as the file system and /proc tell."""

import contextlib
import os
import stat
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from tessera.node_agent.enforcement.shm_sweep import Inode, Uses

_DELETED = " (deleted)"

ContainerOf = Callable[[int], str]
"""The id of the container of a process, or empty."""


def files_in(folder: Path) -> dict[Inode, str]:
    """Each file below ``folder`` and its name, folders not among them. Raises ``OSError``."""
    return {found.st_ino: name for name, found, _ in _walk(folder)}


def remove(folder: Path, unneeded: Collection[Inode]) -> int:
    """How many were removed. A folder that a container puts a link in the place of is not followed."""
    removed = 0
    for name, found, place in _walk(folder):
        if found.st_ino in unneeded:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=place)
                removed += 1
    return removed


def _walk(folder: Path) -> Iterator[tuple[str, os.stat_result, int]]:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder")
    for _, folders, names, place in os.fwalk(folder, follow_symlinks=False):
        for name in (*names, *folders):
            with contextlib.suppress(FileNotFoundError):
                found = os.stat(name, dir_fd=place, follow_symlinks=False)
                if not stat.S_ISDIR(found.st_mode):
                    yield name, found, place


class ShmUsers:
    """``proc``: the host's /proc."""

    def __init__(self, proc: Path, container_of: ContainerOf) -> None:
        self._proc, self._container_of = proc, container_of

    def look(self, device: int, names: Collection[str]) -> Uses:
        """Who has files of a tmpfs, whose ``names`` are given. Raises ``OSError`` where a living process cannot be
        read: what it has would be taken for nobody's."""
        users: dict[Inode, set[str]] = {}
        living: set[str] = set()
        for entry in self._proc.iterdir():
            if not entry.name.isdigit():
                continue
            container = self._container_of(int(entry.name))
            living.add(container)
            for inode in self._has(entry, device, names):
                users.setdefault(inode, set()).add(container)
        return Uses({inode: frozenset(who) for inode, who in users.items()}, frozenset(living - {""}))

    def _has(self, process: Path, device: int, names: Collection[str]) -> set[Inode]:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            mapped = (process / "maps").read_text(errors="replace")
            # The first thread of a process may have ended before the others: then only those tell.
            tasks = [process] if mapped else list((process / "task").iterdir())
            return {inode for task in tasks for inode in (*_mapped(task, device), *_opened(task, device, names))}
        return set()


def _mapped(task: Path, device: int) -> Iterator[Inode]:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for line in (task / "maps").read_text(errors="replace").splitlines():
            fields = line.split(maxsplit=5)
            major, _, minor = fields[3].partition(":")
            if os.makedev(int(major, 16), int(minor, 16)) == device:
                yield int(fields[4])


def _opened(task: Path, device: int, names: Collection[str]) -> Iterator[Inode]:
    """Only what has such a name is looked at closer: a look at a file of a server that is gone would hang."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for entry in (task / "fd").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # closed meanwhile
                target = str(entry.readlink())
                if target.rpartition("/")[2] in names or target.endswith(_DELETED):
                    found = entry.stat()
                    if found.st_dev == device:
                        yield found.st_ino
