"""What a gate tells the process of a session, and what that reports: datagrams over their own socket."""

import json
import os
import socket
import struct
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import NamedTuple

MOST_BYTES, _MOST_DESCRIPTORS = 8192, 1
_MOST_TEXT = 1000
SERVED = struct.Struct("<QQ")


class Verb(IntEnum):
    CONNECT = 1
    """A connection, and the last frame (``u64``) that its client has received."""
    QUIESCE = 2
    """Take no more frames until told what then."""
    SNAPSHOT = 3
    """Write what the session holds to the descriptor."""
    RESUME = 4
    """Go on as if nothing had been."""
    LEAVE = 5
    """The session goes on elsewhere: a Redirect for the client. Then end."""
    RESTORE = 6
    """Read from the descriptor what a session holds, and wait."""
    SERVE = 7
    """The session is this process's now, in the epoch and with the slot of the quota (``u64`` both)."""
    ENDED = 8
    """Reported only: why the process ends."""
    READY = 9
    """Reported only: it can be brought a session."""
    BEGIN = 10
    """The first: the session's name, which nobody but its own process is to know."""


class Order(NamedTuple):
    verb: Verb
    body: bytes = b""
    descriptor: int = -1

    @property
    def number(self) -> int:
        return int.from_bytes(self.body, "little")


@dataclass(frozen=True, slots=True)
class Report:
    """The order was carried out, or has ``failed`` in a sentence.

    After QUIESCE: bytes that are ``used``, the most that a snapshot takes as ``size``, bytes ``free`` on the device.
    """

    verb: int
    failed: str = ""
    used: int = 0
    size: int = 0
    free: int = 0


def send(way: socket.socket, order: Order) -> None:
    """Raises ``OSError``."""
    descriptors = [order.descriptor] if order.descriptor >= 0 else []
    socket.send_fds(way, [bytes([order.verb]) + order.body], descriptors)


def receive(way: socket.socket) -> Order | None:
    """``None``: the gate has gone."""
    data, descriptors, _, _ = socket.recv_fds(way, MOST_BYTES, _MOST_DESCRIPTORS)
    if not data:
        return None
    return Order(Verb(data[0]), data[1:], descriptors[0] if descriptors else -1)


def report(way: socket.socket, said: Report) -> None:
    """Never raises: a gate that is gone needs no report."""
    try:
        way.send(json.dumps(asdict(said)).encode())
    except OSError:
        return


def parse_report(data: bytes) -> Report | None:
    """``None`` for what is none: the process may be its tenant's by now."""
    try:
        found = Report(**json.loads(data))
    except (ValueError, TypeError, RecursionError):
        return None
    numbers = found.verb, found.used, found.size, found.free
    if not isinstance(found.failed, str) or not all(type(number) is int and number >= 0 for number in numbers):
        return None
    return Report(found.verb, found.failed[:_MOST_TEXT], *numbers[1:])


class Descriptor:
    """A ``Stream`` of a socket or a file by its number, which it owns."""

    def __init__(self, number: int) -> None:
        self.number = number

    def sendall(self, data: bytes | memoryview, /) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self.number, view) :]

    def recv_into(self, buffer: memoryview, /) -> int:
        return os.readv(self.number, [buffer])

    def shutdown(self, how: int, /) -> None:
        """A file has no other side."""

    def close(self) -> None:
        os.close(self.number)
