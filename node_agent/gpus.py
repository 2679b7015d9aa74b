"""The node's GPUs as the scheduler sees them: inventory, health and enforcement level in one, and who follows it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping

import structlog

from tessera.model.gpus import Gpu, GpuCondition
from tessera.model.quantities import round_down
from tessera.node_agent.detections import Detections
from tessera.node_agent.enforcement.detect import Sight, finding_of
from tessera.node_agent.enforcement.port import Finding, Limiter
from tessera.node_agent.inventory import Inventory
from tessera.node_agent.nvml import NvmlError

log = structlog.get_logger()

MAX_EVIDENCE = 512
"""Characters of it that are published; the CRD takes no more."""


class Gpus:
    """``headroom_of``: the bytes that are kept back on a GPU. ``known``: whether the GPUs were looked at once.

    ``group_of`` names a GPU's MPS group, empty where it is one by itself. ``conditions_of``: what else
    stands against it.
    """

    def __init__(
        self,
        inventory: Inventory,
        limiter: Limiter,
        headroom_of: Callable[[str], int],
        *,
        wsl: bool = False,
        allow_unwatched: bool = False,
        group_of: Callable[[str], str] = lambda _: "",
        conditions_of: Callable[[str], tuple[GpuCondition, ...]] = lambda _: (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inventory, self._headroom_of = inventory, headroom_of
        self._wsl, self._allow_unwatched = wsl, allow_unwatched
        self._group_of, self._conditions_of = group_of, conditions_of
        self._detections = Detections(limiter.detect, clock)
        self._sights: dict[str, Sight] = {}
        self._now: dict[str, Gpu] = {}
        self._changed = asyncio.Event()
        self.known = self._told = False

    @property
    def now(self) -> dict[str, Gpu]:
        """By UUID, in the driver's order; without what has left the inventory since the last ``refresh``."""
        return {uuid: gpu for uuid, gpu in self._now.items() if uuid in self._inventory.devices}

    def index(self, uuid: str) -> int:
        """NVML's index."""
        return self._inventory.devices[uuid].index

    def finding(self, uuid: str) -> Finding:
        """The enforcement level of a GPU and its evidence."""
        device = self._inventory.devices[uuid]
        wanted, sight = self._detections.of(uuid), self._sights.get(uuid, Sight())
        return finding_of(device, wanted, sight, wsl=self._wsl, allow_unwatched=self._allow_unwatched)

    def saw(self, read: Mapping[str, bool | None], failed: Mapping[str, NvmlError]) -> None:
        """What came of a look at the processes, by GPU: why it ``failed``, or whether bytes of some were not told.

        ``None``: there were no processes.
        """
        for uuid, blind in read.items():
            self._sights[uuid] = self._sights.get(uuid, Sight()).after(blind)
        for uuid, error in failed.items():
            self._sights[uuid] = self._sights.get(uuid, Sight()).failed(str(error))
        self._publish()

    def unseen(self) -> dict[str, str]:
        """GPUs on which nobody sees what slices use, and why; without those where the operator allows it."""
        if self._allow_unwatched:
            return {}
        return {uuid: self.finding(uuid).evidence for uuid in self.now if self._sights.get(uuid, Sight()).blind}

    def doubt(self, uuids: Iterable[str]) -> None:
        """What the level of these GPUs rests on has changed: it is detected again at the next ``refresh``."""
        self._detections.doubt(uuids)

    async def refresh(self) -> tuple[Gpu, ...]:
        """Takes the inventory anew; answers the GPUs that are not as they were before.

        A level whose detection takes long is that of a later ``refresh``.
        """
        devices = self._inventory.devices
        healthy = [uuid for uuid, one in devices.items() if one.sliceable and self._inventory.health(uuid).healthy]
        await self._detections.round(healthy)
        self.known = True
        return self._publish()

    async def close(self) -> None:
        """Ends the detections that go on."""
        await self._detections.close()

    async def follow(self) -> AsyncIterator[tuple[Gpu, ...]]:
        """The GPUs once they are known, and again after each change."""
        told: tuple[Gpu, ...] | None = None
        while True:
            changed, now = self._changed, tuple(self.now.values())
            if self.known and now != told:
                told = now
                yield now
            if changed is self._changed:
                await changed.wait()

    def _publish(self) -> tuple[Gpu, ...]:
        before, self._now = self._now, {uuid: self._gpu(uuid) for uuid in self._inventory.devices}
        changed = tuple(gpu for uuid, gpu in self._now.items() if before.get(uuid) != gpu)
        for gpu in changed:
            log.info("GPU", uuid=gpu.uuid, healthy=gpu.health.healthy, reason=gpu.health.reason, enforcement=gpu.level,
                     evidence=gpu.evidence)  # fmt: skip
        if changed or before.keys() - self._now.keys() or not self._told:
            self._told = self.known
            self._changed.set()
            self._changed = asyncio.Event()
        return changed

    def _gpu(self, uuid: str) -> Gpu:
        device, finding = self._inventory.devices[uuid], self.finding(uuid)
        free = 0 if device.mig else device.total_bytes - device.reserved_bytes - self._headroom_of(uuid)
        return Gpu(
            uuid=uuid,
            model=device.name,
            mem_bytes=max(round_down(free), 0),
            total_bytes=device.total_bytes,
            sm_count=device.sm_count,
            compute_capability=device.compute_capability,
            numa_node=device.numa_node,
            nvlink_peers=device.nvlink_peers,
            health=self._inventory.health(uuid),
            level=finding.level,
            evidence=finding.evidence[:MAX_EVIDENCE],
            mps_group=self._group_of(uuid),
            conditions=self._conditions_of(uuid),
        )
