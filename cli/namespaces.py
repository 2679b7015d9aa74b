"""A mount namespace for one process, with a /run of its own: everything of the host's, and what is mounted for it.

Needs root, or a kernel that lets users make user namespaces; then the process keeps its user and group and no others.
"""

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

_NEWNS, _NEWUSER = 0x00020000, 0x10000000
_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18
_FLAGS = {"ro": _RDONLY, "rw": 0, "nosuid": _NOSUID, "nodev": _NODEV, "noexec": _NOEXEC, "bind": _BIND}
_libc = ctypes.CDLL(None, use_errno=True)


class Mount(Protocol):
    """``options`` as of mount(8); ``type``: a file system's, empty for a bind mount."""

    @property
    def source(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def options(self) -> Sequence[str]: ...
    @property
    def type(self) -> str: ...


def enter(mounts: Sequence[Mount]) -> None:
    """Gives this process, which has one thread, its own mounts. ``mounts`` lie below /run. Raises ``OSError``."""
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        _call("unshare", _NEWNS)
    else:
        _call("unshare", _NEWNS | _NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    _mount("none", "/", "", _REC | _PRIVATE)
    _own_run()
    for one in mounts:
        _add(one)


def _own_run() -> None:
    """The host's /run is looked at through a handle, since the new one is mounted over it."""
    before = os.open("/run", os.O_PATH | os.O_DIRECTORY)
    try:
        entries = list(Path(f"/proc/self/fd/{before}").iterdir())
        _mount("tmpfs", "/run", "tmpfs", _NOSUID | _NODEV, "mode=755,size=1m")
        for entry in entries:
            _take_over(entry, Path("/run") / entry.name)
    finally:
        os.close(before)


def _take_over(source: Path, target: Path) -> None:
    if source.is_symlink():
        target.symlink_to(source.readlink())
        return
    if source.is_dir():
        target.mkdir()
    else:
        target.touch()
    try:
        _mount(str(source), str(target), "", _BIND | _REC)
    except PermissionError:
        pass  # what this user may not enter is not there for the command either
    except FileNotFoundError:
        target.rmdir() if target.is_dir() else target.unlink()


def _add(one: Mount) -> None:
    """A bind mount takes its options only when it is mounted again."""
    target = Path(one.target)
    is_folder = bool(one.type) or Path(one.source).is_dir()
    if is_folder:
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    flags, data = 0, []
    for option in one.options:
        if option in _FLAGS:
            flags |= _FLAGS[option]
        else:
            data.append(option)
    _mount(one.source, one.target, one.type, flags if one.type else _BIND, ",".join(data))
    if not one.type:
        _mount("none", one.target, "", flags | _BIND | _REMOUNT)


def _mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    _call(
        "mount", source.encode(), target.encode(), kind.encode() or None, ctypes.c_ulong(flags), data.encode() or None
    )


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}", str(arguments[1] if name == "mount" else ""))
