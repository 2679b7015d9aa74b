"""TCP connections to a pool, and TLS over them."""

import ipaddress
import socket
import ssl

from tessera.remote.client.errors import ConnectError
from tessera.remote.protocol.streams import tune
from tessera.remote.protocol.tls import TlsStream

_CONNECT_S = 5.0


def endpoint_of(address: str, field: str) -> tuple[str, int]:
    """Of ``HOST:PORT``. Raises ``ConnectError`` that names the field."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ConnectError(f"{field}: found {address!r}; allowed: HOST:PORT")
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Whether it is this machine by its address, or by the one name that means it everywhere."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def opened(host: str, port: int) -> socket.socket:
    """Raises ``ConnectionError``. The handshake is still to come, within ``_CONNECT_S`` for each of its bytes."""
    try:
        return socket.create_connection((host, port), _CONNECT_S)
    except OSError as error:
        raise ConnectionError(f"{host}:{port}: {error.strerror or error}") from None


def secured(raw: socket.socket, context: ssl.SSLContext, name: str, kind: type[TlsStream] = TlsStream) -> TlsStream:
    """TLS with who has a certificate for ``name``. Raises ``OSError`` and ``ConnectError``."""
    stream = kind(raw, context, name)
    try:
        stream.handshake()
    except ssl.SSLEOFError:
        raise ConnectionResetError("the pool ended the TLS handshake") from None
    except ssl.SSLCertVerificationError as error:
        raise ConnectError(f"TLS: the pool's certificate is not good for {name!r}: {error.verify_message}") from None
    except ssl.SSLError as error:
        raise ConnectError(f"TLS: found no pool with TLS at {name!r}: {reason_of(error)}") from None
    tune(raw)
    return stream


def reason_of(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).lower().replace("_", " ")
