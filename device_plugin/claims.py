"""Claiming a slice for a container: checked against all other slices of the node and written to the journal in one
step, so that two containers can never be given the same bytes."""

from collections.abc import Mapping
from typing import Protocol

from tessera.device_plugin.checks import Grant
from tessera.device_plugin.cluster import NodePods
from tessera.device_plugin.refusals import Refusal, Refused, end, wait
from tessera.device_plugin.slices import Book, Holder, Slice, over_commit
from tessera.device_plugin.store import SliceStore
from tessera.model.gpus import Gpu
from tessera.reasons import Code


class Releases(Protocol):
    """Takes slices back whose containers are gone."""

    async def release_dead(self) -> None:
        """Releases every slice that nothing holds any more."""

    async def supersede(self, item: Slice) -> None:
        """Releases a slice whose container now holds another slot and is not running. Raises ``Refused``."""


class Claiming:
    """Claims for the containers of this node."""

    def __init__(self, store: SliceStore, pods: NodePods, releases: Releases) -> None:
        self._store = store
        self._pods = pods
        self._releases = releases

    async def claim(self, item: Slice, holder: Holder, grant: Grant, gpus: Mapping[str, Gpu]) -> Slice:
        """The slice with its holder, on disk. Raises ``Refused``: permanently only if living slices hold the room."""
        for other in self._store.book.of_container(holder.uid, holder.container):
            if other.device != item.device:
                await self._releases.supersede(other)
        claimed = await self._try(item, holder, grant, gpus)
        if isinstance(claimed, Slice):
            return claimed
        await self._releases.release_dead()
        claimed = await self._try(item, holder, grant, gpus)
        if isinstance(claimed, Slice):
            return claimed
        refusal, blockers = claimed
        if all(self._alive(blocker) for blocker in blockers):
            raise Refused(refusal)
        raise wait(f"{refusal} (some of it is being released)", refusal.reason.code)

    async def _try(
        self, item: Slice, holder: Holder, grant: Grant, gpus: Mapping[str, Gpu]
    ) -> Slice | tuple[Refusal, tuple[Slice, ...]]:
        async with self._store.exclusive() as claims:
            newest = _newest(claims.book, item, holder)
            conflict = over_commit(claims.book, item.device, grant.shares, gpus)
            if conflict:
                return conflict
            claimed = newest.claimed_by(holder, grant.shares, grant.lease)
            if claimed != newest:
                await claims.claim(claimed)
            return claimed

    def _alive(self, item: Slice) -> bool:
        """Whether the slice's pod is there and nobody asked for its end."""
        found = self._pods.by_uid(item.holder.uid) if item.holder else None
        return found is not None and not found.pod.ended and not found.pod.deleting


def _newest(book: Book, item: Slice, holder: Holder) -> Slice:
    """The slice as the book has it now, if it may be claimed by this holder. Raises ``Refused``."""
    found = book.get(item.device)
    if found is None or not book.is_current(found):
        raise wait(f"{item.device} is no longer the newest name of {item.slot}")
    if found.holder not in (None, holder):
        raise end(Code.OVER_COMMITTED, f"{item.device} belongs to {found.holder} with pod UID {found.holder.uid}")
    others = [s for s in book.of_container(holder.uid, holder.container) if s.device != item.device]
    if others:
        raise wait(f"{holder} still holds {others[0].device}")
    return found
