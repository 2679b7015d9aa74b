"""A lease from this machine's agent, from the client's side: asked for, joined, and held by an open connection."""

import contextlib
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

from tessera.node_agent.local import wire

DEFAULT_SOCKET = Path("/run/tessera/lease.sock")


class LeaseError(Exception):
    """There is no lease; the text is one sentence."""


def default_socket() -> Path:
    """The machine's, if there is one; else the user's own."""
    own = Path(os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")) / "tessera" / "lease.sock"
    return DEFAULT_SOCKET if DEFAULT_SOCKET.exists() or not own.exists() else own


@contextlib.contextmanager
def lease(path: Path, limits: Mapping[str, str], annotations: Mapping[str, str]) -> Iterator[wire.Granted]:
    """Holds a lease while the block runs. Raises ``LeaseError``."""
    with _connection(path) as connection:
        found = _ask(connection, path, wire.Ask(dict(limits), dict(annotations)))
        if not isinstance(found, wire.Granted):
            raise LeaseError(f"the agent on {path} answered {found}")
        yield found


@contextlib.contextmanager
def joining(path: Path, lease_id: str) -> Iterator[None]:
    """Makes this process, and what it starts, the lease's, once the block has run. Raises ``LeaseError``.

    Connected before, since the block may mount something over the socket.
    """
    with _connection(path) as connection:
        yield
        _ask(connection, path, wire.Join(lease_id))


@contextlib.contextmanager
def _connection(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
        try:
            made.connect(str(path))
        except OSError as error:
            found = f"{path}: {error.strerror}"
            raise LeaseError(f"--socket: found {found}; allowed: the lease socket of a running agent") from None
        yield made


def _ask(connection: socket.socket, path: Path, question: wire.Question) -> wire.Answer:
    line = b""
    try:
        connection.sendall(wire.encode(question))
        while not line.endswith(b"\n"):
            part = connection.recv(wire.LONGEST)
            if not part:
                raise LeaseError(f"the agent on {path} hung up")
            line += part
        found = wire.answer(line)
    except (OSError, wire.WireError) as error:
        raise LeaseError(f"the agent on {path}: {error}") from None
    if isinstance(found, wire.Refused):
        raise LeaseError(found.text)
    return found
