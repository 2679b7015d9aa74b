"""A device plugin of a few lines, to prove the harness alone: slots, late-bound CDI and PreStart on a real kubelet.

It knows nothing of pods: PreStart writes the slot into the CDI spec, and the container must see that slot.
"""

from __future__ import annotations

import json
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from tessera.pb.deviceplugin.v1beta1 import api_pb2 as pb
from tessera.pb.deviceplugin.v1beta1 import api_pb2_grpc as rpc

CDI_KIND = "stub.tessera.io/slot"


class StubPlugin(rpc.DevicePluginServicer):
    """Serves `resource` with `slots` devices to the kubelet whose plugin folder is given."""

    def __init__(self, folder: Path, cdi_dir: Path, resource: str = "stub.tessera.io/slot", slots: int = 64) -> None:
        self._folder, self._cdi_dir, self._resource = folder, cdi_dir, resource
        self._slots = [f"slot-{number:03d}" for number in range(slots)]
        self._names: dict[str, str] = {}
        self._server = grpc.server(ThreadPoolExecutor(16))
        rpc.add_DevicePluginServicer_to_server(self, self._server)
        self._endpoint = f"stub-{secrets.token_hex(4)}.sock"

    def start(self) -> None:
        """Listens and registers with the kubelet."""
        self._server.add_insecure_port(f"unix://{self._folder / self._endpoint}")
        self._server.start()
        options = pb.DevicePluginOptions(pre_start_required=True)
        request = pb.RegisterRequest(
            version="v1beta1", endpoint=self._endpoint, resource_name=self._resource, options=options
        )
        with grpc.insecure_channel(f"unix://{self._folder / 'kubelet.sock'}") as channel:
            rpc.RegistrationStub(channel).Register(request, timeout=10, wait_for_ready=True)

    def stop(self) -> None:
        self._server.stop(0).wait()

    def GetDevicePluginOptions(self, request: Any, context: Any) -> pb.DevicePluginOptions:
        return pb.DevicePluginOptions(pre_start_required=True)

    def ListAndWatch(self, request: Any, context: grpc.ServicerContext) -> Any:
        yield pb.ListAndWatchResponse(devices=[pb.Device(ID=slot, health="Healthy") for slot in self._slots])
        done = threading.Event()
        context.add_callback(done.set)
        done.wait()

    def Allocate(self, request: pb.AllocateRequest, context: Any) -> pb.AllocateResponse:
        answers = []
        for one in request.container_requests:
            (slot,) = one.devices_ids
            self._names[slot] = f"{slot}-{secrets.token_hex(16)}"
            device = pb.CDIDevice(name=f"{CDI_KIND}={self._names[slot]}")
            answers.append(pb.ContainerAllocateResponse(cdi_devices=[device]))
        return pb.AllocateResponse(container_responses=answers)

    def PreStartContainer(self, request: pb.PreStartContainerRequest, context: Any) -> pb.PreStartContainerResponse:
        (slot,) = request.devices_ids
        name = self._names[slot]
        device = {"name": name, "containerEdits": {"env": [f"STUB_SLOT={slot}"]}}
        unfinished = self._cdi_dir / f".{name}.new"
        unfinished.write_text(json.dumps({"cdiVersion": "0.6.0", "kind": CDI_KIND, "devices": [device]}))
        unfinished.rename(self._cdi_dir / f"stub-{name}.json")
        return pb.PreStartContainerResponse()
