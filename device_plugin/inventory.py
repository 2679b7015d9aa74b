"""The GPUs of this node as the agent last told them, with what only the plugin knows laid over: conflicts.

Pure but for the event that wakes those who wait for a change.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from tessera.model.gpus import Gpu, Health


@dataclass(frozen=True, slots=True)
class LocalGpu:
    """A GPU and its NVML index, by which NVIDIA's CDI files may name it."""

    gpu: Gpu
    index: int


class Inventory:
    """The newest list. ``known`` is false until the agent spoke for the first time."""

    def __init__(self) -> None:
        self._gpus: dict[str, LocalGpu] = {}
        self._conflict = ""
        self._changed = asyncio.Event()
        self.known = False
        self.connected = False

    @property
    def gpus(self) -> Mapping[str, Gpu]:
        """By UUID; all unhealthy while somebody else hands out the same GPUs."""
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

    def set_conflict(self, text: str) -> None:
        """Another device plugin offers GPUs of this node (empty: none does)."""
        if text != self._conflict:
            self._conflict = text
            self._wake()

    async def changed(self) -> None:
        """Returns at the next change."""
        await self._changed.wait()

    async def connected_within(self, seconds: float) -> bool:
        """Whether the agent is there, now or within this time."""
        try:
            async with asyncio.timeout(seconds):
                while not self.connected:
                    await self.changed()
        except TimeoutError:
            return False
        return True

    def _marked(self, gpu: Gpu) -> Gpu:
        return replace(gpu, health=Health(False, f"Conflict: {self._conflict}")) if self._conflict else gpu

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def conflict_of(allocatable: Mapping[str, str]) -> str:
    """One sentence if NVIDIA's own device plugin offers devices on this node, else nothing."""
    found = sorted(k for k, v in allocatable.items() if k.startswith("nvidia.com/") and v not in ("0", ""))
    if not found:
        return ""
    return f"found allocatable {found[0]}={allocatable[found[0]]}; allowed: no other plugin for GPUs on this node"
