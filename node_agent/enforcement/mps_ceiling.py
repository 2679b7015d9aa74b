"""The settings of an MPS server, which hold for all of its clients: the largest slice's.

A client that drops its environment gains no more than that, and the watcher sees it.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping

from tessera.node_agent.enforcement.mps_control import MpsControl
from tessera.node_agent.enforcement.mps_environment import percent_of
from tessera.node_agent.enforcement.mps_replies import same_size
from tessera.node_agent.slices import Slice

_SLACK_PERCENT = 1.0
"""A percentage may be printed as the hardware rounds it."""

Settings = tuple[dict[str, int], int | None]
"""Bytes by GPU, and percent."""


class Ceiling:
    """Over the ``slices`` that a daemon holds. ``percents``: whether it knows percentages. Raises ``MpsError``."""

    def __init__(self, control: MpsControl, slices: Callable[[], Iterable[Slice]], *, percents: bool = True) -> None:
        self._control, self._slices, self._percents = control, slices, percents
        self._set: Settings | None = None
        self._turn = asyncio.Lock()

    @property
    def is_due(self) -> bool:
        """Whether slices have come or gone since it was set."""
        return self._set != self._wanted()

    async def set(self, servers: tuple[int, ...]) -> None:
        """Of ``servers``, and of servers to come."""
        async with self._turn:
            wanted = memory, percent = self._wanted()
            if memory:
                await self._control.set_ceiling(memory, percent, servers)
            self._set = wanted

    async def holds(self, servers: tuple[int, ...]) -> bool:
        """Whether all of it is as it was set. Never set by this agent: as it has to be."""
        async with self._turn:
            memory, percent = self._set or self._wanted()
            return not memory or await self._is(memory, percent, servers)

    async def _is(self, memory: Mapping[str, int], percent: int | None, servers: tuple[int, ...]) -> bool:
        for uuid, mem_bytes in memory.items():
            if not all(same_size(reply, mem_bytes) for reply in await self._control.memory_limits(uuid, servers)):
                return False
        if percent is None:
            return True
        found = await self._control.percents(servers)
        return all(value is not None and abs(value - percent) <= _SLACK_PERCENT for value in found)

    def _wanted(self) -> Settings:
        """The largest memory by GPU, and percentage; no cap counts as 100 percent."""
        memory: dict[str, int] = {}
        held = [(item, share) for item in self._slices() for share in item.shares]
        for _, share in held:
            memory[share.uuid] = max(memory.get(share.uuid, 0), share.mem_bytes)
        if not self._percents:
            return memory, None
        return memory, min(max((percent_of(item, share) or 100 for item, share in held), default=100), 100)
