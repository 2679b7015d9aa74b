"""What all sessions of a lease hold together: a number for each, in memory that their processes share.

A process writes its own number and reads the others'. It writes before it compares, so that two at once may both be
refused what one could have had, but never both be given it.
"""

import mmap
import os
import struct
from collections.abc import Mapping

_WORD = 8


class Quota:
    """For up to ``slots`` sessions, by name; ``limit_bytes`` 0: no limit."""

    def __init__(self, limit_bytes: int, slots: int) -> None:
        self.descriptor = os.memfd_create("quota", os.MFD_CLOEXEC)
        os.ftruncate(self.descriptor, _WORD * (slots + 1))
        self._memory = mmap.mmap(self.descriptor, 0)
        self._free = list(range(slots, 0, -1))
        self._taken: dict[str, int] = {}
        self.limit(limit_bytes)

    def limit(self, limit_bytes: int) -> None:
        """From now on, whatever is held already."""
        struct.pack_into("<Q", self._memory, 0, limit_bytes)

    @property
    def taken(self) -> Mapping[str, int]:
        """The slots of the sessions, by name."""
        return dict(self._taken)

    def take(self, name: str) -> int:
        """The slot of a session, from 1, whichever process it is in. Raises ``IndexError`` where there is none."""
        if name not in self._taken:
            self._taken[name] = self._free.pop()
        return self._taken[name]

    def give_back(self, name: str) -> int:
        """Of a session that has ended: the slot that is free now, 0 if it had none."""
        slot = self._taken.pop(name, 0)
        if slot:
            struct.pack_into("<Q", self._memory, _WORD * slot, 0)
            self._free.append(slot)
        return slot


class Share:
    """One session's end of it."""

    def __init__(self, descriptor: int, slot: int) -> None:
        self._memory, self._slot = mmap.mmap(descriptor, 0), slot
        self._words = struct.Struct(f"<{len(self._memory) // _WORD}Q")
        os.close(descriptor)

    def hold(self, own_bytes: int) -> None:
        """So much is this session's."""
        struct.pack_into("<Q", self._memory, _WORD * self._slot, own_bytes)

    def over(self, own_bytes: int) -> tuple[int, int] | None:
        """The limit and what the other sessions hold, where so much of this one's would not fit beside it."""
        before = struct.unpack_from("<Q", self._memory, _WORD * self._slot)[0]
        self.hold(own_bytes)
        limit_bytes, *held = self._words.unpack_from(self._memory)
        total = sum(held)
        if not limit_bytes or total <= limit_bytes:
            return None
        self.hold(before)
        return limit_bytes, total - own_bytes
