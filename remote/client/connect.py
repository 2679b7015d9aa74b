"""How the pool is reached: the address in the environment, and with TLS the files named there."""

import os
import socket
import ssl

from tessera.remote.client.errors import ConnectError
from tessera.remote.protocol.streams import Stream, tune
from tessera.remote.protocol.tls import TlsStream

POOL, GPU_MEM = "TESSERA_POOL", "TESSERA_POOL_GPU_MEM"
TLS = ("TESSERA_POOL_TLS_CA", "TESSERA_POOL_TLS_CERT", "TESSERA_POOL_TLS_KEY")
_CONNECT_S = 5.0


def mem_bytes() -> int:
    """What the session asks for; 0: what it is given. Raises ``ConnectError``."""
    asked = os.environ.get(GPU_MEM, "0")
    if not asked.isdecimal():
        raise ConnectError(f"{GPU_MEM}: found {asked!r}; allowed: bytes")
    return int(asked)


def connect() -> Stream:
    """A connection to ``TESSERA_POOL``. Raises ``OSError``, and ``ConnectError`` for what no retry can mend."""
    address = os.environ.get(POOL, "")
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal():
        raise ConnectError(f"{POOL}: found {address!r}; allowed: HOST:PORT")
    context = _context()
    raw = socket.create_connection((host, int(port)), _CONNECT_S)
    try:
        stream = raw if context is None else _secured(raw, context, host)
        tune(raw)
    except BaseException:
        raw.close()
        raise
    return stream


class _Certified(TlsStream):
    """With TLS 1.3 a server that does not take the client's certificate says so only after the handshake."""

    _taken = False

    def recv_into(self, buffer: memoryview) -> int:
        try:
            count = super().recv_into(buffer)
            self._taken = True
            return count
        except ssl.SSLError as error:
            if self._taken:
                raise
            raise ConnectError(f"TLS: the pool does not take {os.environ.get(TLS[1])}: {_reason(error)}") from None


def _context() -> ssl.SSLContext | None:
    """``None``: without TLS. Raises ``ConnectError``."""
    files = [os.environ.get(name, "") for name in TLS]
    if not any(files):
        return None
    if not all(files):
        lacking = ", ".join(name for name, path in zip(TLS, files, strict=True) if not path)
        raise ConnectError(f"{lacking}: found nothing; allowed: all of {', '.join(TLS)}, or none")
    authority, cert, key = files
    try:
        context = ssl.create_default_context(cafile=authority)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(cert, key)
    except OSError as error:
        raise ConnectError(f"{', '.join(TLS)}: found {error}; allowed: PEM files that belong together") from None
    return context


def _secured(raw: socket.socket, context: ssl.SSLContext, host: str) -> Stream:
    stream = _Certified(raw, context, host)
    try:
        stream.handshake()
    except ssl.SSLEOFError:
        raise ConnectionResetError("the pool ended the TLS handshake") from None
    except ssl.SSLCertVerificationError as error:
        raise ConnectError(f"TLS: the pool's certificate is not good for {host!r}: {error.verify_message}") from None
    except ssl.SSLError as error:
        raise ConnectError(f"TLS: found no pool with TLS at {host!r}: {_reason(error)}") from None
    return stream


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).lower().replace("_", " ")
