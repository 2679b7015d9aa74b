"""The DevicePlugin service on our socket: announces slots, answers Allocate with a fresh CDI name and PreStart with
yes or one sentence."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import structlog

from tessera.device_plugin.refusals import Refused
from tessera.device_plugin.slots import only_slot, qualified, slot_names
from tessera.device_plugin.store import SliceStore
from tessera.pb.deviceplugin.v1beta1 import api_pb2, api_pb2_grpc

log = structlog.get_logger()

SOCKET = "tessera.sock"
OPTIONS = {"pre_start_required": True, "get_preferred_allocation_available": False}

Context = grpc.aio.ServicerContext[Any, Any]


class Announcement:
    """How many slots the node has; they only grow, since a slot in use must stay healthy."""

    def __init__(self, slots: int = 0) -> None:
        self.slots = slots
        self._changed = asyncio.Event()

    def grow(self, slots: int) -> bool:
        """Takes a new count; whether it was more than before."""
        if slots <= self.slots:
            return False
        self.slots = slots
        self._changed.set()
        self._changed = asyncio.Event()
        return True

    async def changed(self) -> None:
        """Returns at the next growth."""
        await self._changed.wait()

    def message(self) -> api_pb2.ListAndWatchResponse:
        """Every slot, healthy: a GPU's health is the scheduler's and PreStart's business, not the slots'."""
        devices = [api_pb2.Device(ID=slot, health="Healthy") for slot in slot_names(self.slots)]
        return api_pb2.ListAndWatchResponse(devices=devices)


class DevicePlugin(api_pb2_grpc.DevicePluginServicer):
    """The kubelet's calls. ``streams``: how many ListAndWatch streams are open."""

    def __init__(
        self, announcement: Announcement, store: SliceStore, prestart: Callable[[str], Awaitable[None]]
    ) -> None:
        self._announcement = announcement
        self._store = store
        self._prestart = prestart
        self.streams = 0

    async def GetDevicePluginOptions(self, request: api_pb2.Empty, context: Context) -> api_pb2.DevicePluginOptions:
        return api_pb2.DevicePluginOptions(**OPTIONS)

    async def ListAndWatch(
        self, request: api_pb2.Empty, context: Context
    ) -> AsyncIterator[api_pb2.ListAndWatchResponse]:
        self.streams += 1
        try:
            while True:
                changed = asyncio.ensure_future(self._announcement.changed())
                try:
                    yield self._announcement.message()
                    await changed
                finally:
                    changed.cancel()
        finally:
            self.streams -= 1

    async def Allocate(self, request: api_pb2.AllocateRequest, context: Context) -> api_pb2.AllocateResponse:
        try:
            slots = [only_slot(asked.devices_ids) for asked in request.container_requests]
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        try:
            names = [qualified((await self._store.allocate(slot)).device) for slot in slots]
        except OSError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"journal: {error}")
        answers = [api_pb2.ContainerAllocateResponse(cdi_devices=[api_pb2.CDIDevice(name=name)]) for name in names]
        return api_pb2.AllocateResponse(container_responses=answers)

    async def PreStartContainer(
        self, request: api_pb2.PreStartContainerRequest, context: Context
    ) -> api_pb2.PreStartContainerResponse:
        try:
            await self._prestart(only_slot(request.devices_ids))
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except OSError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"journal: {error}")
        except Refused as refused:
            permanent = refused.refusal.permanent
            code = grpc.StatusCode.FAILED_PRECONDITION if permanent else grpc.StatusCode.UNAVAILABLE
            await context.abort(code, str(refused))
        return api_pb2.PreStartContainerResponse()


class PluginSocket:
    """The gRPC server on our socket in the kubelet's folder, which the kubelet empties when it starts."""

    def __init__(self, folder: Path, plugin: DevicePlugin) -> None:
        self._path = folder / SOCKET
        self._plugin = plugin
        self._server: grpc.aio.Server | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._inode = 0

    @property
    def present(self) -> bool:
        """Whether the socket file is there and is the one we listen on."""
        try:
            return self._server is not None and self._path.stat().st_ino == self._inode
        except OSError:
            return False

    @property
    def streams(self) -> int:
        """Open ListAndWatch streams."""
        return self._plugin.streams

    async def start(self) -> None:
        """Listens, anew if it did before. The old server goes first: its end removes the file of its address."""
        await self.stop()
        with contextlib.suppress(OSError):
            self._path.unlink()
        server = grpc.aio.server(options=[("grpc.max_concurrent_streams", 1000)])
        api_pb2_grpc.add_DevicePluginServicer_to_server(self._plugin, server)  # type: ignore[no-untyped-call]
        server.add_insecure_port(f"unix://{self._path.absolute()}")
        await server.start()
        self._server = server
        self._inode = self._path.stat().st_ino

    async def stop(self) -> None:
        """Stops listening; calls under way are cut off, the kubelet repeats them.

        Who is cancelled while waiting here leaves the end to the next: a server whose ``stop`` is cancelled cannot be
        stopped any more.
        """
        if self._server is None:
            return
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._server.stop(grace=None))
        await asyncio.shield(self._stopping)
        self._server = self._stopping = None
