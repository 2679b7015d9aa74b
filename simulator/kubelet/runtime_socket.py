"""The container runtime's CRI socket, as far as somebody beside the kubelet asks it. It outlives the kubelet."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc

from tessera.pb.cri.v1 import api_pb2, api_pb2_grpc
from tessera.simulator.kubelet.containers import Containerd

Context = grpc.aio.ServicerContext[Any, Any]
POD_UID, CONTAINER = "io.kubernetes.pod.uid", "io.kubernetes.container.name"


class RuntimeSocket(api_pb2_grpc.RuntimeServiceServicer, api_pb2_grpc.ImageServiceServicer):
    """``images``: the ``NAME=value`` variables of each image that was pulled, by the name that pods use."""

    def __init__(self, path: Path, containerd: Containerd, images: Mapping[str, Sequence[str]]) -> None:
        self._path = path
        self._containerd = containerd
        self.images = dict(images)
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Listens."""
        self._server = grpc.aio.server()
        api_pb2_grpc.add_RuntimeServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        api_pb2_grpc.add_ImageServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        self._server.add_insecure_port(f"unix://{self._path.absolute()}")
        await self._server.start()

    async def stop(self) -> None:
        """Ends; containers stay."""
        if self._server:
            await self._server.stop(grace=None)

    async def ListContainers(
        self, request: api_pb2.ListContainersRequest, context: Context
    ) -> api_pb2.ListContainersResponse:
        wanted = dict(request.filter.label_selector)
        found = [
            api_pb2.Container(
                id=made.id, created_at=made.start + 1, labels={POD_UID: made.pod_uid, CONTAINER: made.name}
            )
            for made in self._containerd.all()
        ]
        matching = [c for c in found if wanted.items() <= dict(c.labels).items()]
        return api_pb2.ListContainersResponse(containers=matching)

    async def ImageStatus(self, request: api_pb2.ImageStatusRequest, context: Context) -> api_pb2.ImageStatusResponse:
        env = self.images.get(request.image.image)
        if env is None:
            return api_pb2.ImageStatusResponse()
        config = {"imageSpec": {"architecture": "amd64", "os": "linux", "config": {"Env": list(env)}}}
        info = {"info": json.dumps(config)} if request.verbose else {}
        return api_pb2.ImageStatusResponse(image=api_pb2.Image(id=f"sha256:{request.image.image}"), info=info)
