"""Accepts connections, learns who asks, and hands each on to the process of its session.

Nothing of a client is read here but its first frame; with TLS the rest is carried on unread.
"""

import contextlib
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator

import structlog

from tessera.remote.executor.certificates import Certificates
from tessera.remote.executor.processes import Offer, Process, Refusal, Sessions
from tessera.remote.executor.pump import join
from tessera.remote.protocol import greeting
from tessera.remote.protocol.errors import ProtocolError
from tessera.remote.protocol.frames import HEADER, Kind, parse_header
from tessera.remote.protocol.streams import Stream, close, read_exactly, shut, tune
from tessera.remote.protocol.tls import TlsStream

log = structlog.get_logger()

FIRST_FRAME_S = 5.0
"""For the handshake and the first frame together."""
WAITING = 64
"""Connections whose first frame has not come yet."""
_PAUSE_S = 0.1
_PIECE = 4096

Admit = Callable[[greeting.Hello], None]
"""Raises ``Refusal`` for who is not to be let in."""


class Gate:
    """Serves on a listening socket between ``start`` and ``stop``; ``certificates`` ``None``: without TLS.

    ``refused`` counts by reason.
    """

    def __init__(
        self, listener: socket.socket, offer: Offer, torch: str, admit: Admit, certificates: Certificates | None = None
    ) -> None:
        self._listener, self._torch, self._admit, self._certificates = listener, torch, admit, certificates
        self.sessions = Sessions(offer)
        self.refused: Counter[str] = Counter()
        self._counting = threading.Lock()
        self._waiting = threading.BoundedSemaphore(WAITING)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def start(self) -> None:
        self._listener.listen(WAITING)
        self._thread.start()

    def stop(self) -> None:
        """Ends the sessions with it."""
        self._stopping.set()
        close(self._listener)
        self._thread.join()
        self.sessions.stop()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                raw, (address, *_) = self._listener.accept()
            except OSError as error:
                if not self._stopping.wait(_PAUSE_S):
                    log.warning("connection not accepted", error=str(error))
                continue
            if not self._waiting.acquire(blocking=False):
                self._refused(address, Refusal("Crowd", f"connections: found {WAITING} without a first frame"))
                close(raw)
                continue
            threading.Thread(target=self._serve, args=(raw, address), daemon=True).start()

    def _serve(self, raw: socket.socket, address: str) -> None:
        with raw:
            try:
                carried = self._greet(raw)
            except Refusal as refusal:
                self._refused(address, refusal)
                return
            finally:
                self._waiting.release()
            if carried is not None:
                join(*carried)

    def _greet(self, raw: socket.socket) -> tuple[Stream, Stream] | None:
        """Hands the connection on; answers what is to be carried, where TLS ends here. Raises ``Refusal``."""
        with _at_most(FIRST_FRAME_S, raw):
            stream = self._opened(raw)
            try:
                hello = _hello(stream)
                self._check(hello)
                process = self.sessions.find(hello.session) if hello.session else self.sessions.open(hello.mem_bytes)
                return _hand_on(stream, process, hello.received)
            except Refusal as refusal:
                _tell(stream, refusal)
                raise

    def _opened(self, raw: socket.socket) -> Stream:
        try:
            tune(raw)
            if self._certificates is None:
                return raw
            stream = TlsStream(raw, self._certificates.context())
            stream.handshake()
            return stream
        except ssl.SSLError as error:
            found = getattr(error, "verify_message", None) or error.reason or "no TLS"
            raise Refusal("Tls", f"TLS: found {found}; allowed: a certificate of the clients' CA") from None
        except OSError as error:
            raise Refusal("Gone", f"connection: found its end before the first frame ({error})") from None

    def _check(self, hello: greeting.Hello) -> None:
        if hello.protocol != greeting.VERSION:
            raise Refusal("Protocol", f"protocol: found version {hello.protocol}; allowed: {greeting.VERSION}")
        if _minor(hello.torch) != _minor(self._torch):
            text = f"torch: found {hello.torch}; allowed: {_minor(self._torch)}, which the executor has ({self._torch})"
            raise Refusal("Torch", text)
        self._admit(hello)

    def _refused(self, address: str, refusal: Refusal) -> None:
        with self._counting:
            self.refused[refusal.reason] += 1
            count = self.refused[refusal.reason]
        log.info("connection refused", client=address, reason=refusal.reason, text=str(refusal), count=count)


def _hello(stream: Stream) -> greeting.Hello:
    """Raises ``Refusal``."""
    try:
        head = read_exactly(stream, HEADER.size)
        header = parse_header(head) if head else None
        if header is None or header.kind is not Kind.HELLO:
            raise ProtocolError(f"first frame: found {header.kind.name if header else 'none'}; allowed: HELLO")
        payload = read_exactly(stream, header.payload_bytes)
        if payload is None:
            raise ProtocolError("first frame: found its beginning only")
        return greeting.decode(greeting.Hello, payload)
    except ProtocolError as error:
        raise Refusal("Malformed", str(error)) from None


def _hand_on(stream: Stream, process: Process, received: int) -> tuple[Stream, Stream] | None:
    if isinstance(stream, socket.socket):
        process.hand(stream.fileno(), received)
        return None
    ours, its = socket.socketpair()
    try:
        with its:
            process.hand(its.fileno(), received)
    except Refusal:
        ours.close()
        raise
    return stream, ours


def _tell(stream: Stream, refusal: Refusal) -> None:
    """Then waits for the client to end: what it still says would have its answer thrown away."""
    with contextlib.suppress(OSError):
        stream.sendall(greeting.framed(greeting.Refused(refusal.reason, str(refusal))))
        stream.shutdown(socket.SHUT_WR)
        unread = memoryview(bytearray(_PIECE))
        while stream.recv_into(unread):
            pass


@contextlib.contextmanager
def _at_most(seconds: float, raw: socket.socket) -> Iterator[None]:
    """Ends a connection that is not through by then, however it dawdles."""
    timer = threading.Timer(seconds, shut, (raw,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])
