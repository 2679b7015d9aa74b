"""Turns a decision into a fact: one Binding that carries node and assignment, or nothing.

Reserve in the ledger, then send; refused means undone. Where the slices are on other nodes, their GPULeases are made
first, and removed again before their room is anybody's if the pod is not bound with them. If an answer is lost, the
reservation stays until the API server itself says whether the pod is bound. A leader whose lease may end before the
answer sends nothing.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

import msgspec
import structlog

from tessera.kube.convert import pod_reference
from tessera.kube.errors import ApiError, KubeError, UnknownOutcome, Unreachable
from tessera.kube.events import EventRecorder
from tessera.kube.gateway import Gateway
from tessera.kube.lease import LeaderLease
from tessera.kube.stored import stored
from tessera.model import names
from tessera.model.assignment import Assignment, Share, encode
from tessera.model.charges import charge_of
from tessera.model.gpu_leases import GpuLease
from tessera.model.pods import Pod
from tessera.model.quantities import format_bytes
from tessera.reasons import Code, Reason
from tessera.scheduler.engine import Engine
from tessera.scheduler.growth import binding_refusal
from tessera.scheduler.lease_writer import LeaseWriter
from tessera.scheduler.promises import Promised, Request

_TIMEOUT_S = 3.0
"""Below the extender's own timeout in kube-scheduler (5 s), so that the answer is ours."""
_SETTLE_AFTER_S = 10.0
"""How long after a lost answer an unbound pod counts as refused: no write is in flight for longer."""
_QUOTAS_S = 3.0
"""How long the quotas of a namespace may take to read where leases have more than pods ask for. With what follows the
answer may then be late, which kube-scheduler takes for a refusal; what comes of it is looked up."""
_LEASES_S = 1.5
"""How long the GPULeases of a pod may take to make, so that with the Binding the answer is still ours."""
_ENDING = Reason(Code.NOT_LEADER, "this scheduler's lease ends before a Binding could be answered")

log = structlog.get_logger()


class Binder:
    """Binds one pod at a time for each call; calls may overlap. ``on_outcome`` hears how each of them ended."""

    def __init__(
        self,
        engine: Engine,
        gateway: Gateway,
        lease: LeaderLease,
        recorder: EventRecorder,
        on_outcome: Callable[[Code | None], None] = lambda _: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine, self._gateway, self._lease, self._recorder = engine, gateway, lease, recorder
        self._on_outcome, self._sleep = on_outcome, sleep
        self._writer = LeaseWriter(gateway, engine.leases, clock)
        self._settling: dict[str, asyncio.Task[None]] = {}
        self._in_doubt: set[str] = set()
        self._closed = False

    @property
    def in_doubt(self) -> bool:
        """Whether a Binding was sent of which nobody knows yet what became of it."""
        return bool(self._in_doubt)

    async def bind(self, namespace: str, name: str, uid: str, node: str) -> Reason | None:
        """Binds the pod to ``node``; answers why not."""
        reason = await self._bind(namespace, name, uid, node)
        self._on_outcome(reason.code if reason else None)
        return reason

    def settle_late(self, uids: list[str]) -> None:
        """Looks up reservations that no event has confirmed in time."""
        for uid in uids:
            if request := self._engine.request_of(uid):
                self._settle_later(request, patience_s=0.0)

    async def look_up_leases(self) -> None:
        """Looks up GPULeases that were made and that no event has shown in time."""
        try:
            await self._writer.look_up()
        except (KubeError, msgspec.DecodeError) as error:
            log.info("GPULeases not looked up yet", error=str(error))

    async def close(self) -> None:
        self._closed = True
        settling = list(self._settling.values())
        for task in settling:
            task.cancel()
        await asyncio.gather(*settling, return_exceptions=True)

    async def _bind(self, namespace: str, name: str, uid: str, node: str) -> Reason | None:
        if reason := await self._over_quota(uid):
            return reason
        reserved = self._engine.reserve(uid, node)
        if isinstance(reserved, Reason):
            return reserved
        (request, assignment), leases = reserved, self._engine.leases.promised(uid)
        if not self._lease.valid_for(_TIMEOUT_S):
            self._engine.undo(uid)
            return _ENDING
        self._in_doubt.add(uid)
        try:
            if leases and not await self._made(leases):
                self._refused(request, leases)
                return _ENDING
            await self._send(namespace, name, uid, node, assignment)
        except (ApiError, Unreachable) as error:
            self._refused(request, leases)
            return Reason(Code.BINDING_REFUSED, f"the API server refused the Binding: {error}")
        except (UnknownOutcome, TimeoutError, asyncio.CancelledError) as error:
            log.warning("binding outcome unknown", namespace=namespace, pod=name, uid=uid)
            self._settle_later(request, patience_s=_SETTLE_AFTER_S)
            if isinstance(error, asyncio.CancelledError):
                raise
            return Reason(Code.OUTCOME_UNKNOWN, f"the answer to the Binding was lost: {error or 'none in time'}")
        self._in_doubt.discard(uid)
        self._engine.confirm(uid)
        self._tell(request, node, assignment, leases)
        return None

    async def _over_quota(self, uid: str) -> Reason | None:
        """Of pods of users: Kubernetes does not count what leases have grown to, or have without a pod."""
        request = self._engine.request_of(uid)
        if request is None or request.pod.lease:
            return None
        try:
            async with asyncio.timeout(_QUOTAS_S):
                why = await binding_refusal(self._gateway, self._engine.leases, request.pod, request.demand)
        except (KubeError, TimeoutError, msgspec.MsgspecError) as error:
            why = f"the ResourceQuotas of its namespace could not be read: {error or 'no answer in time'}"
        return Reason(Code.BINDING_REFUSED, why) if why else None

    async def _made(self, leases: tuple[GpuLease, ...]) -> bool:
        """Makes them; answers whether a Binding may still be sent then."""
        async with asyncio.timeout(_LEASES_S):
            await self._writer.make(leases)
        return self._lease.valid_for(_TIMEOUT_S)

    def _refused(self, request: Request, leases: tuple[GpuLease, ...]) -> None:
        """Leases that were made are removed first."""
        if leases:
            self._settle_later(request, patience_s=0.0)
        else:
            self._in_doubt.discard(request.pod.uid)
            self._engine.undo(request.pod.uid)

    def _settle_later(self, request: Request, patience_s: float) -> None:
        """One task a pod, so that no look-up of an old reservation ever decides over a newer one."""
        uid, promised = request.pod.uid, self._engine.promises().get(request.pod.uid)
        if uid in self._settling or self._closed:
            return
        task = asyncio.create_task(self._settle(request, promised, patience_s))
        self._settling[uid] = task
        task.add_done_callback(lambda _: self._settling.pop(uid, None))

    async def _settle(self, request: Request, promised: Promised | None, patience_s: float) -> None:
        """Asks the API server until it says whether the pod was bound, or until its events have said so."""
        uid, waited, leases = request.pod.uid, 0.0, self._engine.leases.promised(request.pod.uid)
        while promised is not None and self._engine.promises().get(uid) is promised:
            try:
                found = await stored(self._gateway, request.pod)
                if found is None or (not found.node and waited >= patience_s):
                    await self._writer.remove(leases)
            except (KubeError, msgspec.DecodeError) as error:
                log.info("binding not looked up yet", pod=request.pod.key, uid=uid, error=str(error))
            else:
                # Events may have spoken while the answer was on its way; what they say is newer.
                if self._engine.promises().get(uid) is not promised or self._decide(
                    request, found, final=waited >= patience_s
                ):
                    break
            await self._sleep(1.0)
            waited += 1.0
        charge = self._engine.ledger.charge_of(uid)
        if uid in self._in_doubt and charge is not None and charge.assignment is not None:
            self._tell(request, charge.node, charge.assignment, leases)
        self._in_doubt.discard(uid)

    def _decide(self, request: Request, found: Pod | None, *, final: bool) -> bool:
        """Makes the reservation what the API server's answer makes it; answers whether that is the end of it."""
        uid = request.pod.uid
        if found is None:
            self._engine.forget_pod(uid)
        elif found.node:
            charge = charge_of(found)
            if charge is not None and charge == self._engine.ledger.charge_of(uid):
                self._engine.confirm(uid)
            else:
                self._engine.observe_pod(found)
        elif final:
            self._engine.undo(uid)
        return found is None or bool(found.node) or final

    async def _send(self, namespace: str, name: str, uid: str, node: str, assignment: Assignment) -> None:
        annotations = {names.ASSIGNMENT: encode(assignment)}
        await self._gateway.bind(namespace, name, uid, node, annotations, timeout_s=_TIMEOUT_S)

    def _tell(self, request: Request, node: str, assignment: Assignment, leases: tuple[GpuLease, ...]) -> None:
        parts = [f"{name}: {_words(shares)}" for name, shares in assignment.containers]
        parts += [f"{each.used_by}: {_words((each.share,))} on {each.node}" for each in leases]
        self._recorder.record(pod_reference(request.pod), "Normal", "SliceAssigned", f"{node}: {'; '.join(parts)}")


def _words(shares: tuple[Share, ...]) -> str:
    """``4Gi and 30% of GPU-1, 4Gi and 30% of GPU-2``."""
    return ", ".join(
        f"{format_bytes(s.mem_bytes)}{f' and {s.core_percent}%' if s.core_percent else ''} of {s.uuid}" for s in shares
    )
