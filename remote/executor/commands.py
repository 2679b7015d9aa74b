"""What a gate in another process and an executor say to each other: a word and a JSON object in each line."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from tessera.remote.executor.lease import Allowance
from tessera.remote.executor.meters import Figures
from tessera.remote.protocol import greeting
from tessera.remote.protocol.errors import ProtocolError
from tessera.remote.protocol.greeting import Hello, Move, Redirect, Refused

MOST_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Resize:
    """All sessions go on in ``epoch``, each held to ``limit_bytes``, 0 for no limit, as are new ones.

    ``way``: ``auto``, or for old and new ``direct`` beside each other, or by way of the ``host``'s memory.
    """

    epoch: int
    limit_bytes: int
    way: str = "auto"


@dataclass(frozen=True, slots=True)
class Expect:
    """All sessions of another executor come here and go on in ``epoch``, with what an ``Allowance`` says. Answered with
    a ticket."""

    epoch: int
    limit_bytes: int
    sessions: int


@dataclass(frozen=True, slots=True)
class Leave:
    """All sessions go to the executor that gave the ticket, where clients find them at ``endpoint`` in ``epoch``.

    The gate is asked for connections there by ``Connect``, meanwhile.
    """

    ticket: str
    epoch: int
    endpoint: str = ""
    server_name: str = ""
    way: str = "auto"


@dataclass(frozen=True, slots=True)
class Connect:
    """To the gate: a connection to the other executor is wanted. Answered with one, or ``Refused``."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Which epoch is served?"""


@dataclass(frozen=True, slots=True)
class Look:
    """What have the sessions done? Answered with ``Done`` and the ``Figures`` of each."""


@dataclass(frozen=True, slots=True)
class Done:
    """``paused_us``: how long no session ran; ``epoch``: that is served, where it was asked for."""

    ticket: str = ""
    sessions: int = 0
    used_bytes: int = 0
    paused_us: int = 0
    epoch: int = 0


Said = Allowance | Hello | Move | Resize | Expect | Leave | Ask | Look | Connect | Done | Figures | Refused | Redirect
_KINDS: dict[str, type[Said]] = {
    kind.__name__: kind
    for kind in (Allowance, Hello, Move, Resize, Expect, Leave, Ask, Look, Connect, Done, Figures, Refused, Redirect)
}  # fmt: skip

T = TypeVar("T")


def encode(*said: Said) -> bytes:
    return b"\n".join(type(one).__name__.encode() + b" " + greeting.encode(one) for one in said)


def decode(data: bytes) -> Sequence[Said]:
    """Raises ``ProtocolError``."""
    found = []
    for line in data.split(b"\n"):
        name, _, content = line.partition(b" ")
        kind = _KINDS.get(name.decode(errors="replace"))
        if kind is None:
            raise ProtocolError(f"order: found {name[:40]!r}; allowed: {', '.join(_KINDS)}")
        found.append(greeting.decode(kind, content))
    return found
