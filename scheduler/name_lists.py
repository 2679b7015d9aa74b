"""Lists of node names in JSON, read straight into ledger rows.

kube-scheduler gathers its nodes in parallel, so that the same thousand names come in another order each time and no
list is known by its bytes. A compiled loop looks each name up where it stands, without making a string of it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tessera.model.ledger import Ints
from tessera.scheduler.compiled import compiled

Bytes = NDArray[np.uint8]
_QUOTE, _COMMA, _OPEN, _CLOSE, _BACKSLASH = b'",[]\\'
_SPACE = 32
"""Below it are control characters, which JSON writes escaped."""
_NONE = -1


@compiled
def _is(text: Bytes, first: int, size: int, names: Bytes, ends: Ints, row: int) -> bool:
    """Whether ``text[first : first + size]`` is the name of ``row``."""
    start = ends[row]
    if ends[row + 1] - start != size:
        return False
    for index in range(size):  # noqa: SIM110 (numba compiles no generators)
        if names[start + index] != text[first + index]:
            return False
    return True


@compiled
def _place_of(text: Bytes, first: int, size: int, names: Bytes, ends: Ints, table: Ints) -> int:
    """Where ``table`` has the row of the name ``text[first : first + size]``, or has room for it."""
    mask = len(table) - 1
    found = np.uint64(14695981039346656037)  # FNV-1a
    for index in range(first, first + size):
        found = (found ^ np.uint64(text[index])) * np.uint64(1099511628211)
    place = np.int64((found ^ (found >> np.uint64(32))) & np.uint64(mask))
    while table[place] >= 0 and not _is(text, first, size, names, ends, table[place]):
        place = (place + 1) & mask
    return int(place)


@compiled
def _fill(names: Bytes, ends: Ints, table: Ints) -> None:
    for row in range(len(ends) - 1):
        start, size = ends[row], ends[row + 1] - ends[row]
        if size:
            table[_place_of(names, start, size, names, ends, table)] = row


@compiled
def _read(text: Bytes, names: Bytes, ends: Ints, table: Ints, after: Ints, out: Ints) -> int:
    """How many names ``text`` lists; -1 if it is no list of plain strings without spaces between them.

    ``after`` has for each row, and last for none, the one that came next the last time; it is tried first.
    """
    end = len(text) - 1
    if end < 1 or text[0] != _OPEN or text[end] != _CLOSE:
        return -1
    found, at, row = 0, 1, -1
    while at < end:
        if text[at] != _QUOTE:
            return -1
        first = at + 1
        at = first
        while at < end and text[at] != _QUOTE:
            if text[at] == _BACKSLASH or text[at] < _SPACE:
                return -1
            at += 1
        if at == end or (at + 1 < end and (text[at + 1] != _COMMA or at + 2 == end)):
            return -1
        guess = after[row]
        if guess < 0 or not _is(text, first, at - first, names, ends, guess):
            guess = table[_place_of(text, first, at - first, names, ends, table)]
            after[row] = guess
        row = guess
        out[found] = row
        found += 1
        at += 2
    return found


class NameTable:
    """The rows of ``names``; an empty name has none."""

    def __init__(self, names: Sequence[str]) -> None:
        encoded = [name.encode() for name in names]
        self._names = np.frombuffer(b"".join(encoded), np.uint8)
        self._ends = np.cumsum([0, *(len(each) for each in encoded)], dtype=np.int64)
        self._table = np.full(1 << (2 * len(encoded) + 1).bit_length(), _NONE, np.int64)
        self._after = np.full(len(encoded) + 1, _NONE, np.int64)
        _fill(self._names, self._ends, self._table)

    def rows(self, raw: bytes) -> Ints | None:
        """The rows of the JSON list ``raw``, -1 for a name without one; ``None`` if it is not as Go writes names."""
        out = np.empty(raw.count(b",") + 1, np.int64)
        found = _read(np.frombuffer(raw, np.uint8), self._names, self._ends, self._table, self._after, out)
        return out[:found] if found >= 0 else None
