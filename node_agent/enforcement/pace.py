"""Keeps the turns of the slices on each GPU, several times a second: of those whose compute nothing else holds, and of
those under MPS that may have more than they asked for.

What keeps a slice decides, not the level that its GPU has by now. Shares are reckoned over all slices of a GPU.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

import structlog

from tessera.model.assignment import Share
from tessera.model.gpus import LEVEL_DRIVER, LEVEL_MPS, LEVEL_WATCH, Gpu
from tessera.node_agent.accounting import Usage
from tessera.node_agent.enforcement.demand import works_until
from tessera.node_agent.enforcement.limits_files import PACE, write_turns
from tessera.node_agent.enforcement.pacing import FREE, Claim, Turn, turns
from tessera.node_agent.enforcement.throttling import throttles
from tessera.node_agent.slices import Slice, SliceStore

log = structlog.get_logger()

IDLE_NS = 300_000_000
"""How long after its last work a slice counts as having some."""

BY_TURNS = frozenset({LEVEL_WATCH, LEVEL_DRIVER})
"""Levels that hold no compute themselves."""

WorksUntil = Callable[[int], Sequence[int] | None]
LevelOf = Callable[[str], int | None]


class Pace:
    """The agent's hand on the pages of all slices. ``level_of``: the level that prepared a slice, by its id."""

    def __init__(
        self,
        store: SliceStore,
        level_of: LevelOf,
        works: WorksUntil = works_until,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._store, self._level_of = store, level_of
        self._works, self._clock_ns = works, clock_ns
        self._written: dict[str, dict[int, Turn]] = {}

    def paced(self, gpus: Iterable[Gpu]) -> frozenset[str]:
        """The GPUs that are had in turns: a slice asks for compute there."""
        asked = {share.uuid for item in self._store for share in item.shares if share.core_percent and not share.whole}
        return frozenset(gpu.uuid for gpu in gpus if gpu.uuid in asked)

    async def apply(self, paced: Collection[str], usages: Iterable[Usage]) -> None:
        """New turns for the ``paced`` GPUs, from whose programs have work there; all others have none."""
        await asyncio.to_thread(self._set, frozenset(paced), _pids(usages))

    async def free_all(self) -> None:
        """Nobody waits for a turn any more: containers that run keep their shim, also where it was switched off."""
        await self.apply((), ())

    def _set(self, paced: Collection[str], pids: Mapping[str, Sequence[int]]) -> None:
        found = {uuid: self._divide(uuid, self._wanting(uuid, pids)) for uuid in paced}
        written = {}
        for item in self._store:
            own = {place: found.get(share.uuid, {}).get(item.id, FREE) for place, share in enumerate(item.shares)}
            before = self._written.get(item.id, {})
            written[item.id] = own if own == before or self._write_page(item, own) else before
        self._written = written

    def _divide(self, uuid: str, wanting: Collection[str]) -> dict[str, Turn]:
        """The turn of each slice that needs one. A slice whose level is not known counts as watched."""
        claims = list(_claims(uuid, self._store))
        kept = {claim.id: self._level_of(claim.id) or LEVEL_WATCH for claim in claims}
        in_turns, under_mps = turns(claims, wanting), throttles(claims, wanting)
        watched = {id_: in_turns[id_] for id_, level in kept.items() if level in BY_TURNS}
        return watched | {id_: under_mps[id_] for id_, level in kept.items() if level == LEVEL_MPS}

    def _wanting(self, uuid: str, pids: Mapping[str, Sequence[int]]) -> set[str]:
        """A slice whose word cannot be read has work: what it asked for is not lent to others."""
        now = self._clock_ns()
        found = set()
        for item in self._store:
            place = next((place for place, share in enumerate(item.shares) if share.uuid == uuid), None)
            if place is None or item.id not in pids:
                continue
            # Its processes share the file, so the first that leads to it is enough.
            told = (self._works(pid) for pid in pids[item.id])
            until = next((words[place] for words in told if words is not None), None)
            if until is None or until + IDLE_NS > now:
                found.add(item.id)
        return found

    def _write_page(self, item: Slice, own: Mapping[int, Turn]) -> bool:
        try:
            write_turns(self._store.folder(item.id) / PACE, own)
        except FileNotFoundError:
            return False  # being prepared or released
        except OSError as error:
            log.warning("turns not written", slice=item.id, error=str(error))
            return False
        return True


def _pids(usages: Iterable[Usage]) -> dict[str, list[int]]:
    """The processes of each slice that have a context on any of its GPUs. Read once, on the loop's own thread."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    for usage in usages:
        for id_ in usage.slices:
            found[id_] += [client.process.pid for client in usage.clients]
    return dict(found)


def _claims(uuid: str, slices: Iterable[Slice]) -> Iterator[Claim]:
    for item in slices:
        for share in item.shares:
            if share.uuid == uuid and not share.whole:
                yield Claim(item.id, share.core_percent, _limit(item, share), item.qos)


def _limit(item: Slice, share: Share) -> int:
    """A slice's limit is in total over its GPUs, which have equal parts of it."""
    return item.core_limit_percent // len(item.shares)
