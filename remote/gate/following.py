"""Keeps an executor in the epoch of its lease: what was served before is ended first, and then that is told."""

import threading
from collections.abc import Callable, Iterator
from typing import Protocol

import grpc
import structlog

from tessera.pb.remote.v1 import remote_pb2
from tessera.remote.executor.handover import Allowance
from tessera.remote.executor.refusals import Elsewhere, Refusal
from tessera.remote.gate.controller import said
from tessera.remote.gate.moves import Moves
from tessera.remote.gate.word import Word

log = structlog.get_logger()
RETRY_S = 0.5
TELL_S = 0.2

Follow = Callable[[Iterator[remote_pb2.FollowRequest]], Iterator[remote_pb2.LeaseState]]


class Executor(Protocol):
    """What the gate does with the executor."""

    def enter(self, allowance: Allowance) -> None:
        """Ends what is of an older epoch. Raises ``OSError`` while no executor listens, and ``Refusal`` where it
        cannot do so now."""


class Following:
    """``allowance``: what the lease has now; ``None`` before the controller was heard, and when it is over."""

    def __init__(self, follow: Follow, executor: Executor, moves: Moves, word: Word) -> None:
        self._follow, self._executor, self._moves, self._word = follow, executor, moves, word
        self._stopping = threading.Event()
        self.allowance: Allowance | None = None
        self.over = False

    def run(self) -> None:
        """Until it is stopped."""
        while not self._stopping.is_set():
            try:
                for state in self._follow(self._word.heard()):
                    self._take(state)
                    if self._stopping.is_set():
                        break
            except (grpc.RpcError, OSError, RuntimeError) as error:  # RuntimeError: no thread for the call, or a move
                self._report(error)
            finally:
                self._word.hang_up()
            self._stopping.wait(RETRY_S)

    def stop(self) -> None:
        self._stopping.set()

    def _take(self, state: remote_pb2.LeaseState) -> None:
        if state.HasField("arrive"):
            self._moves.arrive(state.arrive)
        elif state.serving:
            self._serve(state)
            if state.HasField("leave"):
                self._moves.leave(state.leave)
        elif not (state.HasField("elsewhere") and self._moves.left(state.elsewhere)):
            self._end(state.epoch)

    def _end(self, epoch: int) -> None:
        if not self.over:
            log.info("lease is over", epoch=epoch)
        self.over, self.allowance = True, None
        self._entered(Allowance(epoch, 0, 0), once=True)

    def _serve(self, state: remote_pb2.LeaseState) -> None:
        found = Allowance(state.epoch, state.limit_bytes, state.sessions)
        if found == self.allowance:
            return
        self.over, self.allowance = False, None
        if self._entered(found):
            self.allowance = found
            log.info("executor serves", epoch=found.epoch)
            self._word.say(epoch=found.epoch)

    def _entered(self, allowance: Allowance, *, once: bool = False) -> bool:
        """Tells the executor, as soon as there is one."""
        told = ""
        while not self._stopping.is_set():
            try:
                self._executor.enter(allowance)
                return True
            except (OSError, Refusal) as error:
                if str(error) != told:
                    log.info("executor not in the epoch yet", epoch=allowance.epoch, error=str(error))
                    told = str(error)
                # What has left does not come back: who waited for it would hear of nothing else any more.
                if once or isinstance(error, Elsewhere) or self._stopping.wait(TELL_S):
                    break
        return False

    def _report(self, error: Exception) -> None:
        if not self._stopping.is_set():
            log.info("controller not heard", error=said(error))
