"""Builds a stub library with PyPI's ``ziglang``, once for each version of its source.

The library lies in a cache folder named by the source's hash; a build is made beside it and renamed into place, so any
number of processes may ask at once.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path


class BuildError(RuntimeError):
    """The stub could not be compiled; the text is the compiler's."""


@dataclass(frozen=True, slots=True)
class Stub:
    """A library: ``sources`` are compiled, and ``read`` are what else its build depends on."""

    name: str
    title: str
    soname: str
    sources: tuple[Path, ...]
    read: tuple[Path, ...]
    flags: tuple[str, ...] = ()

    def library_dir(self) -> Path:
        """The folder that holds the library, for LD_LIBRARY_PATH. Builds it if need be; raises ``BuildError``."""
        name = f"{self.name}-{self._digest()}"
        for root in _roots():
            if (root / name / self.soname).is_file():
                return root / name
        writable = next((root for root in _roots() if _writable(root)), None)
        if writable is None:
            raise BuildError(f"no writable folder for {self.title}; set XDG_CACHE_HOME to one")
        return self._build(writable, name)

    def _build(self, root: Path, name: str) -> Path:
        made = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=root))
        try:
            self._compile(made / self.soname)
            made.chmod(0o755)
            made.rename(root / name)
        except OSError:
            # Another process was first; its result is the same.
            if not (root / name / self.soname).is_file():
                raise
        finally:
            shutil.rmtree(made, ignore_errors=True)
        return root / name

    def _compile(self, out: Path) -> None:
        target = f"{platform.machine()}-linux-gnu.2.17"
        command = [sys.executable, "-m", "ziglang", "cc", "-target", target, "-shared", "-fPIC", "-O1", "-Wall"]
        command += [*self.flags, f"-Wl,-soname,{self.soname}", "-o", str(out)]
        command += [*(str(source) for source in self.sources), "-lpthread"]
        cache = {"ZIG_GLOBAL_CACHE_DIR": str(out.parent / "zig"), "ZIG_LOCAL_CACHE_DIR": str(out.parent / "zig")}
        done = subprocess.run(command, env={**os.environ, **cache}, capture_output=True, text=True, check=False)
        shutil.rmtree(out.parent / "zig", ignore_errors=True)
        if done.returncode:
            raise BuildError(f"{self.title} did not compile: {done.stderr.strip() or done.returncode}")

    def _digest(self) -> str:
        read = (*self.sources, *self.read, Path(__file__))
        content = b"".join(path.read_bytes() for path in read) + " ".join(self.flags).encode()
        return hashlib.sha256(content + platform.machine().encode()).hexdigest()[:16]


def _roots() -> list[Path]:
    chosen, home = os.environ.get("XDG_CACHE_HOME", ""), os.environ.get("HOME", "")
    roots = [Path(chosen)] if Path(chosen).is_absolute() else []
    roots += [Path(home) / ".cache"] if Path(home).is_absolute() else []
    shared = Path(tempfile.gettempdir()) / f"tessera-{os.getuid()}"
    # Anybody may have made that folder; what lies in another user's is not loaded.
    trusted = [shared] if not shared.exists() or shared.lstat().st_uid == os.getuid() else []
    return [*(root / "tessera" for root in roots), *trusted]


def _writable(root: Path) -> bool:
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=root):
            return root.stat().st_uid == os.getuid()
    except OSError:
        return False
