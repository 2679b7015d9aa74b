"""Files of a container, opened through a process of it.

They are the container's, which may put anything in their place: nothing is opened through a link, and only
a file is read.
"""

import ctypes
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_OPENAT2 = 437
_HOW = struct.Struct("<QQQ")
_NO_SYMLINKS, _NO_MAGICLINKS, _IN_ROOT = 0x04, 0x02, 0x10
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_libc = ctypes.CDLL(None, use_errno=True)


def read(pid: int, path: str, size: int, proc: Path) -> bytes | None:
    """At most ``size`` bytes of it; ``None``: it is not there, is no file, or cannot be read."""
    try:
        with _opened_root(pid, proc) as root, _opened(root, path) as file:
            return os.pread(file, size, 0) if stat.S_ISREG(os.fstat(file).st_mode) else None
    except OSError:
        return None


def is_file(pid: int, path: str, proc: Path) -> bool | None:
    """Whether it is one, and no link; ``None``: it is not there, or nobody can tell."""
    folder, _, name = path.rpartition("/")
    try:
        with _opened_root(pid, proc) as root, _opened(root, folder, os.O_PATH | os.O_DIRECTORY) as within:
            return stat.S_ISREG(os.stat(name, dir_fd=within, follow_symlinks=False).st_mode)
    except OSError:
        return None


@contextmanager
def _opened_root(pid: int, proc: Path) -> Iterator[int]:
    root = os.open(proc / str(pid) / "root", _FOLDER)
    try:
        yield root
    finally:
        os.close(root)


@contextmanager
def _opened(root: int, path: str, flags: int = os.O_RDONLY | os.O_NONBLOCK) -> Iterator[int]:
    how = _HOW.pack(flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0, _NO_SYMLINKS | _NO_MAGICLINKS | _IN_ROOT)
    fd = _libc.syscall(ctypes.c_long(_OPENAT2), ctypes.c_int(root), path.encode(), how, ctypes.c_size_t(len(how)))
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)
    try:
        yield int(fd)
    finally:
        os.close(int(fd))
