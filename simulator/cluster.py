"""The embedded cluster: an API server, the real scheduler extender and webhook, hosts, and stand-ins for Kubernetes'
own controllers, in one process tree on loopback and unix sockets.

``async with EmbeddedCluster(plan) as cluster`` starts all of it; leaving the block ends every child process and removes
the cluster's folder. Hosts are made by ``host_of``, so that thousands of light ones can stand where six full ones do.
"""

import asyncio
import contextlib
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import aiohttp

from tessera.dashboard.auth import Mode
from tessera.dashboard.service import Service as Dashboard
from tessera.dashboard.settings import DashboardSettings
from tessera.kube import wire
from tessera.kube.connection import plain
from tessera.kube.gateway import Gateway
from tessera.kube.resources import GPU_NODES, NODES
from tessera.model import names
from tessera.scheduler.service import Service as Scheduler
from tessera.scheduler.settings import SchedulerSettings
from tessera.simulator.admission import annotation_guard, needs_rewriting, slice_rules
from tessera.simulator.apiserver import ApiServer, Webhook
from tessera.simulator.controllers import Controllers
from tessera.simulator.fakes.nvml.build import library_dir
from tessera.simulator.hosts import DEMO_HOSTS, Host, HostPlan, SimHost, Surroundings
from tessera.simulator.kube_scheduler import KubeScheduler, Settings
from tessera.simulator.kube_scheduler.extenders import HttpExtender

SYSTEM_NAMESPACE = "tessera-system"
SCHEDULER_USER = f"system:serviceaccount:{SYSTEM_NAMESPACE}:tessera-scheduler"
NODE_USER = f"system:serviceaccount:{SYSTEM_NAMESPACE}:tessera-node"
LONGEST_TMP = 40
"""Unix sockets have paths of at most 107 bytes."""

HostOf = Callable[[HostPlan, Surroundings], Host]


class SchedulerPart(Protocol):
    """The scheduler service, in this process or in another."""

    @property
    def url(self) -> str: ...

    @property
    def webhook_url(self) -> str: ...

    async def start(self) -> None:
        """Returns when it listens."""

    async def wait_ready(self) -> None:
        """Until it leads and has read the cluster."""

    async def failed(self) -> None:
        """Returns only by raising what ended it."""

    async def stop(self) -> None: ...


SchedulerOf = Callable[[SchedulerSettings, Path], SchedulerPart]


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """Ports: 0 takes a free one; ``dashboard_port`` ``None`` leaves the dashboard out. ``parallel_starts``: hosts at
    once."""

    hosts: Sequence[HostPlan] = DEMO_HOSTS
    seed: int = 0
    dashboard_port: int | None = 0
    extender_port: int = 0
    parallel_starts: int = 4


class EmbeddedCluster:
    """See the module. ``scheduler_of`` gets the settings and the cluster's folder, ``library_of`` answers the folder of
    the stub NVML library, ``told`` hears of each stage of the start, in words."""

    def __init__(
        self,
        plan: ClusterPlan | None = None,
        *,
        host_of: HostOf = SimHost,
        scheduler_of: SchedulerOf = lambda settings, _: Scheduler(settings),
        library_of: Callable[[], Path] = library_dir,
        told: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.plan = plan or ClusterPlan()
        self.hosts: list[Host] = []
        self.dashboard_url = ""
        self._host_of, self._scheduler_of, self._library_of, self._told = host_of, scheduler_of, library_of, told
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[Any]] = []

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await self._start(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._told("stopping")
        finally:
            await _undisturbed(self._stack.aclose())

    async def failed(self) -> None:
        """Returns only by raising what ended one of the parts."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if not task.cancelled():
                task.result()
        raise RuntimeError("a part of the embedded cluster ended")

    async def ready(self) -> None:
        """Returns when every host with GPUs has published them and the kubelet counts their slots."""
        expected = {plan.name: len(plan.models) for plan in self.plan.hosts}
        while True:
            published = {n.metadata.name: len(n.status.gpus) for n in await self.gateway.list(GPU_NODES)}
            counted = {n.metadata.name: n.status.allocatable for n in await self.gateway.list(NODES)}
            waiting = [
                name
                for name, gpus in expected.items()
                if name not in counted or (gpus and not _complete(gpus, published.get(name, 0), counted[name]))
            ]
            if not waiting:
                return
            await asyncio.sleep(0.1)

    async def _start(self, stack: AsyncExitStack) -> None:
        folder = stack.enter_context(_folder())
        if self._library_of is library_dir:
            self._told("building the stub NVML library, if it is not there yet")
        library = asyncio.create_task(asyncio.to_thread(self._library_of))
        self._told("starting the API server, the extender and the webhook")
        self.api = await stack.enter_async_context(ApiServer())
        self.gateway = await stack.enter_async_context(Gateway(plain(self.api.url)))
        tokens = self._tokens(folder)
        self.api.add_namespace(SYSTEM_NAMESPACE)
        around = Surroundings(folder, self.api.url, tokens[NODE_USER], await library)
        self._told(f"starting {len(self.plan.hosts)} hosts")
        starting = asyncio.create_task(self._start_hosts(stack, around))
        try:
            await self._start_scheduler(stack, tokens[SCHEDULER_USER], folder)
            await self._start_dashboard(stack)
        finally:
            await starting
        self._tasks = [asyncio.create_task(host.failed()) for host in self.hosts]
        self._tasks.append(asyncio.create_task(self.scheduler.failed()))
        await stack.enter_async_context(_running(self._tasks, self._kubernetes(stack)))

    async def _start_hosts(self, stack: AsyncExitStack, around: Surroundings) -> None:
        """A few at once: on few cores more would only take turns."""
        slots = asyncio.Semaphore(self.plan.parallel_starts)

        async def start(host: Host) -> None:
            async with slots:
                await host.start()

        self.hosts = [self._host_of(plan, around) for plan in self.plan.hosts]
        stack.push_async_callback(_all, [host.stop for host in self.hosts])
        await asyncio.gather(*(start(host) for host in self.hosts))

    async def _start_scheduler(self, stack: AsyncExitStack, token_file: Path, folder: Path) -> None:
        settings: dict[str, Any] = {
            "server": self.api.url,
            "token_file": str(token_file),
            "port": self.plan.extender_port,
            "webhook_port": 0,
            "order_seed": self.plan.seed,
            "lease_namespace": SYSTEM_NAMESPACE,
        }
        self.scheduler = self._scheduler_of(SchedulerSettings(**settings), folder)
        await self.scheduler.start()
        stack.push_async_callback(self.scheduler.stop)
        self.api.webhooks.append(Webhook(self.scheduler.webhook_url, needs_rewriting))
        self.api.validators.extend([slice_rules, annotation_guard({SCHEDULER_USER})])
        await self.scheduler.wait_ready()

    async def _start_dashboard(self, stack: AsyncExitStack) -> None:
        if self.plan.dashboard_port is None:
            return
        settings: dict[str, Any] = {"listen": f"127.0.0.1:{self.plan.dashboard_port}", "auth": Mode.NONE}
        dashboard = Dashboard(DashboardSettings(**settings), plain(self.api.url))
        await dashboard.start()
        stack.push_async_callback(dashboard.stop)
        self.dashboard_url = dashboard.url

    def _kubernetes(self, stack: AsyncExitStack) -> list[Coroutine[Any, Any, None]]:
        """The stand-ins for Kubernetes' own scheduler and controllers."""
        session = aiohttp.ClientSession()
        stack.push_async_callback(session.close)
        extender = HttpExtender(session, self.scheduler.url)
        scheduler = KubeScheduler(self.gateway, extender, Settings(seed=self.plan.seed))
        return [scheduler.run(), Controllers(self.gateway).run()]

    def _tokens(self, folder: Path) -> dict[str, Path]:
        files: dict[str, Path] = {}
        for user in (SCHEDULER_USER, NODE_USER):
            token = secrets.token_hex(16)
            self.api.tokens[token] = user
            files[user] = folder / f"{user.rpartition(':')[2]}.token"
            files[user].touch(mode=0o600)
            files[user].write_text(token)
        return files


def _complete(gpus: int, published: int, allocatable: dict[str, wire.Quantity]) -> bool:
    slots = str(gpus * names.SLOTS_PER_GPU)
    return published == gpus and str(allocatable.get(names.SLICE)) == slots and names.GPU_MEM in allocatable


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    root = tempfile.gettempdir()
    folder = Path(tempfile.mkdtemp(prefix="tessera-", dir=root if len(root) <= LONGEST_TMP else "/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def _running(tasks: list[asyncio.Task[Any]], more: Sequence[Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Adds ``more`` to the running ``tasks``; ends them all when the block is left."""
    tasks += [asyncio.create_task(coroutine) for coroutine in more]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _undisturbed(work: Coroutine[Any, Any, None]) -> None:
    """Carries ``work`` to its end even if the caller is cancelled meanwhile."""
    task, cancelled = asyncio.create_task(work), False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = True
    task.result()
    if cancelled:
        raise asyncio.CancelledError


async def _all(ends: Sequence[Callable[[], Awaitable[None]]]) -> None:
    await asyncio.gather(*(end() for end in ends), return_exceptions=True)
