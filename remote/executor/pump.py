"""Bytes between a client's TLS connection, which the gate ends, and the session's process."""

import threading
from contextlib import suppress

from tessera.remote.protocol.streams import Stream, close, shut

_PIECE = 256 << 10


def join(one: Stream, other: Stream) -> None:
    """Carries what each side sends to the other until either ends; then both have ended.

    Raises ``RuntimeError`` where there is no thread for it; then too."""
    back = threading.Thread(target=_carry, args=(other, one), daemon=True)
    try:
        back.start()
        _carry(one, other)
        back.join()
    finally:
        for stream in (one, other):
            close(stream)


def _carry(source: Stream, sink: Stream) -> None:
    with suppress(OSError):
        carry(source, sink)
    shut(source)
    shut(sink)


def carry(source: Stream, sink: Stream) -> None:
    """All that comes until the source ends. Raises ``OSError``."""
    buffer = memoryview(bytearray(_PIECE))
    while count := source.recv_into(buffer):
        sink.sendall(buffer[:count])
