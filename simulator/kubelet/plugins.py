"""The kubelet's side of the device plugin protocol: Registration on ``kubelet.sock``, one endpoint for each plugin."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import structlog

from tessera.pb.deviceplugin.v1beta1 import api_pb2, api_pb2_grpc

log = structlog.get_logger()

PRESTART_TIMEOUT_S = 30.0
Context = grpc.aio.ServicerContext[Any, Any]
Devices = Callable[[str, list[str]], None]


class Endpoint:
    """A registered plugin; follows its devices until it goes away."""

    def __init__(self, path: Path, resource: str, options: api_pb2.DevicePluginOptions, devices: Devices) -> None:
        self.resource = resource
        self.pre_start = options.pre_start_required
        self._devices = devices
        self._channel = grpc.aio.insecure_channel(f"unix://{path.absolute()}")
        self._stub = api_pb2_grpc.DevicePluginStub(self._channel)  # type: ignore[no-untyped-call]
        self._follower = asyncio.create_task(self._follow())

    async def allocate(self, ids: list[str]) -> bytes:
        """The plugin's answer for one container, serialized. Raises ``grpc.aio.AioRpcError``."""
        request = api_pb2.AllocateRequest(container_requests=[{"devices_ids": ids}])
        reply = await self._stub.Allocate(request)
        return bytes(reply.container_responses[0].SerializeToString())

    async def prestart(self, ids: list[str]) -> None:
        """Asks before a container is created. Raises ``grpc.aio.AioRpcError``."""
        request = api_pb2.PreStartContainerRequest(devices_ids=ids)
        await self._stub.PreStartContainer(request, timeout=PRESTART_TIMEOUT_S)

    async def close(self) -> None:
        """Leaves the plugin."""
        self._follower.cancel()
        await asyncio.gather(self._follower, return_exceptions=True)
        await self._channel.close(grace=None)

    async def _follow(self) -> None:
        try:
            async for message in self._stub.ListAndWatch(api_pb2.Empty()):
                self._devices(self.resource, [d.ID for d in message.devices if d.health == "Healthy"])
        except grpc.aio.AioRpcError as error:
            log.info("device plugin went away", resource=self.resource, code=error.code().name)
        self._devices(self.resource, [])


class Plugins(api_pb2_grpc.RegistrationServicer):
    """All registered plugins by resource. The folder's sockets are removed at the start, as the kubelet does."""

    def __init__(self, folder: Path, devices: Devices) -> None:
        self._folder = folder
        self._devices = devices
        self._server: grpc.aio.Server | None = None
        self.endpoints: dict[str, Endpoint] = {}

    async def start(self) -> None:
        """Listens on ``kubelet.sock``."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in self._folder.iterdir():
            if path.is_socket():
                path.unlink()
        server = grpc.aio.server()
        api_pb2_grpc.add_RegistrationServicer_to_server(self, server)  # type: ignore[no-untyped-call]
        server.add_insecure_port(f"unix://{(self._folder / 'kubelet.sock').absolute()}")
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """Stops listening; the socket vanishes."""
        if self._server:
            await self._server.stop(grace=None)
        for endpoint in self.endpoints.values():
            await endpoint.close()
        self.endpoints.clear()

    async def Register(self, request: api_pb2.RegisterRequest, context: Context) -> api_pb2.Empty:
        former = self.endpoints.pop(request.resource_name, None)
        if former:
            await former.close()
        path = self._folder / request.endpoint
        self.endpoints[request.resource_name] = Endpoint(path, request.resource_name, request.options, self._devices)
        return api_pb2.Empty()
