"""Objects, one global resource version, and the history that watches resume from.

Every write is one synchronous step of the event loop, so it is atomic. Objects are never changed in place: a write
puts a new dictionary. Reading through ``get`` and ``list`` gives copies.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

Plain = dict[str, Any]
HISTORY = 50_000


@dataclass(frozen=True, slots=True)
class Entry:
    """An object as stored, and its JSON."""

    object: Plain
    encoded: bytes


@dataclass(frozen=True, slots=True)
class Change:
    """One write. ``before`` lets a selector notice that an object came into view or left it."""

    version: int
    type: str
    plural: str
    entry: Entry
    before: Plain | None


class Store:
    """By plural, then by (namespace, name). Cluster-scoped objects have the namespace ``""``."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[tuple[str, str], Entry]] = {}
        self._history: deque[Change] = deque()
        self._listeners: set[Callable[[Change], None]] = set()
        self._version = itertools.count(101)
        self.version = 100
        self.compacted = self.version

    def get(self, plural: str, namespace: str, name: str) -> Plain | None:
        """A copy of the object, or ``None``."""
        entry = self.entry(plural, namespace, name)
        return msgspec.json.decode(entry.encoded) if entry else None

    def list(self, plural: str, namespace: str = "") -> list[Plain]:
        """Copies of all objects, or of one namespace's, in order of their keys."""
        return [msgspec.json.decode(entry.encoded) for entry in self.entries(plural, namespace)]

    def entry(self, plural: str, namespace: str, name: str) -> Entry | None:
        """As stored: not to be changed."""
        return self._objects.get(plural, {}).get((namespace, name))

    def entries(self, plural: str, namespace: str = "") -> Iterator[Entry]:
        """As stored, in order of their keys."""
        for key, entry in sorted(self._objects.get(plural, {}).items(), key=lambda item: item[0]):
            if not namespace or key[0] == namespace:
                yield entry

    def count(self, plural: str) -> int:
        return len(self._objects.get(plural, {}))

    def put(self, plural: str, obj: Plain) -> Plain:
        """Writes ``obj`` as it is, under a new resource version; answers it with that version."""
        meta = obj["metadata"]
        key = (meta.get("namespace") or "", meta["name"])
        known = self._objects.setdefault(plural, {})
        before = known.get(key)
        entry = self._stamped(obj)
        known[key] = entry
        self._commit("MODIFIED" if before else "ADDED", plural, entry, before.object if before else None)
        return entry.object

    def remove(self, plural: str, namespace: str, name: str) -> Plain | None:
        """Removes an object; its last state, under a new resource version, is what watches see."""
        before = self._objects.get(plural, {}).pop((namespace, name), None)
        if before is None:
            return None
        entry = self._stamped(before.object)
        self._commit("DELETED", plural, entry, before.object)
        return entry.object

    def since(self, version: int) -> Iterator[Change]:
        """The changes after ``version``; only complete if ``version`` is not below ``compacted``."""
        newest_first = itertools.takewhile(lambda change: change.version > version, reversed(self._history))
        return reversed(list(newest_first))

    def compact(self) -> None:
        """Forgets all history."""
        self._history.clear()
        self.compacted = self.version

    def listen(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Calls ``listener`` at each write, at once; the answer stops that."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    def _stamped(self, obj: Plain) -> Entry:
        self.version = next(self._version)
        stamped = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self.version)}}
        return Entry(stamped, msgspec.json.encode(stamped))

    def _commit(self, type_: str, plural: str, entry: Entry, before: Plain | None) -> None:
        change = Change(self.version, type_, plural, entry, before)
        self._history.append(change)
        if len(self._history) > HISTORY:
            self.compacted = self._history.popleft().version
        for listener in tuple(self._listeners):
            listener(change)
