"""Which of this machine's GPUs a lease gets. Pure.

The fullest that still has room, so that large leases find room later; among equals the first in the driver's order.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tessera.model.assignment import Share
from tessera.model.demands import ContainerDemand
from tessera.model.gpus import Gpu
from tessera.model.placements import Preferences
from tessera.model.quantities import format_bytes
from tessera.model.spans import spans
from tessera.node_agent.slices import Slice
from tessera.reasons import Code, Reason


@dataclass(frozen=True, slots=True)
class Room:
    """What the slices on a GPU leave."""

    gpu: Gpu
    mem_bytes: int
    core_percent: int
    shared: bool

    def lacks(self, demand: ContainerDemand, wanted: Preferences, min_level: int) -> str:
        """Why ``demand`` finds no room here; empty: it does."""
        if not self.gpu.health.healthy:
            return f"unhealthy, {self.gpu.health.reason}"
        if not wanted.admits(self.gpu):
            return "not a GPU that was asked for"
        if self.gpu.level < min_level:
            return f"enforcement level {self.gpu.level}"
        if demand.whole and self.shared:
            return "shared"
        return self._short(demand)

    def _short(self, demand: ContainerDemand) -> str:
        asked = demand.mem_on(self.gpu)
        if asked < demand.least_bytes:
            return f"{format_bytes(asked)} is less than {format_bytes(demand.least_bytes)}, which a context takes"
        if asked > self.mem_bytes:
            return f"{format_bytes(self.mem_bytes)} free"
        return f"{self.core_percent} percent free" if demand.core_percent > self.core_percent else ""


def choose(
    gpus: Iterable[Gpu], slices: Iterable[Slice], demand: ContainerDemand, wanted: Preferences, min_level: int
) -> tuple[Share, ...] | Reason:
    """A share of as many GPUs as ``demand`` asks for."""
    prepared = [share for item in slices for share in item.shares]
    rooms = [_room(gpu, [share for share in prepared if share.uuid == gpu.uuid]) for gpu in gpus]
    lacking = [(room, room.lacks(demand, wanted, min_level)) for room in rooms]
    fitting = sorted((room for room, lack in lacking if not lack), key=lambda r: (r.mem_bytes, r.core_percent))
    if len(fitting) < demand.gpus:
        return _no_room(demand, [f"{room.gpu.uuid}: {lack}" for room, lack in lacking if lack])
    together = _together(fitting, demand.gpus) if demand.in_one_span(min_level) else fitting
    if together is None:
        return _no_room(demand, [f"{room.gpu.uuid}: too few with room in its MPS group" for room in fitting])
    return tuple(_share(room.gpu, demand) for room in together[: demand.gpus])


def _together(rooms: Sequence[Room], count: int) -> Sequence[Room] | None:
    """The first ``count`` or more of ``rooms`` that hold one slice together, if there are so many."""
    numbers = spans([room.gpu for room in rooms])
    parts = [
        [room for room, own in zip(rooms, numbers, strict=True) if own == number] for number in dict.fromkeys(numbers)
    ]
    return next((part for part in parts if len(part) >= count), None)


def _room(gpu: Gpu, shares: Sequence[Share]) -> Room:
    if any(share.whole for share in shares):
        return Room(gpu, 0, 0, shared=True)
    memory = gpu.mem_bytes - sum(share.mem_bytes for share in shares)
    return Room(gpu, max(memory, 0), 100 - sum(share.core_percent for share in shares), shared=bool(shares))


def _share(gpu: Gpu, demand: ContainerDemand) -> Share:
    return Share(gpu.uuid, demand.mem_on(gpu), demand.core_percent, demand.whole)


def _no_room(demand: ContainerDemand, lacks: Sequence[str]) -> Reason:
    if demand.whole:
        asked = "a whole GPU"
    else:
        memory = format_bytes(demand.mem_bytes) if demand.mem_bytes else f"{demand.core_percent} percent of the memory"
        asked = f"{memory} and {demand.core_percent} percent" if demand.core_percent else memory
    each = f"on each of {demand.gpus} GPUs" if demand.gpus > 1 else "on a GPU"
    return Reason(Code.NO_ROOM, f"no room for {asked} {each} of this machine ({'; '.join(lacks) or 'it has none'})")
