"""The client's end of a session: queues records, sends them in batches, waits for answers, connects again.

One thread reads what comes. Answers carry the number of their request, so that any number of threads may wait, and one
that gave up waiting leaves nothing behind that another could take for its own.
"""

import contextlib
import itertools
import threading
import time
from collections.abc import Callable

from tessera.remote.client.attachment import Attachment
from tessera.remote.client.connect import GRACE_S
from tessera.remote.client.contact import Connect
from tessera.remote.client.errors import ConnectError, DeviceLostError
from tessera.remote.client.queue import Queue
from tessera.remote.protocol import greeting, records, replies
from tessera.remote.protocol.errors import ProtocolError
from tessera.remote.protocol.frames import CHUNK_BYTES, Kind
from tessera.remote.protocol.peer import Ended, Peer
from tessera.remote.protocol.streams import Stream

BATCH_RECORDS = 96
LINGER_S, BUSY_S = 200e-6, 1e-3
"""A record that no batch was filled for leaves after the first; while others are filled, after the second at most."""
LOOK_S = 2.0
"""Who waits longer for an answer looks this often whether one can still come."""


class _Pending:
    """A request whose answer has not come in full."""

    def __init__(self, number: int) -> None:
        self.number, self.done = number, threading.Event()
        self.reply: replies.Reply | None = None
        self.data = bytearray()
        self.at = 0


class Session:
    """``connect`` makes a connection; ``torch`` is this side's version; ``mem_bytes`` 0: what is given.

    The first connection is tried for ``first_s``, later ones for ``grace_s``. ``over`` says why no answer can come any
    more, which a connection to a machine that is gone does not; empty while one can. Raises ``ConnectError``.
    """

    def __init__(
        self, connect: Connect, torch: str, mem_bytes: int = 0, *, first_s: float = 0, grace_s: float = GRACE_S,
        over: Callable[[], str] = str,
    ) -> None:  # fmt: skip
        self._attachment = Attachment(connect, torch, first_s, grace_s)
        self.queue = Queue()
        self._over = over
        self._peer = Peer(self._deliver)
        self._order = threading.Lock()
        self._requests: dict[int, _Pending] = {}
        self._numbers = itertools.count(1)
        self._lost: DeviceLostError | None = None
        self._some, self._batches = threading.Event(), 0
        self._closing = False
        stream, self.welcome = self._attachment.begin(mem_bytes)
        self._peer.attach(stream, self.welcome.received)
        threading.Thread(target=self._read, args=(stream,), name="tessera-reader", daemon=True).start()
        threading.Thread(target=self._linger, name="tessera-flusher", daemon=True).start()

    def put(self, record: bytes) -> None:
        """Queues a packed record; it leaves with a full batch or soon."""
        self.queue.put(record)
        if len(self.queue.items) >= BATCH_RECORDS:
            self.flush()
        elif not self._some.is_set():
            self._some.set()

    def flush(self) -> None:
        """Sends what is queued. Raises ``DeviceLostError``."""
        with self._order:
            self._flush()

    def upload(self, new: records.New, data: memoryview) -> None:
        """Sends a tensor with its bytes, which may change once this has returned."""
        head = bytearray()
        records.put(new, head)
        with self._order:
            self._flush()
            self._send(Kind.BATCH, bytes(head))
            for at in range(0, len(data), CHUNK_BYTES):
                self._send(Kind.UPLOAD, bytes(data[at : at + CHUNK_BYTES]))

    def ask(self, record: Callable[[int], bytes]) -> tuple[replies.Reply, bytearray]:
        """Sends the record made for a new request and waits for the answer. Raises ``DeviceLostError``."""
        return self.answer(self.asked(record))

    def asked(self, record: Callable[[int], bytes]) -> "_Pending":
        """Queues the record made for a new request, of which ``answer`` is then to be asked."""
        pending = _Pending(next(self._numbers))
        self._requests[pending.number] = pending
        self.queue.put(record(pending.number))
        return pending

    def answer(self, pending: "_Pending") -> tuple[replies.Reply, bytearray]:
        """Waits for it. Raises ``DeviceLostError``."""
        try:
            self.flush()
            while self._lost is None and not pending.done.wait(LOOK_S):
                if why := self._over():
                    self._lose(why)
        finally:
            self._requests.pop(pending.number, None)
        if pending.reply is None:
            raise self._lost or DeviceLostError("the session ended")
        return pending.reply, pending.data

    def close(self) -> None:
        """Ends the session after what is queued. Never raises."""
        self._closing = True
        with contextlib.suppress(DeviceLostError):
            self.flush()
        self._peer.say_bye()
        self._lose("it was closed")

    def _flush(self) -> None:
        for batch in self.queue.batches():
            self._batches += 1
            self._send(Kind.BATCH, batch)

    def _send(self, kind: Kind, payload: bytes) -> None:
        if self._lost is not None:
            raise self._lost
        try:
            self._peer.send(kind, payload)
        except Ended as ended:
            raise self._lost or DeviceLostError(str(ended)) from None

    def _linger(self) -> None:
        """Sends what lies there when no batch has left meanwhile: each waking of this thread holds up the program."""
        pause_s, seen = LINGER_S, 0
        while self._lost is None:
            self._some.wait()
            time.sleep(pause_s)
            busy = self._batches != seen
            pause_s = BUSY_S if busy else LINGER_S
            if not busy:
                self._some.clear()
                with contextlib.suppress(DeviceLostError):
                    self.flush()
            seen = self._batches

    def _deliver(self, kind: Kind, payload: bytes) -> None:
        if kind is Kind.REPLY:
            reply = replies.decode(payload)
            pending = self._requests.get(reply.request)
            if pending is not None:
                pending.reply = reply
                if isinstance(reply, replies.Bytes) and reply.size:
                    pending.data = _room(reply.size)
                else:
                    pending.done.set()
        elif kind is Kind.DATA:
            self._add(payload)
        elif kind is Kind.REDIRECT:
            self._attachment.redirected(greeting.decode(greeting.Redirect, payload))
        elif kind is Kind.REFUSED:
            self._lose(greeting.decode(greeting.Refused, payload).text)
        else:
            raise ProtocolError(f"frame: found {kind.name} from the executor; allowed: REPLY, DATA, REDIRECT, REFUSED")

    def _add(self, payload: bytes) -> None:
        number, data = replies.decode_data(payload)
        pending, size = self._requests.get(number), len(data)
        if pending is None:
            return
        if pending.at + size > len(pending.data):
            raise ProtocolError(f"data: found more than the {len(pending.data)} bytes that were announced")
        pending.data[pending.at : pending.at + size] = data
        pending.at += size
        if pending.at == len(pending.data):
            pending.done.set()

    def _read(self, stream: Stream) -> None:
        while True:
            try:
                while self._peer.take(stream) is not None:
                    pass
            except ProtocolError as error:
                return self._lose(f"the executor broke the protocol: {error}")
            if self._closing or self._lost:
                return None
            try:
                stream = self._again()
            except (ConnectError, ProtocolError) as error:
                return self._lose(str(error))

    def _again(self) -> Stream:
        """A new connection to the same session, within the grace period. Raises ``ConnectError``."""
        stream, self.welcome = self._attachment.go_on(self.welcome.session, self._peer.received)
        self._peer.attach(stream, self.welcome.received)
        return stream

    def _lose(self, why: str) -> None:
        self._lost = self._lost or self._attachment.lost(why)
        self._peer.end(why)
        self._some.set()
        for pending in list(self._requests.values()):
            pending.done.set()


def _room(size: int) -> bytearray:
    """Raises ``ProtocolError`` for more than this process can have."""
    try:
        return bytearray(size)
    except (MemoryError, OverflowError):
        raise ProtocolError(f"answer: found {size} bytes announced; allowed: what this process can hold") from None
