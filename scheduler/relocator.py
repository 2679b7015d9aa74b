"""Carries out what ``relocation`` decides: the leader's word on where a GPULease moves to, or why it stays.

Each write is fenced by the resource version of a live read, and the ledger must know what that read has shown: no
decision is made on news that are older than the object. What is decided stands in the object alone, so a new leader
goes on with it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

import msgspec
import structlog
from prometheus_client import Counter

from tessera.kube import wire
from tessera.kube.convert import gpu_lease_of, lease_reference, pod_of
from tessera.kube.errors import KubeError
from tessera.kube.events import EventRecorder
from tessera.kube.gateway import Gateway
from tessera.kube.lease import LeaderLease
from tessera.kube.resources import GPU_LEASES, PODS
from tessera.model.demands import PodDemand, demand_of
from tessera.model.gpu_leases import GpuLease
from tessera.reasons import Reason
from tessera.scheduler.growth import growth_refusal
from tessera.scheduler.leases import Leases
from tessera.scheduler.pauses import Pauses
from tessera.scheduler.relocation import Aim, Cause, Relocations, Sight, Stay, Withdraw, sight_of, slice_words
from tessera.scheduler.standing import standing_demand
from tessera.scheduler.targets import Targets
from tessera.scheduler.watching import held_lease_of

_PERIOD_S = 1.0
_AT_ONCE = 64
"""Leases that are looked at in one round; the others are next."""
_MESSAGE = 1024
_Failures = (KubeError, TimeoutError, msgspec.MsgspecError, ValueError)

log = structlog.get_logger()


class Relocator:
    """``leading`` is asked before each lease; ``counted`` counts by cause and outcome."""

    def __init__(
        self,
        relocations: Relocations,
        leases: Leases,
        gateway: Gateway,
        leader: LeaderLease,
        recorder: EventRecorder,
        leading: Callable[[], bool],
        counted: Counter,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._relocations, self._leases, self._gateway = relocations, leases, gateway
        self._recorder, self._leading, self._counted, self._sleep = recorder, leading, counted, sleep
        self._targets = Targets(leases, gateway, leader, clock)
        self._pauses = Pauses(clock)
        self._told: dict[str, GpuLease] | None = None

    @property
    def in_doubt(self) -> bool:
        """Whether a target was sent of which nobody knows yet what became of it."""
        return self._targets.in_doubt

    async def run(self) -> None:
        while True:
            await self.step()
            await self._sleep(_PERIOD_S)

    async def step(self) -> None:
        """One round over the leases with which something may be to do."""
        await self._targets.look_up()
        if not self._leading():
            self._told = None
            return
        try:
            told = await self._recall()
        except _Failures as error:
            log.warning("GPULeases not read", error=str(error))
            return
        asked: dict[str, tuple[GpuLease, Cause | None]] = {uid: (lease, None) for uid, lease in told.items()}
        asked.update((lease.uid, (lease, cause)) for lease, cause in self._relocations.pressing())
        for lease, cause in self._pauses.due(asked, _AT_ONCE):
            if not self._leading():
                return
            await self._consider(lease, cause, told)

    async def _recall(self) -> dict[str, GpuLease]:
        """The leases of which it was said why they stay; of what a former leader has said the API server tells."""
        if self._told is None:
            found = await self._gateway.list(GPU_LEASES)
            self._told = {each.metadata.uid: held_lease_of(each) for each in found if each.status.unmoved}
        return self._told

    async def _consider(self, lease: GpuLease, cause: Cause | None, told: dict[str, GpuLease]) -> None:
        try:
            found = await self._gateway.find(GPU_LEASES, lease.name, namespace=lease.namespace)
            there = found is not None and found.metadata.uid == lease.uid
            done = await self._decide(found) if found is not None and there else False
        except _Failures as error:
            log.warning("GPULease not moved", lease=lease.key, error=str(error))
            there, done = True, False
        if not there:
            told.pop(lease.uid, None)
        if done:
            self._pauses.end(lease.uid)
        else:
            self._pauses.pause(lease, cause)

    async def _decide(self, found: wire.GpuLease) -> bool:
        """Does what is to do; answers whether it need not wait to be looked at again."""
        sight = _sight(found)
        demand = None if sight.moving or sight.lease.target else await self._demand(sight.lease)
        refused = await growth_refusal(self._gateway, self._leases, sight.lease) if demand is not None else ""
        # From here until the room is taken nothing waits.
        known = held_lease_of(found)
        if self._leases.at(known.hold) != known or self._leases.target(known) != known.target:
            return True  # the watch is on its way
        match self._relocations.decide(sight, demand, refused):
            case Aim() as aim:
                return await self._aim(found, sight, aim)
            case Withdraw(cause):
                await self._targets.patch(found, {"spec": {"target": None}})
                self._count(sight.lease, "withdrawn", cause)
                return True
            case Stay(cause):
                await self._say(found, sight, cause)
            case None:
                await self._say(found, sight, None)
        return False

    async def _demand(self, lease: GpuLease) -> PodDemand | Reason | None:
        """What the client's pod prefers, ``None`` if it is gone; of a standing lease what it says itself."""
        client = lease.client
        if lease.standing or client is None:
            return standing_demand(lease)
        found = await self._gateway.find(PODS, client.pod, namespace=lease.namespace)
        pod = pod_of(found) if found is not None and found.metadata.uid == client.pod_uid else None
        return None if pod is None or pod.ended else demand_of(pod)

    async def _aim(self, found: wire.GpuLease, sight: Sight, aim: Aim) -> bool:
        lease, cause = sight.lease, aim.cause
        if reason := await self._targets.aim(found, aim.where, aim.domain):
            await self._say(found, sight, Cause(cause.kind, f"{cause.text}: {reason.text}"))
            return False
        self._count(lease, "aimed", cause)
        way = f"from {slice_words(lease.slice)} to {slice_words(aim.where)}" if lease.placed else slice_words(aim.where)
        text = f"{lease.used_by}: {way}: {cause.text}"
        self._recorder.record(lease_reference(lease), "Normal", "SliceMoves", text)
        return True

    async def _say(self, found: wire.GpuLease, sight: Sight, why: Cause | None) -> None:
        """Says in the status why the lease stays, or nothing any more."""
        lease, text, told = sight.lease, why.text[:_MESSAGE] if why else "", await self._recall()
        if text or sight.unmoved:
            told[lease.uid] = lease
        else:
            told.pop(lease.uid, None)
        if text == sight.unmoved:
            return
        await self._targets.patch(found, {"status": {"unmoved": text or None}}, "status")
        if why is not None:
            self._count(lease, "stays", why)
            self._recorder.record(lease_reference(lease), "Warning", "SliceStays", f"{lease.used_by}: {text}")

    def _count(self, lease: GpuLease, outcome: str, cause: Cause) -> None:
        log.info("GPULease moves" if outcome == "aimed" else "GPULease stays", lease=lease.key, outcome=outcome,
                 cause=cause.text)  # fmt: skip
        self._counted.labels(cause.kind, outcome).inc()


def _sight(found: wire.GpuLease) -> Sight:
    """Raises ``ValueError`` for a phase that is not known."""
    status = found.status
    return sight_of(gpu_lease_of(found), status.endpoint, status.next is not None, status.unmoved)
