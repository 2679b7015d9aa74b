"""The first frames of a connection, JSON objects: HELLO from the client; WELCOME or REFUSED to it."""

import json
from dataclasses import MISSING, Field, asdict, dataclass, fields
from typing import Any, TypeVar

from tessera.remote.protocol.errors import ProtocolError
from tessera.remote.protocol.frames import Kind, pack_header

VERSION = 1

T = TypeVar("T", "Hello", "Welcome", "Refused")


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

    ``capability``: of a GPU, major times 10 and minor, and ``multiprocessors``; 0 for a CPU.
    """

    session: str
    received: int
    torch: str
    device: str
    limit_bytes: int
    total_bytes: int
    capability: int = 0
    multiprocessors: int = 0
    protocol: int = VERSION


@dataclass(frozen=True, slots=True)
class Refused:
    """``reason``: a word for programs; ``text``: a sentence for people."""

    reason: str
    text: str


_KINDS = {Hello: Kind.HELLO, Welcome: Kind.WELCOME, Refused: Kind.REFUSED}


def encode(message: Hello | Welcome | Refused) -> bytes:
    return json.dumps(asdict(message)).encode()


def framed(message: Hello | Welcome | Refused) -> bytes:
    """The whole frame."""
    payload = encode(message)
    return pack_header(_KINDS[type(message)], len(payload)) + payload


def decode(kind: type[T], payload: bytes | bytearray | memoryview) -> T:
    """Raises ``ProtocolError`` that names the field. Fields that are not known are left alone."""
    found = _object(kind.__name__, payload)
    return kind(**{item.name: _checked(kind, item, found.get(item.name, item.default)) for item in fields(kind)})


def _object(name: str, payload: bytes | bytearray | memoryview) -> dict[str, Any]:
    try:
        found = json.loads(bytes(payload))
    except (ValueError, RecursionError):
        raise ProtocolError(f"{name}: found no JSON") from None
    if not isinstance(found, dict):
        raise ProtocolError(f"{name}: found {type(found).__name__}; allowed: an object")
    return found


def _checked(kind: type, item: "Field[Any]", value: Any) -> Any:
    if type(value) is not item.type or (item.type is int and not 0 <= value < 1 << 64):
        allowed = "0 to 2^64 - 1" if item.type is int else "text"
        shown = "nothing" if value is MISSING else repr(value)[:60]
        raise ProtocolError(f"{kind.__name__}.{item.name}: found {shown}; allowed: {allowed}")
    return value
