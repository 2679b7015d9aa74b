"""One MPS daemon in static mode, for one GPU: each slice runs on multiprocessors of its own.

What a daemon needs anyway is ``MpsGroup``'s; memory is held as there. A GPU has this level where a partition could be
made, a client was seen to run on it, and it could be taken away again. Clients of slices whose partition has gone are
ended: the name that they were told may be another's by now.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from functools import partial

import structlog

from tessera.model.gpus import LEVEL_MPS, LEVEL_NONE, LEVEL_PARTITION
from tessera.node_agent.enforcement.mps_control import MpsError
from tessera.node_agent.enforcement.mps_environment import PARTITION, partition_environment_of
from tessera.node_agent.enforcement.mps_group import MpsGroup
from tessera.node_agent.enforcement.mps_lspart import Layout
from tessera.node_agent.enforcement.mps_node import Node
from tessera.node_agent.enforcement.mps_partition_records import Records
from tessera.node_agent.enforcement.mps_partitions import Partitions
from tessera.node_agent.enforcement.mps_reasons import PARTITION_LOST
from tessera.node_agent.enforcement.mps_static import StaticControl
from tessera.node_agent.enforcement.port import TERMINATE_S, EnforcementError, Finding, Incident
from tessera.node_agent.slices import Slice

log = structlog.get_logger()


class PartitionGroup:
    """Slices over several GPUs are not held: nothing is known of how a client would name two partitions."""

    def __init__(self, uuid: str, control: StaticControl, node: Node) -> None:
        self.uuids, self.control, self._node = (uuid,), control, node
        self._group = MpsGroup(self.uuids, control, node, percents=False)
        records = Records(control.pipe.with_name("partitions.json"))
        self._partitions = Partitions(uuid, control, records, lambda: self.slices)
        self._tried = False

    @property
    def slices(self) -> list[Slice]:
        return self._group.slices

    @property
    def trouble(self) -> str:
        return self._group.trouble

    @property
    def clients(self) -> frozenset[int] | None:
        return self._group.clients

    @property
    def gone(self) -> bool:
        return self._group.gone

    @property
    def worked(self) -> bool:
        return self._group.worked

    async def detect(self, uuid: str) -> Finding:
        """Starts the daemon and a server if need be, and makes a partition for a trial."""
        found = await self._group.serve()
        if found.level < LEVEL_MPS:
            return found
        try:
            layout, doubt = await self._try(uuid)
        except (MpsError, OSError) as error:
            if not self.slices and not self.worked:
                await self.control.stop()
            return self._group.fails(f"static SM partitions do not work: {error}")
        self._group.worked = True
        if doubt:
            return Finding(LEVEL_NONE, f"SM partitions work, but their clients would not be watched: {doubt}")
        chunks = f"{layout.free} of {layout.total} chunks of multiprocessors are free"
        return Finding(LEVEL_PARTITION, f"{found.evidence}; {chunks}")

    async def admit(self, item: Slice) -> Mapping[str, str]:
        """What its clients need; its partition is there. Raises ``EnforcementError`` and ``OSError``."""
        await self._group.admit(item)
        try:
            partition = await self._partitions.ensure(item)
        except MpsError as error:
            raise EnforcementError(f"SM partitions of GPU {self.uuids[0]}: {error}") from None
        return partition_environment_of(item, partition)

    async def apply(self) -> None:
        """After a slice has gone: what fails now is done by a later ``observe``."""
        await self._group.apply()
        await self._settle()

    async def observe(self) -> list[Incident]:
        found = await self._group.observe()
        # ``None``: it did not answer, and another command would only wait again.
        if self.clients is None:
            return found
        await self._settle()
        await self._end_void(self.clients)
        return [*found, *self._lost()]

    def retire(self, retired: bool = True) -> None:
        self._group.retire(retired)

    async def terminate(self, pid: int) -> bool:
        return await self._group.terminate(pid)

    async def _try(self, uuid: str) -> tuple[Layout, str]:
        """The partitions that there are, and why their clients are not believed to be watched."""
        layout, proven = await self._partitions.layout(), await self._group.proven(uuid)
        if proven and (self._tried or layout.rows):
            return layout, ""

        async def probe(partition: str) -> str:
            return await self._group.doubt(uuid, {PARTITION: partition})

        doubt = await self._partitions.trial(probe)
        self._tried = True
        return layout, doubt

    async def _end_void(self, clients: frozenset[int]) -> None:
        """Those of pods that have no partition here: which container of a pod a client is of is not known."""
        void = self._partitions.void()
        ended = {item.pod_uid for item in void} - {item.pod_uid for item in self.slices if item not in void}
        if ended and clients:
            pods = await self._node.clients.pods(clients)
            await asyncio.gather(*(self._end(pid) for pid, pod in pods.items() if pod in ended))

    async def _end(self, pid: int) -> None:
        log.warning("client without an SM partition", gpu=self.uuids[0], pid=pid)
        await self._node.clients.end(pid, partial(self._terminate, pid))

    async def _terminate(self, pid: int) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._group.terminate(pid), TERMINATE_S)

    async def _settle(self) -> None:
        try:
            await self._partitions.settle()
        except (MpsError, OSError) as error:
            log.warning("SM partitions not settled", gpu=self.uuids[0], error=str(error))

    def _lost(self) -> list[Incident]:
        """On each pod once."""
        pods = {item.pod_uid: item.id for item in self._partitions.take_lost()}
        if not pods:
            return []
        text = "its SM partition has gone; its programs are ended until its container is started again"
        return [Incident(self.uuids[0], PARTITION_LOST, f"GPU {self.uuids[0]}: {text}", tuple(pods.values()))]
