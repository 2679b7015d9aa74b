"""Prepare and Release: checked, recorded, and then in force; one at a time.

The record comes first, so that after a crash the limits are known and are either used again or released.
"""

import asyncio
from dataclasses import replace

import structlog

from tessera.model.gpus import LEVEL_WATCH
from tessera.node_agent.conditions import Findings
from tessera.node_agent.enforcement.port import Edits, EnforcementError, Limiter, Mount
from tessera.node_agent.enforcement.shim import Shim
from tessera.node_agent.gpus import Gpus
from tessera.node_agent.kept_limits import KeptLimits
from tessera.node_agent.slices import Refusal, Slice, SliceStore, check
from tessera.reasons import Code, Reason

log = structlog.get_logger()

INFO_PATH = "/run/tessera"


class Preparation:
    """The only one that changes the store. ``shim``: none where programs are held without it."""

    def __init__(self, store: SliceStore, gpus: Gpus, limiter: Limiter, shim: Shim | None = None) -> None:
        self._store, self._gpus, self._limiter, self._shim = store, gpus, limiter, shim
        self._turn, self._kept = asyncio.Lock(), KeptLimits(store)

    async def prepare(self, item: Slice) -> Edits | Refusal:
        """What the container needs, once its limits hold. The same slice again answers the same."""
        async with self._turn:
            if not self._gpus.known:
                return Refusal(Reason(Code.NOT_SYNCED, "the GPUs have not been looked at yet"), permanent=False)
            found = self._store.get(item.id)
            if found is not None and found != item:
                text = f"slice {item.id} was prepared for {found.holder} with other limits"
                return Refusal(Reason(Code.INVALID_ASSIGNMENT, text))
            refusal = check(item if found is None else _held(item), self._gpus.now, self._store)
            return refusal or await self._enforce(item, new=found is None)

    async def release(self, slice_id: str) -> None:
        """Takes a slice away; an unknown one is no error. Raises ``OSError``."""
        async with self._turn:
            item = self._store.get(slice_id)
            if item is None:
                return
            await self._drop(item)
            log.info("slice released", slice=slice_id, holder=item.holder)

    async def keep_limits(self) -> Findings:
        """Puts back what was changed of the files that containers read; what is to be told of it."""
        async with self._turn:
            return await asyncio.to_thread(self._kept.look)

    async def restore(self) -> None:
        """Puts the recorded slices in force again after a restart. One that fails stays recorded, and watched."""
        async with self._turn:
            for item in self._store:
                try:
                    await self._limiter.prepare(item)
                except (EnforcementError, OSError) as error:
                    log.error("limits of a slice not restored", slice=item.id, error=str(error))

    async def _enforce(self, item: Slice, *, new: bool) -> Edits | Refusal:
        try:
            if new:
                await asyncio.to_thread(self._store.put, item)
            edits = await self._limiter.prepare(item)
            shim = await self._shim_of(item)
        except (EnforcementError, OSError) as error:
            await self._undo(item, new=new)
            permanent = isinstance(error, EnforcementError) and error.permanent
            return Refusal(Reason(Code.ENFORCEMENT_TOO_WEAK, f"slice {item.id}: {error}"), permanent)
        if edits.level < item.min_level and not item.whole:
            await self._undo(item, new=new)
            text = (
                f"slice {item.id} over {len(item.shares)} GPUs is held at level {edits.level}; needs {item.min_level}"
            )
            return Refusal(Reason(Code.ENFORCEMENT_TOO_WEAK, text))
        log.info("slice prepared", slice=item.id, holder=item.holder, enforcement=edits.level)
        info = Mount(str(self._store.folder(item.id)), INFO_PATH)
        return replace(edits, mounts=(*edits.mounts, info, *shim))

    async def _undo(self, item: Slice, *, new: bool) -> None:
        if new:
            try:
                await self._drop(item)
            except OSError as error:
                log.error("slice not undone; it counts until it is released", slice=item.id, error=str(error))

    async def _drop(self, item: Slice) -> None:
        await asyncio.to_thread(self._store.drop, item.id)
        await self._limiter.release(item)

    async def _shim_of(self, item: Slice) -> tuple[Mount, ...]:
        if self._shim is None or item.whole:
            return ()
        return await asyncio.to_thread(self._shim.mounts)


def _held(item: Slice) -> Slice:
    """One that is there stays with the level that it has, so its GPU need only be one where slices are started."""
    return replace(item, min_level=min(item.min_level, LEVEL_WATCH))
