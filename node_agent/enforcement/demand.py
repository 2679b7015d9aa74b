"""Whether a slice has work on a GPU, by what its own programs leave in the file that they share; and what its shim left
there of a driver that it does not know.

The file lies in the container and is the container's: it is opened through a process of it, never through a link, and
of it a few words of a fixed place are read. Nothing but the lending of idle turns rests on them, and what people are
told: only what can be a name of the driver's is repeated. A slice that says that it always has work keeps what it asked
for; one that says that it has none lends it.
"""

import ctypes
import os
import re
import stat
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LEDGER = "run/tessera-usage/ledger"
_MAGIC = 0x3153524553534554
_GPUS = 16
_HEAD = struct.Struct(f"<QQ{_GPUS}Q64s")
_NAME = re.compile(rb"cu[A-Z][A-Za-z0-9_]{1,60}")
_OPENAT2 = 437
_HOW = struct.Struct("<QQQ")
_NO_SYMLINKS, _NO_MAGICLINKS, _IN_ROOT = 0x04, 0x02, 0x10
_libc = ctypes.CDLL(None, use_errno=True)


def works_until(pid: int, proc: Path = Path("/proc")) -> Sequence[int] | None:
    """Until when there is work on each GPU of a process's slice, in ns of the monotonic clock; ``None``: unknown."""
    head = _head(pid, proc)
    return head[:_GPUS] if head else None


def unknown_entry_point(pid: int, proc: Path = Path("/proc")) -> str:
    """The first entry point of the driver that the shim of a process's slice did not know; empty: none, or no name."""
    head = _head(pid, proc)
    name = head[_GPUS].partition(b"\0")[0] if head else b""
    return name.decode() if _NAME.fullmatch(name) else ""


def _head(pid: int, proc: Path) -> Sequence[Any] | None:
    """What follows the magic number and the count of slots."""
    try:
        root = os.open(proc / str(pid) / "root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return _read(_open_below(root, LEDGER))
        finally:
            os.close(root)
    except OSError:
        return None


def _open_below(root: int, path: str) -> int:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    how = _HOW.pack(flags, 0, _NO_SYMLINKS | _NO_MAGICLINKS | _IN_ROOT)
    fd = _libc.syscall(ctypes.c_long(_OPENAT2), ctypes.c_int(root), path.encode(), how, ctypes.c_size_t(len(how)))
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)
    return int(fd)


def _read(fd: int) -> Sequence[Any] | None:
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        content = os.pread(fd, _HEAD.size, 0)
    finally:
        os.close(fd)
    if len(content) < _HEAD.size:
        return None
    magic, _, *told = _HEAD.unpack(content)
    return told if magic == _MAGIC else None
