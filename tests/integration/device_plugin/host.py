"""A host in the test's process: the real device plugin between a simulated kubelet, API server and agent, all over real
sockets. The agent is a stand-in so that it can be told to fail; ``tests/integration/node`` has the real one."""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tessera.device_plugin.service import Service
from tessera.device_plugin.settings import DevicePluginSettings
from tessera.kube.connection import plain
from tessera.kube.gateway import Gateway
from tessera.kube.resources import PODS, untyped
from tessera.model.assignment import Assignment, Share, encode
from tessera.model.gpus import LEVEL_MPS, Gpu
from tessera.model.names import ASSIGNMENT
from tessera.simulator.apiserver import ApiServer
from tessera.simulator.kubelet import Containerd, IdleRuntime, KubeletSettings, SimContainer, SimKubelet
from tests.fakes.agent import FakeAgent

GIB = 1 << 30
NODE = "node-a"
DEADLINE_S = 30.0
Plain = dict[str, Any]


WHY = "an MPS server answers"


def gpus(count: int, mem_gib: int = 40) -> list[Gpu]:
    """GPUs ``GPU-0``.. of one size."""
    return [
        Gpu(f"GPU-{n}", "NVIDIA A100", mem_gib * GIB, (mem_gib + 1) * GIB, 108, "8.0", level=LEVEL_MPS, evidence=WHY)
        for n in range(count)
    ]


async def eventually(condition: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Returns as soon as the condition holds; fails with ``what`` after the deadline."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"not within {deadline_s:g} s: {what}"
        await asyncio.sleep(0.02)


class Host:
    """``async with Host() as host``. Times of the real kubelet are shortened."""

    def __init__(self, gpus_: Iterable[Gpu] | None = None, **settings: Any) -> None:
        self.gpus = list(gpus_ if gpus_ is not None else gpus(2))
        self._extra = settings
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self.dir = Path(tempfile.mkdtemp(prefix="tsr-"))
        self._stack.callback(shutil.rmtree, self.dir, ignore_errors=True)
        self.cdi, self.nvidia = self.dir / "cdi", self.dir / "etc-cdi"
        self.nvidia.mkdir()
        self.api = await self._stack.enter_async_context(ApiServer())
        self.connection = plain(self.api.url)
        self.gateway = await self._stack.enter_async_context(Gateway(self.connection))
        await self._start_agent()
        self.runtime = self._make_runtime()
        self.containerd = Containerd(self.runtime)
        self._stack.push_async_callback(self.containerd.close)
        await self._start_kubelet()
        await self._before_plugin()
        self.plugin = self.make_plugin()
        await self.plugin.start()
        self._stack.push_async_callback(self._stop_plugin)
        await self.ready()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _start_agent(self) -> None:
        self.agent = FakeAgent(self.dir / "agent.sock", self.gpus)
        await self.agent.start()
        self._stack.push_async_callback(self.agent.stop)

    def _make_runtime(self) -> IdleRuntime:
        return IdleRuntime()

    async def _before_plugin(self) -> None:
        """What else a kind of host has."""

    async def _start_kubelet(self) -> None:
        settings = KubeletSettings(
            NODE,
            self.dir / "kubelet",
            (self.nvidia, self.cdi),
            backoff_s=0.3,
            restart_backoff_s=0.05,
            status_every_s=0.5,
        )
        self.kubelet = SimKubelet(settings, self.connection, self.containerd)
        await self.kubelet.start()
        self._stack.push_async_callback(self.kubelet.stop)

    async def _stop_plugin(self) -> None:
        await self.plugin.stop()

    def make_plugin(self) -> Service:
        """A plugin process with this host's settings; its state is what the last one left on disk."""
        fields: Plain = {
            "node": NODE,
            "kubelet_dir": self.dir / "kubelet",
            "cdi_dir": self.cdi,
            "nvidia_cdi_dirs": (self.nvidia, self.cdi),
            "agent_socket": self.dir / "agent.sock",
            "state_dir": self.dir / "state",
            "spec_lifetime_s": 1.0,
            "capacity_every_s": 0.5,
            "heartbeat_every_s": 1.0,
            "reclaim_every_s": 0.5,
            "patience_s": 1.0,
        }
        return Service(DevicePluginSettings(**{**fields, **self._extra}), self.connection)

    async def stop_plugin(self) -> None:
        """The plugin ends; returns when the kubelet has noticed, until then it admits pods onto the dead plugin."""
        await self.plugin.stop()
        await eventually(lambda: not self.kubelet.table.healthy.get("tessera.io/slice"), "the kubelet noticed the end")

    async def replace_plugin(self) -> None:
        """The plugin dies and comes back."""
        await self.plugin.stop()
        await self.start_plugin()

    async def start_plugin(self) -> None:
        """Another plugin process; returns when the kubelet has its slots."""
        self.plugin = self.make_plugin()
        await self.plugin.start()
        await eventually(lambda: self.plugin.registration.registered, "registered")
        await eventually(lambda: self.kubelet.table.healthy.get("tessera.io/slice"), "slots announced")

    async def ready(self) -> None:
        """The kubelet has the slots, the node its capacity."""
        if self.gpus:
            await eventually(lambda: self.kubelet.table.healthy.get("tessera.io/slice"), "slots announced")
            await eventually(lambda: self.allocatable().get("tessera.io/gpu-mem"), "capacity set")

    def allocatable(self) -> dict[str, str]:
        node = self.api.store.get("nodes", "", NODE) or {}
        return dict((node.get("status") or {}).get("allocatable") or {})

    async def place(self, name: str, shares: Mapping[str, Share] | None, **changes: Any) -> str:
        """Creates a pod with one slice for each container and binds it as the scheduler does; its UID.
        ``annotation`` overrides the assignment's text (``None``: no annotation); ``bound=False`` leaves out the
        binding."""
        made = pod_manifest(name, shares or {}, **{k: v for k, v in changes.items() if k == "spec"})
        body = await self.gateway.create(untyped(PODS), made, namespace="default")
        uid = str(body["metadata"]["uid"])
        if not changes.get("bound", True):
            return uid
        text = encode(Assignment(tuple((c, (s,)) for c, s in (shares or {}).items()))) if shares else None
        text = changes.get("annotation", text)
        await self.gateway.bind("default", name, uid, NODE, {ASSIGNMENT: text} if text is not None else {})
        return uid

    def pod(self, name: str) -> Plain | None:
        return self.api.store.get("pods", "default", name)

    def phase(self, name: str) -> str:
        return str(((self.pod(name) or {}).get("status") or {}).get("phase", "gone"))

    def waiting(self, name: str) -> str:
        """Why the first container waits."""
        statuses = ((self.pod(name) or {}).get("status") or {}).get("containerStatuses") or [{}]
        found = (statuses[0].get("state") or {}).get("waiting") or {}
        return f"{found.get('reason', '')}: {found.get('message', '')}"

    def events(self, reason: str) -> list[str]:
        return [e.get("message") or e.get("note", "") for e in self.api.store.list("events") if e["reason"] == reason]

    async def running(self, *names: str, deadline_s: float = DEADLINE_S) -> None:
        await eventually(
            lambda: all(self.phase(name) == "Running" for name in names),
            f"Running: {[(n, self.phase(n), self.waiting(n)) for n in names if self.phase(n) != 'Running'][:3]}",
            deadline_s,
        )

    def container(self, pod: str, name: str = "main") -> SimContainer:
        """The newest container of this name that was started."""
        return [c for c in self.runtime.started if (c.pod["metadata"]["name"], c.name) == (pod, name)][-1]

    def specs(self) -> list[str]:
        return sorted(path.name for path in self.cdi.glob("tessera.io-slice-*.json"))

    async def delete(self, name: str, grace_s: int = 1) -> None:
        await self.gateway.delete(untyped(PODS), name, namespace="default", grace_period_s=grace_s)


def pod_manifest(name: str, shares: Mapping[str, Share], spec: Plain | None = None) -> Plain:
    """A pod whose containers ask for exactly these shares of one GPU each."""
    containers = [
        {"name": container, "image": "busybox", "resources": {"limits": limits_of(share)}}
        for container, share in shares.items()
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"schedulerName": "tessera", "containers": containers, **(spec or {})},
    }


def limits_of(share: Share) -> dict[str, str]:
    if share.whole:
        return {"tessera.io/gpu": "1", "tessera.io/slice": "1"}
    limits = {"tessera.io/gpu-mem": str(share.mem_bytes), "tessera.io/slice": "1"}
    return limits | ({"tessera.io/gpu-core": str(share.core_percent)} if share.core_percent else {})
