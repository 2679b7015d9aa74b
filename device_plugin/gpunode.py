"""Publishes this node's GPUs: the status of its GPUNode, on each change and as a heartbeat."""

from tessera.device_plugin.cluster import Cluster
from tessera.device_plugin.inventory import Inventory
from tessera.device_plugin.slices import Book
from tessera.model.gpus import GpuNode


class GpuNodePublisher:
    """Writes the inventory as this node sees it, conflicts included, with the bytes that its slices hold."""

    def __init__(self, node: str, cluster: Cluster, inventory: Inventory, book: Book) -> None:
        self._node = node
        self._cluster = cluster
        self._inventory = inventory
        self._book = book

    def current(self) -> tuple[GpuNode, dict[str, int]]:
        """The GPUs in the driver's order, and allocated bytes by UUID."""
        ordered = sorted(self._inventory.local.values(), key=lambda local: (local.index, local.gpu.uuid))
        allocated = {uuid: mem for uuid, (mem, _, _) in self._book.allocated().items()}
        return GpuNode(self._node, tuple(local.gpu for local in ordered)), allocated

    async def publish(self) -> None:
        """One write. Raises ``ClusterError``. While the agent is away the heartbeat stops, which tells of it; and
        nothing is offered before it is known who else offers it."""
        if self._inventory.connected and self._inventory.judged and self._inventory.gpus:
            await self._cluster.publish(*self.current())
