"""One direction of a session that outlives its connections: numbered frames, kept until the other side has them. Pure.

A frame is acknowledged when the other side has received and queued it. After a new connection each side tells the last
number that it has, and the other sends again what came after.
"""

from collections import deque
from collections.abc import Iterator

from tessera.remote.protocol.errors import ProtocolError
from tessera.remote.protocol.frames import Kind, pack_header

WINDOW_BYTES = 64 << 20
WINDOW_FRAMES = 64 << 10

Numbered = tuple[int, Kind, bytes]


class Outbox:
    """What was sent and is not acknowledged. Who finds it ``full`` waits."""

    def __init__(self, window_bytes: int = WINDOW_BYTES, window_frames: int = WINDOW_FRAMES) -> None:
        self._window_bytes, self._window_frames = window_bytes, window_frames
        self._kept: deque[Numbered] = deque()
        self._bytes = 0
        self.last = 0

    @property
    def full(self) -> bool:
        return self._bytes >= self._window_bytes or len(self._kept) >= self._window_frames

    @property
    def acknowledged(self) -> int:
        return self.last - len(self._kept)

    def put(self, kind: Kind, payload: bytes) -> int:
        """Numbers a frame and keeps it; answers the number."""
        self.last += 1
        self._kept.append((self.last, kind, payload))
        self._bytes += len(payload)
        return self.last

    def acknowledge(self, number: int) -> None:
        """The other side has everything up to ``number``. Raises ``ProtocolError`` for what was never sent."""
        if number > self.last:
            raise ProtocolError(f"acknowledged: found {number}; allowed: up to {self.last}, the last frame sent")
        while self._kept and self._kept[0][0] <= number:
            self._bytes -= len(self._kept.popleft()[2])

    def after(self, number: int) -> Iterator[Numbered]:
        """What the other side lacks, whose last was ``number``. Raises ``ProtocolError`` where it is not here."""
        if number < self.acknowledged:
            raise ProtocolError(f"received: found {number}; allowed: from {self.acknowledged}, acknowledged before")
        self.acknowledge(number)
        return iter(tuple(self._kept))


class Inbox:
    """What has been received: each number once, in order."""

    def __init__(self) -> None:
        self.last = 0

    def accept(self, number: int) -> bool:
        """Whether a frame is new; ``False``: it came before a connection broke, and again. A gap is an error."""
        if number > self.last + 1:
            raise ProtocolError(f"sequence number: found {number}; allowed: up to {self.last + 1}")
        if number <= self.last:
            return False
        self.last = number
        return True


def framed(numbered: Numbered, acknowledged: int) -> tuple[bytes, bytes]:
    """Header and payload as they go out."""
    number, kind, payload = numbered
    return pack_header(kind, len(payload), number, acknowledged), payload
