"""Turns a decision into a fact: one Binding that carries node and assignment, or nothing.

Reserve in the ledger, then send; refused means undone. If the answer is lost, the reservation stays until the API
server itself says whether the pod is bound. A leader whose lease may end before the answer sends nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from tessera.kube.convert import pod_of, pod_reference
from tessera.kube.errors import ApiError, UnknownOutcome, Unreachable
from tessera.kube.events import EventRecorder
from tessera.kube.gateway import Gateway
from tessera.kube.lease import LeaderLease
from tessera.kube.resources import PODS
from tessera.model import names
from tessera.model.assignment import Assignment, Share, encode
from tessera.model.quantities import format_bytes
from tessera.reasons import Code, Reason
from tessera.scheduler.engine import Engine, Request

_TIMEOUT_S = 3.0
"""Below the extender's own timeout in kube-scheduler (5 s), so that the answer is ours."""
_SETTLE_AFTER_S = 10.0
"""How long after a lost answer an unbound pod counts as refused: no write is in flight for longer."""

log = structlog.get_logger()


class Binder:
    """Binds one pod at a time for each call; calls may overlap."""

    def __init__(
        self,
        engine: Engine,
        gateway: Gateway,
        lease: LeaderLease,
        recorder: EventRecorder,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._engine, self._gateway, self._lease, self._recorder = engine, gateway, lease, recorder
        self._sleep = sleep
        self._settling: set[asyncio.Task[None]] = set()

    async def bind(self, namespace: str, name: str, uid: str, node: str) -> Reason | None:
        """Binds the pod to ``node``; answers why not."""
        reserved = self._engine.reserve(uid, node)
        if isinstance(reserved, Reason):
            return reserved
        request, assignment = reserved
        if not self._lease.valid_for(_TIMEOUT_S):
            self._engine.undo(uid)
            return Reason(Code.NOT_LEADER, "this scheduler's lease ends before a Binding could be answered")
        try:
            await self._send(namespace, name, uid, node, assignment)
        except (ApiError, Unreachable) as error:
            self._engine.undo(uid)
            return Reason(Code.BINDING_REFUSED, f"the API server refused the Binding: {error}")
        except (UnknownOutcome, asyncio.CancelledError) as error:
            self._settle_later(namespace, name, uid)
            if isinstance(error, asyncio.CancelledError):
                raise
            return Reason(Code.OUTCOME_UNKNOWN, f"the answer to the Binding was lost: {error}")
        self._engine.confirm(uid)
        self._tell(request, node, assignment)
        return None

    async def settle(self, namespace: str, name: str, uid: str) -> None:
        """Asks the API server until it says whether the pod was bound."""
        waited = 0.0
        while uid in self._engine.promises():
            if await self._settled(namespace, name, uid, final=waited >= _SETTLE_AFTER_S):
                return
            await self._sleep(1.0)
            waited += 1.0

    async def settle_late(self, uids: list[str]) -> None:
        """Looks up reservations that no event has confirmed in time."""
        for uid in uids:
            request = self._engine.request_of(uid)
            if request is None:
                self._engine.undo(uid)
            else:
                await self._settled(request.pod.namespace, request.pod.name, uid, final=True)

    async def close(self) -> None:
        for task in self._settling:
            task.cancel()
        await asyncio.gather(*self._settling, return_exceptions=True)

    async def _send(self, namespace: str, name: str, uid: str, node: str, assignment: Assignment) -> None:
        annotations = {names.ASSIGNMENT: encode(assignment)}
        await self._gateway.bind(namespace, name, uid, node, annotations, timeout_s=_TIMEOUT_S)

    async def _settled(self, namespace: str, name: str, uid: str, *, final: bool) -> bool:
        try:
            pod = pod_of(await self._gateway.get(PODS, name, namespace=namespace))
        except ApiError as error:
            if error.not_found:
                self._engine.forget_pod(uid)
            return error.not_found
        except Unreachable:
            return False
        if pod.uid != uid:
            self._engine.forget_pod(uid)
        elif pod.node:
            self._engine.observe_pod(pod)
        elif final:
            self._engine.undo(uid)
        return pod.uid != uid or bool(pod.node) or final

    def _settle_later(self, namespace: str, name: str, uid: str) -> None:
        log.warning("binding outcome unknown", namespace=namespace, pod=name, uid=uid)
        task = asyncio.create_task(self.settle(namespace, name, uid))
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    def _tell(self, request: Request, node: str, assignment: Assignment) -> None:
        parts = [f"{name}: {_words(shares)}" for name, shares in assignment.containers]
        self._recorder.record(pod_reference(request.pod), "Normal", "SliceAssigned", f"{node}: {'; '.join(parts)}")


def _words(shares: tuple[Share, ...]) -> str:
    """``4Gi and 30% of GPU-1, 4Gi and 30% of GPU-2``."""
    return ", ".join(
        f"{format_bytes(s.mem_bytes)}{f' and {s.core_percent}%' if s.core_percent else ''} of {s.uuid}" for s in shares
    )
