"""The gRPC service Agent on a unix socket, with the standard health service beside it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from tessera.model.assignment import Share
from tessera.model.gpus import Gpu
from tessera.node_agent.enforcement.port import Edits
from tessera.node_agent.gpus import Gpus
from tessera.node_agent.preparation import Preparation
from tessera.node_agent.probe import Probe
from tessera.node_agent.slices import Refusal, Slice
from tessera.pb.agent.v1 import agent_pb2, agent_pb2_grpc

log = structlog.get_logger()

SERVICE = "tessera.agent.v1.Agent"
Context = grpc.aio.ServicerContext[Any, Any]


class AgentService(agent_pb2_grpc.AgentServicer):
    """Converts between the wire and the rooms behind."""

    def __init__(self, gpus: Gpus, preparation: Preparation, probe: Probe) -> None:
        self._gpus, self._preparation, self._probe = gpus, preparation, probe

    async def WatchInventory(
        self, request: agent_pb2.WatchInventoryRequest, context: Context
    ) -> AsyncIterator[agent_pb2.Inventory]:
        async for gpus in self._gpus.follow():
            yield agent_pb2.Inventory(gpus=[_gpu(gpu, self._gpus.index(gpu.uuid)) for gpu in gpus])

    async def Prepare(self, request: agent_pb2.PrepareRequest, context: Context) -> agent_pb2.PrepareReply:
        # A caller that gives up does not stop it half-way: it is done or undone, and the next call finds which.
        answer = await asyncio.shield(self._preparation.prepare(_slice(request.slice)))
        if isinstance(answer, Refusal):
            code = grpc.StatusCode.FAILED_PRECONDITION if answer.permanent else grpc.StatusCode.UNAVAILABLE
            log.warning("slice refused", slice=request.slice.id, code=answer.reason.code, reason=answer.reason.text)
            await context.abort(code, answer.reason.text)
        return _reply(answer)

    async def Release(self, request: agent_pb2.ReleaseRequest, context: Context) -> agent_pb2.ReleaseReply:
        try:
            await asyncio.shield(self._preparation.release(request.id))
        except OSError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"slice {request.id}: {error}")
        return agent_pb2.ReleaseReply()

    async def Usage(self, request: agent_pb2.UsageRequest, context: Context) -> agent_pb2.UsageReply:
        """Slots are freed by this answer, so a healthy GPU that cannot be read is not passed off as an empty one."""
        gpus = self._gpus.now
        snapshot = await self._probe.snapshot(gpus)
        failures = {uuid: error for uuid, error in snapshot.failures.items() if gpus[uuid].health.healthy}
        if failures:
            text = "; ".join(f"GPU {uuid}: {error}" for uuid, error in failures.items())
            await context.abort(grpc.StatusCode.UNAVAILABLE, text)
        reply = agent_pb2.UsageReply()
        for one in snapshot.found:
            process = snapshot.processes.get(one.pid)
            container = process.container if process else None
            reply.processes.add(
                pid=one.pid,
                gpu_uuid=one.gpu_uuid,
                used_bytes=one.used_bytes or 0,
                pod_uid=container.pod_uid if container else "",
                container_id=container.container_id if container else "",
            )
        return reply


class AgentSocket:
    """The server on ``path``; a socket left there by a killed agent is replaced."""

    def __init__(self, path: Path, service: AgentService) -> None:
        self._path, self._service = path, service
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Returns once calls are answered. Raises ``OSError``."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        server = grpc.aio.server()
        agent_pb2_grpc.add_AgentServicer_to_server(self._service, server)  # type: ignore[no-untyped-call]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        try:
            server.add_insecure_port(f"unix://{self._path.absolute()}")
        except RuntimeError as error:
            raise OSError(f"cannot listen on {self._path}: {error}") from None
        await server.start()
        self._path.chmod(0o600)
        await self._health.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
        self._server = server

    async def stop(self) -> None:
        """Ends the streams and stops listening."""
        if self._server is not None:
            await self._health.enter_graceful_shutdown()
            await self._server.stop(grace=0.2)
            self._server = None


def _gpu(gpu: Gpu, index: int) -> agent_pb2.Gpu:
    return agent_pb2.Gpu(
        uuid=gpu.uuid,
        model=gpu.model,
        mem_bytes=gpu.mem_bytes,
        total_bytes=gpu.total_bytes,
        sm_count=gpu.sm_count,
        compute_capability=gpu.compute_capability,
        numa_node=gpu.numa_node,
        nvlink_peers=gpu.nvlink_peers,
        healthy=gpu.health.healthy,
        health_reason=gpu.health.reason,
        level=gpu.level,
        mps_group=gpu.mps_group,
        index=index,
        evidence=gpu.evidence,
        conditions=[agent_pb2.Condition(type=one.type, message=one.message) for one in gpu.conditions],
    )


def _slice(message: agent_pb2.Slice) -> Slice:
    return Slice(
        id=message.id,
        pod_uid=message.pod_uid,
        namespace=message.namespace,
        pod=message.pod,
        container=message.container,
        shares=tuple(Share(s.uuid, s.mem_bytes, s.core_percent, s.whole) for s in message.shares),
        min_level=message.min_level,
        qos=message.qos or "guaranteed",
        core_limit_percent=message.core_limit_percent,
        domain=message.trust_domain,
    )


def _reply(edits: Edits) -> agent_pb2.PrepareReply:
    mounts = [
        agent_pb2.Mount(host_path=m.host_path, container_path=m.container_path, options=m.options, type=m.type)
        for m in edits.mounts
    ]
    hooks = [agent_pb2.Hook(path=hook.path, args=hook.args) for hook in edits.hooks]
    return agent_pb2.PrepareReply(level=edits.level, env=dict(edits.env), mounts=mounts, hooks=hooks)
