"""A node agent at the border: speaks agent.proto on a unix socket, holds no limits, can be told to fail."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import grpc

from tessera.model.gpus import Gpu
from tessera.pb.agent.v1 import agent_pb2, agent_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class FakeAgent(agent_pb2_grpc.AgentServicer):
    """``prepared``: slices by ID whose limits hold now; ``released``: IDs in order; ``processes``: what Usage says;
    ``refuse``: the answer to Prepare, if it is to fail; ``willing``: Prepare waits for this."""

    def __init__(self, socket: Path, gpus: Iterable[Gpu]) -> None:
        self._socket = socket
        self._gpus = list(gpus)
        self._changed = asyncio.Event()
        self._server: grpc.aio.Server | None = None
        self.prepared: dict[str, agent_pb2.Slice] = {}
        self.released: list[str] = []
        self.prepares = 0
        self.processes: list[agent_pb2.Process] = []
        self.refuse: tuple[grpc.StatusCode, str] | None = None
        self.willing = asyncio.Event()
        self.willing.set()
        self.env: dict[str, str] = {}
        self.mounts: list[agent_pb2.Mount] = []

    async def start(self) -> None:
        self._server = grpc.aio.server()
        agent_pb2_grpc.add_AgentServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        self._server.add_insecure_port(f"unix://{self._socket}")
        await self._server.start()

    async def stop(self) -> None:
        if self._server:
            await self._server.stop(grace=None)

    def set_gpus(self, gpus: Iterable[Gpu]) -> None:
        """A new inventory, told to all watchers."""
        self._gpus = list(gpus)
        self._changed.set()
        self._changed = asyncio.Event()

    async def WatchInventory(
        self, request: agent_pb2.WatchInventoryRequest, context: Context
    ) -> AsyncIterator[agent_pb2.Inventory]:
        while True:
            changed = self._changed
            yield agent_pb2.Inventory(gpus=[_wire(gpu, index) for index, gpu in enumerate(self._gpus)])
            await changed.wait()

    async def Prepare(self, request: agent_pb2.PrepareRequest, context: Context) -> agent_pb2.PrepareReply:
        self.prepares += 1
        await self.willing.wait()
        if self.refuse:
            await context.abort(*self.refuse)
        self.prepared[request.slice.id] = request.slice
        return agent_pb2.PrepareReply(level=1, env=self.env, mounts=self.mounts)

    async def Release(self, request: agent_pb2.ReleaseRequest, context: Context) -> agent_pb2.ReleaseReply:
        self.prepared.pop(request.id, None)
        self.released.append(request.id)
        return agent_pb2.ReleaseReply()

    async def Usage(self, request: agent_pb2.UsageRequest, context: Context) -> agent_pb2.UsageReply:
        return agent_pb2.UsageReply(processes=self.processes)


def _wire(gpu: Gpu, index: int) -> agent_pb2.Gpu:
    return agent_pb2.Gpu(
        uuid=gpu.uuid,
        model=gpu.model,
        mem_bytes=gpu.mem_bytes,
        total_bytes=gpu.total_bytes,
        sm_count=gpu.sm_count,
        compute_capability=gpu.compute_capability,
        numa_node=gpu.numa_node,
        healthy=gpu.health.healthy,
        health_reason=gpu.health.reason,
        level=gpu.level,
        index=index,
        evidence=gpu.evidence,
    )
