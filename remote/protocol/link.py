"""One direction of a session that outlives its connections: numbered frames, kept until the other side took them. Pure.

*Received* is what came and need not be sent again; it is told when a connection begins. *Acknowledged* is what was also
taken: it gives room in the window, and the other side lets go of it.
"""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from tessera.remote.protocol.errors import ProtocolError
from tessera.remote.protocol.frames import Kind, pack_header

WINDOW_BYTES = 64 << 20
WINDOW_FRAMES = 64 << 10
ACK_FRAMES, ACK_BYTES = 32, 4 << 20
"""What was taken is acknowledged when it is so much, or with the next frame that leaves."""


class Numbered(NamedTuple):
    """``total_bytes``: of the payloads up to this one, since the session began."""

    number: int
    kind: Kind
    payload: bytes
    total_bytes: int

    def framed(self, acknowledged: int) -> bytes:
        return pack_header(self.kind, len(self.payload), self.number, acknowledged) + self.payload


class Outbox:
    """What was sent and is not acknowledged. Who finds it ``full`` waits.

    A frame is in it or not: nothing else changes when one is put, so that an interrupt leaves it whole.
    """

    def __init__(self, window_bytes: int = WINDOW_BYTES, window_frames: int = WINDOW_FRAMES) -> None:
        self._window_bytes, self._window_frames = window_bytes, window_frames
        self._kept: deque[Numbered] = deque()
        self._let_go = Numbered(0, Kind.BATCH, b"", 0)

    @classmethod
    def resumed(cls, acknowledged: int, kept: Iterable[tuple[Kind, bytes]]) -> "Outbox":
        """One that goes on from what another kept."""
        outbox = cls()
        outbox._let_go = Numbered(acknowledged, Kind.BATCH, b"", 0)
        for kind, payload in kept:
            outbox.put(kind, payload)
        return outbox

    def kept(self) -> list[Numbered]:
        """What is not acknowledged."""
        return list(self._kept)

    @property
    def last(self) -> int:
        return self._newest.number

    @property
    def acknowledged(self) -> int:
        return self._let_go.number

    @property
    def full(self) -> bool:
        held_bytes = self._newest.total_bytes - self._let_go.total_bytes
        return held_bytes >= self._window_bytes or len(self._kept) >= self._window_frames

    @property
    def _newest(self) -> Numbered:
        return self._kept[-1] if self._kept else self._let_go

    def put(self, kind: Kind, payload: bytes) -> int:
        """Numbers a frame and keeps it; answers the number."""
        newest = self._newest
        self._kept.append(Numbered(newest.number + 1, kind, payload, newest.total_bytes + len(payload)))
        return newest.number + 1

    def acknowledge(self, number: int) -> None:
        """The other side took everything up to ``number``. Raises ``ProtocolError`` for what was never sent."""
        if number > self.last:
            raise ProtocolError(f"acknowledged: found {number}; allowed: up to {self.last}, the last frame sent")
        while self._kept and self._kept[0].number <= number:
            self._let_go = self._kept[0]._replace(payload=b"")
            self._kept.popleft()

    def check_received(self, number: int) -> None:
        """Raises ``ProtocolError`` where a connection cannot go on after ``number``."""
        if not self.acknowledged <= number <= self.last:
            raise ProtocolError(f"received: found {number}; allowed: {self.acknowledged} to {self.last}")

    def following(self, number: int) -> Numbered | None:
        """The first frame after ``number`` that is not acknowledged."""
        at = max(number - self.acknowledged, 0)
        return self._kept[at] if at < len(self._kept) else None


class Inbox:
    """What has been received: each number once, in order, and no more at once than the window."""

    def __init__(self, window_bytes: int = WINDOW_BYTES, window_frames: int = WINDOW_FRAMES) -> None:
        self._window_bytes, self._window_frames = window_bytes, window_frames
        self._ack_frames, self._ack_bytes = min(ACK_FRAMES, window_frames), min(ACK_BYTES, window_bytes)
        self._received_bytes = self._taken_bytes = self._acknowledged_bytes = 0
        self.last = self._taken = self._acknowledged = 0

    @classmethod
    def resumed(cls, taken: int) -> "Inbox":
        """One that goes on after what another took."""
        inbox = cls()
        inbox.last = inbox._taken = taken
        return inbox

    @property
    def taken(self) -> int:
        """The number of the last frame that was taken."""
        return self._taken

    @property
    def due(self) -> bool:
        """Whether an acknowledgement may not wait for the next frame."""
        frames, size = self._taken - self._acknowledged, self._taken_bytes - self._acknowledged_bytes
        return frames >= self._ack_frames or size >= self._ack_bytes

    def accept(self, number: int, payload_bytes: int) -> bool:
        """Whether a frame is new; ``False``: it came before. Raises ``ProtocolError`` for a gap, and for a frame that
        the other side should have kept until more was acknowledged."""
        if number > self.last + 1:
            raise ProtocolError(f"sequence number: found {number}; allowed: up to {self.last + 1}")
        if number <= self.last:
            return False
        waiting, waiting_bytes = self.last - self._taken, self._received_bytes - self._taken_bytes
        if waiting >= self._window_frames or waiting_bytes >= self._window_bytes:
            found = f"found it while {waiting} frames with {waiting_bytes} bytes are not acknowledged"
            allowed = f"allowed: below {self._window_frames} frames and {self._window_bytes} bytes"
            raise ProtocolError(f"frame {number}: {found}; {allowed}")
        self.last = number
        self._received_bytes += payload_bytes
        return True

    def take(self, payload_bytes: int) -> None:
        """The next frame was taken."""
        self._taken += 1
        self._taken_bytes += payload_bytes

    def forget(self) -> None:
        """A connection broke, and with it perhaps what was acknowledged over it: that is due again."""
        self._acknowledged = self._acknowledged_bytes = 0

    def acknowledge(self) -> int:
        """What to acknowledge, which is so from now on."""
        self._acknowledged, self._acknowledged_bytes = self._taken, self._taken_bytes
        return self._taken
