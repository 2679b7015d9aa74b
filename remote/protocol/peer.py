"""A session's end of the wire: sends numbered frames, reads the other side's, and outlives its connections.

Any thread may send. Whoever reads never waits to send: an acknowledgement that is due while another thread sends goes
out with that thread's frames or right after them.
"""

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Protocol

from tessera.remote.protocol.frames import HEADER, SEQUENCED, Header, Kind, pack_header, parse_header
from tessera.remote.protocol.link import Inbox, Outbox, framed

ACK_FRAMES = 32
ACK_BYTES = 4 << 20


class Stream(Protocol):
    """A connected socket, plain or TLS."""

    def sendall(self, data: bytes, /) -> None: ...

    def recv_into(self, buffer: memoryview, /) -> int: ...

    def shutdown(self, how: int, /) -> None: ...

    def close(self) -> None: ...


Deliver = Callable[[Kind, bytes], None]


class Ended(Exception):
    """The session is over; nothing can be sent in it any more."""


class Peer:
    """``deliver`` gets each sequenced frame of the other side once, in order, on the thread that reads."""

    def __init__(self, deliver: Deliver, outbox: Outbox | None = None) -> None:
        self._deliver, self._outbox, self._inbox = deliver, outbox or Outbox(), Inbox()
        self._sending = threading.Lock()
        self._room = threading.Condition()
        self._stream: Stream | None = None
        self._unacknowledged = [0, 0]
        self._ended = ""

    @property
    def received(self) -> int:
        """The number of the last frame that the other side need not send again."""
        return self._inbox.last

    def attach(self, stream: Stream, received: int) -> None:
        """Goes on over a new connection: sends what the other side lacks. Raises ``ProtocolError`` and ``OSError``."""
        with self._sending:
            former, self._stream = self._stream, None
            if former is not None and former is not stream:
                close(former)
            with self._room:
                lacking = list(self._outbox.after(received))
            for numbered in lacking:
                stream.sendall(b"".join(framed(numbered, self.received)))
            self._stream = stream
        self._wake()

    def send(self, kind: Kind, payload: bytes) -> None:
        """Returns when the frame is kept and, where there is a connection, handed to it. Raises ``Ended``."""
        with self._room:
            self._room.wait_for(lambda: self._ended or not self._outbox.full)
        with self._sending:
            if self._ended:
                raise Ended(self._ended)
            with self._room:
                number = self._outbox.put(kind, payload)
            if self._stream is not None:
                self._hand_on(self._stream, framed((number, kind, payload), self._noted()))
        self._acknowledge()

    def take(self, stream: Stream) -> Kind | None:
        """Reads one frame; ``None``: the connection has ended. Raises ``ProtocolError``."""
        frame = read_frame(stream)
        if frame is None:
            return None
        header, payload = frame
        with self._room:
            self._outbox.acknowledge(header.acknowledged)
            self._room.notify_all()
        if header.kind in SEQUENCED:
            if self._inbox.accept(header.sequence):
                self._deliver(header.kind, payload)
            self._count(len(payload))
        return header.kind

    def end(self, why: str) -> None:
        """No more frames: senders that wait, and all later ones, get ``Ended``."""
        with self._room:
            self._ended = self._ended or why
            self._room.notify_all()
        stream = self._stream
        if stream is not None:
            close(stream)

    def say_bye(self) -> None:
        """Tells the other side that nothing follows, once everything was handed on."""
        with self._sending:
            if self._stream is not None:
                self._hand_on(self._stream, (pack_header(Kind.BYE, 0, 0, self.received),))

    def _hand_on(self, stream: Stream, parts: tuple[bytes, ...]) -> None:
        """A connection that breaks is left; what it lost is in the outbox."""
        try:
            stream.sendall(b"".join(parts))
        except OSError:
            self._stream = None
            close(stream)

    def _noted(self) -> int:
        self._unacknowledged = [0, 0]
        return self.received

    def _count(self, payload_bytes: int) -> None:
        self._unacknowledged[0] += 1
        self._unacknowledged[1] += payload_bytes
        self._acknowledge()

    def _due(self) -> bool:
        frames, size = self._unacknowledged
        return frames >= ACK_FRAMES or size >= ACK_BYTES

    def _acknowledge(self) -> None:
        while self._due() and self._sending.acquire(blocking=False):
            try:
                if self._stream is None:
                    return
                self._hand_on(self._stream, (pack_header(Kind.ACK, 0, 0, self._noted()),))
            finally:
                self._sending.release()

    def _wake(self) -> None:
        with self._room:
            self._room.notify_all()


def read_frame(stream: Stream) -> tuple[Header, bytes] | None:
    """The next frame; ``None`` when the connection has ended. Raises ``ProtocolError``."""
    head = bytearray(HEADER.size)
    if not _fill(stream, memoryview(head)):
        return None
    header = parse_header(head)
    payload = bytearray(header.payload_bytes)
    if not _fill(stream, memoryview(payload)):
        return None
    return header, bytes(payload)


def close(stream: Stream) -> None:
    """Ends a connection; another thread that reads it is woken."""
    with contextlib.suppress(OSError):
        stream.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        stream.close()


def _fill(stream: Stream, view: memoryview) -> bool:
    at = 0
    while at < len(view):
        try:
            count = stream.recv_into(view[at:])
        except OSError:
            return False
        if not count:
            return False
        at += count
    return True
