"""The plugin's gRPC server, when its end is itself cut short."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc

from tessera.device_plugin.server import SOCKET, PluginSocket
from tessera.pb.deviceplugin.v1beta1 import api_pb2, api_pb2_grpc


class Streaming(api_pb2_grpc.DevicePluginServicer):
    """One answer, and then a stream that stays open: an end has something to wait for."""

    async def ListAndWatch(self, request: Any, context: Any) -> AsyncIterator[api_pb2.ListAndWatchResponse]:
        yield api_pb2.ListAndWatchResponse()
        await asyncio.Event().wait()


async def test_a_stop_that_was_cancelled_anywhere_is_ended_by_the_next(tmp_path: Path) -> None:
    plugin: Any = Streaming()
    socket = PluginSocket(tmp_path, plugin)
    # Channels to one address share their connection: that of the turn before, which ends under our hands.
    own = [("grpc.use_local_subchannel_pool", 1)]
    for turns in range(60):
        await socket.start()
        try:
            async with grpc.aio.insecure_channel(f"unix://{tmp_path / SOCKET}", options=own) as channel:
                await api_pb2_grpc.DevicePluginStub(channel).ListAndWatch(api_pb2.Empty()).read()  # type: ignore[no-untyped-call]
                first = asyncio.create_task(socket.stop())
                for _ in range(turns):
                    await asyncio.sleep(0)
                first.cancel()
                await asyncio.gather(first, return_exceptions=True)
        finally:
            await socket.stop()
        assert not socket.present
