"""TLS over a connected socket of which one thread reads while another writes.

OpenSSL's state is only touched under a lock, and never while a thread waits for the network: ``ssl.SSLSocket`` does not
keep two threads apart.
"""

import ssl
import threading
from socket import socket

_PIECE = 64 << 10


def trusting(authority: str) -> ssl.SSLContext:
    """For connections to who has a certificate of this authority, PEM, over TLS 1.3. Raises ``ssl.SSLError`` and
    ``ValueError``."""
    context = ssl.create_default_context(cadata=authority)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


class TlsStream:
    """``server_name``: the name that the other side's certificate must have; empty: this is the server's side."""

    def __init__(self, raw: socket, context: ssl.SSLContext, server_name: str = "") -> None:
        self._raw = raw
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, not server_name, server_name or None)
        self._state, self._writing = threading.Lock(), threading.Lock()

    def handshake(self) -> None:
        """Raises ``OSError``, of which ``ssl.SSLError`` is one; the other side is told."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._receive()
            except ssl.SSLError:
                self._flush()
                raise
            else:
                return self._flush()

    def recv_into(self, buffer: memoryview) -> int:
        while True:
            with self._state:
                try:
                    return int(self._tls.read(len(buffer), buffer))
                except ssl.SSLWantReadError:
                    pass
                except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                    return 0
            self._receive()

    def sendall(self, data: bytes | memoryview) -> None:
        with self._writing:
            with self._state:
                self._tls.write(data)
                made = self._out.read()
            self._raw.sendall(made)

    def shutdown(self, how: int) -> None:
        self._raw.shutdown(how)

    def close(self) -> None:
        self._raw.close()

    def _receive(self) -> None:
        data = self._raw.recv(_PIECE)
        with self._state:
            if data:
                self._in.write(data)
            else:
                self._in.write_eof()

    def _flush(self) -> None:
        self._raw.sendall(self._out.read())
