"""The processes of the sessions: one each, so that whatever ends one ends no other."""

import select
import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tessera.remote.executor import orders
from tessera.remote.executor.forks import ForkServer, Start
from tessera.remote.executor.orders import Order, Report, Verb
from tessera.remote.executor.refusals import Refusal


@dataclass(frozen=True, slots=True)
class Offer:
    """What a session gets. ``limit_bytes`` 0: all of the device; ``together``: it is for all sessions at once.

    ``host_bytes``: how much of this machine's memory copies of sessions may take.
    """

    device: str
    limit_bytes: int = 0
    grace_s: float = 60.0
    sessions: int = 16
    host_bytes: int = 4 << 30
    together: bool = False


class Process:
    """A session's process, and the way to give it orders. ``restore``: it becomes a session that it is brought.

    ``passed``: descriptors of the meters and perhaps of a quota, and its ``slot`` of these, 0 before it is known.
    Raises ``OSError``.
    """

    def __init__(
        self, forks: ForkServer, name: str, offer: Offer, limit_bytes: int, epoch: int, passed: Sequence[int],
        slot: int, *, restore: bool = False,
    ) -> None:  # fmt: skip
        self.name, self.limit_bytes = name, limit_bytes
        self._way, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._way.setblocking(False)
        self._way.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 0)
        with its:
            try:
                self.order(Verb.BEGIN, name.encode())
                start = Start(offer.device, limit_bytes, offer.grace_s, epoch, slot, restore)
                self.child = forks.start(start, [its.fileno(), *passed])
            except OSError:
                self._way.close()
                raise

    def hand(self, descriptor: int, received: int) -> None:
        """Gives it a connection whose client has ``received`` so much. Raises ``Refusal``."""
        try:
            self.order(Verb.CONNECT, received.to_bytes(8, "little"), descriptor)
        except BlockingIOError:
            raise Refusal("Busy", "session: found connections that it has not taken yet; allowed: a few") from None
        except OSError:
            raise Refusal("SessionLost", "session: found one that has just ended") from None

    def order(self, verb: Verb, body: bytes = b"", descriptor: int = -1) -> None:
        """Raises ``OSError``."""
        orders.send(self._way, Order(verb, body, descriptor))

    def report(self, verb: Verb, within_s: float | None) -> Report | None:
        """Its next on this order; ``None``: it has none by then, or has ended."""
        deadline = None if within_s is None else time.monotonic() + within_s
        while True:
            left_s = None if deadline is None else max(deadline - time.monotonic(), 0)
            try:
                ready, _, _ = select.select([self._way], [], [], left_s)
            except (OSError, ValueError):
                return None
            data = self._received() if ready else b""
            if not data:
                return None
            found = orders.parse_report(data)
            if found is not None and found.verb == verb:
                return found

    def forget_reports(self) -> None:
        """Those that nobody waits for any more."""
        while self._received():
            pass

    def last_words(self) -> str:
        """Why it ended, once it has."""
        ended = self.child.wait()
        if ended.failed:
            return ended.failed
        said = self.report(Verb.ENDED, 0)
        if said is not None:
            return said.failed
        return f"its executor was ended by {signal.Signals(-ended.status).name}" if ended.status < 0 else ""

    def end(self) -> None:
        """At once, and waits until it has ended."""
        self.child.kill()
        self.child.wait()
        self.let_go()

    def cut(self) -> None:
        """At once, and whoever has started it waits for it."""
        self.child.kill()

    def let_go(self) -> None:
        """It ends when it sees that."""
        self._way.close()

    def _received(self) -> bytes:
        try:
            return self._way.recv(orders.MOST_BYTES)
        except OSError:
            return b""
