"""Whether the file that a slice's programs share is as the shim writes it (``native/src/ledger.h``).

It is the container's, and nothing is enforced by it: the shim gives nothing where it cannot be used, and the watcher
asks the driver. What is told here is why a container's programs get no memory, or that somebody writes to it.
"""

import struct
from pathlib import Path

from tessera.node_agent.enforcement.container_files import is_file, read

LEDGER = "run/tessera-usage/ledger"
MAGIC = b"TESSERS1"
GPUS, SLOTS = 16, 256
HEAD_SIZE, SLOT_SIZE = 1024, 192
SIZE = HEAD_SIZE + SLOTS * SLOT_SIZE
MOST_BYTES = 1 << 50
"""Of a process on a GPU: more than any GPU has, and than a slice could ask for."""
_FAMILY = MAGIC[:-1]
_COUNT = struct.Struct("<I")
_SLOT = struct.Struct(f"<{GPUS}QI")


def damage_of(pid: int, proc: Path = Path("/proc")) -> str | None:
    """What is wrong with the file of a process's slice; empty: nothing; ``None``: it has none, or nobody can tell.

    One that is being made is wrong for a moment.
    """
    file = is_file(pid, LEDGER, proc)
    if not file:
        return None if file is None else "is no file"
    content = read(pid, LEDGER, SIZE, proc)
    return None if content is None else damage(content)


def damage(content: bytes) -> str:
    """What is wrong with its first ``SIZE`` bytes. Pure. Of another version of the shim nothing is."""
    magic = content[: len(MAGIC)]
    if magic.startswith(_FAMILY) and magic != MAGIC:
        return ""
    if len(content) < SIZE:
        return f"has {len(content)} bytes instead of {SIZE}"
    if magic != MAGIC:
        return "does not begin as that of the library"
    (slots,) = _COUNT.unpack_from(content, len(MAGIC))
    if slots > SLOTS:
        return f"tells of {slots} processes, and has room for {SLOTS}"
    return next(filter(None, (_slot_damage(content, number) for number in range(slots))), "")


def _slot_damage(content: bytes, number: int) -> str:
    *held, taken = _SLOT.unpack_from(content, HEAD_SIZE + number * SLOT_SIZE)
    if max(held) > MOST_BYTES:
        return f"tells of a process with {max(held)} bytes of a GPU"
    return "" if taken in (0, 1) else "tells of a process that is neither there nor gone"
