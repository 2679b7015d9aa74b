"""The hook on its way onto the host: a static program that the container runtime runs by its absolute path.

Like the shim it is installed in a folder named by its content, since a runtime may be about to run an older one.
"""

import hashlib
import subprocess
from pathlib import Path

from tessera.durable import Disk, LocalDisk, replace_durably
from tessera.node_agent.enforcement.port import EnforcementError

NAME = "tessera-dmem"
_USAGE = 2
_TRY_S = 10.0


class HookProgram:
    """``program``: as it was built for this machine; ``folder``: where it is installed."""

    def __init__(self, program: Path, folder: Path, disk: Disk | None = None) -> None:
        self._program, self._folder, self._disk = program, folder, disk or LocalDisk()
        self._tried: tuple[Path, int, int] | None = None

    def installed(self) -> Path:
        """A program that was seen to run here. Blocking; raises ``EnforcementError``."""
        try:
            content = self._program.read_bytes()
            path = self._folder / hashlib.sha256(content).hexdigest()[:16] / NAME
            if not (path.is_file() and path.read_bytes() == content):
                path.parent.mkdir(parents=True, exist_ok=True)
                replace_durably(self._disk, path, content, mode=0o755)
            self._try(path)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise EnforcementError(f"the hook {NAME} cannot be used: {error}") from None
        return path

    def _try(self, path: Path) -> None:
        """Once for each file that is there: without arguments it only says how it is used."""
        stat = path.stat()
        file = path, stat.st_ino, stat.st_mtime_ns
        if file == self._tried:
            return
        done = subprocess.run(
            [path], env={}, capture_output=True, timeout=_TRY_S, check=False, stdin=subprocess.DEVNULL
        )
        if done.returncode != _USAGE:
            raise EnforcementError(f"the hook {path} does not run: exit status {done.returncode}")
        self._tried = file
