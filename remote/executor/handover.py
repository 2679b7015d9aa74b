"""How a gate in another process gives an executor clients and orders: over a unix socket, each its own connection.

The gate connects (``SOCK_SEQPACKET``) and says, in one datagram, what the pool allows and, with the descriptor of a
connection, the first frame that came over it. The gate alone is known to the pool; the executor knows no tokens. What
the executor answers is not believed more than its tenant, whose it may be by now.
"""

import contextlib
import re
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tessera.remote.executor import commands
from tessera.remote.executor.commands import MOST_BYTES, Ask, Connect, Done, Expect, Leave, Look, Resize, Said
from tessera.remote.executor.lease import Allowance
from tessera.remote.executor.meters import SLOTS, Figures
from tessera.remote.executor.refusals import Elsewhere, Refusal, Unsure
from tessera.remote.protocol.errors import ProtocolError
from tessera.remote.protocol.greeting import Hello, Move, Redirect, Refused

ANSWER_S = 5.0
"""The gate waits so long for the executor, which may have a process to start."""
MOVE_S = 900.0
"""And so long while sessions are copied."""
MOST_REASON, MOST_TEXT, MOST_TICKET = 32, 1024, 64
"""Characters of what an executor says: gates write it down and tell the controller."""

__all__ = [
    "Allowance", "Expect", "Leave", "Resize", "expect", "hand_over", "hand_over_move", "leave", "listening", "look",
    "resize", "served", "tell",
]  # fmt: skip

Reach = Callable[[], socket.socket]
"""A new connection to the gate of the other executor, plain or an end of a pair. Raises ``OSError``."""


def hand_over(path: Path | str, stream: socket.socket, hello: Hello, allowance: Allowance) -> None:
    """The executor goes on with the client, over a duplicate of ``stream``. Raises ``Refusal``."""
    try:
        _ordered(path, ANSWER_S, (allowance, replace(hello, token="")), stream)
    except OSError as error:
        raise _nobody(error) from None


def hand_over_move(path: Path | str, stream: socket.socket, move: Move) -> None:
    """The executor goes on with another executor, over a duplicate of ``stream``.

    Raises ``Refusal`` where it surely does not, and ``Unsure``: one that is slow may serve the sessions yet, and the
    other would go on with them too if it were told that they are refused.
    """
    try:
        _ordered(path, ANSWER_S, (move,), stream)
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise _nobody(error) from None
    except OSError as error:
        raise Unsure("Unavailable", f"executor: found no answer to a move ({error.strerror or error})") from None


def tell(path: Path | str, allowance: Allowance) -> None:
    """An epoch above the executor's ends the sessions of older ones, and so does a lease that is over.

    Raises ``OSError`` where no executor listens, and ``Refusal`` where it cannot do so now.
    """
    _ordered(path, ANSWER_S, (allowance,))


def resize(path: Path | str, order: Resize) -> Done:
    """Returns when the sessions run again. Raises ``OSError`` and ``Refusal``; then they run as before."""
    return _ordered(path, MOVE_S, (order,))


def expect(path: Path | str, order: Expect) -> str:
    """The ticket for the other executor. Raises ``OSError`` and ``Refusal``."""
    ticket = _ordered(path, ANSWER_S, (order,)).ticket
    if not 0 < len(ticket) <= MOST_TICKET:
        found = f"executor: found a ticket of {len(ticket)} characters"
        raise Refusal("Unavailable", f"{found}; allowed: 1 to {MOST_TICKET}")
    return ticket


def served(path: Path | str) -> int:
    """The executor's epoch. Raises ``OSError`` and ``Refusal``."""
    return _ordered(path, ANSWER_S, (Ask(),)).epoch


def look(path: Path | str) -> list[Figures]:
    """What the executor says of its sessions; nothing where it says nothing that can be believed."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as way:
            way.settimeout(ANSWER_S)
            way.connect(str(path))
            way.sendall(commands.encode(Look()))
            said = commands.decode(way.recv(MOST_BYTES))
    except (OSError, ProtocolError):
        return []
    return [one for one in said if isinstance(one, Figures) and re.fullmatch("[0-9a-f]{8}", one.session)][:SLOTS]


def leave(path: Path | str, order: Leave, reach: Reach) -> Done:
    """Returns when the sessions run there. Raises ``Refusal``: then they run here as before, unless the reason is
    ``Lost``; and ``OSError`` where nobody says."""
    return _ordered(path, MOVE_S, (order,), reach=reach)


def _nobody(error: OSError) -> Refusal:
    return Refusal("Unavailable", f"executor: found none that takes sessions ({error.strerror or error})")


def _ordered(
    path: Path | str, within_s: float, said: tuple[Said, ...], stream: socket.socket | None = None,
    reach: Reach | None = None,
) -> Done:  # fmt: skip
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as way:
        deadline = time.monotonic() + within_s
        way.settimeout(within_s)
        way.connect(str(path))
        socket.send_fds(way, [commands.encode(*said)], [stream.fileno()] if stream else [])
        while True:
            # Of all that it asks for meanwhile, not of each: else an executor could have a move last for ever.
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError(f"the executor did not answer within {within_s:.0f} s")
            way.settimeout(left_s)
            match _answer(way.recv(MOST_BYTES)):
                case Done() as done:
                    return done
                case Connect() if reach is not None:
                    _reached(way, reach)
                case Refused(reason, text):
                    raise Refusal(reason[:MOST_REASON], text[:MOST_TEXT])
                case Redirect() as redirect:
                    raise Elsewhere(redirect)
                case other:
                    raise Refusal("Unavailable", f"executor: found {type(other).__name__} in place of an answer")


def _answer(data: bytes) -> Said:
    if not data:
        raise ConnectionResetError("the executor ended before its answer")
    try:
        return commands.decode(data)[0]
    except ProtocolError as error:
        raise Refusal("Unavailable", f"executor: found an answer that is none ({error})") from None


def _reached(way: socket.socket, reach: Reach) -> None:
    try:
        stream = reach()
    except OSError as error:
        way.sendall(commands.encode(Refused("Unreachable", str(error))))
        return
    with contextlib.closing(stream):
        socket.send_fds(way, [commands.encode(Connect())], [stream.fileno()])


def listening(path: Path) -> socket.socket:
    """The executor's socket, for its group too. A former one is replaced. Raises ``OSError``."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        listener.bind(str(path))
        path.chmod(0o660)
    except OSError:
        listener.close()
        raise
    return listener
