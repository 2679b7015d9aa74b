"""Which level prepared each slice, on disk, so that after a restart the same one looks after it and releases it."""

from collections.abc import Iterable
from pathlib import Path

import structlog

from tessera.durable import Disk, LocalDisk, read_json, remove_durably, write_json

log = structlog.get_logger()

VERSION = 1


class Keepers:
    """The levels by slice ID, a file each. ``known``: the slices that there are; of others nothing is kept."""

    def __init__(self, folder: Path, known: Iterable[str], disk: Disk | None = None) -> None:
        self._disk, self._folder = disk or LocalDisk(), folder
        folder.mkdir(parents=True, exist_ok=True)
        self._levels: dict[str, int] = {}
        self._load(frozenset(known))

    def get(self, slice_id: str) -> int | None:
        """The level that prepared a slice, or ``None`` if none has."""
        return self._levels.get(slice_id)

    def may_keep(self, level: int, slice_id: str) -> bool:
        """Whether a slice is a level's: one whose level is not known might be anybody's."""
        return self._levels.get(slice_id, level) == level

    def put(self, slice_id: str, level: int) -> None:
        """Raises ``OSError``; then nothing is recorded."""
        write_json(self._disk, self._path(slice_id), {"version": VERSION, "level": level})
        self._levels[slice_id] = level

    def drop(self, slice_id: str) -> None:
        """Forgets a slice; an unknown one is no error. Raises ``OSError``."""
        if slice_id in self._levels:
            remove_durably(self._disk, self._path(slice_id))
            del self._levels[slice_id]

    def _path(self, slice_id: str) -> Path:
        return self._folder / f"{slice_id}.json"

    def _load(self, known: frozenset[str]) -> None:
        for path in self._folder.glob(".*.tmp"):
            self._disk.unlink(path)
        for path in sorted(self._folder.glob("*.json")):
            if path.stem not in known:
                self._disk.unlink(path)
                continue
            level = _decode(read_json(path))
            if level is None:
                log.error("the level of a slice cannot be read; the GPU's own is taken", path=str(path))
                continue
            self._levels[path.stem] = level


def _decode(data: object) -> int | None:
    if not isinstance(data, dict) or data.get("version") != VERSION:
        return None
    level = data.get("level")
    return level if isinstance(level, int) and not isinstance(level, bool) else None
