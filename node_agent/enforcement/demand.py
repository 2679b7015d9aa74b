"""Whether a slice has work on a GPU, by what its own programs leave in the file that they share.

The file lies in the container and is the container's: it is opened through a process of it, never through a link, and
of it a few words of a fixed place are read. Nothing but the lending of idle turns rests on them. A slice that says that
it always has work keeps what it asked for; one that says that it has none lends it.
"""

import ctypes
import os
import stat
import struct
from collections.abc import Sequence
from pathlib import Path

LEDGER = "run/tessera-usage/ledger"
_MAGIC = 0x3153524553534554
_WORDS = struct.Struct("<QQ16Q")
_OPENAT2 = 437
_HOW = struct.Struct("<QQQ")
_NO_SYMLINKS, _NO_MAGICLINKS, _IN_ROOT = 0x04, 0x02, 0x10
_libc = ctypes.CDLL(None, use_errno=True)


def works_until(pid: int, proc: Path = Path("/proc")) -> Sequence[int] | None:
    """Until when there is work on each GPU of a process's slice, in ns of the monotonic clock; ``None``: unknown."""
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


def _read(fd: int) -> Sequence[int] | None:
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        content = os.pread(fd, _WORDS.size, 0)
    finally:
        os.close(fd)
    if len(content) < _WORDS.size:
        return None
    magic, _, *words = _WORDS.unpack(content)
    return words if magic == _MAGIC else None
