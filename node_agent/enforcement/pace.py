"""Keeps the prices of launches on each GPU whose compute nothing else holds: several times a second."""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping

import structlog

from tessera.model.assignment import Share
from tessera.model.gpus import LEVEL_WATCH, Gpu
from tessera.node_agent.accounting import Usage
from tessera.node_agent.enforcement.limits_files import PACE, write_prices
from tessera.node_agent.enforcement.pacing import FREE, Claim, Pacer
from tessera.node_agent.nvml import NOT_SUPPORTED, NvmlError, Work
from tessera.node_agent.slices import Slice, SliceStore

log = structlog.get_logger()

_BELIEVED_ROUNDS = 10
"""Drivers sample once in some hundred milliseconds, some less often, and not at all where nobody works."""


class Pace:
    """The agent's hand on the pages of all slices.

    A GPU that the driver has not looked at again leaves its prices as they are, for ``_BELIEVED_ROUNDS``: then nobody
    works there. One that cannot tell at all is not paced, and that is said once.
    """

    def __init__(self, store: SliceStore) -> None:
        self._store = store
        self._pacers: defaultdict[str, Pacer] = defaultdict(Pacer)
        self._written: dict[str, dict[int, int]] = {}
        self._silent: dict[str, int] = {}
        self._mute: set[str] = set()

    def paced(self, gpus: Iterable[Gpu]) -> list[str]:
        """The GPUs that have to be looked at: a slice asks for compute there, and no driver holds it."""
        asked = {share.uuid for item in self._store for share in item.shares if share.core_percent and not share.whole}
        return [gpu.uuid for gpu in gpus if gpu.uuid in asked and gpu.level <= LEVEL_WATCH]

    async def set(
        self, paced: Collection[str], work: Mapping[str, Iterable[Work] | NvmlError], usages: Iterable[Usage]
    ) -> None:
        """New prices from what each process did on each of the ``paced`` GPUs, as far as the driver told."""
        owners = {client.process.pid: usage.slices for usage in usages for client in usage.clients}
        prices = {uuid: self._round(uuid, found, owners) for uuid, found in self._heard(paced, work).items()}
        for known in (self._pacers, self._silent):
            for uuid in known.keys() - set(paced):
                del known[uuid]
        await asyncio.to_thread(self._write, frozenset(paced) - self._mute, prices)

    async def free_all(self) -> None:
        """Nobody pays any more: containers that run keep their shim, also where it was switched off."""
        await asyncio.to_thread(self._write, frozenset(), {})

    def _heard(
        self, paced: Collection[str], work: Mapping[str, Iterable[Work] | NvmlError]
    ) -> dict[str, Iterable[Work]]:
        heard: dict[str, Iterable[Work]] = {}
        for uuid in paced:
            found = work.get(uuid)
            self._note(uuid, found if isinstance(found, NvmlError) else None)
            self._silent[uuid] = 0 if found is not None else self._silent.get(uuid, 0) + 1
            if found is not None and not isinstance(found, NvmlError):
                heard[uuid] = found
            elif self._silent[uuid] >= _BELIEVED_ROUNDS:
                heard[uuid] = ()
        return heard

    def _note(self, uuid: str, error: NvmlError | None) -> None:
        if error is None:
            self._mute.discard(uuid)
        elif uuid not in self._mute and error.code == NOT_SUPPORTED:
            self._mute.add(uuid)
            log.warning("compute of a GPU is not held: the driver cannot tell whose it is", gpu=uuid, error=str(error))

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
