"""A watch: what happened since a version, then what happens, with bookmarks, until its time is over."""

import asyncio
from collections.abc import AsyncGenerator, Iterator

import msgspec

from tessera.simulator.apiserver.answers import expired
from tessera.simulator.apiserver.selectors import Predicate
from tessera.simulator.apiserver.store import Change, Entry, Plain, Store
from tessera.simulator.apiserver.targets import Target


def line(type_: str, encoded: bytes) -> bytes:
    return b'{"type":"%s","object":%s}\n' % (type_.encode(), encoded)


class Watch:
    """One client's view. ``chunks`` gives lines as they come; ``stop`` ends it."""

    def __init__(self, store: Store, target: Target, selected: Predicate, since: str) -> None:
        self._store = store
        self._target = target
        self._selected = selected
        self._since = int(since) if since.isdigit() else 0
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._reached = 0

    def stop(self) -> None:
        self._queue.put_nowait(None)

    async def chunks(self, timeout_s: float, bookmark_s: float) -> AsyncGenerator[bytes, None]:
        """``bookmark_s`` 0 sends no bookmarks."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        unlisten = self._store.listen(self._heard)
        try:
            if first := b"".join(self._catch_up()):
                yield first
            while (left := deadline - loop.time()) > 0:
                try:
                    async with asyncio.timeout(min(left, bookmark_s or left)):
                        chunk = await self._queue.get()
                except TimeoutError:
                    chunk = self._bookmark() if bookmark_s else b""
                if chunk is None:
                    return
                yield chunk + self._waiting()
            if bookmark_s:
                yield self._bookmark()
        finally:
            unlisten()

    def _catch_up(self) -> Iterator[bytes]:
        """Runs without a pause after ``listen``, so that nothing falls between the two."""
        self._reached = self._store.version
        if self._since == 0:
            for entry in self._store.entries(self._target.plural, self._target.namespace):
                if self._fits(entry.object):
                    yield line("ADDED", entry.encoded)
        elif self._since < self._store.compacted:
            too_old = expired(f"too old resource version: {self._since} ({self._store.compacted})")
            yield line("ERROR", msgspec.json.encode(too_old.status()))
            self.stop()
        else:
            for change in self._store.since(self._since):
                if found := self._line(change):
                    yield found

    def _heard(self, change: Change) -> None:
        self._reached = change.version
        if found := self._line(change):
            self._queue.put_nowait(found)

    def _waiting(self) -> bytes:
        """All that has queued up meanwhile, in one piece."""
        lines: list[bytes] = []
        while not self._queue.empty():
            found = self._queue.get_nowait()
            if found is None:
                self.stop()
                break
            lines.append(found)
        return b"".join(lines)

    def _line(self, change: Change) -> bytes | None:
        """An object that comes into a selector's view is added, one that leaves it is deleted."""
        if change.plural != self._target.plural:
            return None
        now = change.type != "DELETED" and self._fits(change.entry.object)
        before = change.before is not None and self._fits(change.before)
        if now:
            return line("MODIFIED" if before else "ADDED", change.entry.encoded)
        return line("DELETED", change.entry.encoded) if before else None

    def _fits(self, obj: Plain) -> bool:
        meta = obj["metadata"]
        if self._target.namespace and meta.get("namespace") != self._target.namespace:
            return False
        if self._target.name and meta["name"] != self._target.name:
            return False
        return self._selected(obj)

    def _bookmark(self) -> bytes:
        """Says how far this watch has come; whatever is still queued was written before and goes first."""
        waiting = self._waiting()
        resource = self._target.resource
        mark: Plain = {"kind": resource.kind, "apiVersion": resource.api_version}
        mark["metadata"] = {"resourceVersion": str(self._reached)}
        return waiting + line("BOOKMARK", msgspec.json.encode(mark))


class Snapshots:
    """The unread rest of paged lists, by continue token; all pages of a list come from one moment."""

    KEPT = 256

    def __init__(self) -> None:
        self._rests: dict[str, tuple[int, tuple[Entry, ...]]] = {}
        self._made = 0

    def keep(self, version: int, rest: tuple[Entry, ...]) -> str:
        self._made += 1
        token = f"snapshot-{self._made}"
        self._rests[token] = (version, rest)
        while len(self._rests) > self.KEPT:
            self._rests.pop(next(iter(self._rests)))
        return token

    def take(self, token: str, compacted: int) -> tuple[int, tuple[Entry, ...]]:
        version, rest = self._rests.get(token, (-1, ()))
        if version < compacted:
            raise expired("The provided continue parameter is too old to display a consistent list result.")
        return version, rest
