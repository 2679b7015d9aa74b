"""One tmpfs in the mount namespace of another process, by a program of its own: a thread cannot go there and come back.

``python -m tessera.node_agent.enforcement.shm_mounting``, then ``mount INIT PATH SIZE``, ``resize INIT PATH SIZE``,
``unmount INIT PATH``, or ``enter INIT PATH PROGRAM ARGS...``: the last runs PROGRAM in a mount namespace of its own,
where that tmpfs is /dev/shm. INIT is the process's folder in /proc. Needs CAP_SYS_ADMIN, CAP_SYS_CHROOT and Linux 5.2.
"""

import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path

from tessera.node_agent.enforcement.mountinfo import tmpfs_at

SHM = "/dev/shm"
FAILED = 125
"""Exit status where the program was not started."""
_CLONE_NEWNS = 0x20000
_FLAGS = 0x2 | 0x4 | 0x8  # nosuid, nodev, noexec
_REMOUNT, _RECURSIVE, _SLAVE = 0x20, 0x4000, 0x80000
_OPEN_TREE, _MOVE_MOUNT = 428, 429
_AT_FDCWD, _CLONE, _CLOEXEC, _EMPTY_PATH = -100, 0x1, os.O_CLOEXEC, 0x4
_libc = ctypes.CDLL(None, use_errno=True)


def main(argv: list[str]) -> int:
    """Answers the exit status; what failed is said on standard error."""
    match argv:
        case ["mount", init, path, size]:
            return _tried(lambda: _mount(init, path, int(size)))
        case ["resize", init, path, size]:
            return _tried(lambda: _resize(init, path, int(size)))
        case ["unmount", init, path]:
            return _tried(lambda: _unmount(init, path))
        case ["enter", init, path, _, *_]:
            return _tried(lambda: _enter(init, path, argv[3:]))
    print(f"found {' '.join(argv)!r}; allowed: mount, resize, unmount or enter", file=sys.stderr)
    return 2


def _tried(step: Callable[[], None]) -> int:
    try:
        step()
    except OSError as error:
        print(error.strerror or error, file=sys.stderr)
        return FAILED
    return 0


def _mount(init: str, path: str, size: int) -> None:
    """One that is there stays as it is."""
    _go_to(init)
    if _mounted(path):
        return
    Path(path).mkdir(parents=True, exist_ok=True)
    _call("mount", "mount", b"tmpfs", path.encode(), b"tmpfs", ctypes.c_ulong(_FLAGS), _options(size))


def _resize(init: str, path: str, size: int) -> None:
    _go_to(init)
    _call("remount", "mount", b"tmpfs", path.encode(), b"tmpfs", ctypes.c_ulong(_FLAGS | _REMOUNT), _options(size))


def _unmount(init: str, path: str) -> None:
    """One that is not there is no error."""
    _go_to(init)
    if _mounted(path):
        _call("unmount", "umount2", path.encode(), 0)


def _enter(init: str, path: str, command: list[str]) -> None:
    home = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    _go_to(init)
    if not _mounted(path):
        raise OSError(f"no tmpfs is mounted at {path}")
    tree = _syscall("open_tree", _OPEN_TREE, _AT_FDCWD, path.encode(), _CLONE | _CLOEXEC)
    _call("setns", "setns", home, _CLONE_NEWNS)
    _call("unshare", "unshare", _CLONE_NEWNS)
    _call("mount", "mount", None, b"/", None, ctypes.c_ulong(_RECURSIVE | _SLAVE), None)
    _syscall("move_mount", _MOVE_MOUNT, tree, b"", _AT_FDCWD, SHM.encode(), _EMPTY_PATH)
    os.execvp(command[0], command)


def _go_to(init: str) -> None:
    namespace = os.open(f"{init}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    _call("setns", "setns", namespace, _CLONE_NEWNS)
    os.close(namespace)


def _mounted(path: str) -> bool:
    return tmpfs_at(Path("/proc/thread-self/mountinfo").read_text(errors="surrogateescape"), path) is not None


def _options(size: int) -> bytes:
    return f"mode=1777,size={size}".encode()


def _syscall(what: str, number: int, *arguments: int | bytes) -> int:
    return _call(what, "syscall", ctypes.c_long(number), *arguments)


def _call(what: str, name: str, *arguments: object) -> int:
    answer: int = getattr(_libc, name)(*arguments)
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return answer


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
