"""The node agent, over its unix socket: the inventory stream, Prepare, Release and Usage."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc
import structlog

from tessera.device_plugin.checks import Grant
from tessera.device_plugin.flights import SharedCall
from tessera.device_plugin.inventory import Inventory, LocalGpu
from tessera.device_plugin.refusals import end, wait
from tessera.device_plugin.slices import Slice
from tessera.model.gpus import Gpu, GpuCondition, Health
from tessera.pb.agent.v1 import agent_pb2, agent_pb2_grpc
from tessera.reasons import Code

log = structlog.get_logger()

USAGE_TIMEOUT_S = 5.0
RECONNECT_S = 0.5


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount that the agent wants in the container; ``type``: a file system's, empty for a bind mount."""

    host_path: str
    container_path: str
    options: tuple[str, ...] = ()
    type: str = ""


@dataclass(frozen=True, slots=True)
class Hook:
    """A program that the runtime runs before the container is started; a status other than 0 is its end."""

    path: str
    args: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the container needs so that its limits hold."""

    level: int
    env: Mapping[str, str]
    mounts: tuple[Mount, ...]
    hooks: tuple[Hook, ...] = ()


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process on a GPU, by the pod and container it belongs to (empty: none)."""

    pid: int
    gpu_uuid: str
    pod_uid: str
    container_id: str


class Agent:
    """A client that keeps ``inventory`` up to date while ``watch`` runs."""

    def __init__(self, socket: Path, inventory: Inventory) -> None:
        self._target = f"unix://{socket.absolute()}"
        self._inventory = inventory
        self._made: grpc.aio.Channel | None = None
        self.usage = SharedCall(self._usage)

    async def watch(self) -> None:
        """Follows the inventory for ever; a lost agent is tried again twice a second."""
        while True:
            try:
                async for message in self._stub().WatchInventory(agent_pb2.WatchInventoryRequest()):
                    self._inventory.update(_local(gpu) for gpu in message.gpus)
            except grpc.aio.AioRpcError as error:
                if self._inventory.connected or not self._inventory.known:
                    log.warning("agent lost", target=self._target, code=error.code().name)
            self._inventory.lost()
            await asyncio.sleep(RECONNECT_S)

    async def prepare(self, item: Slice, grant: Grant) -> Prepared:
        """Has the limits of a claimed slice put in place. Raises ``Refused``."""
        try:
            reply = await self._stub().Prepare(agent_pb2.PrepareRequest(slice=_slice(item, grant)))
        except grpc.aio.AioRpcError as error:
            text = f"node agent, Prepare of {item.device}: {error.code().name}: {error.details()}"
            if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
                raise end(Code.ENFORCEMENT_TOO_WEAK, text) from None
            raise wait(text) from None
        mounts = tuple(Mount(m.host_path, m.container_path, tuple(m.options), m.type) for m in reply.mounts)
        hooks = tuple(Hook(hook.path, tuple(hook.args)) for hook in reply.hooks)
        return Prepared(reply.level, dict(reply.env), mounts, hooks)

    async def release(self, device: str) -> None:
        """Takes the limits away. Raises ``grpc.aio.AioRpcError``."""
        await self._stub().Release(agent_pb2.ReleaseRequest(id=device), timeout=USAGE_TIMEOUT_S)

    async def close(self) -> None:
        """Closes the connection."""
        if self._made:
            await self._made.close(grace=None)

    async def _usage(self) -> list[GpuProcess]:
        reply = await self._stub().Usage(agent_pb2.UsageRequest(), timeout=USAGE_TIMEOUT_S)
        return [GpuProcess(p.pid, p.gpu_uuid, p.pod_uid, p.container_id) for p in reply.processes]

    def _stub(self) -> agent_pb2_grpc.AgentStub:
        if self._made is None:
            # A restarted agent must be found at once, not after gRPC's growing back-off of up to two minutes.
            options = [("grpc.min_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500)]
            self._made = grpc.aio.insecure_channel(self._target, options=options)
        return agent_pb2_grpc.AgentStub(self._made)  # type: ignore[no-untyped-call]


def _local(gpu: agent_pb2.Gpu) -> LocalGpu:
    found = Gpu(
        uuid=gpu.uuid,
        model=gpu.model,
        mem_bytes=gpu.mem_bytes,
        total_bytes=gpu.total_bytes,
        sm_count=gpu.sm_count,
        compute_capability=gpu.compute_capability,
        numa_node=gpu.numa_node,
        nvlink_peers=tuple(gpu.nvlink_peers),
        health=Health(gpu.healthy, gpu.health_reason),
        level=gpu.level,
        evidence=gpu.evidence,
        mps_group=gpu.mps_group,
        conditions=tuple(GpuCondition(one.type, one.message) for one in gpu.conditions),
    )
    return LocalGpu(found, gpu.index)


def _slice(item: Slice, grant: Grant) -> agent_pb2.Slice:
    if item.holder is None:
        raise ValueError(f"{item.device} has no holder")
    preferences = grant.demand.preferences
    return agent_pb2.Slice(
        id=item.device,
        pod_uid=item.holder.uid,
        namespace=item.holder.namespace,
        pod=item.holder.pod,
        container=item.holder.container,
        shares=[
            agent_pb2.Share(uuid=s.uuid, mem_bytes=s.mem_bytes, core_percent=s.core_percent, whole=s.whole)
            for s in item.shares
        ],
        min_level=grant.demand.min_level,
        qos=preferences.qos,
        core_limit_percent=preferences.core_limit_percent,
        trust_domain=grant.domain,
    )
