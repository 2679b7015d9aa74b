"""Takes clients to the processes of their sessions."""

import socket
import threading

from tessera.remote.executor.arrivals import Arrivals
from tessera.remote.executor.forks import ForkServer
from tessera.remote.executor.lease import Allowance, Lease
from tessera.remote.executor.moves import Moved, Mover
from tessera.remote.executor.processes import Offer, Process
from tessera.remote.executor.refusals import Refusal
from tessera.remote.executor.sessions import Sessions
from tessera.remote.executor.targets import Connect, There
from tessera.remote.protocol import greeting
from tessera.remote.protocol.greeting import Hello, Redirect
from tessera.remote.protocol.streams import Stream

WHY_S = 2.0
"""A session that has just ended is known to have, and why, within this."""


class Reception:
    """``torch``: this executor's version; ``epoch``: the one that it begins in; ``forks``: ended with it."""

    def __init__(self, offer: Offer, torch: str, epoch: int = 0, forks: ForkServer | None = None) -> None:
        self._torch = torch
        self.sessions, self.lease = Sessions(offer, forks or ForkServer()), Lease(epoch)
        self.arrivals = Arrivals(self.sessions, self.lease, torch)
        self.mover = Mover(self.sessions, self.lease, offer.host_bytes)
        self._lock = threading.Lock()

    def leave(self, connect: Connect, ticket: str, redirect: Redirect, way: str = "auto") -> Moved:
        """All sessions go to the executor that gave the ticket. Raises ``MoveError`` and ``Undecided``."""
        device = self.sessions.offer.device.split(":")[0]
        return self.mover.move(There(connect, ticket, redirect, self._torch, device), way)

    def receive(self, stream: Stream, hello: Hello) -> socket.socket | None:
        """Hands a connection on: itself, or one to which it is to be carried. Raises ``Refusal``."""
        self._check(hello)
        with self._lock:
            self.lease.check(hello)
            if hello.session:
                process = self.sessions.find(hello.session)
            else:
                process = self.sessions.open(hello.mem_bytes, self.lease.epoch)
        try:
            return _hand_on(stream, process, hello.received)
        except Refusal as refusal:
            if refusal.reason == "SessionLost" and process.child.told.wait(WHY_S):
                self.sessions.find(process.name)  # which says why
            raise

    def allow(self, allowance: Allowance) -> None:
        """What the pool says of the lease; sessions of an older epoch end. Raises ``Refusal``."""
        with self._lock:
            before = self.lease.epoch
            if allowance.epoch < before:
                raise Refusal("Epoch", f"epoch: found {allowance.epoch}, which is over; allowed: {before}")
            if self.sessions.frozen:
                raise Refusal("Moving", "sessions: found a move under way; allowed: to come again")
            self.sessions.limit(allowance.limit_bytes, allowance.sessions)
            if allowance.epoch > before:
                self.lease.enter(allowance.epoch)
                self.sessions.cut(f"epoch {before} of its lease is over")
            elif not allowance.sessions:
                self.sessions.cut("its lease is over")

    def stop(self) -> None:
        """Ends the sessions with it."""
        self.arrivals.stop()
        self.sessions.stop()

    def _check(self, hello: Hello) -> None:
        if hello.protocol != greeting.VERSION:
            raise Refusal("Protocol", f"protocol: found version {hello.protocol}; allowed: {greeting.VERSION}")
        if greeting.minor(hello.torch) != greeting.minor(self._torch):
            wanted = f"{greeting.minor(self._torch)}, which the executor has ({self._torch})"
            raise Refusal("Torch", f"torch: found {hello.torch}; allowed: {wanted}")


def _hand_on(stream: Stream, process: Process, received: int) -> socket.socket | None:
    if isinstance(stream, socket.socket):
        process.hand(stream.fileno(), received)
        return None
    ours, its = socket.socketpair()
    try:
        with its:
            process.hand(its.fileno(), received)
    except Refusal:
        ours.close()
        raise
    return ours
