"""Takes slices back: a slice is dead when its pod is gone or ended, the kubelet does not show its slot for it any
more, and none of its processes is left. Only then are the agent's limits, the files and the journal's entry removed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import grpc
import structlog

from tessera.device_plugin.agent import GpuProcess
from tessera.device_plugin.cluster import Cluster, ClusterError, NodePods
from tessera.device_plugin.flights import SharedCall
from tessera.device_plugin.podresources import Place, PodResources
from tessera.device_plugin.refusals import wait
from tessera.device_plugin.slices import Holder, Slice
from tessera.device_plugin.specs import SpecFiles
from tessera.device_plugin.store import SliceStore
from tessera.model.pods import Pod

log = structlog.get_logger()


class Limits(Protocol):
    """What a slice was given beside its files here. Methods raise ``grpc.aio.AioRpcError`` or ``OSError``."""

    async def release(self, device: str) -> None:
        """Takes it away; of an unknown device it is no error."""

    def usage(self) -> Awaitable[list[GpuProcess]]:
        """The GPU processes of this moment."""


class Reclaimer:
    """The only one who releases slices."""

    def __init__(
        self,
        store: SliceStore,
        pods: NodePods,
        cluster: Cluster,
        resources: PodResources,
        limits: Limits,
        specs: SpecFiles,
        live_uids: Callable[[], frozenset[str]],
    ) -> None:
        self._store = store
        self._pods = pods
        self._cluster = cluster
        self._resources = resources
        self._limits = limits
        self._specs = specs
        self._live_uids = live_uids
        self._pass = SharedCall(self._release_dead)

    async def release_dead(self) -> None:
        """One look; failures of the outside world leave the slices for the next."""
        try:
            await self._pass()
        except (grpc.aio.AioRpcError, ClusterError, OSError) as error:
            log.warning("reclaim put off", error=str(error))

    async def supersede(self, item: Slice) -> None:
        """Releases a slice whose container is starting with another slot (the kubelet had lost its checkpoint)."""
        if item.holder is None:
            return
        try:
            if (await self._resources.slots()).get(item.slot) == [_place(item.holder)]:
                raise wait(f"{item.holder} holds {item.slot} as well; allowed: one slot a container")
            if item.holder.uid in {p.pod_uid for p in await self._limits.usage()}:
                raise wait(f"{item.holder} still has a GPU process of {item.device}")
            await self._release(item)
        except (grpc.aio.AioRpcError, OSError) as error:
            raise wait(f"{item.device} is not released yet: {error}") from None

    async def _release_dead(self) -> None:
        suspects = [item for item in self._store.book if self._suspect(item)] if self._pods.synced else []
        if not suspects:
            return
        in_use = await self._resources.slots()
        busy = {p.pod_uid for p in await self._limits.usage()} | await asyncio.to_thread(self._live_uids)
        for item in suspects:
            left = item.holder is not None and item.holder.uid in busy
            if not left and not self._shown(item, in_use) and await self._gone(item.holder):
                await self._release(item)

    def _suspect(self, item: Slice) -> bool:
        """By the watch alone. A name that waits for its PreStart is none: the kubelet may not show it yet. One whose
        journal entry was damaged always is: nobody knows whose it was."""
        if item.holder is None:
            return item.device in self._store.broken or not self._store.book.is_current(item)
        found = self._pods.by_uid(item.holder.uid)
        return found is None or found.pod.ended

    def _shown(self, item: Slice, in_use: Mapping[str, list[Place]]) -> bool:
        """Whether the kubelet still has this slot with this container; of a lost one, with any."""
        if not self._store.book.is_current(item):
            return False
        if item.holder is None:
            return item.slot in in_use
        return _place(item.holder) in in_use.get(item.slot, [])

    async def _gone(self, holder: Holder | None) -> bool:
        """The watch may lag: a live read has the last word."""
        if holder is None:
            return True
        live = await self._cluster.pod(holder.namespace, holder.pod)
        return live is None or live.pod.uid != holder.uid or live.pod.ended

    async def _release(self, item: Slice) -> None:
        # Also without a holder: what the agent holds of a slice whose journal entry was damaged would stay for ever.
        await self._limits.release(item.device)
        await self._specs.remove(item.device)
        await self._store.release(item.device)
        if item.holder is not None:
            log.info("slice released", device=item.device, holder=str(item.holder))
            pod = Pod(item.holder.namespace, item.holder.pod, item.holder.uid)
            self._cluster.tell(pod, "SliceReleased", f"container {item.holder.container}: {item.device}")


def _place(holder: Holder) -> Place:
    return Place(holder.namespace, holder.pod, holder.container)
