"""The cgroup subtree of one node, on cgroup v1 (in every controller) or v2."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
V2 = (ROOT / "cgroup.controllers").exists()


def create(name: str) -> None:
    """Makes `/name` in every hierarchy, ready for a kubelet's `cgroupRoot`."""
    for hierarchy in _hierarchies():
        folder = hierarchy / name
        folder.mkdir(exist_ok=True)
        if (folder / "cpuset.cpus").exists() and not V2:
            for file in ("cpuset.cpus", "cpuset.mems"):
                (folder / file).write_text((hierarchy / file).read_text())
    if V2:
        controllers = (ROOT / "cgroup.controllers").read_text().split()
        for parent in (ROOT, ROOT / name):
            for controller in controllers:
                with contextlib.suppress(OSError):
                    (parent / "cgroup.subtree_control").write_text(f"+{controller}")


def pids(name: str) -> set[int]:
    """All processes in the subtree, in any hierarchy."""
    found: set[int] = set()
    for file in _files(name, "cgroup.procs"):
        with contextlib.suppress(OSError):
            found |= {int(pid) for pid in file.read_text().split() if pid != "0"}
    return found


def remove(name: str) -> None:
    """Removes the empty subtree, deepest first. What the kernel still holds is tried again for 5 s."""
    deadline = time.monotonic() + 5
    while list(_files(name, "cgroup.procs")) and time.monotonic() < deadline:
        for file in sorted(_files(name, "cgroup.procs"), key=lambda path: -len(path.parts)):
            with contextlib.suppress(OSError):
                file.parent.rmdir()
        time.sleep(0.02)


def _files(name: str, file: str) -> Iterator[Path]:
    for hierarchy in _hierarchies():
        if (hierarchy / name).is_dir():
            with contextlib.suppress(OSError):
                yield from list((hierarchy / name).rglob(file))


def _hierarchies() -> list[Path]:
    """Mount points: the one of v2, or each of v1's (symbolic links such as cpu -> cpu,cpuacct left out)."""
    if V2:
        return [ROOT]
    return [path for path in ROOT.iterdir() if path.is_dir() and not path.is_symlink()]
