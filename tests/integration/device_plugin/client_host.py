"""A host without GPUs whose containers have their slices on other nodes: the device plugin without an agent, with a
container runtime to ask. Tests say what the pool's controller writes of a lease."""

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from tessera.kube.convert import gpu_lease_object
from tessera.kube.errors import ApiError
from tessera.kube.resources import GPU_LEASES, untyped
from tessera.model.assignment import Assignment, Share, encode
from tessera.model.gpu_leases import Client, GpuLease, lease_name, server_name
from tessera.model.names import ASSIGNMENT
from tessera.simulator.kubelet import IdleRuntime, RunningContainer, RuntimeSocket, SimContainer
from tests.integration.device_plugin.host import GIB, NODE, Host, Plain, eventually, limits_of

SLICE = Share("GPU-far", 8 * GIB)
IMAGE = "pytorch"
CA = "-----BEGIN CERTIFICATE-----\nmade for tests\n-----END CERTIFICATE-----\n"


class ReluctantRuntime(IdleRuntime):
    """Does not create the next ``refusals`` containers."""

    refusals = 0

    async def start(self, container: SimContainer) -> RunningContainer:
        if self.refusals:
            self.refusals -= 1
            raise RuntimeError("no room for another container")
        return await super().start(container)


class ClientHost(Host):
    """``async with ClientHost() as host``. While ``controller`` is set, each start of a container is served."""

    def __init__(self, **settings: Any) -> None:
        super().__init__([], **settings)
        self.controller = True
        self.reluctant = ReluctantRuntime()

    def _make_runtime(self) -> IdleRuntime:
        return self.reluctant

    async def _start_agent(self) -> None:
        """There is none."""

    async def _before_plugin(self) -> None:
        self.authority = self.dir / "pool-ca.crt"
        self.authority.write_text(CA)
        self.proc = self.dir / "proc"
        self.proc.mkdir(exist_ok=True)
        self.images = RuntimeSocket(self.dir / "cri.sock", self.containerd, {IMAGE: ["PATH=/bin"]})
        await self.images.start()
        self._stack.push_async_callback(self.images.stop)
        self._extra = {
            "client_slots": 4,
            "cri_socket": str(self.dir / "cri.sock"),
            "pool_ca": self.authority,
            "proc_dir": self.proc,
            "prestart_deadline_s": 2.0,
            **self._extra,
        }
        control = asyncio.create_task(self._control())
        self._stack.callback(control.cancel)

    async def ready(self) -> None:
        await eventually(lambda: self.kubelet.table.healthy.get("tessera.io/slice"), "slots announced")

    async def place_leased(
        self, name: str, *, lease: Plain | None = None, release: bool = False, standing: bool = False, **container: Any
    ) -> str:
        """Binds a pod whose one container has its slice elsewhere, as the scheduler does; its UID. ``lease`` changes
        what the lease says of its client, ``release`` has it not there, ``standing`` has it made by its users; other
        arguments are the container's."""
        limits = limits_of(SLICE)
        main = {"name": "main", "image": IMAGE, "resources": {"limits": limits}, **container}
        uid = await self.place(name, None, spec={"containers": [main]}, bound=False)
        key = lease_name(name, uid, "main")
        client = Client(**{"pod": name, "pod_uid": uid, "container": "main", "node": NODE, **(lease or {})})
        if not release:
            body = to_builtins(gpu_lease_object(GpuLease("default", key, "", client, "gpu-node", SLICE)))
            if standing:
                wanted = {"memoryBytes": SLICE.mem_bytes, "corePercent": SLICE.core_percent}
                body["spec"] |= {"standing": True, "wanted": wanted}
            await self.gateway.create(untyped(GPU_LEASES), body)
        annotation = encode(Assignment((), "", (("main", key),)))
        await self.gateway.bind("default", name, uid, NODE, {ASSIGNMENT: annotation})
        return uid

    def lease(self, pod: str) -> Plain:
        """The lease of a pod that is there."""
        found = [x for x in self.api.store.list("gpuleases") if x["spec"]["client"]["pod"] == pod]
        return dict(found[0])

    def epoch(self, pod: str) -> int:
        return int((self.lease(pod).get("status") or {}).get("epoch", 0))

    async def say(self, pod: str, **status: Any) -> None:
        """The controller writes this of the lease."""
        name, patch = self.lease(pod)["metadata"]["name"], {"status": status}
        leases = untyped(GPU_LEASES)
        await self.gateway.merge_patch(leases, name, patch, namespace="default", subresource="status")

    async def serve(self, pod: str, endpoint: str = "") -> None:
        """The controller has an executor for the newest start of the container."""
        found = self.lease(pod)
        epoch, attach = self.epoch(pod) + 1, found["spec"].get("attach")
        await self.say(
            pod,
            phase="Active" if attach else "Ready",
            epoch=epoch,
            attached=attach,
            endpoint=endpoint or f"10.0.0.{epoch}:7000",
            serverName=server_name(found["metadata"]["uid"]),
        )

    async def _control(self) -> None:
        while True:
            for found in self.api.store.list("gpuleases") if self.controller else []:
                attach = found["spec"].get("attach")
                if attach and attach != (found.get("status") or {}).get("attached"):
                    with contextlib.suppress(ApiError, IndexError):  # it went meanwhile
                        await self.serve(found["spec"]["client"]["pod"])
            await asyncio.sleep(0.02)

    def lease_dir(self, container: SimContainer) -> Path:
        """The host's folder that the container sees."""
        mount = next(m for m in container.mounts if m["containerPath"] == "/run/tessera/lease")
        assert {"ro", "bind"} <= set(mount["options"])
        return Path(mount["hostPath"])

    def read(self, pod: str) -> Plain:
        """What the newest container of a pod reads of its lease."""
        return dict(json.loads((self.lease_dir(self.container(pod)) / "lease.json").read_text()))
