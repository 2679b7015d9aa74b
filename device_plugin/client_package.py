"""The client of the remote device, put on the host for containers to mount: Python files, standard library only.

Each content has a folder of its own, named by version and digest, which is never changed: containers that run keep
the one that they were started with, so older ones stay.
"""

import shutil
from hashlib import sha256
from pathlib import Path

import tessera
from tessera.durable import Disk

PACKAGE, HOOK = "tessera", "hook"
_ROOT = Path(tessera.__file__).parent
_PARTS = ("client", "protocol")
_SHARED = ("__init__.py", "generator_states.py", "operators.py", "settings.py")
"""Of ``tessera.remote``: what the executor has, too."""


def install(folder: Path, disk: Disk) -> Path:
    """The folder with the package ``tessera`` and the folder ``hook``, made if it is not there. Blocking. Raises
    ``OSError``."""
    files = contents()
    target = folder / f"{tessera.__version__}-{_digest(files)}"
    if target.is_dir():
        return target
    fresh = folder / f".{target.name}.tmp"
    shutil.rmtree(fresh, ignore_errors=True)
    for name, data in files.items():
        path = fresh / name
        path.parent.mkdir(parents=True, exist_ok=True)
        disk.write_synced(path, data, 0o644)
    for path in sorted({path.parent for path in fresh.rglob("*")}, reverse=True):
        disk.sync_folder(path)
    disk.rename(fresh, target)
    disk.sync_folder(folder)
    return target


def contents() -> dict[str, bytes]:
    """The files by their path in the folder, in order."""
    remote = _ROOT / "remote"
    found = {f"{PACKAGE}/__init__.py": _ROOT / "__init__.py"}
    found |= {f"{PACKAGE}/remote/{name}": remote / name for name in _SHARED}
    for part in _PARTS:
        found |= {f"{PACKAGE}/remote/{part}/{name}": path for name, path in _under(remote / part, "*.py")}
    found |= {f"{HOOK}/{name}": path for name, path in _under(remote / HOOK, "*")}
    return {name: found[name].read_bytes() for name in sorted(found)}


def _under(folder: Path, pattern: str) -> list[tuple[str, Path]]:
    found = [path for path in folder.rglob(pattern) if path.is_file() and "__pycache__" not in path.parts]
    return [(str(path.relative_to(folder)), path) for path in found]


def _digest(files: dict[str, bytes]) -> str:
    digest = sha256()
    for name, data in files.items():
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()[:12]
