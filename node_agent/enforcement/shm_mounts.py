"""The tmpfs of the MPS groups on the host: the border at which another machine can stand."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Protocol

from tessera.node_agent.enforcement.mountinfo import tmpfs_at

PROGRAM = "tessera.node_agent.enforcement.shm_mounting"
_LIMIT_S = 10.0


class Mounts(Protocol):
    """Paths are the host's. Each call may raise ``OSError``, and blocks."""

    def device(self, path: Path) -> int | None:
        """The device of the tmpfs that is mounted at ``path``; ``None``: none is."""
        ...

    def seen(self, path: Path) -> Path:
        """Where the agent sees what the host has at ``path``."""
        ...

    def size(self, path: Path) -> int:
        """Bytes that it holds at most."""
        ...

    def used(self, path: Path) -> int:
        """Bytes that it holds."""
        ...

    def mount(self, path: Path, size: int) -> None:
        """Mounts a tmpfs of ``size`` bytes; one that is there stays as it is."""
        ...

    def resize(self, path: Path, size: int) -> None:
        """Gives a tmpfs another size; refused where more is in use."""
        ...

    def unmount(self, path: Path) -> None:
        """Takes a tmpfs away; one that is not there is no error."""
        ...

    def within(self, path: Path) -> tuple[str, ...]:
        """What stands before a command that is to find the tmpfs at its /dev/shm."""
        ...


class HostMounts:
    """In the mount namespace of the process ``init``, a folder of /proc: there the runtime finds them."""

    def __init__(self, init: Path = Path("/proc/1")) -> None:
        self._init = init

    def device(self, path: Path) -> int | None:
        return tmpfs_at((self._init / "mountinfo").read_text(errors="surrogateescape"), str(path))

    def seen(self, path: Path) -> Path:
        return self._init / "root" / path.relative_to("/")

    def size(self, path: Path) -> int:
        found = os.statvfs(self.seen(path))
        return found.f_blocks * found.f_frsize

    def used(self, path: Path) -> int:
        found = os.statvfs(self.seen(path))
        return (found.f_blocks - found.f_bfree) * found.f_frsize

    def mount(self, path: Path, size: int) -> None:
        self._run("mount", path, size)

    def resize(self, path: Path, size: int) -> None:
        self._run("resize", path, size)

    def unmount(self, path: Path) -> None:
        self._run("unmount", path)

    def within(self, path: Path) -> tuple[str, ...]:
        return (sys.executable, "-m", PROGRAM, "enter", str(self._init), str(path))

    def _run(self, step: str, path: Path, *more: int) -> None:
        command = [sys.executable, "-m", PROGRAM, step, str(self._init), str(path), *map(str, more)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S)
        except subprocess.TimeoutExpired:
            raise OSError(f"{path}: {step} took more than {_LIMIT_S:g} s") from None
        if done.returncode:
            raise OSError(f"{path}: {(done.stderr.strip().splitlines() or ['it failed'])[-1]}")
