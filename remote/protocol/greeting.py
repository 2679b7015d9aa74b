"""The first frames of a connection, JSON objects: HELLO from the client; WELCOME, REFUSED or REDIRECT to it. MOVE from
another executor; MOVED or REFUSED to it."""

import json
from dataclasses import MISSING, Field, asdict, dataclass, fields
from typing import Any, ClassVar, Protocol, TypeVar

from tessera.remote.protocol.errors import ProtocolError
from tessera.remote.protocol.frames import Kind, pack_header

VERSION = 1


class _Fields(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


T = TypeVar("T", bound=_Fields)


@dataclass(frozen=True, slots=True)
class Hello:
    """``session``: empty for a new one, else its name, with the last frame ``received`` of it.

    ``mem_bytes``: what a new one asks for; 0: what it is given.

    ``token``, ``lease``, ``container`` and ``epoch`` say who asks, ``torch`` which framework he has.
    """

    torch: str
    session: str = ""
    received: int = 0
    mem_bytes: int = 0
    token: str = ""
    lease: str = ""
    container: str = ""
    epoch: int = 0
    protocol: int = VERSION


@dataclass(frozen=True, slots=True)
class Welcome:
    """``device``: its name; ``limit_bytes``: what the session may hold; ``total_bytes``: what the device has.

    ``capability``: of a GPU, major times 10 and minor, and ``multiprocessors``; 0 for a CPU. ``epoch``: the executor's.
    """

    session: str
    received: int
    torch: str
    device: str
    limit_bytes: int
    total_bytes: int
    capability: int = 0
    multiprocessors: int = 0
    epoch: int = 0
    protocol: int = VERSION


@dataclass(frozen=True, slots=True)
class Refused:
    """``reason``: a word for programs; ``text``: a sentence for people."""

    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class Redirect:
    """The session goes on at ``endpoint``, ``HOST:PORT`` (empty: here), in this ``epoch`` and no other.

    ``server_name``: what the certificate there is for; empty: the host.
    """

    epoch: int
    endpoint: str = ""
    server_name: str = ""


@dataclass(frozen=True, slots=True)
class Move:
    """From an executor to another that gave it the ``ticket``: a session follows; without one, all have followed and
    are to be served from now on.

    ``limit_bytes``: what it may hold, as it was given; ``device``: its kind.
    """

    ticket: str
    torch: str = ""
    session: str = ""
    limit_bytes: int = 0
    device: str = ""
    protocol: int = VERSION


@dataclass(frozen=True, slots=True)
class Moved:
    """MOVE is granted, and after a session: it is whole here."""

    session: str = ""


Message = Hello | Welcome | Refused | Redirect | Move | Moved
_KINDS = {
    Hello: Kind.HELLO, Welcome: Kind.WELCOME, Refused: Kind.REFUSED, Redirect: Kind.REDIRECT, Move: Kind.MOVE,
    Moved: Kind.MOVED,
}  # fmt: skip


def encode(message: _Fields) -> bytes:
    return json.dumps(asdict(message)).encode()


def framed(message: Message) -> bytes:
    """The whole frame."""
    payload = encode(message)
    return pack_header(_KINDS[type(message)], len(payload)) + payload


def decode(kind: type[T], payload: bytes | bytearray | memoryview) -> T:
    """Raises ``ProtocolError`` that names the field. Fields that are not known are left alone."""
    found, make = _object(kind.__name__, payload), kind
    return make(**{item.name: _checked(kind, item, found.get(item.name, item.default)) for item in fields(kind)})


def minor(version: str) -> str:
    """Of torch: both sides must have the same."""
    return ".".join(version.split(".")[:2])


def _object(name: str, payload: bytes | bytearray | memoryview) -> dict[str, Any]:
    try:
        found = json.loads(bytes(payload))
    except (ValueError, RecursionError):
        raise ProtocolError(f"{name}: found no JSON") from None
    if not isinstance(found, dict):
        raise ProtocolError(f"{name}: found {type(found).__name__}; allowed: an object")
    return found


def _checked(kind: type, item: "Field[Any]", value: Any) -> Any:
    if type(value) is not item.type or not (0 <= value < 1 << 64 if item.type is int else _sayable(value)):
        allowed = "0 to 2^64 - 1" if item.type is int else "text"
        shown = "nothing" if value is MISSING else repr(value)[:60]
        raise ProtocolError(f"{kind.__name__}.{item.name}: found {shown}; allowed: {allowed}")
    return value


def _sayable(text: str) -> bool:
    """JSON may name halves of characters, which no encoding has."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
