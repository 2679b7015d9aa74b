"""Lets clients of one lease in to its executor. Nothing of what they send after their first frame is read here."""

import contextlib
import socket
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import structlog

from tessera.remote.executor.front import Front
from tessera.remote.executor.handover import Allowance, hand_over, hand_over_move, look, tell
from tessera.remote.executor.metrics import ExecutorMetrics
from tessera.remote.executor.pump import join
from tessera.remote.executor.refusals import Elsewhere, Refusal
from tessera.remote.gate.controller import Controller
from tessera.remote.gate.following import Following
from tessera.remote.gate.identity import Identity
from tessera.remote.gate.moves import Moves, Reach
from tessera.remote.gate.watched import Watched
from tessera.remote.gate.word import Word
from tessera.remote.protocol.greeting import Hello, Move
from tessera.remote.protocol.streams import Stream

log = structlog.get_logger()


class Gate:
    """``executor``: its unix socket; ``lease``: NAMESPACE/NAME; ``name``: in its certificate; ``reach``: to other
    gates; ``watched`` hears if a part of it dies."""

    def __init__(
        self, listener: socket.socket, executor: Path, lease: str, name: str, controller: Controller, reach: Reach,
        watched: Watched | None = None,
    ) -> None:  # fmt: skip
        self._path, self._lease, self._controller = executor, lease, controller
        self._watched = watched or Watched()
        self._identity = Identity(name, controller.sign, lambda: datetime.now(UTC))
        self._front = Front(listener, self.receive, self._identity.context, self.arrive)
        word = Word()
        self._moves = Moves(executor, name, reach, word, self._watched)
        self._following = Following(controller.follow, self, self._moves, word)
        self._threads: list[threading.Thread] = []

    def metrics(self) -> ExecutorMetrics:
        """Of its executor's sessions, and whom it has refused."""
        return ExecutorMetrics(lambda: look(self._path), lambda: self._front.refused)

    def start(self) -> bool:
        """Returns once clients are let in; ``False`` if it was stopped before."""
        if not self._identity.obtain():
            return False
        self._front.start()
        for name, work in (("certificate", self._identity.keep), ("following", self._following.run)):
            thread = threading.Thread(target=self._watched(name, work), daemon=True)
            thread.start()
            self._threads.append(thread)
        return True

    def stop(self) -> None:
        """Ends the connections with it."""
        self._identity.stop()
        self._following.stop()
        self._moves.stop()
        self._controller.close()
        if self._threads:
            self._front.stop()
            self._front.cut()
        for thread in self._threads:
            thread.join()

    def enter(self, allowance: Allowance) -> None:
        """Ends what is of an older epoch, here and at the executor. Raises ``OSError`` and ``Refusal``."""
        if self._moves.gone is not None:
            raise Elsewhere(self._moves.gone)
        self._front.cut()
        tell(self._path, allowance)

    def receive(self, stream: Stream, hello: Hello) -> socket.socket | None:
        """Where the bytes of a client go that is let in. Raises ``Refusal``."""
        if hello.lease != self._lease:
            raise Refusal("Lease", f"lease: found {hello.lease!r}; allowed: the one that this executor serves")
        if self._moves.gone is not None:
            raise Elsewhere(self._moves.gone)
        if self._following.over:
            raise Refusal("SessionLost", f"lease: found {self._lease} over")
        self._current(hello.epoch)
        reply = self._controller.admit(hello.token, hello.container, hello.epoch)
        allowance = Allowance(hello.epoch, reply.limit_bytes, reply.sessions)

        def hand(its: socket.socket) -> None:
            hand_over(self._path, its, hello, allowance)
            self._current(hello.epoch)

        return _handed(hand)

    def arrive(self, stream: Stream, move: Move) -> Callable[[], None]:
        """What is left to do with a connection of another executor, whose ticket this one knows. Raises ``Refusal``."""
        if not self._moves.expected:
            raise Refusal("Ticket", "ticket: found one; allowed: none, since no sessions are to come here")
        ours = _handed(lambda its: hand_over_move(self._path, its, move))
        return lambda: join(stream, ours)

    def _current(self, epoch: int) -> None:
        """Raises ``Refusal`` for who is not of the epoch that the executor serves."""
        served = self._following.allowance
        if served is None or served.epoch != epoch:
            found = f"epoch: found {epoch}; allowed: {served.epoch if served else 'none yet'}"
            raise Refusal("Epoch", f"{found}, which the executor serves")


def _handed(hand: Callable[[socket.socket], None]) -> socket.socket:
    """The other end of what ``hand`` gives to the executor. Raises as it does."""
    ours, its = socket.socketpair()
    with contextlib.ExitStack() as undo, its:
        undo.callback(ours.close)
        hand(its)
        undo.pop_all()
    return ours
