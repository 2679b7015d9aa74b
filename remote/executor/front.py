"""Accepts connections, learns who asks, and has each received by whoever serves it.

Nothing of a client is read here but its first frame; with TLS the rest is carried on unread.
"""

import contextlib
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial

import structlog

from tessera.remote.executor.accepting import accept
from tessera.remote.executor.pump import join
from tessera.remote.executor.refusals import Refusal, Unsure
from tessera.remote.protocol import greeting
from tessera.remote.protocol.errors import ProtocolError
from tessera.remote.protocol.frames import HEADER, Kind, parse_header
from tessera.remote.protocol.greeting import Hello, Move
from tessera.remote.protocol.streams import Stream, at_most, close, half_close, read_exactly, shut, tune
from tessera.remote.protocol.tls import TlsStream

log = structlog.get_logger()

FIRST_FRAME_S = 5.0
"""For the handshake, the first frame and its reception together."""
WAITING = 64
"""Connections whose first frame has not come yet."""
EACH = WAITING // 2
"""Those of one address."""
_PIECE = 4096

Receive = Callable[[Stream, Hello], "socket.socket | None"]
"""Answers the socket that is the other end for the client; ``None``: the connection itself was handed on.

Raises ``Refusal`` for who is not let in."""
Arrive = Callable[[Stream, Move], Callable[[], None]]
"""Answers what is to be done with the connection of another executor. Raises ``Refusal``."""
Context = Callable[[], ssl.SSLContext]


class Front:
    """Serves on a listening socket between ``start`` and ``stop``; ``context`` ``None``: without TLS, else what the
    next handshake takes. ``refused`` counts by reason."""

    def __init__(
        self, listener: socket.socket, receive: Receive, context: Context | None = None, arrive: Arrive | None = None
    ) -> None:
        self._listener, self._receive, self._context, self._arrive = listener, receive, context, arrive
        self.refused: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._admitted: set[socket.socket] = set()
        self._waiting: Counter[str] = Counter()
        self._stopping = threading.Event()
        work = partial(accept, listener, self._stopping, "connection", self._begin)
        self._thread = threading.Thread(target=work, daemon=True)

    def start(self) -> None:
        self._listener.listen(WAITING)
        self._thread.start()

    def stop(self) -> None:
        """Accepts nobody any more; what is carried goes on."""
        self._stopping.set()
        close(self._listener)
        self._thread.join()

    def cut(self) -> None:
        """Ends all connections that were let in, or are about to be."""
        with self._lock:
            for raw in self._admitted:
                shut(raw)

    def _begin(self, raw: socket.socket, at: tuple[str, int]) -> None:
        address = at[0]
        if crowd := self._crowd(address):
            self._refused(address, crowd)
            close(raw)
            return
        try:
            threading.Thread(target=self._serve, args=(raw, address), daemon=True).start()
        except RuntimeError:
            close(raw)
            self._through(address)
            raise

    def _crowd(self, address: str) -> Refusal | None:
        """Counts one more that waits, unless there are too many."""
        with self._lock:
            if self._waiting[address] >= EACH:
                return Refusal("Crowd", f"connections: found {EACH} of this address without a first frame")
            if self._waiting.total() >= WAITING:
                return Refusal("Crowd", f"connections: found {WAITING} without a first frame")
            self._waiting[address] += 1
        return None

    def _serve(self, raw: socket.socket, address: str) -> None:
        with raw:
            try:
                work = self._received(raw, address)
                if work is not None:
                    work()
            finally:
                with self._lock:
                    self._admitted.discard(raw)

    def _received(self, raw: socket.socket, address: str) -> Callable[[], None] | None:
        try:
            return self._greet(raw, address)
        except Refusal as refusal:
            self._refused(address, refusal)
            return None
        finally:
            self._through(address)

    def _through(self, address: str) -> None:
        """One less that waits."""
        with self._lock:
            self._waiting -= Counter([address])

    def _greet(self, raw: socket.socket, address: str) -> Callable[[], None] | None:
        """What is left to do with a connection once it is received. Raises ``Refusal`` where nobody can be told."""
        with at_most(FIRST_FRAME_S, raw):
            stream = self._opened(raw)
            try:
                match _first(stream):
                    case Move() as move:
                        if self._arrive is None:
                            raise Refusal("Malformed", "first frame: found MOVE; allowed: HELLO")
                        return self._arrive(stream, move)
                    case hello:
                        with self._lock:
                            self._admitted.add(raw)  # before it is let in, so that no cut passes it by
                        other = self._receive(stream, hello)
            except Refusal as refusal:
                self._refused(address, refusal)
                if not isinstance(refusal, Unsure):
                    _tell(stream, refusal)
                return None
        return None if other is None else lambda: join(stream, other)

    def _opened(self, raw: socket.socket) -> Stream:
        try:
            tune(raw)
            if self._context is None:
                return raw
            stream = TlsStream(raw, self._context())
            stream.handshake()
            return stream
        except ssl.SSLError as error:
            found = getattr(error, "verify_message", None) or error.reason or "no TLS"
            raise Refusal(
                "Tls", f"TLS: found {found}; allowed: TLS 1.3 with certificates that both sides take"
            ) from None
        except OSError as error:
            raise Refusal("Gone", f"connection: found its end before the first frame ({error})") from None

    def _refused(self, address: str, refusal: Refusal) -> None:
        with self._lock:
            self.refused[refusal.reason] += 1
            count = self.refused[refusal.reason]
        log.info("connection refused", client=address, reason=refusal.reason, text=str(refusal), count=count)


def _first(stream: Stream) -> Hello | Move:
    """Raises ``Refusal``."""
    try:
        head = read_exactly(stream, HEADER.size)
        header = parse_header(head) if head else None
        if header is None or header.kind not in (Kind.HELLO, Kind.MOVE):
            raise ProtocolError(f"first frame: found {header.kind.name if header else 'none'}; allowed: HELLO")
        payload = read_exactly(stream, header.payload_bytes)
        if payload is None:
            raise ProtocolError("first frame: found its beginning only")
        return greeting.decode(Hello, payload) if header.kind is Kind.HELLO else greeting.decode(Move, payload)
    except ProtocolError as error:
        raise Refusal("Malformed", str(error)) from None


def _tell(stream: Stream, refusal: Refusal) -> None:
    """Then waits for the client to end: what it still says would have its answer thrown away."""
    with contextlib.suppress(OSError):
        stream.sendall(greeting.framed(refusal.answer))
        half_close(stream)
        unread = memoryview(bytearray(_PIECE))
        while stream.recv_into(unread):
            pass
