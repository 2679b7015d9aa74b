"""This executor's part in a move: it gives a ticket and takes the sessions, or brings them to who gave one.

Each order of the controller is followed in a thread of its own, and what becomes of it is said in the gate's word.
"""

import socket
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from tessera.pb.remote.v1 import remote_pb2
from tessera.remote.executor import handover
from tessera.remote.executor.handover import Expect, Leave
from tessera.remote.executor.refusals import Refusal
from tessera.remote.gate.watched import Watched
from tessera.remote.gate.word import Word
from tessera.remote.protocol.greeting import Redirect

log = structlog.get_logger()

POLL_S = 0.1
UNSURE_S = 2.0
LOST = "Lost"
"""The reason of a move after which it is not known whether the sessions run anywhere."""

Reach = Callable[[str], socket.socket]
"""A connection to the gate at an endpoint. Raises ``OSError``."""


class Moves:
    """``executor``: its unix socket. ``gone``: where the sessions are, once they have left."""

    def __init__(self, executor: Path, server_name: str, reach: Reach, word: Word, watched: Watched) -> None:
        self._path, self._name, self._reach = executor, server_name, reach
        self._word, self._watched = word, watched
        self._orders: dict[Callable[[Any], None], Any] = {}
        """The last of each kind, by what follows it."""
        self._stopping = threading.Event()
        self.gone: Redirect | None = None

    @property
    def expected(self) -> bool:
        """Whether sessions may come."""
        return self._arrive in self._orders

    def arrive(self, order: remote_pb2.Arrive) -> None:
        """The sessions are to come here. Raises ``RuntimeError`` where there is no thread for it, to be told again."""
        self._follow("arrival", self._arrive, order)

    def leave(self, order: remote_pb2.Leave) -> None:
        """They are to go there. Raises as ``arrive``."""
        self._follow("departure", self._leave, order)

    def left(self, elsewhere: remote_pb2.Elsewhere) -> bool:
        """Whether the sessions have gone to who serves now; it may be heard before this side has done its part."""
        order = self._orders.get(self._leave)
        if order is None or order.epoch != elsewhere.epoch:
            return False
        self.gone = Redirect(elsewhere.epoch, elsewhere.endpoint, self._name)
        return True

    def stop(self) -> None:
        self._stopping.set()

    def _follow(self, what: str, work: Callable[[Any], None], order: object) -> None:
        former = self._orders.get(work)
        if order == former:
            return
        self._orders[work] = order
        try:
            threading.Thread(target=self._watched(what, partial(work, order)), daemon=True).start()
        except RuntimeError:
            del self._orders[work]
            if former is not None:
                self._orders[work] = former
            raise

    def _arrive(self, order: remote_pb2.Arrive) -> None:
        ticket = self._ticket(order)
        if not ticket:
            return
        self._word.say(about=order.epoch, ticket=ticket)
        while self._wanted(order):
            if self._served() >= order.epoch:
                log.info("sessions have come", epoch=order.epoch)
                self._word.say(epoch=order.epoch)
                return
            self._stopping.wait(POLL_S)

    def _ticket(self, order: remote_pb2.Arrive) -> str:
        """As soon as there is an executor that gives one; empty if it is not wanted any more."""
        told = ""
        while self._wanted(order):
            try:
                return handover.expect(self._path, Expect(order.epoch, order.limit_bytes, order.sessions))
            except (OSError, Refusal) as error:
                if str(error) != told:
                    log.info("no ticket yet", epoch=order.epoch, error=str(error))
                    told = str(error)
                self._stopping.wait(POLL_S)
        return ""

    def _served(self) -> int:
        try:
            return handover.served(self._path)
        except (OSError, Refusal):
            return 0

    def _wanted(self, order: remote_pb2.Arrive) -> bool:
        return self._orders.get(self._arrive) is order and not self._stopping.is_set()

    def _leave(self, order: remote_pb2.Leave) -> None:
        refused, left = "", False
        asked = Leave(order.ticket, order.epoch, order.endpoint, self._name)
        try:
            done = handover.leave(self._path, asked, lambda: self._reach(order.endpoint))
        except Refusal as refusal:
            refused, left = str(refusal), refusal.reason == LOST
        except OSError as error:
            refused = f"executor: found no answer to a move ({error})"
            # They may have gone for all that: then the other gate is to be the first to speak.
            self._stopping.wait(UNSURE_S)
        if not refused:
            log.info("sessions have left", epoch=order.epoch, sessions=done.sessions, paused_us=done.paused_us)
            self.gone = Redirect(order.epoch, order.endpoint, self._name)
            # Without what an earlier try was refused with: who has left with a refusal is taken for lost.
            self._word.say(about=order.epoch, ticket=order.ticket, refused="", left=True)
        elif left or self._orders.get(self._leave) is order:
            log.warning("sessions have not left", epoch=order.epoch, error=refused, left=left)
            self._word.say(about=order.epoch, ticket=order.ticket, refused=refused, left=left)
