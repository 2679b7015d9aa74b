"""Makes the GPULeases that a pod is promised, and removes them where the pod was not bound with them. On a standing
one, which is there already, the pod is written as its client, and taken off again."""

from collections.abc import Callable, Iterable

from tessera.kube.convert import gpu_lease_object
from tessera.kube.errors import ApiError
from tessera.kube.finalizers import let_go
from tessera.kube.gateway import Gateway
from tessera.kube.lease_use import part, use
from tessera.kube.resources import GPU_LEASES
from tessera.model.gpu_leases import GpuLease
from tessera.scheduler.leases import Leases
from tessera.scheduler.watching import held_lease_of

_SHOWN_WITHIN_S = 60.0
"""How long after a lease was made no list need show it."""
_TOLD_WITHIN_S = 3600.0
"""How long after a lease was removed old news of it may come."""


class LeaseWriter:
    """Tells ``leases`` what it has written. ``clock`` answers seconds that never go back."""

    def __init__(self, gateway: Gateway, leases: Leases, clock: Callable[[], float]) -> None:
        self._gateway, self._leases, self._clock = gateway, leases, clock

    async def make(self, promised: Iterable[GpuLease]) -> None:
        """Raises what the gateway raises; then some of them may be there."""
        for lease in promised:
            if lease.standing:
                used = await use(self._gateway, lease)
                self._leases.observe(held_lease_of(used))
                if used.metadata.deletion_timestamp is not None:
                    raise ApiError(409, "Conflict", f"GPULease {lease.key} is being deleted")
                continue
            made = await self._gateway.create(GPU_LEASES, gpu_lease_object(lease), namespace=lease.namespace)
            self._leases.observe(held_lease_of(made), self._clock() + _SHOWN_WITHIN_S)

    async def remove(self, promised: Iterable[GpuLease]) -> None:
        """Those that are there, which no pod was bound with. Raises what the gateway raises, to be done again."""
        for lease in promised:
            try:
                await (self._leave(lease) if lease.standing else self._remove(lease))
            except ApiError as error:
                if not error.not_found:
                    raise

    async def look_up(self) -> None:
        """Those that were made and that no event has shown in time. Raises what the gateway raises."""
        for lease in self._leases.late(self._clock()):
            found = await self._gateway.find(GPU_LEASES, lease.name, namespace=lease.namespace)
            if found is not None and found.metadata.uid == lease.uid:
                self._leases.seen(lease)
            else:
                self._leases.forget(lease)

    async def _leave(self, lease: GpuLease) -> None:
        found = await self._gateway.get(GPU_LEASES, lease.name, namespace=lease.namespace)
        if found.metadata.uid == lease.uid and found.spec.client and found.spec.client.pod_uid == lease.pod_uid:
            found = await part(self._gateway, found.metadata)
        if found.metadata.uid == lease.uid:
            self._leases.observe(held_lease_of(found))

    async def _remove(self, lease: GpuLease) -> None:
        found = await self._gateway.get(GPU_LEASES, lease.name, namespace=lease.namespace)
        there = held_lease_of(found)
        if there.standing or there.pod_uid != lease.pod_uid:
            return  # a user's, who has chosen that name
        if not there.deleting:
            await self._gateway.delete(GPU_LEASES, lease.name, namespace=lease.namespace, uid=there.uid)
            found = await self._gateway.get(GPU_LEASES, lease.name, namespace=lease.namespace)
        await let_go(self._gateway, found)  # there is no executor to wait for
        self._leases.forget(there, self._clock() + _TOLD_WITHIN_S)
