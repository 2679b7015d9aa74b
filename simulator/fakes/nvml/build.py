"""Builds the stub ``libnvidia-ml.so.1`` with PyPI's ``ziglang``, once for each version of its source.

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
from pathlib import Path

SONAME = "libnvidia-ml.so.1"
_HERE = Path(__file__).resolve().parent
_SOURCES = ("nvml.c", "state.c")


class BuildError(RuntimeError):
    """The stub could not be compiled; the text is the compiler's."""


def library_dir() -> Path:
    """The folder that holds ``libnvidia-ml.so.1``, for LD_LIBRARY_PATH. Builds it if need be; raises ``BuildError``."""
    name = f"nvml-{_digest()}"
    for root in _roots():
        if (root / name / SONAME).is_file():
            return root / name
    writable = next((root for root in _roots() if _writable(root)), None)
    if writable is None:
        raise BuildError("no writable folder for the stub NVML library; set XDG_CACHE_HOME to one")
    return _build(writable, name)


def _build(root: Path, name: str) -> Path:
    made = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=root))
    try:
        _compile(made / SONAME)
        made.chmod(0o755)
        made.rename(root / name)
    except OSError:
        # Another process was first; its result is the same.
        if not (root / name / SONAME).is_file():
            raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return root / name


def _compile(out: Path) -> None:
    target = f"{platform.machine()}-linux-gnu.2.17"
    command = [sys.executable, "-m", "ziglang", "cc", "-target", target, "-shared", "-fPIC", "-O1", "-Wall"]
    command += [f"-Wl,-soname,{SONAME}", "-o", str(out), *(str(_HERE / source) for source in _SOURCES), "-lpthread"]
    cache = {"ZIG_GLOBAL_CACHE_DIR": str(out.parent / "zig"), "ZIG_LOCAL_CACHE_DIR": str(out.parent / "zig")}
    done = subprocess.run(command, env={**os.environ, **cache}, capture_output=True, text=True, check=False)
    shutil.rmtree(out.parent / "zig", ignore_errors=True)
    if done.returncode:
        raise BuildError(f"the stub NVML library did not compile: {done.stderr.strip() or done.returncode}")


def _digest() -> str:
    content = b"".join((_HERE / name).read_bytes() for name in (*_SOURCES, "state.h", "build.py"))
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


if __name__ == "__main__":
    print(library_dir())
