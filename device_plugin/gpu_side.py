"""A node with GPUs: the agent's inventory makes the slots, the node's capacity and the GPUNode."""

import asyncio
from collections.abc import Coroutine

from tessera.device_plugin.agent import Agent
from tessera.device_plugin.capacity import Capacity
from tessera.device_plugin.claims import Claiming
from tessera.device_plugin.cluster import ClusterError
from tessera.device_plugin.gpunode import GpuNodePublisher
from tessera.device_plugin.local_slices import LocalSlices
from tessera.device_plugin.loops import repeat
from tessera.device_plugin.sides import Parts
from tessera.device_plugin.writer import SpecWriter
from tessera.durable import replace_durably
from tessera.model.names import SLOTS_PER_GPU

COUNT_FILE = "gpus"
OUTSIDE = (ClusterError, OSError)


class GpuSide:
    """Serves slices of this node's GPUs."""

    def __init__(self, parts: Parts) -> None:
        settings = parts.settings
        self._parts = parts
        self._agent = Agent(settings.agent_socket, parts.inventory)
        self._capacity = Capacity(parts.cluster, parts.pods, parts.inventory)
        self._publisher = GpuNodePublisher(settings.node, parts.cluster, parts.inventory, parts.store.book)
        parts.announcement.grow(self._remembered_gpus() * SLOTS_PER_GPU)

    @property
    def limits(self) -> Agent:
        """The agent's."""
        return self._agent

    def preparation(self, claiming: Claiming) -> LocalSlices:
        """Of slices of this node's GPUs."""
        parts, settings = self._parts, self._parts.settings
        writer = SpecWriter(
            parts.specs, parts.inventory, settings.nvidia_cdi_dirs, settings.require_nvidia_cdi, settings.proc_dir
        )
        return LocalSlices(claiming, self._agent, parts.inventory, writer)

    def loops(self) -> list[Coroutine[object, object, object]]:
        """The inventory, and what follows from it."""
        parts, settings = self._parts, self._parts.settings
        inventory = parts.inventory
        capacity_events = [inventory.changed, parts.pods.changed, parts.node.changed, parts.registered.wait]
        return [
            self._agent.watch(),
            repeat("slots", self._announce, [inventory.changed], 60.0, OUTSIDE),
            repeat("capacity", self._assert_capacity, capacity_events, settings.capacity_every_s, OUTSIDE),
            repeat(
                "gpunode",
                self._publisher.publish,
                [inventory.changed, parts.store.changed],
                settings.heartbeat_every_s,
                OUTSIDE,
            ),
        ]

    async def close(self) -> None:
        """Closes the connection to the agent."""
        await self._agent.close()

    async def _announce(self) -> None:
        """The count outlives us, so that after a restart we register at once even if the agent is not up yet."""
        gpus = len(self._parts.inventory.gpus)
        if self._parts.announcement.grow(gpus * SLOTS_PER_GPU):
            path = self._parts.settings.state_dir / COUNT_FILE
            await asyncio.to_thread(replace_durably, self._parts.disk, path, str(gpus).encode())

    def _remembered_gpus(self) -> int:
        try:
            return int((self._parts.settings.state_dir / COUNT_FILE).read_text())
        except (OSError, ValueError):
            return 0

    async def _assert_capacity(self) -> None:
        self._parts.registered.clear()
        await self._capacity.assert_now()
