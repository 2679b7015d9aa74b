"""The device plugin as one running thing: builds the parts, runs their loops, stops them in order."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from functools import partial

import structlog

from tessera.device_plugin.checkpoint import FILE as CHECKPOINT
from tessera.device_plugin.claims import Claiming
from tessera.device_plugin.client_side import ClientSide
from tessera.device_plugin.cluster import ClusterError
from tessera.device_plugin.gpu_side import GpuSide
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
from tessera.device_plugin.sides import Parts, Side
from tessera.device_plugin.specs import SpecFiles
from tessera.device_plugin.store import SliceStore
from tessera.durable import Disk, LocalDisk
from tessera.kube.connection import Connection
from tessera.kube.events import EventRecorder
from tessera.kube.gateway import Gateway

log = structlog.get_logger()

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
        """Reads the journal, sweeps old spec files and starts to serve. Raises ``OSError``, and with client slots
        ``NotAClientNodeError`` on a node with GPUs."""
        settings = self.settings
        settings.state_dir.mkdir(parents=True, exist_ok=True)
        self.store = SliceStore(Journal(settings.state_dir / "slices", self._disk))
        for text in self.store.broken.values():
            log.error("journal entry set aside", error=text)
        self._gateway = await Gateway(self._connection).__aenter__()
        try:
            self._build()
            self.specs.sweep(self._awaited)
        except BaseException:
            await self._gateway.__aexit__(None, None, None)
            raise
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
        await self._side.close()
        await self._resources.close()
        await self._gateway.__aexit__(None, None, None)

    def _build(self) -> None:
        settings, store = self.settings, self.store
        self._events = EventRecorder(self._gateway, "tessera-device-plugin", host=settings.node)
        self._cluster = KubeCluster(self._gateway, self._events, settings.node)
        self._pods = WatchedPods(self._gateway, settings.node)
        self._node = WatchedNode(self._gateway, settings.node)
        self._resources = PodResources(settings.pod_resources)
        self.specs = SpecFiles(
            settings.cdi_dir,
            settings.state_dir / "info",
            self._disk,
            settle_s=settings.spec_settle_s,
            lifetime_s=settings.spec_lifetime_s,
        )
        self._announcement = Announcement()
        self._registered = asyncio.Event()
        self._side = self._side_of_the_node()
        live_uids = partial(pod_uids, settings.proc_dir)
        self.reclaimer = Reclaimer(
            store, self._pods, self._cluster, self._resources, self._side.limits, self.specs, live_uids
        )
        plugin = DevicePlugin(self._announcement, store, self._prestart())
        self._socket = PluginSocket(settings.plugins, plugin)
        self.registration = Registration(
            settings.plugins, self._socket, lambda: self._announcement.slots > 0, self._registered.set, self._clock
        )

    def _side_of_the_node(self) -> Side:
        parts = Parts(
            self.settings,
            self._gateway,
            self._cluster,
            self._pods,
            self._node,
            self.inventory,
            self.store,
            self.specs,
            self._announcement,
            self._registered,
            self._disk,
        )
        return ClientSide(parts) if self.settings.client_slots else GpuSide(parts)

    def _prestart(self) -> PreStart:
        settings = self.settings
        identity = Identity(
            settings.node,
            self._resources,
            self._cluster,
            settings.plugins / CHECKPOINT,
            need_checkpoint=settings.require_checkpoint,
        )
        return PreStart(
            identity,
            self.store,
            self._side.preparation(Claiming(self.store, self._pods, self.reclaimer)),
            self._cluster,
            deadline_s=settings.prestart_deadline_s,
            patience_s=settings.patience_s,
            clock=self._clock,
        )

    def _loops(self) -> list[Coroutine[object, object, object]]:
        settings, pods = self.settings, self._pods
        outside = (ClusterError, OSError)
        return [
            pods.run(),
            self._node.run(),
            self._events.run(),
            self.registration.run(),
            repeat("one-shot specs", self._disarm, [pods.changed], 1.0, outside),
            repeat("reclaim", self.reclaimer.release_dead, [pods.changed], settings.reclaim_every_s, outside),
            *self._side.loops(),
        ]

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
