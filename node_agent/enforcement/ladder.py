"""Levels of enforcement, one above the other: a GPU has the highest that works, a slice the lowest of its GPUs.

A slice stays with the level that prepared it, whatever becomes of the GPU's: another limiter would not know what to
take away. So a level that the setting no longer asks for still looks after the slices that it has. What a GPU has holds
for all slices there: above level 0 it takes another only once those that are held at others have gone.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence

from tessera.model.gpus import LEVEL_NONE, LEVEL_WATCH
from tessera.node_agent.enforcement.keepers import Keepers
from tessera.node_agent.enforcement.looks import LOOK_S, Looks
from tessera.node_agent.enforcement.port import Edits, Finding, Incident, Rung
from tessera.node_agent.enforcement.tenants import Tenants
from tessera.node_agent.slices import Slice

ROUND_S = 2 * LOOK_S
"""Longer than a rung's own looks may take, so that what those found is answered in the same round."""


class Ladder:
    """A limiter made of ``rungs``, the lowest of which works wherever slices are placed.

    ``asked``: the levels that new slices may have; ``level_of``: the level that a GPU has now, by UUID; ``slices``:
    all that are prepared; ``look_s``: how long an ``observe`` waits for a rung.
    """

    def __init__(
        self,
        rungs: Sequence[Rung],
        asked: Collection[int],
        level_of: Callable[[str], int],
        keepers: Keepers,
        slices: Callable[[], Iterable[Slice]],
        look_s: float = ROUND_S,
    ) -> None:
        self._rungs = tuple(sorted(rungs, key=lambda rung: rung.level, reverse=True))
        self._asked, self._level_of, self._keepers = frozenset(asked), level_of, keepers
        self._tenants, self._looks = Tenants(slices, keepers), Looks(look_s)
        self.level = max(self._asked)

    async def detect(self, uuid: str) -> Finding:
        """The highest level asked for that works, with no slice there that is held at another, and why it is none
        above; a level that is broken ends the search, also one that is not asked for while it has slices there."""
        lacking = await self._leave(uuid)
        if broken := self._broken(uuid):
            return Finding(LEVEL_NONE, "; ".join((broken, *lacking)))
        for rung in [rung for rung in self._rungs if rung.level in self._asked]:
            why = self._obstacle(rung, uuid)
            if not why:
                found = await rung.detect(uuid)
                # A slice may have come meanwhile.
                why = self._obstacle(rung, uuid) if found.level >= rung.level else found.evidence
                if not why or found.level < LEVEL_WATCH:
                    return Finding(found.level, "; ".join((found.evidence, *lacking)))
            lacking.append(f"not level {rung.level}: {why}")
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
        """Of all rungs at once; what a slow one finds is answered later."""
        return await self._looks.round({rung.level: rung.observe for rung in self._rungs})

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
        await self._looks.close()
        for rung in self._rungs:
            await rung.close()

    async def _leave(self, uuid: str) -> list[str]:
        """Ends what rungs keep running there that are not asked for and hold no slice; what does not end."""
        kept = {tenant.level for tenant in self._tenants.on(uuid)}
        idle = [rung for rung in self._rungs if rung.level not in self._asked | kept]
        return [why for rung in idle if (why := await rung.leave(uuid))]

    def _broken(self, uuid: str) -> str:
        kept = {tenant.level for tenant in self._tenants.on(uuid)}
        return "; ".join(why for rung in self._rungs if rung.level in kept and (why := rung.broken(uuid)))

    def _obstacle(self, rung: Rung, uuid: str) -> str:
        """Why a GPU cannot have a level, by the slices that lie there, or empty. One of a form that the rung leaves to
        the watcher is none."""
        if rung.level == LEVEL_WATCH:
            return ""
        others = [one for one in self._tenants.on(uuid) if one.level != rung.level]
        levels = {one.level for one in others if one.level != LEVEL_WATCH or rung.takes(one.item)}
        held = " and ".join(map(str, sorted(levels)))
        return f"slices lie on GPU {uuid} that are held at level {held}" if held else ""

    def _reached(self, item: Slice) -> int:
        """Whole GPUs are only watched."""
        if item.whole:
            return LEVEL_WATCH
        return min(self._level_of(share.uuid) for share in item.shares)

    def _highest(self, level: int) -> Rung:
        """The highest rung up to ``level``; below all of them the lowest."""
        return next((rung for rung in self._rungs if rung.level <= level), self._rungs[-1])
