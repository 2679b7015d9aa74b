"""Which GPULeases are to move to another slice, where to, and why one stays.

A lease moves where its users want another size, where its node is cordoned or its GPU is not well, and, once no
executor serves it, where its node takes no pods or is gone. It keeps its slice until it has moved, so there is room for
both at once. A standing lease that has no slice yet moves to its first; one that is stopped nowhere. Pure: reads the
ledger, changes nothing.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from tessera.model.demands import ContainerDemand, PodDemand
from tessera.model.gpu_leases import GpuLease, Phase, Size, Slice
from tessera.model.quantities import format_bytes
from tessera.reasons import Reason
from tessera.scheduler.lease_rooms import lease_charge
from tessera.scheduler.leases import Leases
from tessera.scheduler.placing import Placing

_UNSERVED = frozenset({Phase.PENDING, Phase.LOST, Phase.STOPPED})


class Kind(StrEnum):
    NEW = "new"
    STOP = "stop"
    RESIZE = "resize"
    CORDON = "cordon"
    HEALTH = "health"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a lease is to move, in words that follow a colon."""

    kind: Kind
    text: str


@dataclass(frozen=True, slots=True)
class Sight:
    """A lease as it was read just now: whether an executor serves it, whether it is on its way to another (it is not
    touched then), and what was said last of why it stays."""

    lease: GpuLease
    live: bool
    moving: bool = False
    unmoved: str = ""


@dataclass(frozen=True, slots=True)
class Aim:
    """It is to move to ``where``. ``domain``: the trust domain that a lease without room comes to."""

    where: Slice
    cause: Cause
    domain: str = ""


@dataclass(frozen=True, slots=True)
class Withdraw:
    """It is to move to its target no more."""

    cause: Cause


@dataclass(frozen=True, slots=True)
class Stay:
    """It is to move, and cannot."""

    cause: Cause


Decision = Aim | Withdraw | Stay | None
"""``None``: all is as it is to be."""


def sight_of(lease: GpuLease, endpoint: str, moving: bool, unmoved: str) -> Sight:
    """``endpoint``: where its executor is reached, empty without one."""
    live = lease.phase not in _UNSERVED and (lease.phase is not Phase.RESERVED or bool(endpoint))
    return Sight(lease, live, moving or lease.phase is Phase.RELEASED or lease.deleting, unmoved)


class Relocations:
    """``context_bytes``: the least memory of a slice. ``domain_of``: the trust domain of a namespace as it is now."""

    def __init__(
        self, leases: Leases, placing: Placing, domain_of: Callable[[str], str | Reason], context_bytes: int = 0
    ) -> None:
        self._leases, self._ledger, self._placing = leases, leases.ledger, placing
        self._domain_of, self._context = domain_of, context_bytes

    def pressing(self) -> Iterator[tuple[GpuLease, Cause]]:
        """The leases with which something may be to do, as far as the ledger tells, and what it is about."""
        for lease in self._leases.all():
            if lease.deleting or (lease.stopped and lease.target is None):
                continue
            must = self._fault(lease.slice, live=False)
            found = self._flaw(lease, must) if lease.target else must or _resize(lease)
            if found is not None:
                yield lease, found

    def decide(self, sight: Sight, demand: PodDemand | Reason | None, refused: str) -> Decision:
        """``demand`` says what is preferred, ``None`` if the client's pod is gone; ``refused`` why quotas forbid the
        growth."""
        lease = sight.lease
        must, resize = self._fault(lease.slice, sight.live), _resize(lease)
        if sight.moving:
            return None
        if lease.target is not None:
            flaw = self._flaw(lease, must)
            return Withdraw(flaw) if flaw else None
        if demand is None or lease.stopped or not (must or resize):
            return None
        tries = []
        if resize and lease.wanted:
            cause = resize if lease.placed or must is None else must
            tries.append((cause, lease.wanted, refused or self._too_small(lease.wanted)))
        if must and lease.placed:
            tries.append((must, lease.size, ""))
        return self._first(lease, demand, tries)

    def _first(self, lease: GpuLease, demand: PodDemand | Reason, tries: list[tuple[Cause, Size, str]]) -> Aim | Stay:
        """The first of ``tries`` that can be had."""
        found: list[str] = []
        for cause, size, why in tries:
            placed = why or self._place(lease, demand, size, cause)
            if isinstance(placed, Aim):
                return placed
            found.append(f"{cause.text}: {placed}")
        return Stay(Cause(tries[-1][0].kind, "; ".join(found)))

    def _place(self, lease: GpuLease, demand: PodDemand | Reason, size: Size, cause: Cause) -> Aim | str:
        domain = self._domain(lease)
        if isinstance(demand, Reason) or isinstance(domain, Reason):
            return next(found.text for found in (demand, domain) if isinstance(found, Reason))
        container = ContainerDemand(lease.what, 1, size.mem_bytes, size.core_percent)
        asked = replace(demand, containers=(container,), domain=domain)
        near = self._ledger.row(lease.client.node) if lease.client else None
        found = self._placing.place(self._ledger, asked, asked, near)
        if found is None or found == lease.slice:
            return self._placing.reason(self._ledger, asked, asked).text
        return Aim(found, cause, "" if lease.placed else domain)

    def _domain(self, lease: GpuLease) -> str | Reason:
        """It stays in the trust domain that it was placed in; one that has no room yet comes to its namespace's."""
        if not self._ledger.separate:
            return ""
        return lease_charge(lease).domain if lease.placed else self._domain_of(lease.namespace)

    def _too_small(self, wanted: Size) -> str:
        if wanted.mem_bytes >= self._context:
            return ""
        allowed = f"at least {format_bytes(self._context)}, which a program's context takes"
        return f"spec.wanted.memoryBytes: found {wanted.mem_bytes}; allowed: {allowed}"

    def _flaw(self, lease: GpuLease, must: Cause | None) -> Cause | None:
        """Why the target of ``lease`` is not, or not any more, what it is to move to."""
        target = lease.target
        if target is None:
            return None
        if lease.stopped:
            return Cause(Kind.STOP, "it is stopped")
        if fault := self._fault(target, live=False):
            return fault
        if target.size == lease.size:
            return None if must else Cause(Kind.CORDON, f"GPU {lease.share.uuid} of node {lease.node} is usable again")
        wanted = lease.wanted or lease.size
        return None if target.size == wanted else Cause(Kind.RESIZE, f"{size_words(wanted)} is wanted now")

    def _fault(self, where: Slice, live: bool) -> Cause | None:
        """Why a slice is not good there; one that is in use still is so where its node is merely not heard of."""
        ledger, node, uuid = self._ledger, where.node, where.share.uuid
        if not node:
            return Cause(Kind.NEW, "it has no slice yet")
        row, column, host = ledger.row(node), ledger.column(node, uuid), ledger.hosts().get(node)
        if host is not None and host.cordoned:
            return Cause(Kind.CORDON, f"node {node} is cordoned")
        if row is not None and column is not None and not ledger.healthy[row, column]:
            return Cause(Kind.HEALTH, f"GPU {uuid} of node {node} is unhealthy")
        if live:
            return None
        if row is None or (host is None and ledger.hosts()):
            return Cause(Kind.GONE, f"node {node} is gone")
        if column is None:
            return Cause(Kind.GONE, f"GPU {uuid} of node {node} is gone")
        return Cause(Kind.GONE, f"node {node} is not ready for pods") if host is not None and host.closed else None


def _resize(lease: GpuLease) -> Cause | None:
    if lease.wanted is None or lease.wanted == lease.size:
        return None
    return Cause(Kind.RESIZE, f"{size_words(lease.wanted)} is wanted")


def size_words(size: Size) -> str:
    """``8Gi``, or ``8Gi and 30%``."""
    return format_bytes(size.mem_bytes) + (f" and {size.core_percent}%" if size.core_percent else "")


def slice_words(where: Slice) -> str:
    """``8Gi of GPU-1 on node-1``."""
    return f"{size_words(where.size)} of {where.share.uuid} on {where.node}"
