"""The two kinds of nodes: with GPUs and an agent, and without, for slices on other nodes. What both have is here."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Protocol

from tessera.device_plugin.claims import Claiming
from tessera.device_plugin.cluster import Cluster, NodePods
from tessera.device_plugin.inventory import Inventory
from tessera.device_plugin.kube_cluster import WatchedNode
from tessera.device_plugin.prestart import Preparation
from tessera.device_plugin.reclaim import Limits
from tessera.device_plugin.server import Announcement
from tessera.device_plugin.settings import DevicePluginSettings
from tessera.device_plugin.specs import SpecFiles
from tessera.device_plugin.store import SliceStore
from tessera.durable import Disk
from tessera.kube.gateway import Gateway


@dataclass(frozen=True)
class Parts:
    """What a side is built on. ``registered``: set when the kubelet has taken us in."""

    settings: DevicePluginSettings
    gateway: Gateway
    cluster: Cluster
    pods: NodePods
    node: WatchedNode
    inventory: Inventory
    store: SliceStore
    specs: SpecFiles
    announcement: Announcement
    registered: asyncio.Event
    disk: Disk


class Side(Protocol):
    """One kind of node."""

    @property
    def limits(self) -> Limits:
        """What slices were given here."""

    def preparation(self, claiming: Claiming) -> Preparation:
        """What is done for a container that is about to be created."""

    def loops(self) -> list[Coroutine[object, object, object]]:
        """What runs for as long as the plugin does."""

    async def close(self) -> None:
        """Closes connections."""
