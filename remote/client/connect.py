"""How the pool is reached: through the container's lease, or at the address in the environment, and with TLS the files
named there."""

import os
import ssl
from pathlib import Path

from tessera.remote.client import lease
from tessera.remote.client.contact import Contact
from tessera.remote.client.errors import ConnectError
from tessera.remote.client.tcp import endpoint_of, is_loopback, opened, reason_of, secured
from tessera.remote.protocol.greeting import Redirect
from tessera.remote.protocol.streams import tune
from tessera.remote.protocol.tls import TlsStream

POOL, GPU_MEM, GRACE = "TESSERA_POOL", "TESSERA_POOL_GPU_MEM", "TESSERA_GRACE_S"
BLOCKING = "TESSERA_LAUNCH_BLOCKING"
TLS = ("TESSERA_POOL_TLS_CA", "TESSERA_POOL_TLS_CERT", "TESSERA_POOL_TLS_KEY")
GRACE_S = 60
"""A connection that broke is tried again for so long; no session is kept for longer."""
LEASED_S = 30.0
"""A lease's executor may still be on its way: the first connection is tried for so long."""


def mem_bytes() -> int:
    """What the session asks for; 0: what it is given. Raises ``ConnectError``."""
    asked = os.environ.get(GPU_MEM, "0")
    if not asked.isdecimal():
        raise ConnectError(f"{GPU_MEM}: found {asked!r}; allowed: bytes")
    return int(asked)


def grace_s() -> float:
    """How long the program waits for a connection that broke before its device is lost. Raises ``ConnectError``."""
    asked = os.environ.get(GRACE, str(GRACE_S))
    if not asked.isdecimal() or int(asked) > GRACE_S:
        raise ConnectError(f"{GRACE}: found {asked!r}; allowed: seconds, 0 to {GRACE_S}")
    return int(asked)


def blocking() -> bool:
    """Whether each operator is waited for, so that its error comes with it. Raises ``ConnectError``."""
    asked = os.environ.get(BLOCKING, "0")
    if asked not in ("0", "1"):
        raise ConnectError(f"{BLOCKING}: found {asked!r}; allowed: 0 or 1")
    return asked == "1"


def patience_s() -> float:
    """How long the first connection is tried for; 0: once."""
    return LEASED_S if os.environ.get(lease.LEASE_DIR) else 0


def connect(redirect: Redirect | None = None) -> Contact:
    """A ``Connect``: by ``TESSERA_LEASE_DIR``, else to ``TESSERA_POOL``."""
    folder = os.environ.get(lease.LEASE_DIR, "")
    return lease.connect(Path(folder), redirect) if folder else _pool(redirect or Redirect(0))


def _pool(redirect: Redirect) -> Contact:
    host, port = endpoint_of(redirect.endpoint or os.environ.get(POOL, ""), POOL)
    context = _context()
    if context is None and not is_loopback(host):
        lacking = ", ".join(TLS)
        raise ConnectError(f"{POOL}: found {host!r} without {lacking}; allowed: with them, or a loopback address")
    raw = opened(host, port)
    try:
        if context is not None:
            return Contact(secured(raw, context, redirect.server_name or host, _Certified), epoch=redirect.epoch)
        tune(raw)
        return Contact(raw, epoch=redirect.epoch)
    except BaseException:
        raw.close()
        raise


def over() -> str:
    """Why the container's lease is over; empty while it is not, or where there is none."""
    folder = os.environ.get(lease.LEASE_DIR, "")
    return lease.over(Path(folder)) if folder else ""


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
            raise ConnectError(f"TLS: the pool does not take {os.environ.get(TLS[1])}: {reason_of(error)}") from None


def _context() -> ssl.SSLContext | None:
    """``None``: without TLS. Raises ``ConnectError``."""
    files = [os.environ.get(name, "") for name in TLS]
    if not any(files):
        return None
    if not all(files):
        lacking = ", ".join(name for name, path in zip(TLS, files, strict=True) if not path)
        raise ConnectError(f"{lacking}: found nothing; allowed: all of {', '.join(TLS)}, or none")
    for name, path in zip(TLS, files, strict=True):
        if not Path(path).is_file():
            raise ConnectError(f"{name}: found no file {path!r}; allowed: a PEM file")
    authority, cert, key = files
    try:
        context = ssl.create_default_context(cafile=authority)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(cert, key)
    except OSError as error:
        raise ConnectError(f"{', '.join(TLS)}: found {error}; allowed: PEM files that belong together") from None
    return context
