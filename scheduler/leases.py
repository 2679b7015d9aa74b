"""The room that GPULeases keep, in the ledger.

A lease's slice is charged under a key of its own (``GpuLease.hold``) from the moment that it is promised to the
client's pod, and then for as long as the GPULease is there, but for the time in which an executor of that lease holds
the very slice: then only the executor's own charge counts. What a pod holds is taken and given back here, so that no
moment lies between the two.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from tessera.model import names
from tessera.model.assignment import Assignment
from tessera.model.charges import Charge, Totals
from tessera.model.gpu_leases import GpuLease
from tessera.model.hosts import NOTHING, HostNeed
from tessera.model.ledger import Ledger
from tessera.model.pods import Pod
from tessera.reasons import Reason
from tessera.scheduler.options import PoolOptions
from tessera.scheduler.ways import Given

LeaseId = tuple[str, str]
"""NAMESPACE/NAME and UID."""


def lease_charge(lease: GpuLease) -> Charge:
    """The room that ``lease`` keeps for its executor."""
    totals = Totals(lease.share.mem_bytes, lease.share.core_percent, 0, 1)
    assignment = Assignment(((lease.client.container, (lease.share,)),), lease.domain)
    return Charge(lease.node, totals, assignment, lease.namespace)


def is_hold(uid: str) -> bool:
    """Whether a key of the ledger's is a lease's, no pod's."""
    return "/" in uid


def _nothing_heard(_: str) -> None: ...


class Leases:
    """``freed`` hears of nodes on which room is free again. Without ``pool`` no pod is an executor."""

    def __init__(
        self, ledger: Ledger, pool: PoolOptions | None = None, freed: Callable[[str], None] = _nothing_heard
    ) -> None:
        self.ledger, self._pool, self._freed = ledger, pool, freed
        self._known: dict[str, GpuLease] = {}
        self._unseen: dict[str, float] = {}
        self._removed: dict[str, float] = {}
        self._held: dict[str, str] = {}
        self._promised: dict[str, tuple[GpuLease, ...]] = {}
        self._made: set[str] = set()
        self._serves: dict[str, LeaseId] = {}
        self._servers: dict[LeaseId, set[str]] = {}
        self._load: Counter[str] = Counter()

    def copy(self) -> "Leases":
        """The same facts and promises over a copy of the ledger, of which nobody hears."""
        other = Leases(self.ledger.copy(), self._pool)
        other._known, other._held = self._known.copy(), self._held.copy()
        other._made = self._made.copy()
        other._promised, other._serves, other._load = self._promised.copy(), self._serves.copy(), self._load.copy()
        other._servers = {lease: uids.copy() for lease, uids in self._servers.items()}
        return other

    # Facts

    def observe(self, lease: GpuLease, unseen_until: float | None = None) -> None:
        """A lease as the API server shows it; with a time one just made, which no list need show until then."""
        if lease.uid in self._removed:
            return
        known = self._known.get(lease.key)
        if known is not None and known.uid != lease.uid:
            self._drop(known)
            known = None
        if unseen_until is None:
            self._unseen.pop(lease.key, None)
        elif known is None:
            self._unseen[lease.key] = unseen_until
        if known is not None:
            self._count(known, -1)
        self._known[lease.key] = lease
        self._held[lease.hold] = lease.key
        if self._promised_as(lease.hold):
            self._made.add(lease.hold)  # from now on the room is the lease's, and goes with it
        self._count(lease, +1)
        self._settle(lease.hold)

    def forget(self, lease: GpuLease, told_until: float | None = None) -> None:
        """That very lease is gone; with a time one that was just removed, of which old news may come until then."""
        if told_until is not None:
            self._removed[lease.uid] = told_until
        else:
            self._removed.pop(lease.uid, None)
        known = self._known.get(lease.key)
        if known is not None and known.uid == lease.uid:
            self._drop(known)

    def replace(self, leases: Iterable[GpuLease]) -> None:
        """All leases at once; one made since the list was asked for need not be among them."""
        listed = {lease.key: lease for lease in leases}
        for key in [key for key in self._known if key not in listed and key not in self._unseen]:
            self._drop(self._known[key])
        for lease in listed.values():
            self.observe(lease)

    def seen(self, lease: GpuLease) -> None:
        """It was looked up, and is there."""
        known = self._known.get(lease.key)
        if known is not None and known.uid == lease.uid:
            self._unseen.pop(lease.key, None)

    def late(self, now: float) -> list[GpuLease]:
        """Those that were made and not shown in time, for the caller to look up."""
        self._removed = {uid: until for uid, until in self._removed.items() if until > now}
        return [self._known[key] for key, until in self._unseen.items() if until <= now]

    def bound(self, pod: Pod, charge: Charge) -> None:
        """A pod holds ``charge``; what it was promised is its leases' by now."""
        self._stop_serving(pod.uid)
        self.ledger.charge(pod.uid, charge)
        self._start_serving(pod)
        self._break_promise(pod.uid)

    # Promises

    def reserve(self, pod: Pod, given: Given) -> Reason | None:
        """Takes all of ``given`` for ``pod`` if it fits now; else nothing is taken, and why."""
        own = self._own(pod)
        kept = self.ledger.release(own) if own else None
        reason = self.ledger.reserve(pod.uid, given.charge) or self._promise(pod.uid, given)
        if own and kept is not None:
            self.ledger.charge(own, kept)
        if reason is None:
            self._start_serving(pod)
        return reason

    def refusal(self, pod: Pod, charge: Charge) -> Reason | None:
        """Why ``pod``, which holds nothing yet, could not be given ``charge`` now; changes nothing."""
        own = self._own(pod)
        kept = self.ledger.release(own) if own else None
        reason = self.ledger.refusal(charge)
        if own and kept is not None:
            self.ledger.charge(own, kept)
        return reason

    def confirms(self, uid: str, charge: Charge) -> bool:
        """Whether what the pod is promised, ``charge`` and its leases, may still be given."""
        promised = ((lease.hold, lease_charge(lease)) for lease in self._promised.get(uid, ()))
        return all(self.ledger.reserve(key, held) is None for key, held in ((uid, charge), *promised))

    def release(self, uid: str) -> set[str]:
        """The pod holds nothing and is promised nothing any more; answers the nodes on which room may be free."""
        charge = self.ledger.release(uid)
        nodes = {charge.node} if charge else set()
        nodes |= self._break_promise(uid)
        self._stop_serving(uid)
        return nodes

    # Questions

    def of_executor(self, pod: Pod) -> GpuLease | None:
        """The lease that ``pod`` is an executor of."""
        lease_id = self.served_by(pod)
        return self._lease(lease_id) if lease_id else None

    def served_by(self, pod: Pod) -> LeaseId | None:
        """The lease that ``pod`` says it serves, if it is one of the pool's own pods."""
        pool = self._pool
        if pool is None or not pod.lease or (pod.namespace, pod.account) != (pool.namespace, pool.account):
            return None
        return pod.lease, pod.labels.get(names.LEASE_UID, "")

    def promised(self, uid: str) -> tuple[GpuLease, ...]:
        """The leases by which the pod ``uid``, once bound, is to hold its slices."""
        return self._promised.get(uid, ())

    def at(self, hold: str) -> GpuLease | None:
        """The lease of a container: POD-UID/CONTAINER."""
        key = self._held.get(hold)
        return self._known[key] if key else None

    def nodes_of(self, uid: str) -> set[str]:
        """Where the pod ``uid`` holds room or is promised some."""
        charge = self.ledger.charge_of(uid)
        return {lease.node for lease in self.promised(uid)} | ({charge.node} if charge else set())

    def load(self) -> Mapping[str, int]:
        """How many leases each node has a part in, as the client's or as the GPU's."""
        return self._load

    def all(self) -> Iterable[GpuLease]:
        return self._known.values()

    # Inner workings

    def _promise(self, uid: str, given: Given) -> Reason | None:
        for count, lease in enumerate(given.leases):
            if reason := self.ledger.reserve(lease.hold, lease_charge(lease)):
                for taken in given.leases[:count]:
                    self.ledger.release(taken.hold)
                self.ledger.release(uid)
                return reason
        if given.leases:
            self._promised[uid] = given.leases
        for lease in given.leases:
            self.ledger.occupy(lease.hold, lease.node, self._executor_need)
            self._count(lease, +1)
        return None

    def _break_promise(self, uid: str) -> set[str]:
        leases = self._promised.pop(uid, ())
        for lease in leases:
            self._made.discard(lease.hold)
            self._count(lease, -1)
            self._settle(lease.hold)
        return {lease.node for lease in leases if self.ledger.charge_of(lease.hold) is None}

    def _drop(self, lease: GpuLease) -> None:
        del self._known[lease.key]
        if self._held.get(lease.hold) == lease.key:
            del self._held[lease.hold]
        self._unseen.pop(lease.key, None)
        self._count(lease, -1)
        self._settle(lease.hold)

    def _own(self, pod: Pod) -> str:
        """The key of the room that the executor ``pod`` may take, because it is kept for it; empty if there is none."""
        lease = self.of_executor(pod)
        return lease.hold if lease else ""

    def _start_serving(self, pod: Pod) -> None:
        lease_id = self.served_by(pod)
        if lease_id is not None:
            self._serves[pod.uid] = lease_id
            self._servers.setdefault(lease_id, set()).add(pod.uid)
            self._settle_served(lease_id)

    def _stop_serving(self, uid: str) -> None:
        lease_id = self._serves.pop(uid, None)
        if lease_id is not None:
            self._servers[lease_id].discard(uid)
            if not self._servers[lease_id]:
                del self._servers[lease_id]
            self._settle_served(lease_id)

    def _lease(self, lease_id: LeaseId) -> GpuLease | None:
        lease = self._known.get(lease_id[0])
        return lease if lease is not None and lease.uid == lease_id[1] else None

    def _settle_served(self, lease_id: LeaseId) -> None:
        lease = self._lease(lease_id)
        if lease is not None:
            self._settle(lease.hold)

    def _settle(self, hold: str) -> None:
        """Makes the charge under ``hold`` what the lease, its executors and the promise make it."""
        known = self.at(hold)
        lease = known or self._promised_as(hold)
        served = known is not None and self._is_served(known)
        wanted = None if lease is None or served else lease_charge(lease)
        charged = self.ledger.charge_of(hold)
        if wanted == charged:
            return
        if wanted is None:
            self.ledger.release(hold)
            self.ledger.vacate(hold)
        else:
            self.ledger.charge(hold, wanted)
            self.ledger.occupy(hold, wanted.node, self._executor_need)
        if charged is not None and not served:
            self._freed(charged.node)

    @property
    def _executor_need(self) -> HostNeed:
        return self._pool.executor if self._pool else NOTHING

    def _promised_as(self, hold: str) -> GpuLease | None:
        """The lease that was promised there and is not made yet."""
        leases = self._promised.get(hold.partition("/")[0], ()) if hold not in self._made else ()
        return next((lease for lease in leases if lease.hold == hold), None)

    def _is_served(self, lease: GpuLease) -> bool:
        """Whether an executor of ``lease`` holds the very slice."""
        charges = (self.ledger.charge_of(uid) for uid in self._servers.get((lease.key, lease.uid), ()))
        return any(
            charge.node == lease.node and lease.share in charge.assignment.shares
            for charge in charges
            if charge and charge.assignment
        )

    def _count(self, lease: GpuLease, sign: int) -> None:
        for node in (lease.node, lease.client.node):
            self._load[node] += sign
            if not self._load[node]:
                del self._load[node]
