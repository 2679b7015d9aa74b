"""What each session has done so far: numbers in memory that its process writes and the executor reads."""

import mmap
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass

SLOTS = 64
"""The most sessions of an executor."""
_NUMBERS = struct.Struct("<6Q")


@dataclass(frozen=True, slots=True)
class Figures:
    """``session``: the beginning of its name. What it holds now and has held at most, how many operators it has run and
    how many of them failed, and the bytes of frames that came and went.

    A session's process may be its tenant's by now, and so are the numbers.
    """

    session: str
    used_bytes: int
    peak_bytes: int
    operators: int
    failed: int
    received_bytes: int
    sent_bytes: int


class Meters:
    """For up to ``SLOTS`` sessions, numbered from 1."""

    def __init__(self) -> None:
        self.descriptor = os.memfd_create("meters", os.MFD_CLOEXEC)
        os.ftruncate(self.descriptor, _NUMBERS.size * (SLOTS + 1))
        self._memory = mmap.mmap(self.descriptor, 0)

    def figures(self, taken: Mapping[str, int]) -> list[Figures]:
        """Of the sessions with these names and slots, in their order."""
        return [
            Figures(name[:8], *_NUMBERS.unpack_from(self._memory, _NUMBERS.size * slot)) for name, slot in taken.items()
        ]

    def clear(self, slot: int) -> None:
        """Before it is another session's."""
        at = _NUMBERS.size * slot
        self._memory[at : at + _NUMBERS.size] = bytes(_NUMBERS.size)


class Meter:
    """One session's end of it. Takes over the descriptor."""

    def __init__(self, descriptor: int, slot: int) -> None:
        self._memory, self._at = mmap.mmap(descriptor, 0), _NUMBERS.size * slot
        os.close(descriptor)

    def tell(self, *numbers: int) -> None:
        """In the order of ``Figures``."""
        _NUMBERS.pack_into(self._memory, self._at, *numbers)
