"""What is still to be sent: packed records and handles to be freed, in one order.

A handle may be freed by the garbage collector at any instruction, also inside a call of this object, so that freeing
takes no lock: it only appends.
"""

import struct
from collections import deque
from collections.abc import Iterator

from tessera.remote.protocol.frames import MAX_PAYLOAD
from tessera.remote.protocol.records import Code

ROOM = MAX_PAYLOAD // 2
"""The most bytes of a record."""


class Queue:
    """Any thread appends, one at a time takes."""

    def __init__(self) -> None:
        self.items: deque[bytes | int] = deque()
        self.put = self.items.append
        self.free = self.items.append

    def batches(self) -> Iterator[bytes]:
        """All that was there at the beginning, as payloads of BATCH frames."""
        out, freed = bytearray(), list[int]()
        for _ in range(len(self.items)):
            item = self.items.popleft()
            if isinstance(item, int):
                freed.append(item)
                continue
            if freed:
                out += _free(freed)
                freed.clear()
            out += item
            if len(out) > ROOM:
                yield bytes(out)
                out.clear()
        if freed:
            out += _free(freed)
        if out:
            yield bytes(out)


def _free(handles: list[int]) -> bytes:
    return struct.pack(f"<BI{len(handles)}Q", Code.FREE, len(handles), *handles)
