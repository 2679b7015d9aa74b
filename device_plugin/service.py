"""The device plugin as one running thing: builds the parts, runs their loops, stops them in order."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from functools import partial

import structlog

from tessera.device_plugin.agent import Agent
from tessera.device_plugin.capacity import Capacity
from tessera.device_plugin.checkpoint import FILE as CHECKPOINT
from tessera.device_plugin.claims import Claiming
from tessera.device_plugin.cluster import ClusterError
from tessera.device_plugin.gpunode import GpuNodePublisher
from tessera.device_plugin.identity import Identity
from tessera.device_plugin.inventory import Inventory
from tessera.device_plugin.journal import Journal
from tessera.device_plugin.kube_cluster import KubeCluster, WatchedNode, WatchedPods
from tessera.device_plugin.loops import repeat
from tessera.device_plugin.podresources import PodResources
from tessera.device_plugin.prestart import PreStart
from tessera.device_plugin.processes import pod_uids
from tessera.device_plugin.reclaim import Reclaimer
from tessera.device_plugin.registration import Registration
from tessera.device_plugin.server import Announcement, DevicePlugin, PluginSocket
from tessera.device_plugin.settings import DevicePluginSettings
from tessera.device_plugin.specs import SpecFiles
from tessera.device_plugin.store import SliceStore
from tessera.device_plugin.writer import SpecWriter
from tessera.durable import Disk, LocalDisk, replace_durably
from tessera.kube.connection import Connection
from tessera.kube.events import EventRecorder
from tessera.kube.gateway import Gateway

log = structlog.get_logger()

COUNT_FILE = "gpus"
EVENTS_S = 1.0


class Service:
    """One node's device plugin. ``start`` returns once all loops run; ``wait`` returns only if one of them fails."""

    def __init__(
        self,
        settings: DevicePluginSettings,
        connection: Connection,
        *,
        clock: Callable[[], float] = time.monotonic,
        disk: Disk | None = None,
    ) -> None:
        self.settings = settings
        self._connection = connection
        self._clock = clock
        self._disk = disk or LocalDisk()
        self._tasks: list[asyncio.Task[object]] = []
        self.inventory = Inventory()

    async def start(self) -> None:
        """Reads the journal, sweeps old spec files and starts to serve. Raises ``OSError``."""
        settings = self.settings
        settings.state_dir.mkdir(parents=True, exist_ok=True)
        self.store = SliceStore(Journal(settings.state_dir / "slices", self._disk))
        for text in self.store.broken.values():
            log.error("journal entry set aside", error=text)
        self._gateway = await Gateway(self._connection).__aenter__()
        self._build()
        self.specs.sweep(self._awaited)
        for loop in self._loops():
            self._tasks.append(asyncio.create_task(loop))

    async def wait(self) -> None:
        """Returns when a loop ended, which none should; raises its exception."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def stop(self) -> None:
        """Stops serving. Slices, their files and the journal stay: containers go on running."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._events.flush(), EVENTS_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        await self._socket.stop()
        await self.specs.close()
        await self._agent.close()
        await self._resources.close()
        await self._gateway.__aexit__(None, None, None)

    def _build(self) -> None:
        settings, inventory, store = self.settings, self.inventory, self.store
        self._events = EventRecorder(self._gateway, "tessera-device-plugin", host=settings.node)
        self._cluster = KubeCluster(self._gateway, self._events, settings.node)
        self._pods = WatchedPods(self._gateway, settings.node)
        self._node = WatchedNode(self._gateway, settings.node)
        self._agent = Agent(settings.agent_socket, inventory)
        self._resources = PodResources(settings.pod_resources)
        self.specs = SpecFiles(
            settings.cdi_dir,
            settings.state_dir / "info",
            self._disk,
            settle_s=settings.spec_settle_s,
            lifetime_s=settings.spec_lifetime_s,
        )
        live_uids = partial(pod_uids, settings.proc_dir)
        self.reclaimer = Reclaimer(
            store, self._pods, self._cluster, self._resources, self._agent, self.specs, live_uids
        )
        self._capacity = Capacity(self._cluster, self._pods, inventory)
        self._publisher = GpuNodePublisher(settings.node, self._cluster, inventory, store.book)
        self._announcement = Announcement(self._remembered_gpus())
        plugin = DevicePlugin(self._announcement, store, self._prestart())
        self._socket = PluginSocket(settings.plugins, plugin)
        self._registered = asyncio.Event()
        self.registration = Registration(
            settings.plugins, self._socket, lambda: self._announcement.gpus > 0, self._note_registered, self._clock
        )

    def _prestart(self) -> PreStart:
        settings = self.settings
        identity = Identity(
            settings.node,
            self._resources,
            self._cluster,
            settings.plugins / CHECKPOINT,
            need_checkpoint=settings.require_checkpoint,
        )
        writer = SpecWriter(
            self.specs, self.inventory, settings.nvidia_cdi_dirs, settings.require_nvidia_cdi, settings.proc_dir
        )
        return PreStart(
            identity,
            self.store,
            Claiming(self.store, self._pods, self.reclaimer),
            self._agent,
            self.inventory,
            writer,
            self._cluster,
            deadline_s=settings.prestart_deadline_s,
            patience_s=settings.patience_s,
            clock=self._clock,
        )

    def _loops(self) -> list[Coroutine[object, object, object]]:
        settings, inventory, pods = self.settings, self.inventory, self._pods
        outside = (ClusterError, OSError)
        capacity_events = [inventory.changed, pods.changed, self._node.changed, self._registered.wait]
        return [
            self._agent.watch(),
            pods.run(),
            self._node.run(),
            self._events.run(),
            self.registration.run(),
            repeat("slots", self._announce, [inventory.changed], 60.0, outside),
            repeat("one-shot specs", self._disarm, [pods.changed], 1.0, outside),
            repeat("capacity", self._assert_capacity, capacity_events, settings.capacity_every_s, outside),
            repeat(
                "gpunode",
                self._publisher.publish,
                [inventory.changed, self.store.changed],
                settings.heartbeat_every_s,
                outside,
            ),
            repeat("reclaim", self.reclaimer.release_dead, [pods.changed], settings.reclaim_every_s, outside),
        ]

    async def _announce(self) -> None:
        """The count outlives us, so that after a restart we register at once even if the agent is not up yet."""
        if self._announcement.grow(len(self.inventory.gpus)):
            path = self.settings.state_dir / COUNT_FILE
            await asyncio.to_thread(replace_durably, self._disk, path, str(self._announcement.gpus).encode())

    def _remembered_gpus(self) -> int:
        try:
            return int((self.settings.state_dir / COUNT_FILE).read_text())
        except (OSError, ValueError):
            return 0

    async def _assert_capacity(self) -> None:
        self._registered.clear()
        await self._capacity.assert_now()

    def _note_registered(self) -> None:
        """A kubelet that has just registered us may have zeroed the node's capacity."""
        self._registered.set()

    async def _disarm(self) -> None:
        for device in self.specs.armed:
            item = self.store.book.get(device)
            live = self._pods.by_uid(item.holder.uid) if item and item.holder else None
            if live and item and item.holder:
                self.specs.created(device, live.container_ids.get(item.holder.container, ""))

    def _awaited(self, device: str) -> bool:
        """Whether a spec file found at the start may belong to a container that is just being created."""
        item = self.store.book.get(device)
        return item is not None and item.holder is not None and self.store.book.is_current(item)
