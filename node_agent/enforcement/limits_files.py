"""What the shim in a container reads of its slice: ``limits``, a text, and ``pace``, a page whose numbers change.

Both lie in the slice's folder, which the container sees read-only. The text is replaced as a whole; the page is mapped
by the container's programs and written in place, a number at a time, each with a check of its own. The shim's side of
the formats is in ``native/src/limits.h``.
"""

import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from tessera.model.assignment import Share
from tessera.node_agent.enforcement.pacing import FREE, Turn, encode

LIMITS, PACE = "limits", "pace"
MOST_GPUS = 16
PACE_SIZE = 4096
_MAGIC = 0x3245434150534554
_HEADER = struct.Struct("<QQQ")
_WORD = struct.Struct("<Q")


def limits_text(shares: Sequence[Share]) -> bytes:
    """The limits of a slice over ``shares``, at most 16; the last line closes it with a check (FNV-1a, 64 bits)."""
    lines = [f"gpu {share.uuid} {share.mem_bytes} {share.core_percent}\n" for share in shares]
    body = "".join(["tessera 1\n", *lines]).encode()
    return body + f"end {len(lines)} {_fnv(body):x}\n".encode()


def pace_page(turns: Mapping[int, Turn] | None = None, context_bytes: int = 0) -> bytes:
    """A fresh page. ``turns`` by the place of the GPU in the limits; none: compute is not limited.

    ``context_bytes``: what a context is charged with.
    """
    page = bytearray(PACE_SIZE)
    _HEADER.pack_into(page, 0, _MAGIC, 1, _shared(turns or {}))
    for place in range(MOST_GPUS):
        _WORD.pack_into(page, _at(place), encode((turns or {}).get(place, FREE)))
        _WORD.pack_into(page, _at(MOST_GPUS + place), context_bytes)
    return bytes(page)


def write_turns(path: Path, turns: Mapping[int, Turn]) -> None:
    """Changes the turns of a page that programs may have mapped. Raises ``OSError``."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        for place, turn in turns.items():
            os.pwrite(fd, _WORD.pack(encode(turn)), _at(place))
        os.pwrite(fd, _WORD.pack(_shared(turns)), 2 * _WORD.size)
    finally:
        os.close(fd)


def _shared(turns: Mapping[int, Turn]) -> int:
    return int(any(turn.length_us for turn in turns.values()))


def _at(place: int) -> int:
    return _HEADER.size + place * _WORD.size


def _fnv(data: bytes) -> int:
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value
