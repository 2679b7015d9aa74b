"""A disk that loses power: crashes at a chosen step, and forgets what no folder flush has made durable."""

from collections.abc import Callable
from pathlib import Path

from tessera.durable import LocalDisk


class PowerCut(Exception):
    """The machine stopped in the middle of a step."""


class FlakyDisk:
    """The real disk, with steps counted. ``crash_in``: how many steps still succeed (``None``: all)."""

    def __init__(self) -> None:
        self._disk = LocalDisk()
        self._undo: list[Callable[[], object]] = []
        self.crash_in: int | None = None
        self.steps = 0

    def write_synced(self, path: Path, data: bytes, mode: int) -> None:
        self._step(lambda: self._disk.write_synced(path, data[: len(data) // 2], mode))
        self._disk.write_synced(path, data, mode)

    def rename(self, source: Path, target: Path) -> None:
        self._step()
        former = target.read_bytes() if target.exists() else None
        self._disk.rename(source, target)
        self._undo.append(lambda: _restore(target, former))

    def sync_folder(self, folder: Path) -> None:
        self._step()
        self._disk.sync_folder(folder)
        self._undo.clear()

    def unlink(self, path: Path) -> None:
        self._step()
        former = path.read_bytes() if path.exists() else None
        self._disk.unlink(path)
        self._undo.append(lambda: _restore(path, former))

    def power_up(self, *, lose_unflushed: bool) -> None:
        """After a crash: what was not flushed is there or not."""
        if lose_unflushed:
            for undo in reversed(self._undo):
                undo()
        self._undo.clear()
        self.crash_in = None

    def _step(self, torn: Callable[[], object] = lambda: None) -> None:
        self.steps += 1
        if self.crash_in is not None:
            if self.crash_in == 0:
                torn()
                raise PowerCut
            self.crash_in -= 1


def _restore(path: Path, former: bytes | None) -> None:
    if former is None:
        path.unlink(missing_ok=True)
    else:
        path.write_bytes(former)
