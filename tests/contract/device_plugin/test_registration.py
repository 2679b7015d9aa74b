"""How soon a kubelet that has just started has our slots again: until then it refuses every pod with a slice."""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import grpc
import pytest

from tessera.device_plugin.journal import Journal
from tessera.device_plugin.registration import Registration
from tessera.device_plugin.server import Announcement, DevicePlugin, PluginSocket
from tessera.device_plugin.store import SliceStore
from tessera.durable import LocalDisk
from tessera.pb.deviceplugin.v1beta1 import api_pb2, api_pb2_grpc

RESTARTS = 15
TARGET_S = 0.2


class Kubelet(api_pb2_grpc.RegistrationServicer):
    """Starts as the kubelet does: empties the folder, listens, and asks for the devices once we have registered."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: grpc.aio.Server | None = None
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> tuple[asyncio.Event, float]:
        """What is set when the slots are known, and when the socket appeared."""
        for path in self._folder.iterdir():
            path.unlink()
        self._known = asyncio.Event()
        self._server = grpc.aio.server()
        api_pb2_grpc.add_RegistrationServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        self._server.add_insecure_port(f"unix://{self._folder}/kubelet.sock")
        appeared = time.monotonic()
        await self._server.start()
        return self._known, appeared

    async def kill(self) -> None:
        assert self._server is not None
        if self._watching:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        await self._server.stop(grace=None)

    async def Register(self, request: api_pb2.RegisterRequest, context: Any) -> api_pb2.Empty:
        assert request.resource_name == "tessera.io/slice" and request.options.pre_start_required
        self._watching = asyncio.create_task(self._watch(request.endpoint))
        return api_pb2.Empty()

    async def _watch(self, endpoint: str) -> None:
        async with grpc.aio.insecure_channel(f"unix://{self._folder}/{endpoint}") as channel:
            stub = api_pb2_grpc.DevicePluginStub(channel)  # type: ignore[no-untyped-call]
            async for message in stub.ListAndWatch(api_pb2.Empty()):
                assert len(message.devices) == 512
                self._known.set()


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short, since a socket's path may have 107 characters only."""
    made = Path(tempfile.mkdtemp(prefix="tsr-"))
    yield made
    shutil.rmtree(made)


async def test_a_restarted_kubelet_has_the_slots_of_eight_gpus_within_200_ms(folder: Path) -> None:
    plugins = folder / "device-plugins"
    plugins.mkdir()
    store = SliceStore(Journal(folder / "slices", LocalDisk()))

    async def never(slot: str) -> None:
        raise AssertionError(f"PreStart of {slot}")

    socket = PluginSocket(plugins, DevicePlugin(Announcement(512), store, never))
    registration = asyncio.create_task(Registration(plugins, socket, lambda: True).run())
    kubelet, taken = Kubelet(plugins), []
    for _ in range(RESTARTS):
        known, appeared = await kubelet.start()
        await asyncio.wait_for(known.wait(), 10)
        taken.append(time.monotonic() - appeared)
        await kubelet.kill()
    registration.cancel()
    await asyncio.wait([registration])
    await socket.stop()
    print("ms until the slots are known:", sorted(round(1000 * s) for s in taken))
    assert median(taken) < TARGET_S
