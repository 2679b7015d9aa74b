"""Levels of enforcement, one above the other: a GPU has the highest that works, a slice the lowest of its GPUs.

A slice stays with the level that prepared it, whatever becomes of the GPU's: another limiter would not know what to
take away. So a level that the setting no longer asks for still looks after the slices that it has.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence

from tessera.model.gpus import LEVEL_WATCH
from tessera.node_agent.enforcement.keepers import Keepers
from tessera.node_agent.enforcement.port import Edits, Finding, Incident, Limiter
from tessera.node_agent.slices import Slice


class Ladder:
    """A limiter made of ``rungs``, the lowest of which works wherever slices are placed.

    ``asked``: the levels that new slices may have; ``level_of``: the level that a GPU has now, by UUID.
    """

    def __init__(
        self, rungs: Sequence[Limiter], asked: Collection[int], level_of: Callable[[str], int], keepers: Keepers
    ) -> None:
        self._rungs = tuple(sorted(rungs, key=lambda rung: rung.level, reverse=True))
        self._asked, self._level_of, self._keepers = frozenset(asked), level_of, keepers
        self.level = max(self._asked)

    async def detect(self, uuid: str) -> Finding:
        """The highest level asked for that works, and why it is none above; a level that is broken ends the search."""
        lacking: list[str] = []
        for rung in self._rungs:
            if rung.level not in self._asked:
                continue
            found = await rung.detect(uuid)
            if found.level >= rung.level or found.level < LEVEL_WATCH:
                return Finding(found.level, "; ".join((found.evidence, *lacking)))
            lacking.append(f"not level {rung.level}: {found.evidence}")
        return Finding(LEVEL_WATCH, "; ".join(lacking))

    async def prepare(self, item: Slice) -> Edits:
        """By the level that prepared the slice before, if one has. Raises ``EnforcementError`` and ``OSError``."""
        level = self._keepers.get(item.id)
        if level is None:
            level = self._highest(self._reached(item)).level
            await asyncio.to_thread(self._keepers.put, item.id, level)
        edits = await self._highest(level).prepare(item)
        if edits.level < level:
            # Not held there, as over several MPS groups: nothing may take it for held.
            await asyncio.to_thread(self._keepers.put, item.id, edits.level)
        return edits

    async def observe(self) -> tuple[Incident, ...]:
        return tuple([incident for rung in self._rungs for incident in await rung.observe()])

    async def terminate(self, uuid: str, pid: int) -> bool:
        for rung in self._rungs:
            if await rung.terminate(uuid, pid):
                return True
        return False

    async def release(self, item: Slice) -> None:
        """By the level that prepared the slice; one that none has prepared is no error. Raises ``OSError``."""
        level = self._keepers.get(item.id)
        if level is None:
            return
        await self._highest(level).release(item)
        await asyncio.to_thread(self._keepers.drop, item.id)

    async def close(self) -> None:
        for rung in self._rungs:
            await rung.close()

    def _reached(self, item: Slice) -> int:
        """Whole GPUs are only watched."""
        if item.whole:
            return LEVEL_WATCH
        return min(self._level_of(share.uuid) for share in item.shares)

    def _highest(self, level: int) -> Limiter:
        """The highest rung up to ``level``; below all of them the lowest."""
        return next((rung for rung in self._rungs if rung.level <= level), self._rungs[-1])
