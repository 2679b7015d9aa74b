"""Keeps the prices of launches on each GPU whose compute nothing else holds: several times a second."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

import structlog

from tessera.model.assignment import Share
from tessera.model.gpus import LEVEL_WATCH, Gpu
from tessera.node_agent.accounting import Usage
from tessera.node_agent.enforcement.limits_files import PACE, write_prices
from tessera.node_agent.enforcement.pacing import FREE, Claim, Pacer
from tessera.node_agent.nvml import Work
from tessera.node_agent.slices import Slice, SliceStore

log = structlog.get_logger()


class Pace:
    """The agent's hand on the pages of all slices. A GPU that cannot be read leaves its prices as they are."""

    def __init__(self, store: SliceStore) -> None:
        self._store = store
        self._pacers: defaultdict[str, Pacer] = defaultdict(Pacer)
        self._written: dict[str, dict[int, int]] = {}

    def paced(self, gpus: Iterable[Gpu]) -> list[str]:
        """The GPUs that have to be looked at: a slice asks for compute there, and no driver holds it."""
        asked = {share.uuid for item in self._store for share in item.shares if share.core_percent and not share.whole}
        return [gpu.uuid for gpu in gpus if gpu.uuid in asked and gpu.level <= LEVEL_WATCH]

    async def set(self, paced: Iterable[str], work: Mapping[str, Iterable[Work]], usages: Iterable[Usage]) -> None:
        """New prices from what each process did since the last round on each of the ``paced`` GPUs that told."""
        owners = {client.process.pid: usage.slices for usage in usages for client in usage.clients}
        prices = {uuid: self._round(uuid, found, owners) for uuid, found in work.items()}
        for uuid in self._pacers.keys() - set(paced):
            del self._pacers[uuid]
        await asyncio.to_thread(self._write, frozenset(paced), prices)

    def _round(self, uuid: str, found: Iterable[Work], owners: Mapping[int, tuple[str, ...]]) -> dict[str, int]:
        used: defaultdict[str, float] = defaultdict(float)
        for one in found:
            for id_ in owners.get(one.pid, ()):
                used[id_] += one.percent / len(owners[one.pid])
        return self._pacers[uuid].round(list(_claims(uuid, self._store)), used)

    def _write(self, paced: frozenset[str], prices: Mapping[str, Mapping[str, int]]) -> None:
        written = {}
        for item in self._store:
            before = self._written.get(item.id, {})
            own = {
                place: prices.get(share.uuid, {}).get(item.id, before.get(place)) if share.uuid in paced else FREE
                for place, share in enumerate(item.shares)
            }
            known = {place: price for place, price in own.items() if price is not None}
            written[item.id] = known if known == before or self._write_page(item, known) else before
        self._written = written

    def _write_page(self, item: Slice, prices: Mapping[int, int]) -> bool:
        try:
            write_prices(self._store.folder(item.id) / PACE, prices)
        except FileNotFoundError:
            return False  # being prepared or released
        except OSError as error:
            log.warning("prices not written", slice=item.id, error=str(error))
            return False
        return True


def _claims(uuid: str, slices: Iterable[Slice]) -> Iterator[Claim]:
    for item in slices:
        for share in item.shares:
            if share.uuid == uuid and not share.whole:
                yield Claim(item.id, share.core_percent, _limit(item, share), item.qos)


def _limit(item: Slice, share: Share) -> int:
    """A slice's limit is in total over its GPUs, which have equal parts of it."""
    return item.core_limit_percent // len(item.shares)
