"""The container runtime, asked over its CRI socket for what the API server does not know, or not yet."""

import json
from pathlib import Path

import grpc

from tessera.device_plugin.python_path import NAME
from tessera.device_plugin.refusals import wait
from tessera.pb.cri.v1 import api_pb2, api_pb2_grpc

TIMEOUT_S = 5.0
MAX_MESSAGE = 16 << 20
POD_UID, CONTAINER = "io.kubernetes.pod.uid", "io.kubernetes.container.name"
"""Labels that the kubelet gives to each container."""


class Cri:
    """A client of ``runtime.v1``. Methods raise ``Refused``, always temporary."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._made: grpc.aio.Channel | None = None

    async def newest(self, pod_uid: str, container: str) -> str:
        """The ID of the newest container of this name, whatever has become of it; empty if there is none."""
        labels = {POD_UID: pod_uid, CONTAINER: container}
        request = api_pb2.ListContainersRequest(filter=api_pb2.ContainerFilter(label_selector=labels))
        stub = api_pb2_grpc.RuntimeServiceStub(self._channel())  # type: ignore[no-untyped-call]
        try:
            reply = await stub.ListContainers(request, timeout=TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise self._away("ListContainers", error) from None
        newest = max(reply.containers, key=lambda found: found.created_at, default=None)
        return str(newest.id) if newest else ""

    async def python_path(self, image: str) -> str:
        """What the image sets ``PYTHONPATH`` to; empty if it does not."""
        request = api_pb2.ImageStatusRequest(image=api_pb2.ImageSpec(image=image), verbose=True)
        stub = api_pb2_grpc.ImageServiceStub(self._channel())  # type: ignore[no-untyped-call]
        try:
            reply = await stub.ImageStatus(request, timeout=TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise self._away(f"ImageStatus of {image}", error) from None
        if not reply.HasField("image"):
            raise wait(f"{self._socket}: found no image {image}; allowed: one that was pulled")
        try:
            return _in_config(reply.info["info"], NAME)
        except (ValueError, LookupError, TypeError, AttributeError):
            text = f"{self._socket}: found no imageSpec.config of {image}; allowed: as containerd and CRI-O tell it"
            raise wait(text) from None

    async def close(self) -> None:
        """Closes the connection."""
        if self._made:
            await self._made.close(grace=None)

    def _channel(self) -> grpc.aio.Channel:
        if self._made is None:
            options = [
                ("grpc.max_receive_message_length", MAX_MESSAGE),
                ("grpc.min_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 500),
            ]
            self._made = grpc.aio.insecure_channel(f"unix://{self._socket.absolute()}", options=options)
        return self._made

    def _away(self, what: str, error: grpc.aio.AioRpcError) -> Exception:
        return wait(f"container runtime, {self._socket}, {what}: {error.code().name}: {error.details()}")


def _in_config(info: str, name: str) -> str:
    """A variable in an image's configuration; the last entry of a name counts."""
    env = json.loads(info)["imageSpec"]["config"].get("Env") or []
    values = [item.partition("=")[2] for item in env if item.partition("=")[0] == name]
    return values[-1] if values else ""
