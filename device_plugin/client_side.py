"""A node without GPUs, for containers whose slices are on other nodes: slots alone, and no agent."""

from collections.abc import Coroutine
from pathlib import Path

from tessera.device_plugin.claims import Claiming
from tessera.device_plugin.client_package import install
from tessera.device_plugin.cluster import ClusterError
from tessera.device_plugin.cri import Cri
from tessera.device_plugin.kube_leases import KubeLeases
from tessera.device_plugin.lease_dirs import AuthorityError, LeaseDirs
from tessera.device_plugin.lease_keeping import LeaseKeeping
from tessera.device_plugin.leased_slices import LeasedSlices
from tessera.device_plugin.loops import repeat
from tessera.device_plugin.sides import Parts
from tessera.device_plugin.slots import number_of
from tessera.device_plugin.writer import LeaseSpecWriter
from tessera.model import names
from tessera.model.gpus import GpuNode

OUTSIDE = (ClusterError, OSError, AuthorityError)
GPU_KEYS = (names.GPU_MEM, names.GPU_CORE, names.GPU)
WAIT_SHARE = 0.8
"""Of PreStart's time, until a start is put off because its executor does not serve yet."""


class NotAClientNodeError(Exception):
    """The node has GPUs."""


class ClientSide:
    """Serves slices on other nodes. Raises ``OSError``, and ``NotAClientNodeError`` on a node with GPUs."""

    def __init__(self, parts: Parts) -> None:
        settings = parts.settings
        _without_gpus(settings.client_slots, settings.proc_dir / "driver/nvidia/gpus")
        self._parts = parts
        self._dirs = LeaseDirs(settings.state_dir / "leases", settings.pool_ca, parts.disk)
        self._dirs.sweep(lambda device: parts.store.book.get(device) is not None)
        self._client_dir = install(settings.state_dir / "client", parts.disk)
        self._leases = KubeLeases(parts.gateway, settings.node)
        self._keeping = LeaseKeeping(settings.node, parts.store.book, self._leases, self._dirs)
        self._cri = Cri(Path(settings.cri_socket)) if settings.cri_socket else None
        in_use = max((number_of(item.slot) + 1 for item in parts.store.book), default=0)
        parts.announcement.grow(max(settings.client_slots, in_use))

    @property
    def limits(self) -> LeaseDirs:
        """The folders that containers read their leases in."""
        return self._dirs

    def preparation(self, claiming: Claiming) -> LeasedSlices:
        """Of slices on other nodes."""
        settings, writer = self._parts.settings, LeaseSpecWriter(self._parts.specs, self._client_dir)
        wait_s = WAIT_SHARE * settings.prestart_deadline_s
        return LeasedSlices(settings.node, claiming, self._leases, self._dirs, writer, self._cri, wait_s=wait_s)

    def loops(self) -> list[Coroutine[object, object, object]]:
        """The leases, and what the API server knows of this node."""
        parts, settings = self._parts, self._parts.settings
        leases = [self._leases.changed, parts.store.changed]
        return [
            self._leases.run(),
            repeat("leases", self._keeping.refresh, leases, settings.reclaim_every_s, OUTSIDE),
            repeat("capacity", self._clear_capacity, [parts.node.changed], settings.capacity_every_s, OUTSIDE),
            repeat("gpunode", self._publish, [], settings.heartbeat_every_s, OUTSIDE),
        ]

    async def close(self) -> None:
        """Closes the connection to the container runtime."""
        if self._cri:
            await self._cri.close()

    async def _clear_capacity(self) -> None:
        """A key with a zero, as a former GPU node may have, would have the kubelet refuse the pods; an absent one is
        not looked at."""
        shown = {key for side in await self._parts.cluster.node_resources() for key in side}
        stale = [key for key in GPU_KEYS if key in shown]
        if stale:
            await self._parts.cluster.set_node_resources(dict.fromkeys(stale))

    async def _publish(self) -> None:
        settings = self._parts.settings
        await self._parts.cluster.publish(GpuNode(settings.node, (), settings.client_slots), {})


def _without_gpus(slots: int, driver: Path) -> None:
    gpus = len(list(driver.iterdir())) if driver.is_dir() else 0
    if gpus:
        found = f"found {slots} beside {gpus} GPUs in {driver}; allowed: 0 on a node with GPUs"
        raise NotAClientNodeError(f"client slots: {found}")
