"""A session's end of the wire: sends numbered frames, reads the other side's, and outlives its connections.

Any thread may send; it writes to the connection itself. One thread reads and never writes, so that what comes is always
read and two sides that both send cannot wait for each other: what is due because of what was read (acknowledgements,
and after a new connection what the other side lacks) is written by a thread of its own.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable

from tessera.remote.protocol.errors import ProtocolError
from tessera.remote.protocol.frames import SEQUENCED, Header, Kind, pack_header
from tessera.remote.protocol.link import Inbox, Numbered, Outbox
from tessera.remote.protocol.streams import Stream, read_frame, shut

Deliver = Callable[[Kind, bytes], None]
Farewell = Callable[[ProtocolError], bytes]


PART_S = 1.0
_PIECE = 64 << 10


class Ended(Exception):
    """The session is over; nothing can be sent in it any more."""


class Peer:
    """``deliver`` gets each sequenced frame of the other side once, in order, on the thread that reads. It must not
    wait for something to be sent. It also gets REDIRECT and REFUSED, after which the connection is left.

    ``kept``, at the executor: ``deliver`` only keeps the frames, and ``taken`` tells of each when it is done with.

    ``farewell``: the frame that ends a connection over which the other side broke the protocol.
    """

    def __init__(
        self, deliver: Deliver, *, kept: bool = False, outbox: Outbox | None = None, inbox: Inbox | None = None,
        farewell: Farewell | None = None,
    ) -> None:  # fmt: skip
        self._deliver, self._kept, self._farewell = deliver, kept, farewell
        self._outbox, self._inbox = outbox or Outbox(), inbox or Inbox()
        self._state = threading.Lock()
        self._room, self._due = threading.Condition(self._state), threading.Condition(self._state)
        self._writing = threading.Lock()
        self._stream: Stream | None = None
        self._sent, self._asked = 0, False
        self._ended = ""
        self._writer: threading.Thread | None = None

    @property
    def received(self) -> int:
        """The number of the last frame that the other side need not send again."""
        return self._inbox.last

    def frozen(self) -> tuple[int, int, list[Numbered]]:
        """What another end needs to go on: the last frame taken, the last acknowledged to this one, and those kept."""
        with self._state:
            return self._inbox.taken, self._outbox.acknowledged, self._outbox.kept()

    def attach(self, stream: Stream, received: int) -> None:
        """Goes on over a new connection, after what the other side has ``received``; the thread that reads calls it.
        Raises ``ProtocolError``."""
        self._leave(self._stream)
        with self._state:
            self._outbox.check_received(received)
            if self._ended:
                shut(stream)
                return
            self._inbox.forget()
            self._stream, self._sent, self._asked = stream, received, True
            self._due.notify()
        if self._writer is None:
            self._writer = threading.Thread(target=self._write_when_due, name="tessera-writer", daemon=True)
            self._writer.start()

    def send(self, kind: Kind, payload: bytes) -> None:
        """Returns when the frame is kept and, where there is a connection, handed to it. Raises ``Ended``."""
        with self._room:
            self._room.wait_for(lambda: self._ended or not self._outbox.full)
            if self._ended:
                raise Ended(self._ended)
            self._outbox.put(kind, payload)
        self._write()

    def take(self, stream: Stream) -> Kind | None:
        """Reads one frame; ``None``: the connection has ended, and is closed. Raises ``ProtocolError``."""
        try:
            frame = read_frame(stream)
            if frame is None:
                self._leave(stream)
                return None
            header, payload = frame
            with self._room:
                self._outbox.acknowledge(header.acknowledged)
                self._room.notify_all()
            if header.kind in SEQUENCED:
                self._received(header, payload)
            elif header.kind in (Kind.REDIRECT, Kind.REFUSED) and not self._kept:
                self._deliver(header.kind, payload)
                self._leave(stream)
            elif header.kind not in (Kind.ACK, Kind.BYE):
                raise ProtocolError(f"frame: found {header.kind.name} within a session; allowed: before it only")
            return header.kind
        except ProtocolError as error:
            if self._farewell is not None:
                self._part(stream, self._farewell(error))
            self._leave(stream)
            raise

    def taken(self, payload_bytes: int) -> None:
        """The next of the frames that ``deliver`` kept is done with."""
        with self._state:
            self._inbox.take(payload_bytes)
            if self._inbox.due and not self._asked:
                self._asked = True
                self._due.notify()

    def end(self, why: str) -> None:
        """No more frames: senders that wait, and all later ones, get ``Ended``, and the connection ends."""
        with self._state:
            self._ended = self._ended or why
            self._room.notify_all()
            self._due.notify()
            stream, self._stream = self._stream, None
        if stream is not None:
            shut(stream)

    def say_bye(self) -> None:
        """Tells the other side that nothing follows, once everything was handed on."""
        self.say_last(pack_header(Kind.BYE, 0))

    def say_last(self, frame: bytes) -> None:
        """A frame without a number, once everything was handed on."""
        self._write()
        with self._writing, contextlib.suppress(OSError):
            stream = self._stream
            if stream is not None:
                stream.sendall(frame)

    def _part(self, stream: Stream, frame: bytes) -> None:
        """Says why a connection ends; what the other side still says would have that thrown away, and is read."""
        with self._writing, contextlib.suppress(OSError):
            stream.sendall(frame)
            stream.shutdown(socket.SHUT_WR)
        unread, deadline = memoryview(bytearray(_PIECE)), time.monotonic() + PART_S
        with contextlib.suppress(OSError):
            while time.monotonic() < deadline and stream.recv_into(unread):
                pass

    def _received(self, header: Header, payload: bytes) -> None:
        with self._state:
            new = self._inbox.accept(header.sequence, len(payload))
        if new:
            self._deliver(header.kind, payload)
            if not self._kept:
                self.taken(len(payload))

    def _write(self) -> None:
        """Writes all that is due. A connection that breaks is left, also by an interrupt in the middle of a frame; what
        it lost is in the outbox."""
        with self._writing:
            stream = self._stream
            if stream is None:
                return
            try:
                while (data := self._next(stream)) is not None:
                    stream.sendall(data)
            except OSError:
                self._drop(stream)
            except BaseException:
                self._drop(stream)
                raise

    def _next(self, stream: Stream) -> bytes | None:
        """The next bytes for a connection; ``None``: nothing is due, or another connection is in its place."""
        with self._state:
            if self._stream is not stream:
                return None
            numbered = self._outbox.following(self._sent)
            if numbered is not None:
                self._sent = numbered.number
                return numbered.framed(self._inbox.acknowledge())
            return pack_header(Kind.ACK, 0, 0, self._inbox.acknowledge()) if self._inbox.due else None

    def _write_when_due(self) -> None:
        while True:
            with self._due:
                self._due.wait_for(lambda: self._ended or self._asked)
                if self._ended:
                    return
                self._asked = False
            self._write()

    def _drop(self, stream: Stream) -> None:
        """Nothing more is written to a connection; who reads it is woken, and closes it."""
        with self._state:
            if self._stream is stream:
                self._stream = None
        shut(stream)

    def _leave(self, stream: Stream | None) -> None:
        """Ends a connection that nobody reads any more; it is closed once nobody writes to it."""
        if stream is None:
            return
        self._drop(stream)
        with self._writing:
            stream.close()
