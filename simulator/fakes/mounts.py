"""The tmpfs of a simulated host: plain folders, which have a size because one was said."""

import shutil
from pathlib import Path


class FolderMounts:
    """The node agent's port ``Mounts``. A daemon is started as it is: it has no /dev/shm of its own."""

    def __init__(self) -> None:
        self.sizes: dict[Path, int] = {}

    def device(self, path: Path) -> int | None:
        return path.stat().st_dev if path.is_dir() else None

    def seen(self, path: Path) -> Path:
        return path

    def size(self, path: Path) -> int:
        return self.sizes.get(path, 0)

    def used(self, path: Path) -> int:
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())

    def mount(self, path: Path, size: int) -> None:
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o1777)
        self.sizes.setdefault(path, size)

    def resize(self, path: Path, size: int) -> None:
        self.sizes[path] = size

    def unmount(self, path: Path) -> None:
        """What is in it goes with it."""
        shutil.rmtree(path, ignore_errors=True)
        self.sizes.pop(path, None)

    def within(self, path: Path) -> tuple[str, ...]:
        return ()
