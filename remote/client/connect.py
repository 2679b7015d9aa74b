"""How the pool is reached: the address in the environment."""

import os
import socket

from tessera.remote.client.errors import ConnectError
from tessera.remote.protocol.peer import Stream

POOL, GPU_MEM = "TESSERA_POOL", "TESSERA_POOL_GPU_MEM"
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
    if not host or not port.isdecimal():
        raise ConnectError(f"{POOL}: found {address!r}; allowed: HOST:PORT")
    stream = socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S)
    stream.settimeout(None)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return stream
