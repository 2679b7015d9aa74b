"""PodResources as the kubelet serves it: no UID, no ordinary init containers, and a rate limit that refuses."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import grpc

from tessera.pb.podresources.v1 import api_pb2, api_pb2_grpc
from tessera.simulator.kubelet.devices import DeviceTable
from tessera.simulator.kubelet.manifests import key_of, lasting, uid_of

Plain = dict[str, Any]
Context = grpc.aio.ServicerContext[Any, Any]


class PodResourcesServer(api_pb2_grpc.PodResourcesListerServicer):
    """``lists`` counts the calls that were answered, ``refused`` those that met the limit."""

    def __init__(
        self,
        socket: Path,
        table: DeviceTable,
        active: Callable[[], Iterable[Plain]],
        per_s: float,
        burst: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.socket = socket
        self._table = table
        self._active = active
        self._per_s, self._burst, self._clock = per_s, burst, clock
        self._tokens, self._at = float(burst), clock()
        self._server: grpc.aio.Server | None = None
        self.lists = 0
        self.refused = 0

    async def start(self) -> None:
        """Listens."""
        self.socket.parent.mkdir(parents=True, exist_ok=True)
        self.socket.unlink(missing_ok=True)
        server = grpc.aio.server()
        api_pb2_grpc.add_PodResourcesListerServicer_to_server(self, server)  # type: ignore[no-untyped-call]
        server.add_insecure_port(f"unix://{self.socket.absolute()}")
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """Stops listening."""
        if self._server:
            await self._server.stop(grace=None)

    async def List(
        self, request: api_pb2.ListPodResourcesRequest, context: Context
    ) -> api_pb2.ListPodResourcesResponse:
        if not self._take():
            self.refused += 1
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "rejected by rate limit")
        self.lists += 1
        return api_pb2.ListPodResourcesResponse(pod_resources=[self._of(pod) for pod in self._active()])

    def _take(self) -> bool:
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_s)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _of(self, pod: Plain) -> api_pb2.PodResources:
        namespace, name = key_of(pod)
        found = [
            api_pb2.ContainerResources(
                name=container["name"],
                devices=[
                    api_pb2.ContainerDevices(resource_name=held.resource, device_ids=held.ids)
                    for held in self._table.of(uid_of(pod), container["name"])
                ],
            )
            for container in lasting(pod)
        ]
        return api_pb2.PodResources(name=name, namespace=namespace, containers=found)
