"""Whether a slice has work on a GPU, by what its own programs leave in the file that they share; and what its shim left
there of a driver that it does not know.

The file lies in the container and is the container's: it is opened through a process of it, never through a link, and
of it a few words of a fixed place are read. Nothing but the lending of idle turns rests on them, and what people are
told: only what can be a name of the driver's is repeated. A slice that says that it always has work keeps what it asked
for; one that says that it has none lends it.
"""

import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tessera.node_agent.enforcement.container_files import read
from tessera.node_agent.enforcement.usage_file import GPUS, LEDGER, MAGIC

_HEAD = struct.Struct(f"<8sQ{GPUS}Q64s")
_NAME = re.compile(rb"cu[A-Z][A-Za-z0-9_]{1,60}")


def works_until(pid: int, proc: Path = Path("/proc")) -> Sequence[int] | None:
    """Until when there is work on each GPU of a process's slice, in ns of the monotonic clock; ``None``: unknown."""
    head = _head(pid, proc)
    return head[:GPUS] if head else None


def unknown_entry_point(pid: int, proc: Path = Path("/proc")) -> str:
    """The first entry point of the driver that the shim of a process's slice did not know; empty: none, or no name."""
    head = _head(pid, proc)
    name = head[GPUS].partition(b"\0")[0] if head else b""
    return name.decode() if _NAME.fullmatch(name) else ""


def _head(pid: int, proc: Path) -> Sequence[Any] | None:
    """What follows the magic number and the count of slots."""
    content = read(pid, LEDGER, _HEAD.size, proc)
    if content is None or len(content) < _HEAD.size:
        return None
    magic, _, *told = _HEAD.unpack(content)
    return told if magic == MAGIC else None
