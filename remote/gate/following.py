"""Keeps an executor in the epoch of its lease: what was served before is ended first, and then that is told."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

import grpc
import structlog

from tessera.pb.remote.v1 import remote_pb2
from tessera.remote.executor.handover import Allowance
from tessera.remote.executor.refusals import Refusal
from tessera.remote.gate.controller import said

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

    def __init__(self, follow: Follow, executor: Executor) -> None:
        self._follow, self._executor = follow, executor
        self._stopping = threading.Event()
        self.allowance: Allowance | None = None
        self.over = False

    def run(self) -> None:
        """Until it is stopped."""
        while not self._stopping.is_set():
            acks: queue.SimpleQueue[int | None] = queue.SimpleQueue()
            acks.put(self.allowance.epoch if self.allowance else 0)
            try:
                for state in self._follow(_requests(acks)):
                    self._take(state, acks)
                    if self._stopping.is_set():
                        break
            except (grpc.RpcError, OSError) as error:
                self._report(error)
            finally:
                acks.put(None)
            self._stopping.wait(RETRY_S)

    def stop(self) -> None:
        self._stopping.set()

    def _take(self, state: remote_pb2.LeaseState, acks: "queue.SimpleQueue[int | None]") -> None:
        if not state.serving:
            if not self.over:
                log.info("lease is over", epoch=state.epoch)
            self.over, self.allowance = True, None
            self._entered(Allowance(state.epoch, 0, 0), once=True)
            return
        found = Allowance(state.epoch, state.limit_bytes, state.sessions)
        if found == self.allowance:
            return
        self.over, self.allowance = False, None
        if self._entered(found):
            self.allowance = found
            log.info("executor serves", epoch=found.epoch)
            acks.put(found.epoch)

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
                if once or self._stopping.wait(TELL_S):
                    break
        return False

    def _report(self, error: Exception) -> None:
        if not self._stopping.is_set():
            log.info("controller not heard", error=said(error))


def _requests(acks: "queue.SimpleQueue[int | None]") -> Iterator[remote_pb2.FollowRequest]:
    while (epoch := acks.get()) is not None:
        yield remote_pb2.FollowRequest(epoch=epoch)
