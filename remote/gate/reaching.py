"""Connections to the gate of another executor of the same lease."""

import socket
import ssl
import threading

from tessera.remote.executor.pump import join
from tessera.remote.protocol.streams import close, tune
from tessera.remote.protocol.tls import TlsStream

CONNECT_S = 5.0


def reached(endpoint: str, server_name: str, context: ssl.SSLContext) -> socket.socket:
    """An end of a pair, from which everything is carried there. Raises ``OSError``."""
    host, _, port = endpoint.rpartition(":")
    raw = socket.create_connection((host.strip("[]"), int(port)), CONNECT_S)
    try:
        stream = TlsStream(raw, context, server_name)
        stream.handshake()
        tune(raw)
        ours, its = socket.socketpair()
    except BaseException:
        raw.close()
        raise
    try:
        threading.Thread(target=join, args=(stream, ours), daemon=True).start()
    except RuntimeError as error:
        for each in (stream, ours, its):
            close(each)
        raise ConnectionError(f"{endpoint}: cannot be reached: {error}") from None
    return its
