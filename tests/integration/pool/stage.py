"""The real controller over the in-process API server, with real gates and executors, TLS and gRPC; the test's own are
the kubelet that starts them and the clients that come.

Each executor has a loopback address of its own, since all gates listen on one port. An executor computes nothing here:
it greets with a version of torch that no client has, so whoever was let in is told so.
"""

import asyncio
import itertools
import socket
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import msgspec

from tessera.kube.connection import plain
from tessera.kube.convert import gpu_lease_object, gpu_lease_of, lease_slice
from tessera.kube.errors import KubeError
from tessera.kube.gateway import Gateway
from tessera.kube.resources import CONFIG_MAPS, GPU_LEASES, PODS, untyped
from tessera.model import names
from tessera.model.assignment import Assignment, Share, encode
from tessera.model.gpu_leases import Client, GpuLease, Slice, lease_name
from tessera.remote.controller.pods import GATE_AUDIENCE
from tessera.remote.controller.service import Service
from tessera.remote.controller.settings import ControllerSettings
from tessera.remote.executor.handed import HandOver
from tessera.remote.executor.handover import listening
from tessera.remote.executor.processes import Offer
from tessera.remote.executor.reception import Reception
from tessera.remote.gate.controller import Controller
from tessera.remote.gate.gate import Gate
from tessera.remote.gate.main import COMMAND_LINE
from tessera.remote.gate.reaching import reached
from tessera.remote.gate.settings import GateSettings
from tessera.remote.protocol import greeting
from tessera.remote.protocol.frames import Kind
from tessera.remote.protocol.streams import read_frame
from tessera.remote.protocol.tls import TlsStream, trusting
from tessera.simulator.apiserver import ApiServer

Plain = dict[str, Any]
POOL, ACCOUNT = "tessera-system", "tessera-pool-executor"
GIB = 1 << 30
SHARE = Share("GPU-1", 8 * GIB, 30)
TARGET = Slice("other-node", Share("GPU-2", 12 * GIB, 40))
"""Where leases move to."""
TORCH = "9.9.0"
"""Of the executors."""
_numbers = itertools.count(2)


async def until(condition: Callable[[], Any], what: str, seconds: float = 15.0) -> Any:
    async with asyncio.timeout(seconds):
        while not (found := condition()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return found


class Executor(Protocol):
    def stop(self) -> None: ...


MakeExecutor = Callable[[Path], Executor]
"""Starts one that serves on a unix socket."""


def idle(path: Path) -> HandOver:
    """Of a torch that nobody has."""
    made = HandOver(listening(path), Reception(Offer("cpu"), TORCH))
    made.start()
    return made


class Running:
    """The two containers of an executor's pod."""

    def __init__(
        self, command: list[str], token: Path, authority: bytes, folder: Path, address: str, executor: MakeExecutor
    ) -> None:
        settings = COMMAND_LINE.read([*command[2:], "--host", address]).of(GateSettings)
        path, self.lease = folder / "executor.sock", settings.lease
        self.executor = executor(path)
        self.controller = Controller(settings.controller, authority, token)
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((settings.host, settings.port))
        reach = partial(reached, server_name=settings.server_name, context=trusting(authority.decode()))
        self.gate = Gate(self.listener, path, settings.lease, settings.server_name, self.controller, reach)
        self._starting = threading.Thread(target=self.gate.start)
        self._starting.start()

    def stop(self) -> None:
        self.gate.stop()
        self._starting.join()
        self.listener.close()
        self.executor.stop()


Issue = Callable[[Plain, str], Awaitable[str]]
"""A token of a pod, for an audience."""


class Kubelet:
    """Binds and runs executors, and ends those that are to go; does nothing while ``held``, or on the node ``away``."""

    def __init__(self, gateway: Gateway, issue: Issue, folder: Path) -> None:
        self._gateway, self._issue, self._folder = gateway, issue, folder
        self.running: dict[str, Running] = {}
        self.make_executor: MakeExecutor = idle
        self.bind: Callable[[Plain], Awaitable[None]] = self._bind
        self.with_gates: Callable[[], bool] = lambda: True
        self.held = False
        self.away = ""
        self.tokens: dict[str, str] = {}
        self.authority = b""
        self._addresses: dict[str, str] = {}

    async def run(self) -> None:
        while True:
            with suppress(KubeError):
                for pod in [] if self.held else await self._gateway.list(untyped(PODS), namespace=POOL):
                    with suppress(KubeError):
                        await self._step(pod)
            await asyncio.sleep(0.01)

    async def close(self) -> None:
        for uid in list(self.running):
            await self._stop(uid)

    async def kill(self, name: str) -> None:
        """The pod's containers end by themselves."""
        pod = await self._gateway.get(untyped(PODS), name, namespace=POOL)
        await self._stop(pod["metadata"]["uid"])
        ended = {"name": "executor", "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}
        await self._say(name, {"phase": "Running", "containerStatuses": [ended]})

    async def _step(self, pod: Plain) -> None:
        meta, name = pod["metadata"], pod["metadata"]["name"]
        if self.away and pod["spec"].get("nodeName") == self.away:
            return
        if meta.get("deletionTimestamp"):
            await self._stop(meta["uid"])
            await self._gateway.delete(PODS, name, namespace=POOL, uid=meta["uid"], grace_period_s=0)
        elif not pod["spec"].get("nodeName"):
            await self.bind(pod)
        elif (pod.get("status") or {}).get("phase") == "Pending":
            if meta["uid"] not in self._addresses:
                self._addresses[meta["uid"]] = await self._start(pod) if self.with_gates() else "127.0.0.1"
            await self._say(name, {"phase": "Running", "podIP": self._addresses[meta["uid"]]})

    async def _bind(self, pod: Plain) -> None:
        """As the scheduler would: to what the lease keeps for it."""
        meta = pod["metadata"]
        namespace, _, name = meta["annotations"][names.LEASE].partition("/")
        lease = gpu_lease_of(await self._gateway.get(GPU_LEASES, name, namespace=namespace))
        target = lease.target if meta["annotations"].get(names.LEASE_SLICE) == names.TARGET else None
        where = target or Slice(lease.node, lease.share)
        annotations = {names.ASSIGNMENT: encode(Assignment((("executor", (where.share,)),)))}
        await self._gateway.bind(POOL, meta["name"], meta["uid"], where.node, annotations)

    async def _start(self, pod: Plain) -> str:
        uid, folder = pod["metadata"]["uid"], self._folder / pod["metadata"]["uid"]
        folder.mkdir()
        number = next(_numbers)
        address = f"127.1.{number // 250}.{number % 250 + 1}"
        token = folder / "token"
        self.tokens[uid] = await self._issue(pod, GATE_AUDIENCE)
        token.write_text(self.tokens[uid])
        (gate,) = [each for each in pod["spec"]["containers"] if each["name"] == "gate"]
        published = await self._gateway.get(CONFIG_MAPS, "tessera-pool-ca", namespace=POOL)
        self.authority = str(published["data"]["ca.crt"]).encode()
        self.running[uid] = await asyncio.to_thread(
            Running, gate["command"], token, self.authority, folder, address, self.make_executor
        )
        return address

    async def _stop(self, uid: str) -> None:
        if found := self.running.pop(uid, None):
            await asyncio.to_thread(found.stop)

    async def _say(self, name: str, status: Plain) -> None:
        await self._gateway.merge_patch(untyped(PODS), name, {"status": status}, namespace=POOL, subresource="status")


class Stage:
    def __init__(
        self, server: ApiServer, gateway: Gateway, kubelet: Kubelet, settings: ControllerSettings,
        clock: Callable[[], float],
    ) -> None:  # fmt: skip
        self.server, self.gateway, self.kubelet, self.settings = server, gateway, kubelet, settings
        self._clock = clock
        self.share = SHARE
        """What clients ask for."""
        self._service: Service | None = None

    async def start(self) -> Service:
        """A controller; another's lease is waited for."""
        self._service = Service(self.settings, self._clock)
        await self._service.start()
        await asyncio.wait_for(self._service.wait_ready(), 30)
        return self._service

    @property
    def service(self) -> Service:
        assert self._service is not None, "no controller"
        return self._service

    async def stop(self) -> None:
        if self._service is not None:
            await self._service.stop()
            self._service = None

    async def client(self, name: str, *, bound: bool = True, leased: bool = True, **meta: Any) -> GpuLease:
        """A pod whose one container has its slice elsewhere, as the scheduler leaves it: lease, then Binding."""
        limits = {names.GPU_MEM: str(self.share.mem_bytes), names.SLICE: "1"}
        container = {"name": "main", "image": "pytorch", "resources": {"limits": limits}}
        body = {"metadata": {"name": name, **meta}, "spec": {"schedulerName": "tessera", "containers": [container]}}
        made = await self.gateway.create(untyped(PODS), body, namespace="default")
        uid = made["metadata"]["uid"]
        known = GpuLease(
            "default", lease_name(name, uid, "main"), "", Client(name, uid, "main", "cpu-node"), "gpu-node", self.share
        )
        lease = await self.gateway.create(GPU_LEASES, gpu_lease_object(known))
        known = replace(known, uid=lease.metadata.uid)
        if bound:
            await self.bind(known, leased=leased)
        return known

    async def serving(self, name: str = "train") -> GpuLease:
        """One whose container has started."""
        lease = await self.client(name)
        await self.phase(lease, "Ready")
        await self.attach(lease, "slot-1")
        await self.phase(lease, "Active")
        return lease

    async def bind(self, lease: GpuLease, *, leased: bool = True) -> None:
        """The scheduler's Binding."""
        client, mine = lease.client, Assignment((), "", (("main", lease.name),))
        assignment = mine if leased else Assignment((("main", (self.share,)),))
        annotations = {names.ASSIGNMENT: encode(assignment)}
        await self.gateway.bind("default", client.pod, client.pod_uid, "cpu-node", annotations)

    async def end(self, name: str, *, phase: str = "") -> None:
        """The client's pod ends, or is gone; the garbage collector then asks for its leases to go."""
        if phase:
            status = {"status": {"phase": phase}}
            await self.gateway.merge_patch(untyped(PODS), name, status, namespace="default", subresource="status")
            return
        await self.gateway.delete(PODS, name, namespace="default", grace_period_s=0)

    async def attach(self, lease: GpuLease, device: str, after: str = "") -> None:
        """The container's node says that it starts."""
        patch = {"spec": {"attach": {"device": device, "after": after}}}
        await self.gateway.merge_patch(untyped(GPU_LEASES), lease.name, patch, namespace="default")

    async def target(self, lease: GpuLease, where: Slice | None = TARGET) -> None:
        """The scheduler keeps another slice beside the first, or no more."""
        patch = {"spec": {"target": msgspec.to_builtins(lease_slice(where, "")) if where else None}}
        await self.gateway.merge_patch(untyped(GPU_LEASES), lease.name, patch, namespace="default")

    def spec(self, lease: GpuLease) -> Plain:
        found = self.server.store.get("gpuleases", "default", lease.name)
        return dict((found or {}).get("spec") or {})

    def status(self, lease: GpuLease) -> Plain:
        found = self.server.store.get("gpuleases", "default", lease.name)
        return dict((found or {}).get("status") or {})

    async def phase(self, lease: GpuLease, phase: str, **also: Any) -> Plain:
        def there() -> Plain:
            found = self.status(lease)
            met = found.get("phase") == phase and all(found.get(key) == value for key, value in also.items())
            return found if met else {}

        try:
            return dict(await until(there, f"{phase} {also}"))
        except TimeoutError:
            raise AssertionError(f"wanted {phase} {also}, found {self.status(lease)}") from None

    def executors(self) -> list[Plain]:
        return self.server.store.list("pods", POOL)

    def token(self, pod: str, *audiences: str) -> str:
        return self.server.handlers.reviews.issue("default", pod, *(audiences or (names.POOL_AUDIENCE,)))

    async def hello(self, served: GpuLease, token: str, **said: Any) -> tuple[Kind, greeting.Refused]:
        """What a client is told that comes to the endpoint of the lease."""
        status = self.status(served)
        host, _, port = status["endpoint"].rpartition(":")
        hello = greeting.Hello(
            **{"torch": "2.15.0", "token": token, "lease": served.key, "container": "main", "epoch": status["epoch"],
               **said}
        )  # fmt: skip
        return await asyncio.to_thread(
            greet, host, int(port), self.kubelet.authority, str(status["serverName"]), greeting.framed(hello)
        )

    def nothing_left(self) -> bool:
        """No executor, no lease."""
        return not self.executors() and not self.server.store.list("gpuleases")


def greet(host: str, port: int, authority: bytes, name: str, first: bytes) -> tuple[Kind, greeting.Refused]:
    """What the answer to a first frame is."""
    context = trusting(authority.decode())
    with socket.create_connection((host, port), 5) as raw:
        stream = TlsStream(raw, context, name)
        stream.handshake()
        stream.sendall(first)
        frame = read_frame(stream)
        assert frame is not None, "the gate ended without a word"
        return frame[0].kind, greeting.decode(greeting.Refused, frame[1])


@contextmanager
def kept_ports(count: int) -> Iterator[list[int]]:
    """Ports of 127.0.0.1 that nobody gets meanwhile who asks for any: they stay bound, in a way that lets servers
    listen on them, also one after another."""
    with ExitStack() as stack:
        kept = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in kept:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            each.bind(("127.0.0.1", 0))
        yield [each.getsockname()[1] for each in kept]


@asynccontextmanager
async def stage(
    *, started: bool = True, clock: Callable[[], float] = time.monotonic, **more: Any
) -> AsyncIterator[Stage]:
    with (
        kept_ports(3) as (port, gate_port, metrics_port),
        tempfile.TemporaryDirectory(prefix="pool-") as folder,  # the path of a unix socket is short
    ):
        async with ApiServer() as server, Gateway(plain(server.url)) as gateway:
            server.add_namespace(POOL)
            settings = ControllerSettings(
                server=server.url, port=port, metrics_port=metrics_port, executor_image="torch", gate_image="tessera",
                executor_device="cpu", identity="controller", controller_address=f"127.0.0.1:{port}",
                gate_port=gate_port, **more,
            )  # fmt: skip

            async def issue(pod: Plain, audience: str) -> str:
                name, account = pod["metadata"]["name"], pod["spec"]["serviceAccountName"]
                return server.handlers.reviews.issue(POOL, name, audience, account=account)

            kubelet = Kubelet(gateway, issue, Path(folder))
            found = Stage(server, gateway, kubelet, settings, clock)
            running = asyncio.create_task(kubelet.run())
            try:
                if started:
                    await found.start()
                yield found
            finally:
                await found.stop()
                running.cancel()
                with suppress(asyncio.CancelledError):
                    await running
                await kubelet.close()
