"""How a gate in another process gives an executor the connections of clients: over a unix socket, one order each.

The gate connects (``SOCK_SEQPACKET``), says what the pool allows and, with a connection, the client's HELLO, in one
datagram of JSON lines that carries the descriptor; the executor answers an empty object, or the frame that the client
is to be told. The gate alone is known to the pool; the executor knows no tokens.
"""

import contextlib
import socket
import threading
from dataclasses import asdict, replace
from json import dumps
from pathlib import Path

import structlog

from tessera.remote.executor.lease import Allowance
from tessera.remote.executor.reception import Reception
from tessera.remote.executor.refusals import Elsewhere, Refusal
from tessera.remote.protocol import greeting
from tessera.remote.protocol.errors import ProtocolError
from tessera.remote.protocol.frames import HEADER, Kind, parse_header
from tessera.remote.protocol.greeting import Hello
from tessera.remote.protocol.streams import close

log = structlog.get_logger()

MOST_BYTES = 32 << 10
ANSWER_S = 5.0
"""The gate waits so long for the executor, which may have a process to start."""
_BACKLOG = 128
_DONE = b"{}"

__all__ = ["Allowance", "HandOver", "hand_over", "listening", "tell"]


def hand_over(path: Path | str, stream: socket.socket, hello: Hello, allowance: Allowance) -> None:
    """The executor goes on with the client, over a duplicate of ``stream``. Raises ``Refusal``."""
    try:
        _ordered(path, allowance, hello, stream)
    except OSError as error:
        raise Refusal("Unavailable", f"executor: found none that takes sessions ({error.strerror or error})") from None


def tell(path: Path | str, allowance: Allowance) -> None:
    """An epoch above the executor's ends the sessions of older ones, and so does a lease that is over.

    Raises ``OSError`` where no executor listens, and ``Refusal`` where it cannot do so now.
    """
    _ordered(path, allowance)


def _ordered(
    path: Path | str, allowance: Allowance, hello: Hello | None = None, stream: socket.socket | None = None
) -> None:
    said = [dumps(asdict(allowance)).encode()]
    if hello is not None:
        said.append(greeting.encode(replace(hello, token="")))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as way:
        way.settimeout(ANSWER_S)
        way.connect(str(path))
        socket.send_fds(way, [b"\n".join(said)], [stream.fileno()] if stream else [])
        answer = way.recv(MOST_BYTES)
    if not answer:
        raise ConnectionResetError("the executor ended before its answer")
    if answer != _DONE:
        raise _refusal(answer)


def _refusal(answer: bytes) -> Refusal:
    """What the executor would have the client told: it may be its tenant's by now, and is believed nothing else."""
    try:
        header, payload = parse_header(answer), answer[HEADER.size :]
        if header.kind is Kind.REDIRECT:
            return Elsewhere(greeting.decode(greeting.Redirect, payload))
        refused = greeting.decode(greeting.Refused, payload)
    except (ProtocolError, IndexError, ValueError) as error:
        return Refusal("Unavailable", f"executor: found an answer that is none ({error})")
    return Refusal(refused.reason, refused.text)


def listening(path: Path) -> socket.socket:
    """The executor's socket, for its group too. A former one is replaced. Raises ``OSError``."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        listener.bind(str(path))
        path.chmod(0o660)
    except OSError:
        listener.close()
        raise
    return listener


class HandOver:
    """Serves what gates hand over, on ``listener``, between ``start`` and ``stop``."""

    def __init__(self, listener: socket.socket, reception: Reception) -> None:
        self._listener, self._reception = listener, reception
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def start(self) -> None:
        self._listener.listen(_BACKLOG)
        self._thread.start()

    def stop(self) -> None:
        """Ends the sessions with it."""
        self._stopping.set()
        close(self._listener)
        self._thread.join()
        self._reception.stop()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                way, _ = self._listener.accept()
            except OSError as error:
                if not self._stopping.wait(0.1):
                    log.warning("hand-over not accepted", error=str(error))
                continue
            threading.Thread(target=self._serve, args=(way,), daemon=True).start()

    def _serve(self, way: socket.socket) -> None:
        with way, contextlib.suppress(OSError):
            way.settimeout(ANSWER_S)
            data, descriptors, _, _ = socket.recv_fds(way, MOST_BYTES, 1)
            streams = [socket.socket(fileno=number) for number in descriptors]
            try:
                self._obey(data, streams)
                answer = _DONE
            except ProtocolError as error:
                answer = greeting.framed(greeting.Refused("Malformed", str(error)))
            except Refusal as refusal:
                answer = greeting.framed(refusal.answer)
            finally:
                for stream in streams:
                    stream.close()
            way.sendall(answer)

    def _obey(self, data: bytes, streams: list[socket.socket]) -> None:
        """Raises ``ProtocolError`` and ``Refusal``."""
        said = data.split(b"\n")
        allowance = greeting.decode(Allowance, said[0])
        if len(said) - 1 != len(streams):
            raise ProtocolError(f"hand-over: found {len(streams)} connections with {len(said) - 1} of HELLO")
        self._reception.allow(allowance)
        for stream in streams:
            self._reception.receive(stream, greeting.decode(Hello, said[1]))
