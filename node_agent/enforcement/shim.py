"""The shim on its way into containers: a library that their programs preload, by a file that the loader reads.

Both are installed once under the agent's state folder, in a folder named by the library's content, so that a container
keeps the one it started with. Before a container gets them a program of ours has preloaded the very file: a library
that the loader cannot link stops every program, and one that it cannot open is left out with nothing but a line on
standard error.
"""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tessera.durable import Disk, LocalDisk, replace_durably
from tessera.node_agent.enforcement.port import EnforcementError, Mount

NAME = "libtessera.so"
LIBRARY_IN_CONTAINER = f"/usr/local/lib/tessera/{NAME}"
PRELOAD_IN_CONTAINER = "/etc/ld.so.preload"
PRELOAD = f"{LIBRARY_IN_CONTAINER}\n".encode()
LEDGER_IN_CONTAINER = "/run/tessera-usage"
_READ_ONLY = ("ro", "nosuid", "nodev", "bind")
_LEDGER_OPTIONS = ("rw", "nosuid", "nodev", "noexec", "mode=1777", "size=64k")
_TRY_S = 10.0
_PROBE = "import sys; sys.exit(sys.argv[1] not in open('/proc/self/maps').read())"

Try = Callable[[Path], str]


def preloads(library: Path) -> str:
    """Starts a program with the library preloaded; answers what is wrong with it, or nothing."""
    command = [sys.executable, "-I", "-S", "-c", _PROBE, str(library)]
    try:
        done = subprocess.run(
            command, env={"LD_PRELOAD": str(library)}, capture_output=True, text=True, timeout=_TRY_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.stderr.strip():
        return done.stderr.strip().splitlines()[0]
    return (
        "" if done.returncode == 0 else f"a program that preloads it does not have it (exit status {done.returncode})"
    )


class Shim:
    """``library``: as it was built for this machine; ``folder``: where it is installed."""

    def __init__(self, library: Path, folder: Path, disk: Disk | None = None, attempt: Try = preloads) -> None:
        self._library, self._folder = library, folder
        self._disk, self._attempt = disk or LocalDisk(), attempt
        self._tried: tuple[Path, int, int] | None = None

    def mounts(self) -> tuple[Mount, ...]:
        """What a container needs so that its programs preload the shim. Blocking; raises ``EnforcementError``."""
        installed = self._install()
        return (
            Mount(str(installed), LIBRARY_IN_CONTAINER, _READ_ONLY),
            Mount(str(_preload(installed)), PRELOAD_IN_CONTAINER, (*_READ_ONLY, "noexec")),
            Mount("tmpfs", LEDGER_IN_CONTAINER, _LEDGER_OPTIONS, "tmpfs"),
        )

    def _install(self) -> Path:
        try:
            content = self._library.read_bytes()
            installed = self._folder / hashlib.sha256(content).hexdigest()[:16] / NAME
            if not (_is(installed, content) and _is(_preload(installed), PRELOAD)):
                self._write(installed, content)
            self._try(installed)
        except OSError as error:
            raise EnforcementError(f"the shim cannot be installed: {error}") from None
        return installed

    def _write(self, installed: Path, content: bytes) -> None:
        installed.parent.mkdir(parents=True, exist_ok=True)
        for folder in (self._folder, installed.parent):
            folder.chmod(0o755)
        replace_durably(self._disk, installed, content, mode=0o755)
        replace_durably(self._disk, _preload(installed), PRELOAD, mode=0o644)

    def _try(self, installed: Path) -> None:
        """Once for each file that is there: the same one cannot become another."""
        stat = installed.stat()
        file = installed, stat.st_ino, stat.st_mtime_ns
        if file == self._tried:
            return
        if wrong := self._attempt(installed):
            raise EnforcementError(f"the shim {installed} cannot be preloaded: {wrong}")
        self._tried = file


def _preload(installed: Path) -> Path:
    return installed.with_name("ld.so.preload")


def _is(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content
