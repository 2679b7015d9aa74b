"""Which partition of a GPU a slice has, on disk: its container was told the name, also when the agent starts anew."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from tessera.durable import Disk, LocalDisk, read_json, write_json

log = structlog.get_logger()

VERSION = 1


@dataclass(frozen=True, slots=True)
class Record:
    """``name`` empty: it is about to be made, or is gone."""

    name: str
    chunks: int


class Records:
    """By slice id. A file that cannot be read is set aside: its partitions are nobody's."""

    def __init__(self, path: Path, disk: Disk | None = None) -> None:
        self._path, self._disk = path, disk or LocalDisk()
        self._records: dict[str, Record] = self._load()

    def __iter__(self) -> Iterator[tuple[str, Record]]:
        return iter(tuple(self._records.items()))

    def get(self, slice_id: str) -> Record | None:
        return self._records.get(slice_id)

    def put(self, slice_id: str, record: Record) -> None:
        """Raises ``OSError``; then nothing has changed."""
        self._write({**self._records, slice_id: record})

    def drop(self, slice_id: str) -> None:
        """An unknown slice is no error. Raises ``OSError``."""
        if slice_id in self._records:
            self._write({key: record for key, record in self._records.items() if key != slice_id})

    def _write(self, records: dict[str, Record]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        found = {slice_id: asdict(record) for slice_id, record in records.items()}
        write_json(self._disk, self._path, {"version": VERSION, "partitions": found})
        self._records = records

    def _load(self) -> dict[str, Record]:
        if not self._path.exists():
            return {}
        records = _decode(read_json(self._path))
        if records is None:
            log.error("the records of SM partitions cannot be read; they are set aside", path=str(self._path))
            self._path.rename(self._path.with_suffix(".broken"))
        return records or {}


def _decode(data: object) -> dict[str, Record] | None:
    if not isinstance(data, dict) or data.get("version") != VERSION:
        return None
    try:
        return {slice_id: Record(str(one["name"]), int(one["chunks"])) for slice_id, one in data["partitions"].items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
