"""The GPUs of this node as the agent last told them, with what only the plugin knows laid over: conflicts.

Pure but for the event that wakes those who wait for a change.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tessera.model.gpus import MIG_PREFIX, Gpu, Health


@dataclass(frozen=True, slots=True)
class LocalGpu:
    """A GPU and its NVML index, by which NVIDIA's CDI files may name it."""

    gpu: Gpu
    index: int


class Inventory:
    """The newest list. ``known`` is false until the agent spoke for the first time, ``judged`` until it was found out
    whether somebody else offers the GPUs as well."""

    def __init__(self) -> None:
        self._gpus: dict[str, LocalGpu] = {}
        self._conflict = ""
        self._taken: Mapping[str, str] = {}
        self._changed = asyncio.Event()
        self.known = False
        self.connected = False
        self.judged = False

    @property
    def gpus(self) -> Mapping[str, Gpu]:
        """By UUID; unhealthy while somebody else hands out the same GPU."""
        return {uuid: self._marked(local.gpu) for uuid, local in self._gpus.items()}

    @property
    def local(self) -> Mapping[str, LocalGpu]:
        """By UUID, with the index."""
        return {uuid: replace(local, gpu=self._marked(local.gpu)) for uuid, local in self._gpus.items()}

    def update(self, gpus: Iterable[LocalGpu]) -> None:
        """Takes a whole new list from the agent."""
        self._gpus = {local.gpu.uuid: local for local in gpus}
        self.known = self.connected = True
        self._wake()

    def lost(self) -> None:
        """The agent cannot be reached; what it said last stands for capacity, but nothing new is started on it."""
        self.connected = False
        self._wake()

    def set_conflicts(self, everywhere: str, taken: Mapping[str, str]) -> None:
        """Who else offers GPUs of this node: one sentence about all of them (empty: nobody), and others by UUID."""
        if (everywhere, taken) != (self._conflict, self._taken) or not self.judged:
            self._conflict, self._taken, self.judged = everywhere, dict(taken), True
            self._wake()

    async def changed(self) -> None:
        """Returns at the next change."""
        await self._changed.wait()

    async def ready_within(self, seconds: float) -> bool:
        """Whether the agent is there and the GPUs are judged, now or within this time."""
        try:
            async with asyncio.timeout(seconds):
                while not (self.connected and self.judged):
                    await self.changed()
        except TimeoutError:
            return False
        return True

    def _marked(self, gpu: Gpu) -> Gpu:
        conflict = self._conflict or self._taken.get(gpu.uuid, "")
        return replace(gpu, health=Health(False, f"Conflict: {conflict}")) if conflict else gpu

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def conflict_of(allocatable: Mapping[str, str]) -> str:
    """One sentence if NVIDIA's own device plugin offers devices on this node, else nothing."""
    found = sorted(k for k, v in allocatable.items() if k.startswith("nvidia.com/") and v not in ("0", ""))
    if not found:
        return ""
    return f"found allocatable {found[0]}={allocatable[found[0]]}; allowed: no other plugin for GPUs on this node"


def taken_by(resource_slices: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """By UUID, one sentence for each GPU that a DRA driver offers on this node, whole or as the parent of a part."""
    taken: dict[str, str] = {}
    for found in resource_slices:
        spec = found.get("spec") or {}
        where = f"of DRA driver {spec.get('driver')} in ResourceSlice {(found.get('metadata') or {}).get('name')}"
        for device in spec.get("devices") or []:
            attributes = (device.get("basic") or device).get("attributes") or {}
            for value in (attribute.get("string") for attribute in attributes.values()):
                if value:
                    text = f"found device {device.get('name')} {where}; allowed: no other driver for this GPU"
                    taken.setdefault(value, text)
    return {name: text for name, text in taken.items() if name.startswith(("GPU-", MIG_PREFIX))}
