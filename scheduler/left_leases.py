"""Removes GPULeases of a leader that ended between making them and the Binding.

Such a lease keeps its pod from being placed anew, or a standing one keeps others from using it. A leader that knows of
no Binding of its own for the pod, and reads that the pod is not bound, removes the lease, or takes the pod off the
standing one: no former leader's Binding is in flight any more once another leads.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

import msgspec
import structlog

from tessera.kube.errors import KubeError
from tessera.kube.gateway import Gateway
from tessera.kube.resources import PODS
from tessera.model.gpu_leases import GpuLease
from tessera.scheduler.engine import Engine
from tessera.scheduler.lease_writer import LeaseWriter
from tessera.scheduler.pauses import Pauses

_PERIOD_S = 1.0
_AT_ONCE = 16

log = structlog.get_logger()


class LeftLeases:
    """``leading`` is asked before each removal."""

    def __init__(
        self,
        engine: Engine,
        gateway: Gateway,
        leading: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._engine, self._gateway, self._leading, self._sleep = engine, gateway, leading, sleep
        self._writer = LeaseWriter(gateway, engine.leases, clock)
        self._pauses = Pauses(clock)

    async def run(self) -> None:
        while True:
            await self.remove()
            await self._sleep(_PERIOD_S)

    async def remove(self) -> None:
        """One round over all leases whose pods hold nothing and are promised nothing."""
        left = {lease.uid: (lease, None) for lease in self._left()} if self._leading() else {}
        for lease, _ in self._pauses.due(left, _AT_ONCE):
            self._pauses.pause(lease, None)
            try:
                if await self._waits(lease) and self._is_left(lease) and self._leading():
                    log.info("GPULease of a former leader removed", lease=lease.key)
                    await self._writer.remove([lease])
            except (KubeError, msgspec.DecodeError) as error:
                log.info("GPULease of a former leader not removed yet", lease=lease.key, error=str(error))

    def _left(self) -> Iterator[GpuLease]:
        return (lease for lease in self._engine.leases.all() if self._is_left(lease))

    def _is_left(self, lease: GpuLease) -> bool:
        uid = lease.pod_uid
        return bool(uid) and self._engine.ledger.charge_of(uid) is None and uid not in self._engine.promises()

    async def _waits(self, lease: GpuLease) -> bool:
        """Whether the pod is there and not bound; the lease of any other one is its controller's to end."""
        name = lease.client.pod if lease.client else ""
        found = await self._gateway.find(PODS, name, namespace=lease.namespace)
        return found is not None and found.metadata.uid == lease.pod_uid and not found.spec.node_name
