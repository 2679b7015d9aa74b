"""The partitions of one GPU: made for slices, listed, and removed when slice and clients have gone.

What is to be made is recorded before, its name after: one that the daemon lists and no record names was made just
before a crash, and no container knows it. Partitions go with their daemon, and a later one may give a name again, to
somebody else. So a slice whose partition has gone is ``void`` until its container is started again and told another
name; its chunks stay free for it meanwhile.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import structlog

from tessera.node_agent.enforcement.mps_chunks import COMMON, own_chunks
from tessera.node_agent.enforcement.mps_control import MpsError, MpsRefused
from tessera.node_agent.enforcement.mps_lspart import Layout
from tessera.node_agent.enforcement.mps_partition_records import Record, Records
from tessera.node_agent.enforcement.mps_static import StaticControl
from tessera.node_agent.enforcement.port import EnforcementError
from tessera.node_agent.slices import Slice

log = structlog.get_logger()

Probe = Callable[[str], Awaitable[str]]
"""Tries a partition; answers what is wrong with it, or empty."""


class Partitions:
    """``slices`` answers those that the daemon holds. Methods raise ``MpsError`` and ``OSError``.

    The containers of slices that are there from the beginning may run, so the first ``ensure`` of such a one makes
    nothing: the name would not reach its container.
    """

    def __init__(
        self, uuid: str, control: StaticControl, records: Records, slices: Callable[[], Iterable[Slice]]
    ) -> None:
        self._uuid, self._control, self._records, self._slices = uuid, control, records, slices
        self._turn = asyncio.Lock()
        self._restored = {item.id for item in slices()}
        self._lost: set[str] = set()

    async def ensure(self, item: Slice) -> str:
        """The partition of ``item``, ``UUID/NAME``, made if need be. Raises ``EnforcementError`` too."""
        async with self._turn:
            layout = await self._swept()
            restored = item.id in self._restored
            self._restored.discard(item.id)
            name = self._name(item.id)
            if not name and restored:
                await self._lose(item.id)
                text = f"GPU {self._uuid}: the SM partition of slice {item.id} has gone"
                raise EnforcementError(f"{text}; it gets another when its container is started again")
            return f"{self._uuid}/{name or await self._make(item, layout)}"

    async def settle(self) -> None:
        """Removes what nobody needs any more, and finds what has gone."""
        async with self._turn:
            await self._swept()

    def take_lost(self) -> list[Slice]:
        """The slices whose partition was found gone since this was asked last."""
        lost, self._lost = self._lost, set()
        return [item for item in self._slices() if item.id in lost]

    def void(self) -> list[Slice]:
        """The slices whose partition has gone, or is just being made."""
        return [item for item in self._slices() if self._records.get(item.id) and not self._name(item.id)]

    async def layout(self) -> Layout:
        """As the daemon lists it."""
        return await self._control.layout(self._uuid)

    async def trial(self, probe: Probe) -> str:
        """Makes a partition, probes it and takes it away again; answers what the probe says."""
        async with self._turn:
            await self._swept()
            name = await self._control.add_partition(self._uuid, COMMON)
            try:
                if (await self.layout()).row(name) is None:
                    raise MpsError(f"lspart does not list {name}")
                return await probe(f"{self._uuid}/{name}")
            finally:
                await self._remove(name)

    async def _make(self, item: Slice, layout: Layout) -> str:
        common = self._common() if not item.shares[0].core_percent else ""
        if common:
            await self._put(item.id, Record(common, COMMON))
            return common
        chunks = self._chunks(item, layout)
        await self._put(item.id, Record("", chunks))
        try:
            name = await self._control.add_partition(self._uuid, chunks)
        except MpsRefused as error:
            raise EnforcementError(f"GPU {self._uuid}: no SM partition of {chunks} chunks: {error}") from None
        for other, record in self._records:
            if record.name == name:  # of a daemon that has gone meanwhile
                await self._lose(other)
        await self._put(item.id, Record(name, chunks))
        return name

    def _chunks(self, item: Slice, layout: Layout) -> int:
        percent = item.shares[0].core_percent
        if not percent:
            return COMMON
        claimed = sum(one.shares[0].core_percent for one in self._slices() if one.id != item.id and self._name(one.id))
        taken = layout.used - (COMMON if layout.row(self._common()) else 0)
        chunks = own_chunks(percent, layout.total, taken, max(100 - percent - claimed, 0))
        if not chunks:
            text = f"GPU {self._uuid} has {layout.total} chunks of multiprocessors, {layout.used} of them in partitions"
            raise EnforcementError(f"{text}; none is left for {percent} percent")
        return chunks

    def _common(self) -> str:
        """The partition of the slices that ask for no compute, or empty."""
        names = (self._name(item.id) for item in self._slices() if not item.shares[0].core_percent)
        return next(filter(None, names), "")

    def _name(self, slice_id: str) -> str:
        record = self._records.get(slice_id)
        return record.name if record else ""

    async def _swept(self) -> Layout:
        """Records and partitions agree afterwards, but for partitions whose clients have not gone."""
        layout = await self.layout()
        for slice_id, record in self._records:
            if record.name and layout.row(record.name) is None:
                await self._lose(slice_id)
        slices = {item.id for item in self._slices()}
        needed = {record.name for slice_id, record in self._records if slice_id in slices}
        idle = [row.name for row in layout.rows if row.name not in needed and not row.busy]
        for name in idle:
            await self._remove(name)
        after = await self.layout() if idle else layout
        for slice_id, record in self._records:
            if slice_id not in slices and after.row(record.name) is None:
                await asyncio.to_thread(self._records.drop, slice_id)
        return after

    async def _remove(self, name: str) -> None:
        """One that is refused is tried again at the next look."""
        try:
            await self._control.remove_partition(self._uuid, name)
        except MpsRefused as error:
            log.warning("SM partition not removed", gpu=self._uuid, partition=name, error=str(error))

    async def _lose(self, slice_id: str) -> None:
        await self._put(slice_id, Record("", 0))
        self._lost.add(slice_id)

    async def _put(self, slice_id: str, record: Record) -> None:
        await asyncio.to_thread(self._records.put, slice_id, record)
