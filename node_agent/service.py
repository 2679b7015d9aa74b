"""The node agent put together: what it starts with, its loops, and how it ends.

A loop outlives whatever the outside world does to one of its rounds: the error is logged and the next round comes.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import structlog

from tessera.kube import wire
from tessera.kube.course import Change
from tessera.kube.events import EventRecorder
from tessera.kube.gateway import Gateway
from tessera.kube.reflector import Reflector
from tessera.kube.resources import PODS
from tessera.model.gpus import LEVEL_MPS, LEVEL_NONE
from tessera.node_agent.announce import Announcer
from tessera.node_agent.conditions import Conditions, Findings
from tessera.node_agent.covered import Covered
from tessera.node_agent.enforcement.demand import unknown_entry_point
from tessera.node_agent.enforcement.dmem_files import CgroupFiles, KernelCgroupFiles
from tessera.node_agent.enforcement.dmem_tree import DmemTree
from tessera.node_agent.enforcement.driver import Driver
from tessera.node_agent.enforcement.hook import HookProgram
from tessera.node_agent.enforcement.keepers import Keepers
from tessera.node_agent.enforcement.ladder import Ladder
from tessera.node_agent.enforcement.mps_contexts import context_limit
from tessera.node_agent.enforcement.mps_limiters import MpsLimiters
from tessera.node_agent.enforcement.mps_node import Node
from tessera.node_agent.enforcement.mps_proof import Proof
from tessera.node_agent.enforcement.pace import Pace
from tessera.node_agent.enforcement.port import Limiter
from tessera.node_agent.enforcement.shim import Shim
from tessera.node_agent.enforcement.shm_files import ShmUsers
from tessera.node_agent.enforcement.shm_group import GroupShm, ShmNode
from tessera.node_agent.enforcement.shm_mounts import HostMounts, Mounts
from tessera.node_agent.enforcement.usage_file import damage_of
from tessera.node_agent.enforcement.watch import Watch
from tessera.node_agent.gpus import Gpus
from tessera.node_agent.health import Rules
from tessera.node_agent.inventory import Inventory
from tessera.node_agent.kernel import HostKernel, boot_id
from tessera.node_agent.kernel_log import KernelLog
from tessera.node_agent.local.homes import CgroupHomes, Families, homes_on
from tessera.node_agent.local.lease_server import EVERYBODY, OWNER, LeaseServer
from tessera.node_agent.local.leases import Leases
from tessera.node_agent.metrics import AgentCollector, MetricsServer
from tessera.node_agent.mps_clients import HostClients
from tessera.node_agent.newer_driver import NewerDriver
from tessera.node_agent.nvml import Device, DriverNvml, Nvml
from tessera.node_agent.over_limit import Graces, OverLimit
from tessera.node_agent.pod_shm import PodShm
from tessera.node_agent.pods import ContainerNames
from tessera.node_agent.preparation import Preparation
from tessera.node_agent.probe import Probe
from tessera.node_agent.processes import HostProcesses, Processes
from tessera.node_agent.server import AgentService, AgentSocket
from tessera.node_agent.settings import NodeAgentSettings
from tessera.node_agent.slice_containers import SliceContainers
from tessera.node_agent.slices import Slice, SliceStore
from tessera.node_agent.stopping import Deadlines, StopPath
from tessera.node_agent.strays import Strays
from tessera.node_agent.unheld import UnheldContainers
from tessera.node_agent.unshimmed import Unshimmed
from tessera.node_agent.usage_files import UsageFiles
from tessera.node_agent.watcher import Watcher

log = structlog.get_logger()


class Service:
    """``gateway``: posts events and learns the containers' names; without one neither happens."""

    def __init__(
        self,
        settings: NodeAgentSettings,
        *,
        nvml: Nvml | None = None,
        processes: Processes | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        gateway: Gateway | None = None,
        cgroup_files: CgroupFiles | None = None,
        mounts: Mounts | None = None,
    ) -> None:
        self._settings, self._gateway = settings, gateway
        homes = homes_on(settings.cgroup_mount) if settings.lease_socket else None
        if processes is None:
            of_host = HostProcesses(settings.proc_root, settings.cgroup_mount, settings.cgroup_root)
            processes = homes if isinstance(homes, Families) else of_host
        settings.state_dir.mkdir(parents=True, exist_ok=True)
        self.store = SliceStore(settings.state_dir, context_bytes=settings.context_bytes)
        self.probe = Probe(nvml or DriverNvml(), processes, clock)
        rules = Rules(settings.recovery_probes, settings.xid_quiet_s)
        self.inventory = Inventory(rules, settings.state_dir / "inventory.json", boot_id(), clock)
        self._kernel_log = KernelLog(settings.kernel_log, clock)
        keepers = Keepers(settings.state_dir / "keepers", (item.id for item in self.store))
        self._pod_shm = PodShm()
        mps = self._mps = self._mps_of(keepers, processes, clock, self._shm_of(mounts, processes))
        driver = self._driver_of(cgroup_files or KernelCgroupFiles())
        self._rungs = driver, *mps, Watch()
        self.limiter: Limiter = Ladder(
            self._rungs, settings.enforcement.levels, self._level_of, keepers, lambda: self.store
        )
        self._conditions = Conditions(settings.recovery_probes)
        self.gpus = Gpus(
            self.inventory,
            self.limiter,
            self._headroom_of,
            wsl=_is_wsl(settings.proc_root),
            allow_unwatched=settings.allow_unwatched,
            group_of=lambda uuid: mps.group_name(uuid) if self._may_serve(uuid) else "",
            conditions_of=self._conditions.of,
            clock=clock,
        )
        shims = settings.state_dir / "shim" if settings.shim else None
        shim = Shim(Path(settings.shim), shims) if shims else None
        self.preparation = Preparation(self.store, self.gpus, self.limiter, shim)
        self._recorder = EventRecorder(gateway, "tessera-node-agent", host=settings.node) if gateway else None
        self._announcer = Announcer(self._recorder, settings.node)
        self._names = ContainerNames()
        graces = Graces(
            settings.over_limit_grace_s,
            settings.over_limit_container_grace_s,
            settings.over_limit_clear_s,
            settings.accounting_every_s,
        )
        self.watcher = Watcher(
            self.probe, self.gpus, self.store, processes, self.limiter, OverLimit(graces), self._announcer,
            self._names.name_of, clock,
        )  # fmt: skip
        self._deadlines = Deadlines()
        self._stop_path = StopPath(self._deadlines, lambda: self.watcher.accounts.usages, processes, self.limiter, wall)
        self._strays = Strays(lambda: self.watcher.accounts.usages, mps.holds, mps.clients_of, processes)
        kernel = HostKernel(settings.proc_root)
        self.unshimmed = Unshimmed(shims, lambda: self.watcher.accounts.usages, self._is_shimmed, processes, kernel)
        self.unheld = UnheldContainers(
            self.gpus.unseen, lambda: self.watcher.blind, lambda: self.store, keepers.get, mps.clients_of, shims,
            processes, kernel, self._names.name_of, settings.blind_grace_s, clock,
        )  # fmt: skip
        containers = SliceContainers(self._with_shim, processes, kernel, self._names.name_of)
        self._newer_driver = NewerDriver(containers, partial(unknown_entry_point, proc=settings.proc_root))
        self._usage_files = UsageFiles(containers, partial(damage_of, proc=settings.proc_root))
        self._covered = Covered(lambda: self.watcher.accounts.usages, processes, kernel)
        self._pace = Pace(self.store, keepers.get)
        self._socket = AgentSocket(settings.agent_socket, AgentService(self.gpus, self.preparation, self.probe))
        self._metrics = MetricsServer(
            AgentCollector(self.gpus, self.store, self.watcher, self.unshimmed),
            settings.metrics_host,
            settings.metrics_port,
        )
        self._driver = ""
        self._leases = self._lease_server(settings.lease_socket, homes)
        self._levels: dict[str, int] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Returns once the GPUs were looked at and calls are answered. Raises ``OSError``."""
        await self._look()
        await self.preparation.restore()
        await self._socket.start()
        if self._leases:
            await self._leases.start()
        if self._settings.metrics_port:
            self._metrics.start()
        self._tasks = [
            asyncio.create_task(_every(self._settings.inventory_every_s, self._look), name="inventory"),
            asyncio.create_task(_every(self._settings.accounting_every_s, self.watcher.tick), name="accounting"),
            asyncio.create_task(_every(self._settings.inventory_every_s, self._look_after_limiter), name="limiter"),
            asyncio.create_task(_every(self._settings.accounting_every_s, self._end_unheld), name="unheld"),
            asyncio.create_task(_every(self._settings.inventory_every_s, self._keep_limits), name="limits"),
        ]
        if self._leases:
            self._tasks.append(asyncio.create_task(self._leases.run(), name="leases"))
        if not self._settings.shim:
            await self._pace.free_all()
        else:
            self._tasks.append(asyncio.create_task(_every(self._settings.pace_every_s, self._set_pace), name="pace"))
        if self._gateway and self._recorder:
            here = f"spec.nodeName={self._settings.node}"
            reflector = Reflector(self._gateway, PODS, self._pod_changed, field_selector=here)
            self._tasks.append(asyncio.create_task(reflector.run(), name="pods"))
            stopping = _every(self._settings.accounting_every_s, self._stop_path.tick)
            self._tasks.append(asyncio.create_task(stopping, name="stopping"))
            self._tasks.append(asyncio.create_task(self._recorder.run(), name="events"))
        log.info("node agent ready", node=self._settings.node, gpus=len(self.gpus.now), slices=len(list(self.store)))

    async def wait(self) -> None:
        """Returns, or raises what a loop raised, when one of the loops ends: that is a bug."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def leases_ended(self, limit_s: float) -> None:
        """Returns when nothing is leased to commands of this machine. Raises ``TimeoutError``."""
        if self._leases:
            await asyncio.wait_for(self._leases.all_ended(), limit_s)

    async def stop(self) -> None:
        """Stops answering and looking. Prepared slices and MPS daemons in use stay as they are."""
        await self._socket.stop()
        if self._leases:
            await self._leases.stop()
        if self._recorder:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._recorder.flush(), 1.0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._settings.metrics_port:
            self._metrics.stop()
        await self.gpus.close()
        await self.limiter.close()
        self._kernel_log.close()
        await self.probe.close()

    async def _look(self) -> None:
        self._driver = self._driver or await self.probe.driver_version()
        look = await self.probe.look(self.inventory.devices)
        known = set(self.gpus.now)
        if look.error:
            self.inventory.failed(look.error)
        elif look.reading:
            self.inventory.observe(look.reading, look.deaf)
        for event in look.xids:
            self.inventory.xid(event)
            log.warning("Xid", gpu=event.gpu_uuid, xid=event.code)
            self._announcer.xid(event)
        before = {uuid: gpu.health.healthy for uuid, gpu in self.gpus.now.items()}
        for gpu in await self.gpus.refresh():
            if gpu.uuid in known and before[gpu.uuid] != gpu.health.healthy:
                self._announcer.health(gpu)
        self._tell_levels()

    def _tell_levels(self) -> None:
        """Against the last look: a level also falls between two, when the watcher sees no bytes."""
        for gpu in self.gpus.now.values():
            before = self._levels.get(gpu.uuid, gpu.level)
            if gpu.level != before:
                self._announcer.level(gpu, before, self.gpus.finding(gpu.uuid).evidence, self.store)
            self._levels[gpu.uuid] = gpu.level

    def _pod_changed(self, change: Change[wire.Pod]) -> None:
        self._names(change)
        self._pod_shm(change)
        self._deadlines(change)

    async def _look_after_limiter(self) -> None:
        """Apart from the GPUs' health, which a control program that hangs must not hold up."""
        found = (*await self.limiter.observe(), *await self._strays.look())
        self._conditions.round("limiter", found, [uuid for uuid in self.gpus.now if self._is_broken(uuid)])
        for incident in found:
            log.warning(incident.reason, gpu=incident.gpu_uuid, text=incident.text)
            self._announcer.incident(incident, self.store)
            self.gpus.doubt((incident.gpu_uuid, *incident.also))
        shared = await self._mps.look_after_shm()
        quiet = self.unshimmed, self._covered, self._newer_driver
        for incident in (*[one for look in quiet for one in await look.look()], *shared):
            log.info(incident.reason, gpu=incident.gpu_uuid, text=incident.text)
            self._announcer.incident(incident, self.store)
        self._note("usage", await self._usage_files.look())

    async def _end_unheld(self) -> None:
        for incident in await self.unheld.look():
            self._announcer.incident(incident, self.store)

    async def _keep_limits(self) -> None:
        self._note("limits", await self.preparation.keep_limits())

    def _note(self, source: str, found: Findings) -> None:
        self._conditions.round(source, found.stands)
        for incident in found.new:
            self._announcer.incident(incident, self.store)

    def _is_broken(self, uuid: str) -> bool:
        return any(rung.broken(uuid) for rung in self._rungs)

    def _is_shimmed(self, slice_id: str) -> bool:
        item = self.store.get(slice_id)
        return item is not None and not item.whole

    def _with_shim(self) -> list[Slice]:
        return [item for item in self.store if self._settings.shim and not item.whole]

    async def _set_pace(self) -> None:
        await self._pace.apply(self._pace.paced(self.gpus.now.values()), self.watcher.accounts.usages)

    def _lease_server(self, path: Path | None, homes: CgroupHomes | Families | None) -> LeaseServer | None:
        if path is None or homes is None:
            return None
        context_bytes = self._settings.context_bytes if self._settings.shim else 0
        leases = Leases(self.preparation, self.store, self.gpus, homes, context_bytes=context_bytes)
        return LeaseServer(path, leases, homes.held_by, EVERYBODY if os.getuid() == 0 else OWNER)

    def _level_of(self, uuid: str) -> int:
        gpu = self.gpus.now.get(uuid)
        return gpu.level if gpu else LEVEL_NONE

    def _may_serve(self, uuid: str) -> bool:
        """Whether MPS has a GPU: it is asked for, or still there."""
        return LEVEL_MPS in self._settings.enforcement.levels or self._mps.serves(uuid)

    def _headroom_of(self, uuid: str) -> int:
        mps = self._settings.mps_headroom_bytes if self._may_serve(uuid) else 0
        return self._settings.headroom_bytes + mps

    def _driver_of(self, files: CgroupFiles) -> Driver:
        settings, folder = self._settings, self._settings.state_dir / "driver"
        hook = HookProgram(Path(settings.hook), folder / "hook") if settings.hook else None
        tree = DmemTree(files, settings.cgroup_mount, settings.cgroup_root)
        return Driver(tree, hook, lambda: self.store, folder / "cgroups", settings.proc_root)

    def _shm_of(self, mounts: Mounts | None, processes: Processes) -> Callable[[Path], GroupShm | None]:
        """Commands of leases see the machine's own /dev/shm, and so does their daemon."""
        settings = self._settings
        if settings.lease_socket:
            return lambda _: None

        def container_of(pid: int) -> str:
            found = processes.look(pid)
            return found.container.container_id if found and found.container else ""

        around = ShmNode(
            mounts or HostMounts(settings.proc_root / str(settings.mounts_of)),
            settings.mps_shm_bytes,
            self._pod_shm.of,
            ShmUsers(settings.proc_root, container_of),
            frozenset(item.id for item in self.store),
        )
        return lambda folder: GroupShm(folder, around)

    def _mps_of(
        self,
        keepers: Keepers,
        processes: Processes,
        clock: Callable[[], float],
        shm_of: Callable[[Path], GroupShm | None],
    ) -> MpsLimiters:
        clients = HostClients(processes, lambda: self.store)
        proof = Proof(self._bytes_of) if self._settings.mps_proof else None

        def node(level: int) -> Node:
            return Node(
                lambda: [item for item in self.store if keepers.may_keep(level, item.id)],
                clients,
                self._context_limit,
                clock,
                proof,
                self._kernel_log.blamed,
                lambda: self._driver,
                shm_of,
            )

        settings, gpus = self._settings, self._sliceable
        return MpsLimiters(settings.mps_control, settings.mps_root, node, gpus, settings.mps_groups)

    def _sliceable(self) -> tuple[Device, ...]:
        return tuple(device for device in self.inventory.devices.values() if device.sliceable)

    def _context_limit(self) -> int:
        return context_limit(self._driver, self._settings.mps_clients)

    async def _bytes_of(self, uuid: str, pid: int) -> int | None:
        found = (await self.probe.snapshot([uuid])).found
        return next((one.used_bytes for one in found if one.pid == pid), None)


async def _every(period_s: float, work: Callable[[], Awaitable[None]]) -> None:
    """Runs ``work`` at most once in a period, for ever."""
    while True:
        started = time.monotonic()
        try:
            await work()
        except Exception:
            log.exception("a round failed; the next one comes", work=getattr(work, "__qualname__", ""))
        await asyncio.sleep(max(period_s - (time.monotonic() - started), 0.001))


def _is_wsl(proc_root: Path) -> bool:
    try:
        return "microsoft" in (proc_root / "version").read_text().lower()
    except OSError:
        return False
