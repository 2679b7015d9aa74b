"""A container's lease of a slice on another node: a folder that the node keeps current, and a token. Both are read at
each connect, so nothing here outlives a move of the executor or a token's hour."""

import json
import os
import ssl
from pathlib import Path
from typing import Any, NamedTuple

from tessera.remote.client.contact import Contact
from tessera.remote.client.errors import ConnectError
from tessera.remote.client.tcp import endpoint_of, opened, secured
from tessera.remote.protocol.greeting import Redirect
from tessera.remote.protocol.tls import trusting

LEASE_DIR, TOKEN_FILE = "TESSERA_LEASE_DIR", "TESSERA_TOKEN_FILE"
TOKEN = "/var/run/secrets/tessera/token"
_MOST_TOKEN = 12 << 10
"""So much of HELLO's 16 KiB."""


class Lease(NamedTuple):
    """As in ``lease.json``. ``server_name``: what the executor's certificate is for, whatever its address. ``over``:
    why nobody is let in any more, ever; empty while somebody may be."""

    endpoint: str
    epoch: int
    server_name: str
    lease: str
    container: str
    over: str = ""


def connect(folder: Path, redirect: Redirect | None = None) -> Contact:
    """Raises ``OSError``, also where the folder is not written yet, and ``ConnectError``.

    A redirect counts until the node has written its epoch or a later one.
    """
    lease = read(folder)
    if lease.over:
        raise ConnectError(lease.over)
    context = _context(folder / "ca.crt")
    endpoint, epoch = lease.endpoint, lease.epoch
    if redirect is not None and redirect.epoch > epoch:
        endpoint, epoch = redirect.endpoint or endpoint, redirect.epoch
    raw = opened(*endpoint_of(endpoint, "endpoint"))
    try:
        stream = secured(raw, context, lease.server_name)
        return Contact(stream, _token(), lease.lease, lease.container, epoch)
    except BaseException:
        raw.close()
        raise


def over(folder: Path) -> str:
    """Why the lease is over; empty while it is not, or nobody can say."""
    try:
        return read(folder).over
    except (OSError, ConnectError):
        return ""


def read(folder: Path) -> Lease:
    """Raises ``OSError`` and ``ConnectError``."""
    path = folder / "lease.json"
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise ConnectError(f"{path}: found no JSON ({error})") from None
    if not isinstance(found, dict):
        raise ConnectError(f"{path}: found {type(found).__name__}; allowed: an object")
    kinds, said = Lease.__annotations__, {**Lease._field_defaults, **found}
    return Lease(**{name: _checked(path, name, said.get(name), kind) for name, kind in kinds.items()})


def _checked(path: Path, name: str, value: Any, kind: Any) -> Any:
    lacking = value == "" and name not in Lease._field_defaults
    if type(value) is not kind or (kind is int and value < 0) or lacking:
        allowed = "a number from 0" if kind is int else "text"
        raise ConnectError(f"{path}: {name}: found {value!r}; allowed: {allowed}")
    return value


def _context(authority: Path) -> ssl.SSLContext:
    data = authority.read_text(errors="replace")
    try:
        return trusting(data)
    except (ssl.SSLError, ValueError):
        raise ConnectError(f"{authority}: found no certificate; allowed: the pool's, as PEM") from None


def _token() -> str:
    """Raises ``ConnectError``."""
    path = Path(os.environ.get(TOKEN_FILE) or TOKEN)
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConnectError(f"{TOKEN_FILE}: {path}: found none ({error}); allowed: the pod's token") from None
    if not 0 < len(token) <= _MOST_TOKEN:
        raise ConnectError(f"{TOKEN_FILE}: {path}: found {len(token)} characters; allowed: 1 to {_MOST_TOKEN}")
    return token
