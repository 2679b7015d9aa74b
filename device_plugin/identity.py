"""Which container is this slot for? PodResources names it, a live read of the pod gives its UID, the kubelet's own
checkpoint confirms both. Any doubt is a refusal."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import grpc

from tessera.device_plugin.checkpoint import CheckpointError, Held, read
from tessera.device_plugin.cluster import Cluster, ClusterError, NodePod
from tessera.device_plugin.podresources import Place, PodResources
from tessera.device_plugin.refusals import wait
from tessera.device_plugin.slices import Holder


@dataclass(frozen=True, slots=True)
class Claimant:
    """The container that asks to start, and the CDI name that the kubelet recorded for it, if it did."""

    holder: Holder
    live: NodePod
    recorded_device: str | None


class Identity:
    """Finds the container behind a slot. ``need_checkpoint``: whether a missing checkpoint is a refusal."""

    def __init__(
        self, node: str, resources: PodResources, cluster: Cluster, checkpoint: Path, *, need_checkpoint: bool
    ) -> None:
        self._node = node
        self._resources = resources
        self._cluster = cluster
        self._checkpoint = checkpoint
        self._need_checkpoint = need_checkpoint

    async def of(self, slot: str) -> Claimant:
        """The container that holds the slot. Raises ``Refused``, always temporary: nothing is proven of anybody."""
        place = await self._place(slot)
        live = await self._live(place)
        held = await self._held(slot)
        uid = live.pod.uid
        if held is not None and (held.uid, held.container) != (uid, place.container):
            raise wait(
                f"{slot}: the kubelet's checkpoint names pod UID {held.uid} container {held.container}, the API "
                f"server has {place.namespace}/{place.pod} with UID {uid}, container {place.container}"
            )
        holder = Holder(uid, place.namespace, place.pod, place.container)
        return Claimant(holder, live, held.device if held else None)

    async def slots_in_use(self) -> dict[str, list[Place]]:
        """All slots that the kubelet says are held. Raises ``grpc.aio.AioRpcError``."""
        return await self._resources.slots()

    async def _place(self, slot: str) -> Place:
        try:
            places = (await self._resources.slots()).get(slot, [])
        except grpc.aio.AioRpcError as error:
            raise wait(f"the kubelet's PodResources: {error.code().name}: {error.details()}") from None
        if len(places) != 1:
            raise wait(f"{slot}: found {len(places)} containers that hold it in PodResources; allowed: 1")
        return places[0]

    async def _live(self, place: Place) -> NodePod:
        try:
            live = await self._cluster.pod(place.namespace, place.pod)
        except ClusterError as error:
            raise wait(f"pod {place.namespace}/{place.pod}: {error}") from None
        if live is None:
            raise wait(f"pod {place.namespace}/{place.pod} is not in the API server")
        if live.pod.node != self._node:
            raise wait(f"pod {live.pod.key} is bound to node {live.pod.node!r}; this is {self._node!r}")
        if live.pod.ended:
            raise wait(f"pod {live.pod.key} has ended: {live.pod.phase}")
        return live

    async def _held(self, slot: str) -> Held | None:
        try:
            entries = await asyncio.to_thread(read, self._checkpoint)
        except CheckpointError as error:
            raise wait(str(error)) from None
        if entries is None:
            if self._need_checkpoint:
                raise wait(f"{self._checkpoint}: missing, so {slot} cannot be confirmed")
            return None
        found = [held for held in entries if held.slot == slot]
        if len(found) != 1:
            raise wait(f"{self._checkpoint}: found {len(found)} entries for {slot}; allowed: 1")
        return found[0]
