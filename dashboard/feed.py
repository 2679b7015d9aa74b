"""The current snapshot, its version, and the changes that led to it, for everyone who watches.

A version is ``<epoch>.<n>``: the epoch names this process, so a page never takes another process's ``n`` for ours. Who
asks for changes since a version that is no longer kept is told to read the whole snapshot again.
"""

import asyncio
from collections import deque
from dataclasses import dataclass

import msgspec

from tessera.dashboard.changes import between
from tessera.dashboard.states import Snapshot

KEPT_CHANGES = 128


@dataclass(frozen=True, slots=True)
class Source:
    """Whether the API server's objects are being followed; ``message`` says what is wrong if they are not."""

    connected: bool = False
    message: str = "the objects of the cluster are still being listed"


class Feed:
    """One writer, many readers, all on one event loop."""

    def __init__(self, epoch: str) -> None:
        self._epoch, self._n = epoch, 0
        self._snapshot = Snapshot()
        self._source = Source()
        self._kept: deque[bytes] = deque(maxlen=KEPT_CHANGES)
        self._moved = asyncio.Event()
        self._whole: bytes | None = None
        self.synced = False
        self.closed = False
        self.broken = ""

    @property
    def snapshot(self) -> Snapshot:
        return self._snapshot

    @property
    def source(self) -> Source:
        return self._source

    @property
    def version(self) -> str:
        return f"{self._epoch}.{self._n}"

    def publish(self, snapshot: Snapshot) -> None:
        """Makes ``snapshot`` the current one and wakes the readers if it differs."""
        first, self.synced = not self.synced, True
        changes = between(self._snapshot, snapshot)
        if not changes and not first:
            return
        self._n += 1
        self._snapshot, self._whole = snapshot, None
        self._kept.append(msgspec.json.encode({"version": self.version, "changes": changes}))
        self._wake()

    def follow(self, source: Source) -> None:
        """Notes whether the API server is being followed."""
        if source != self._source:
            self._source, self._whole = source, None
            self._wake()

    def close(self) -> None:
        """Ends all readers."""
        self.closed = True
        self._wake()

    def whole(self) -> bytes:
        """The snapshot with its version and source as JSON; kept until either changes."""
        if self._whole is None:
            s = self._snapshot
            body = {
                "version": self.version,
                "synced": self.synced,
                "source": self._source,
                "totals": s.totals,
                "gpus": list(s.gpus.values()),
                "nodes": list(s.nodes.values()),
                "pods": list(s.pods.values()),
                "leases": list(s.leases.values()),
            }
            self._whole = msgspec.json.encode(body)
        return self._whole

    def since(self, version: str) -> list[tuple[str, bytes]] | None:
        """The changes after ``version``, oldest first, each with the version it leads to; ``None`` if not kept."""
        epoch, _, number = version.rpartition(".")
        if epoch != self._epoch or not number.isdecimal():
            return None
        behind = self._n - int(number)
        if not 0 <= behind <= len(self._kept):
            return None
        bodies = list(self._kept)[len(self._kept) - behind :]
        return [(f"{self._epoch}.{int(number) + i}", body) for i, body in enumerate(bodies, 1)]

    async def moved(self, timeout_s: float) -> bool:
        """Waits for the next change of anything; ``False`` if none came in time."""
        try:
            await asyncio.wait_for(self._moved.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    def _wake(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()
