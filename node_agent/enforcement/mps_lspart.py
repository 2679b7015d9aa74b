"""What ``sm_partition add`` and ``lspart`` of nvidia-cuda-mps-control print, read leniently. Pure.

``lspart`` has a row for each device, ``GPU-74d43ed3 - 3 7 24 56 -``: free chunks, used chunks, free and used
multiprocessors; and one for each partition, ``GPU-74d43ed3 Dx4AAA - 7 - 56 Yes``: its name, chunks, multiprocessors and
whether it has clients. The dashes are blanks on some drivers, and a UUID is cut short.
"""

import re
from dataclasses import dataclass

_NAME = re.compile(r"(GPU-[^\s/]+)/(\S+)")
_UUID = "GPU-"


@dataclass(frozen=True, slots=True)
class Row:
    """A partition. ``busy``: it has clients."""

    name: str
    chunks: int
    busy: bool


@dataclass(frozen=True, slots=True)
class Layout:
    """A GPU's chunks, and its partitions by name."""

    free: int
    used: int
    rows: tuple[Row, ...]

    @property
    def total(self) -> int:
        return self.free + self.used

    def row(self, name: str) -> Row | None:
        return next((row for row in self.rows if row.name == name), None)


def name_in(reply: str) -> str | None:
    """The name, without the GPU's UUID, of a partition that was made; it may have slashes itself."""
    match = _NAME.search(reply)
    return match[2] if match else None


def layout_of(reply: str, uuid: str) -> Layout | None:
    """A GPU's rows; ``None`` if the reply has none that tells its chunks."""
    device: tuple[int, int] | None = None
    rows = []
    for line in reply.splitlines():
        beginning, *cells = line.split() or [""]
        if not beginning.startswith(_UUID) or not uuid.startswith(beginning):
            continue
        words = [cell for cell in cells if cell != "-"]
        if len(words) >= 4 and all(map(str.isdigit, words[:4])):
            device = int(words[0]), int(words[1])
        elif len(words) >= 2 and words[1].isdigit():
            rows.append(Row(words[0], int(words[1]), "yes" in (word.lower() for word in words[2:])))
    return Layout(*device, tuple(rows)) if device else None
