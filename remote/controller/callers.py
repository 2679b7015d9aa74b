"""Who calls: the gate of an executor, and a client that asks at its gate."""

from collections.abc import Callable
from dataclasses import dataclass

from tessera.kube.gateway import Gateway
from tessera.model.names import POOL_AUDIENCE
from tessera.remote.controller.book import Book
from tessera.remote.controller.pods import GATE_AUDIENCE
from tessera.remote.controller.records import Executor, Record
from tessera.remote.controller.reviewed import Reviewed
from tessera.remote.controller.reviews import Refused, bearer_of
from tessera.remote.controller.turns import Turns


@dataclass(frozen=True, slots=True)
class Gate:
    """The gate of ``executor``, which serves ``record`` as that stood when it called."""

    executor: Executor
    record: Record


class NotYet(Exception):
    """It may be asked again."""


class Callers:
    """``namespace`` and ``account``: of the executors. ``sessions``: how many a lease may have at once. Methods raise
    ``NotYet``, and as the gateway does."""

    def __init__(
        self, gateway: Gateway, book: Book, namespace: str, account: str, sessions: int, clock: Callable[[], float]
    ) -> None:
        self._gateway, self._book = gateway, book
        self._namespace, self._account = namespace, account
        self._gates = Reviewed(lambda token: bearer_of(gateway, token, GATE_AUDIENCE), GATE_AUDIENCE, clock)
        self._turns = Turns(sessions, clock)

    async def gate(self, token: str) -> Gate | Refused:
        """The gate whose own token this is."""
        bearer = await self._gates(token)
        if isinstance(bearer, Refused):
            return bearer
        if (bearer.namespace, bearer.account) != (self._namespace, self._account):
            found = f"{bearer.namespace}/{bearer.account}"
            text = f"token: found that of account {found}; allowed: {self._namespace}/{self._account}"
            return Refused("not-a-gate", text)
        executor = self._book.executor(bearer.pod_uid)
        if executor is None:
            raise NotYet(f"executor {bearer.pod}: not known yet")
        record = self._book.by_uid(executor.lease_uid)
        if record is None or not (serves(executor, record) or comes(executor, record)):
            return not_its_lease(executor)
        return Gate(executor, record)

    async def client(self, record: Record, token: str, container: str, epoch: int) -> Refused | None:
        """Why who holds this token may not use the lease; ``None`` if he may."""
        lease, wanted = record.known, record.known.client
        if wanted is None:
            return Refused("detached", f"GPULease {lease.key}: found it used by no pod; allowed: the pod that uses it")
        with self._turns.turn(lease.uid) as refused:
            bearer = refused or await bearer_of(self._gateway, token, POOL_AUDIENCE)
        if isinstance(bearer, Refused):
            return bearer
        if (bearer.namespace, bearer.pod_uid) != (lease.namespace, wanted.pod_uid):
            found = f"{bearer.namespace}/{bearer.pod} with UID {bearer.pod_uid}"
            return Refused("another-pod", f"token: found that of pod {found}; allowed: the pod of GPULease {lease.key}")
        if not self._book.bound(record):
            # A review may be some seconds old.
            return Refused("ended", f"pod {wanted.pod}: found its end; allowed: a pod that is bound with {lease.key}")
        if lease.standing and record.status.client != record.client:
            # The executor may still be the former client's.
            return Refused("epoch", f"GPULease {lease.key}: found it not ready for pod {wanted.pod} yet")
        if container != wanted.container:
            return Refused("container", f"container: found {container!r}; allowed: {wanted.container!r}")
        if epoch != record.status.epoch:
            return Refused("epoch", f"epoch: found {epoch}; allowed: {record.status.epoch}")
        return None


def not_its_lease(executor: Executor) -> Refused:
    return Refused("lost", f"executor {executor.name}: found it without a lease that it serves")


def serves(executor: Executor, record: Record) -> bool:
    """Whether this executor is the one of the lease."""
    status = record.status
    return not record.over and status.executor == executor.name and status.executor_uid in ("", executor.uid)


def comes(executor: Executor, record: Record) -> bool:
    """Whether it is the one that the sessions are to go to."""
    status = record.status
    coming = not record.over and not status.moved
    return coming and status.next == executor.name and status.next_uid in ("", executor.uid)
