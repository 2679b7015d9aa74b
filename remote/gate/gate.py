"""Lets clients of one lease in to its executor. Nothing of what they send after their first frame is read here."""

import contextlib
import socket
import threading
from datetime import UTC, datetime
from pathlib import Path

import structlog

from tessera.remote.executor.front import Front
from tessera.remote.executor.handover import Allowance, hand_over, tell
from tessera.remote.executor.refusals import Refusal
from tessera.remote.gate.controller import Controller
from tessera.remote.gate.following import Following
from tessera.remote.gate.identity import Identity
from tessera.remote.protocol.greeting import Hello
from tessera.remote.protocol.streams import Stream

log = structlog.get_logger()


class Gate:
    """``executor``: its unix socket; ``lease``: NAMESPACE/NAME."""

    def __init__(self, listener: socket.socket, executor: Path, lease: str, name: str, controller: Controller) -> None:
        self._path, self._lease, self._controller = executor, lease, controller
        self._identity = Identity(name, controller.sign, lambda: datetime.now(UTC))
        self._front = Front(listener, self.receive, self._identity.context)
        self._following = Following(controller.follow, self)
        self._threads: list[threading.Thread] = []

    def start(self) -> bool:
        """Returns once clients are let in; ``False`` if it was stopped before."""
        if not self._identity.obtain():
            return False
        self._front.start()
        for work in (self._identity.keep, self._following.run):
            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            self._threads.append(thread)
        return True

    def stop(self) -> None:
        """Ends the connections with it."""
        self._identity.stop()
        self._following.stop()
        self._controller.close()
        if self._threads:
            self._front.stop()
            self._front.cut()
        for thread in self._threads:
            thread.join()

    def enter(self, allowance: Allowance) -> None:
        """Ends what is of an older epoch, here and at the executor. Raises ``OSError`` and ``Refusal``."""
        self._front.cut()
        tell(self._path, allowance)

    def receive(self, stream: Stream, hello: Hello) -> socket.socket | None:
        """Where the bytes of a client go that is let in. Raises ``Refusal``."""
        if hello.lease != self._lease:
            raise Refusal("Lease", f"lease: found {hello.lease!r}; allowed: the one that this executor serves")
        if self._following.over:
            raise Refusal("SessionLost", f"lease: found {self._lease} over")
        self._current(hello.epoch)
        reply = self._controller.admit(hello.token, hello.container, hello.epoch)
        allowance = Allowance(hello.epoch, reply.limit_bytes, reply.sessions)
        ours, its = socket.socketpair()
        with contextlib.ExitStack() as undo, its:
            undo.callback(ours.close)
            hand_over(self._path, its, hello, allowance)
            self._current(hello.epoch)
            undo.pop_all()
        return ours

    def _current(self, epoch: int) -> None:
        """Raises ``Refusal`` for who is not of the epoch that the executor serves."""
        served = self._following.allowance
        if served is None or served.epoch != epoch:
            found = f"epoch: found {epoch}; allowed: {served.epoch if served else 'none yet'}"
            raise Refusal("Epoch", f"{found}, which the executor serves")
