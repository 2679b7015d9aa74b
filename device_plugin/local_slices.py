"""A slice of this node's GPUs, from its assignment to the CDI spec: the agent holds its limits before that is there."""

from collections.abc import Awaitable, Iterable, Mapping
from textwrap import shorten
from typing import Protocol

import grpc

from tessera.device_plugin.agent import GpuProcess, Prepared
from tessera.device_plugin.checks import Grant, check_gpus
from tessera.device_plugin.claims import Claiming
from tessera.device_plugin.identity import Claimant
from tessera.device_plugin.inventory import Inventory
from tessera.device_plugin.refusals import Refused, wait
from tessera.device_plugin.slices import Slice
from tessera.device_plugin.writer import SpecWriter
from tessera.model.gpus import Gpu

AGENT_WAIT_S = 3.0
"""Both start together after a reboot: a short wait here saves the kubelet's ten seconds until its next try."""
MAX_WHY = 300
"""Characters of an event that say why a slice is held at its level."""


class AgentPort(Protocol):
    """The node agent, as far as a start needs it."""

    async def prepare(self, item: Slice, grant: Grant) -> Prepared:
        """Puts the limits in place. Raises ``Refused``."""

    def usage(self) -> Awaitable[list[GpuProcess]]:
        """The GPU processes of this moment."""


class LocalSlices:
    """Prepares slices of this node's GPUs."""

    def __init__(self, claiming: Claiming, agent: AgentPort, inventory: Inventory, writer: SpecWriter) -> None:
        self._claiming = claiming
        self._agent = agent
        self._inventory = inventory
        self._writer = writer

    async def __call__(self, item: Slice, claimant: Claimant, grant: Grant) -> str:
        """Returns when a runtime can resolve the device; what is told of it. Raises ``Refused``."""
        holder = claimant.holder
        if not await self._inventory.ready_within(AGENT_WAIT_S):
            unjudged = "it is not known yet whether other drivers offer the GPUs of this node"
            gone = "the node agent cannot be reached, so the GPUs are not known"
            raise wait(unjudged if self._inventory.connected else gone)
        refusal = check_gpus(grant, holder.container, self._inventory.gpus)
        if refusal:
            raise Refused(refusal)
        _no_former_process(item, grant, claimant, await self._processes())
        item = await self._claiming.claim(item, holder, grant, self._inventory.gpus)
        prepared = await self._agent.prepare(item, grant)
        await self._writer.write(item, prepared, [claimant.live.container_ids.get(holder.container, "")])
        return _told(item, prepared, self._inventory.gpus)

    async def _processes(self) -> list[GpuProcess]:
        try:
            return await self._agent.usage()
        except grpc.aio.AioRpcError as error:
            raise wait(f"node agent, Usage: {error.code().name}: {error.details()}") from None


def _no_former_process(item: Slice, grant: Grant, claimant: Claimant, processes: Iterable[GpuProcess]) -> None:
    """Refuses a restart while a GPU process of the container's former life is there, known by its ID, or, since the
    status may lag behind, by belonging to none of the pod's other containers."""
    container = claimant.holder.container
    uuids = {share.uuid for share in grant.shares}
    for process in processes:
        if process.pod_uid != claimant.holder.uid or process.gpu_uuid not in uuids:
            continue
        owner = claimant.live.owner_of(process.container_id)
        if owner == container or (owner is None and item.holder is not None):
            raise wait(f"GPU process {process.pid} of the former container {container} is still there")


def _told(item: Slice, prepared: Prepared, gpus: Mapping[str, Gpu]) -> str:
    """GPUs that have their level for the same reason share a clause."""
    given = ", ".join(f"{s.uuid} {s.mem_bytes >> 20} MiB {s.core_percent}%" for s in item.shares)
    whys = dict.fromkeys(gpus[s.uuid].evidence for s in item.shares if s.uuid in gpus)
    why = shorten("; ".join(filter(None, whys)), MAX_WHY, placeholder=" ...")
    return f"held at level {prepared.level}{f' ({why})' if why else ''}: {given}"
