"""Images with the C libraries of Debian's suites: ``true`` and ``sh`` of then, and what they need; and a musl ``sh``.

What belongs to a suite that has been released is kept in the user's cache; the newest is asked for each time.
``python -m tests.escape.debian`` gets them.
"""

import os
import platform
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.escape import apt
from tests.escape.apt import Missing

PACKAGES = ("libc6", "dash", "coreutils")
FOLDERS = ("bin", "sbin", "lib", "lib64")
"""Of /usr, whose links belong to no package that is installed here."""
MUSL_SHELL = "dash-musl"
_LIBRARIES = f"/usr/lib/{platform.machine()}-linux-gnu"
ALLOCATORS = {
    "jemalloc": f"{_LIBRARIES}/libjemalloc.so.2",
    "tcmalloc": f"{_LIBRARIES}/libtcmalloc_minimal.so.4",
}
_OF_ALLOCATORS = ("libjemalloc2", "libtcmalloc-minimal4")


@dataclass(frozen=True, slots=True)
class Suite:
    """``glibc``: its version, or the oldest that the newest may have."""

    name: str
    glibc: str
    moving: bool = False


SUITES = (
    Suite("bullseye", "2.31"),
    Suite("bookworm", "2.36"),
    Suite("trixie", "2.41"),
    Suite("sid", "2.43", moving=True),
)


def layer(suite: Suite) -> bytes:
    """The root folder of a suite as a tar. Raises ``Missing``."""
    return _read(f"{suite.name}.tar")


def allocators() -> bytes:
    """A root folder with ``ALLOCATORS`` as a tar. Raises ``Missing``."""
    return _read("allocators.tar")


def musl_shell() -> bytes:
    """A ``sh`` that is linked with musl. Raises ``Missing``."""
    return _read(MUSL_SHELL)


def fetch() -> None:
    """Gets what the cache lacks, and the newest. Raises ``Missing``."""
    for suite in SUITES:
        _keep(f"{suite.name}.tar", lambda folder, name=suite.name: _root(name, folder), anew=suite.moving)
    _keep("allocators.tar", lambda folder: _root(SUITES[1].name, folder, *_OF_ALLOCATORS))
    _keep(MUSL_SHELL, _shell)


def _keep(name: str, make: Callable[[Path], Path], *, anew: bool = False) -> None:
    kept = _kept(name)
    if anew or not kept.exists():
        print(f"escape: {name} ...", file=sys.stderr, flush=True)
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as unfinished:
            make(Path(unfinished)).replace(kept)


def _read(name: str) -> bytes:
    try:
        return _kept(name).read_bytes()
    except OSError:
        raise Missing(f"{name} is missing; get it with: python -m tests.escape.debian") from None


def _kept(name: str) -> Path:
    root = os.environ.get("TESSERA_E2E_CACHE")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return (Path(root) if root else Path(home) / "tessera-e2e") / "debian" / name


def _root(suite: str, folder: Path, *more: str) -> Path:
    root = folder / "root"
    for name in FOLDERS:
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for package in apt.packages(suite, folder, *PACKAGES, *more):
        unpack = ["sh", "-c", 'dpkg-deb --fsys-tarfile "$1" | tar -x --keep-directory-symlink -C "$2"', "sh"]
        apt.run([*unpack, str(package), str(root)])
    apt.run(["tar", "-c", "--exclude=./usr/share", "-C", str(root), "-f", str(folder / "layer.tar"), "."])
    return folder / "layer.tar"


def _shell(folder: Path) -> Path:
    """Debian has no ``sh`` of musl, so it is built of the released suite's dash."""
    archive = apt.source(SUITES[1].name, folder, "dash")
    built = folder / "built"
    built.mkdir()
    apt.run(["tar", "-x", "--strip-components=1", "-C", str(built), "-f", str(archive)])
    zig, target = f"{sys.executable} -m ziglang cc", f"{platform.machine()}-linux-musl"
    compilers = {"CC": f"{zig} -target {target} -dynamic", "CC_FOR_BUILD": zig}
    apt.run(["./configure", f"--host={target}"], built, **compilers)
    apt.run(["make", "CFLAGS=-O1"], built, **compilers)
    return built / "src" / "dash"


if __name__ == "__main__":
    try:
        fetch()
    except Missing as missing:
        sys.exit(str(missing))
