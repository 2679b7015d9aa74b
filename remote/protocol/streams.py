"""Connected sockets, plain or TLS: frames from them, and how they end."""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Protocol

from tessera.remote.protocol.frames import HEADER, Header, parse_header

STALL_S = 10
GONE_S = 12
"""A host that says nothing for so long, neither to a probe nor to what was sent, is gone."""
_PROBE_S = 4
_RTO_MAX_MS, AGAIN_MS = 44, 1000
"""Linux' ``TCP_RTO_MAX_MS``, which Python has no name for. What a link has lost is sent again at least this often: the
kernel by itself would double the pause each time, and say nothing for seconds to a link that is back."""


class Stream(Protocol):
    """A connected socket, plain or TLS. One thread reads while another writes."""

    def sendall(self, data: bytes | memoryview, /) -> None: ...

    def recv_into(self, buffer: memoryview, /) -> int: ...

    def shutdown(self, how: int, /) -> None: ...

    def close(self) -> None: ...


def tune(stream: socket.socket) -> None:
    """For a TCP connection: frames leave at once, and a host that is gone is noticed after ``GONE_S``.

    Nothing is probed while something sent is not acknowledged; without a limit of its own that takes a quarter of an
    hour.
    """
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_NODELAY, 1),
        (socket.TCP_KEEPIDLE, _PROBE_S), (socket.TCP_KEEPINTVL, _PROBE_S), (socket.TCP_KEEPCNT, GONE_S // _PROBE_S - 1),
        (socket.TCP_USER_TIMEOUT, 1000 * GONE_S),
    ):  # fmt: skip
        stream.setsockopt(socket.IPPROTO_TCP, option, value)
    with contextlib.suppress(OSError):  # Linux before 6.15 does not know it
        stream.setsockopt(socket.IPPROTO_TCP, _RTO_MAX_MS, AGAIN_MS)
    limit_stalls(stream, socket.SO_SNDTIMEO)


def limit_stalls(stream: socket.socket, *options: int) -> None:
    """Waits without end but for these, ``SO_SNDTIMEO`` and ``SO_RCVTIMEO``: no longer than ``STALL_S`` for any byte."""
    stream.setblocking(True)
    for option in options:
        stream.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", STALL_S, 0))


def read_frame(stream: Stream) -> tuple[Header, bytes] | None:
    """The next frame; ``None`` when the connection has ended. Raises ``ProtocolError``."""
    head = read_exactly(stream, HEADER.size)
    if head is None:
        return None
    header = parse_header(head)
    payload = read_exactly(stream, header.payload_bytes)
    return None if payload is None else (header, bytes(payload))


def read_exactly(stream: Stream, count: int) -> bytearray | None:
    """So many bytes; ``None`` when the connection has ended."""
    found = bytearray(count)
    view, at = memoryview(found), 0
    while at < count:
        try:
            got = stream.recv_into(view[at:])
        except OSError:
            return None
        if not got:
            return None
        at += got
    return found


@contextlib.contextmanager
def at_most(seconds: float, stream: Stream) -> Iterator[None]:
    """Ends a connection that is not through by then, however it dawdles."""
    timer = threading.Timer(seconds, shut, (stream,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def shut(stream: Stream) -> None:
    """Ends a connection that other threads may be using: they are woken. It is still to be closed."""
    with contextlib.suppress(OSError):
        stream.shutdown(socket.SHUT_RDWR)


def half_close(stream: Stream) -> None:
    """Nothing more is sent."""
    with contextlib.suppress(OSError):
        stream.shutdown(socket.SHUT_WR)


def close(stream: Stream) -> None:
    """Ends a connection that no other thread uses."""
    shut(stream)
    with contextlib.suppress(OSError):
        stream.close()
