"""The kubelet's PodResources: which container holds which slot.

The kubelet limits all clients together to 100 calls a second and refuses the rest, so one List serves every PreStart
that had arrived before it began, and a refused List is tried again with jitter.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc

from tessera.device_plugin.flights import SharedCall
from tessera.device_plugin.slots import CDI_KIND
from tessera.pb.podresources.v1 import api_pb2, api_pb2_grpc

LIST_TIMEOUT_S = 5.0
MAX_MESSAGE = 16 << 20


@dataclass(frozen=True, slots=True)
class Place:
    """A container by name; PodResources gives no UID."""

    namespace: str
    pod: str
    container: str


class PodResources:
    """A client of ``pod-resources/kubelet.sock``. ``jitter`` answers a number from 0 to 1."""

    def __init__(self, socket: Path, jitter: Callable[[], float] = random.random) -> None:
        self._target = f"unix://{socket.absolute()}"
        self._jitter = jitter
        self._list = SharedCall(self._fetch)
        self._channel: grpc.aio.Channel | None = None

    async def slots(self) -> dict[str, list[Place]]:
        """Per slot the containers that hold it (more than one is for the caller to refuse). Raises
        ``grpc.aio.AioRpcError``; the caller's deadline ends the tries."""
        return await self._list()

    async def close(self) -> None:
        """Closes the connection."""
        if self._channel:
            await self._channel.close(grace=None)

    async def _fetch(self) -> dict[str, list[Place]]:
        pause = 0.02
        while True:
            try:
                return _by_slot(await self._call())
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED or pause > 5:
                    raise
            await asyncio.sleep(pause * (0.5 + self._jitter()))
            pause *= 2

    async def _call(self) -> api_pb2.ListPodResourcesResponse:
        if self._channel is None:
            # A restarted kubelet must be found at once, not after gRPC's growing back-off.
            options = [
                ("grpc.max_receive_message_length", MAX_MESSAGE),
                ("grpc.min_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 500),
            ]
            self._channel = grpc.aio.insecure_channel(self._target, options=options)
        stub = api_pb2_grpc.PodResourcesListerStub(self._channel)  # type: ignore[no-untyped-call]
        request = api_pb2.ListPodResourcesRequest()
        return await stub.List(request, timeout=LIST_TIMEOUT_S, wait_for_ready=True)  # type: ignore[no-any-return]


def _by_slot(reply: api_pb2.ListPodResourcesResponse) -> dict[str, list[Place]]:
    found: dict[str, list[Place]] = {}
    for pod in reply.pod_resources:
        for container in pod.containers:
            for devices in container.devices:
                if devices.resource_name == CDI_KIND:
                    for slot in devices.device_ids:
                        found.setdefault(slot, []).append(Place(pod.namespace, pod.name, container.name))
    return found
