"""What the agent asks of the kernel about processes: the border at which another kernel can stand."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

STATE_FIELD, START_FIELD = 3, 22
"""Of /proc/PID/stat: the state, and the start in clock ticks since boot."""


_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Of the boot that processes' starts are told from; empty where the kernel does not say."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


class Kernel(Protocol):
    """/proc and pidfds. Each call may raise ``OSError``."""

    def ticks(self) -> int:
        """Now, as processes' starts are told: in clock ticks since boot."""
        ...

    def pids(self) -> Iterable[int]:
        """All processes of this moment."""
        ...

    def read(self, pid: int, name: str) -> str:
        """A file of a process: ``stat``, ``cgroup`` or ``maps``."""
        ...

    def opened(self, pid: int) -> Iterable[str]:
        """What a process has open."""
        ...

    def open(self, pid: int) -> int:
        """A handle of the process that has this id now; it never leads to another."""
        ...

    def kill(self, handle: int) -> None:
        """SIGKILL to the process of the handle, if it lives."""
        ...

    def close(self, handle: int) -> None:
        """The handle's end."""
        ...


class HostKernel:
    """The machine's own, with /proc at ``proc``."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc

    def ticks(self) -> int:
        return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))

    def pids(self) -> Iterable[int]:
        return [int(entry.name) for entry in self._proc.iterdir() if entry.name.isdigit()]

    def read(self, pid: int, name: str) -> str:
        return (self._proc / str(pid) / name).read_text(errors="replace")

    def opened(self, pid: int) -> Iterable[str]:
        names = []
        for entry in (self._proc / str(pid) / "fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                names.append(str(entry.readlink()))
        return names

    def open(self, pid: int) -> int:
        # Without the host's own /proc the numbers read there are not the numbers that pidfd_open takes.
        if self._proc != Path("/proc"):
            raise OSError(f"{self._proc} is not this machine's own")
        return os.pidfd_open(pid)

    def kill(self, handle: int) -> None:
        signal.pidfd_send_signal(handle, signal.SIGKILL)

    def close(self, handle: int) -> None:
        os.close(handle)


def kill_if(kernel: Kernel, pid: int, still: Callable[[], bool]) -> bool:
    """Kills the process of an id if it is ``still`` the one that was meant, asked with its handle in hand.

    Says whether it was signalled.
    """
    try:
        handle = kernel.open(pid)
    except OSError:
        return False
    try:
        if not still():
            return False
        kernel.kill(handle)
        return True
    except ProcessLookupError:
        return False
    finally:
        kernel.close(handle)


def stat_field(stat: str, number: int) -> str:
    """A field of /proc/PID/stat, from the third on. Raises ``IndexError``.

    The name in parentheses may hold anything, so fields are counted from behind it.
    """
    return stat.rpartition(")")[2].split()[number - 3]
