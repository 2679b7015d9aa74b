"""The room that GPULeases keep, in the ledger.

A lease's slice is charged under a key of its own (``GpuLease.hold``) from the moment that it is promised to the
client's pod, and then for as long as the GPULease is there, but for the time in which an executor of that lease holds
the very slice: then only the executor's own charge counts. What a pod holds is taken and given back here, so that no
moment lies between the two.

The slice that a lease moves to is a second room of the same kind (``GpuLease.target_hold``): charged from the moment
that it is aimed at, before it is written, for as long as the GPULease names it. A standing lease, which has no room at
first, comes to its first slice in the same way.

A pod that uses a standing lease is promised that lease, which keeps its room whoever uses it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from tessera.model.charges import Charge
from tessera.model.gpu_leases import GpuLease, Slice, first_hold_of, target_hold_of
from tessera.model.hosts import NOTHING
from tessera.model.ledger import Ledger
from tessera.model.pods import Pod
from tessera.reasons import Code, Reason
from tessera.scheduler.aims import Aims
from tessera.scheduler.lease_rooms import LeaseRooms, lease_charge
from tessera.scheduler.options import PoolOptions
from tessera.scheduler.servers import LeaseId, Servers
from tessera.scheduler.ways import Given


def _nothing_heard(_: str) -> None: ...


class Leases:
    """``freed`` hears of nodes on which room is free again. Without ``pool`` no pod is an executor."""

    def __init__(
        self, ledger: Ledger, pool: PoolOptions | None = None, freed: Callable[[str], None] = _nothing_heard
    ) -> None:
        self.ledger, self._pool = ledger, pool
        self._use(Servers(pool), freed)
        self._known: dict[str, GpuLease] = {}
        self._unseen: dict[str, float] = {}
        self._removed: dict[str, float] = {}
        self._held: dict[str, str] = {}
        self._promised: dict[str, tuple[GpuLease, ...]] = {}
        self._made: set[str] = set()
        self._users: dict[str, str] = {}
        self._aims = Aims()
        self._load: Counter[str] = Counter()

    def copy(self) -> "Leases":
        """The same facts and promises over a copy of the ledger, of which nobody hears."""
        other = Leases(self.ledger.copy(), self._pool)
        other._known, other._held = self._known.copy(), self._held.copy()
        other._made, other._aims = self._made.copy(), self._aims.copy()
        other._promised, other._load, other._users = self._promised.copy(), self._load.copy(), self._users.copy()
        other._use(self._servers.copy(), _nothing_heard)
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
        self._aims.observe(lease)
        self._count(lease, +1)
        self._settle(lease.hold)
        if lease.free and (known is None or not known.free or known.slice != lease.slice):
            self._freed(lease.node)  # who waits for it may have it

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
        leases = self._promised.get(uid, ())
        if any(self.taken(lease, uid) for lease in leases):
            return False
        promised = ((lease.hold, lease_charge(lease)) for lease in leases if not lease.standing)
        return all(self.ledger.reserve(key, held) is None for key, held in ((uid, charge), *promised))

    def release(self, uid: str) -> set[str]:
        """The pod holds nothing and is promised nothing any more; answers the nodes on which room may be free."""
        charge = self.ledger.release(uid)
        nodes = {charge.node} if charge else set()
        nodes |= self._break_promise(uid)
        self._stop_serving(uid)
        return nodes

    # Moves

    def aim(self, lease: GpuLease, where: Slice, domain: str = "") -> Reason | None:
        """Takes the room at ``where`` for ``lease``, which moves nowhere yet, before it is written; else says why not.

        It is kept until the lease shows it as its target, or until ``miss``. ``domain``: the trust domain of a lease
        that has none yet.
        """
        self._aims.take(lease, where, domain)
        if reason := self.ledger.reserve(lease.target_hold, self._aims.charge(lease, where)):
            self._aims.drop(lease)
            return reason
        self._rooms.occupy(lease.target_hold, where.node)
        return None

    def miss(self, lease: GpuLease) -> None:
        """What ``lease`` was aimed at is not to become its target any more."""
        if self._aims.drop(lease):
            self._settle(lease.hold)

    def target(self, lease: GpuLease) -> Slice | None:
        """The slice that ``lease`` moves to, written or about to be."""
        known = self._known.get(lease.key)
        if known is None or known.uid != lease.uid:
            return None
        return known.target or self._aims.of(lease)

    def aims_at(self, lease: GpuLease, where: Slice) -> bool:
        """Whether the room at ``where`` is still kept for a write that no news has shown yet."""
        return self._aims.of(lease) == where

    # Questions

    def of_executor(self, pod: Pod) -> GpuLease | None:
        """The lease that ``pod`` is an executor of."""
        lease_id = self.served_by(pod)
        return self._lease(lease_id) if lease_id else None

    def served_by(self, pod: Pod) -> LeaseId | None:
        """The lease that ``pod`` says it serves, if it is one of the pool's own pods."""
        return self._servers.served_by(pod)

    def promised(self, uid: str) -> tuple[GpuLease, ...]:
        """The leases by which the pod ``uid``, once bound, is to hold its slices."""
        return self._promised.get(uid, ())

    def user(self, lease: GpuLease) -> str:
        """UID of the pod that uses ``lease``, or is promised it; empty where none does."""
        known = self._known.get(lease.key)
        return (known.pod_uid if known else "") or self._users.get(lease.uid, "")

    def taken(self, lease: GpuLease, uid: str) -> bool:
        """Whether it is a standing one that another pod than ``uid`` uses, or is promised."""
        return lease.standing and self.user(lease) not in ("", uid)

    def at(self, hold: str) -> GpuLease | None:
        """The lease whose first room has this key (``GpuLease.hold``)."""
        key = self._held.get(hold)
        return self._known[key] if key else None

    def behind(self, key: str) -> GpuLease | None:
        """The lease whose room is charged under ``key``: by itself, or as its executor's."""
        served = self._servers.lease_of(key)
        return self._lease(served) if served else self.at(first_hold_of(key))

    def named(self, key: str) -> GpuLease | None:
        """By NAMESPACE/NAME."""
        return self._known.get(key)

    def spread(self, lease: GpuLease) -> set[str]:
        """The nodes on which ``lease`` has room, or its executors do."""
        charges = (self.ledger.charge_of(uid) for uid in self._servers.of(lease))
        target = self.target(lease)
        rooms = (lease.slice, target)
        return {room.node for room in rooms if room and room.node} | {charge.node for charge in charges if charge}

    def nodes_of(self, uid: str) -> set[str]:
        """Where the pod ``uid`` holds room or is promised some."""
        charge = self.ledger.charge_of(uid)
        return {lease.node for lease in self.promised(uid)} | ({charge.node} if charge else set())

    def load(self) -> Mapping[str, int]:
        """How many leases each node has a part in, as the client's, as the GPU's or as the next GPU's."""
        return self._load

    def all(self) -> Iterable[GpuLease]:
        return self._known.values()

    # Inner workings

    def _use(self, servers: Servers, freed: Callable[[str], None]) -> None:
        need = self._pool.executor if self._pool else NOTHING
        self._servers, self._rooms, self._freed = servers, LeaseRooms(self.ledger, servers, need, freed), freed

    def _promise(self, uid: str, given: Given) -> Reason | None:
        if other := next((lease for lease in given.leases if self.taken(lease, uid)), None):
            self.ledger.release(uid)
            return Reason(Code.REMOTE_UNAVAILABLE, f"GPULease {other.key} is used by another pod")
        new = [lease for lease in given.leases if not lease.standing]
        for count, lease in enumerate(new):
            if reason := self.ledger.reserve(lease.hold, lease_charge(lease)):
                for taken in new[:count]:
                    self.ledger.release(taken.hold)
                self.ledger.release(uid)
                return reason
        if given.leases:
            self._promised[uid] = given.leases
        for lease in new:
            self._rooms.occupy(lease.hold, lease.node)
            self._count(lease, +1)
        self._users.update({lease.uid: uid for lease in given.leases if lease.standing})
        return None

    def _break_promise(self, uid: str) -> set[str]:
        leases = self._promised.pop(uid, ())
        for lease in leases:
            if lease.standing:
                self._users.pop(lease.uid, None)
                continue
            self._made.discard(lease.hold)
            self._count(lease, -1)
            self._settle(lease.hold)
        return {each.node for each in leases if each.standing or self.ledger.charge_of(each.hold) is None}

    def _drop(self, lease: GpuLease) -> None:
        del self._known[lease.key]
        if self._held.get(lease.hold) == lease.key:
            del self._held[lease.hold]
        self._unseen.pop(lease.key, None)
        self._aims.drop(lease)
        self._count(lease, -1)
        self._settle(lease.hold)

    def _own(self, pod: Pod) -> str:
        """The key of the room that the executor ``pod`` may take, because it is kept for it; empty if there is none."""
        lease = self.of_executor(pod)
        if lease is None:
            return ""
        return lease.target_hold if pod.lease_slice else lease.hold

    def _start_serving(self, pod: Pod) -> None:
        self._settle_served(self._servers.start(pod))

    def _stop_serving(self, uid: str) -> None:
        self._settle_served(self._servers.stop(uid))

    def _lease(self, lease_id: LeaseId) -> GpuLease | None:
        lease = self._known.get(lease_id[0])
        return lease if lease is not None and lease.uid == lease_id[1] else None

    def _settle_served(self, lease_id: LeaseId | None) -> None:
        lease = self._lease(lease_id) if lease_id else None
        if lease is not None:
            self._settle(lease.hold)

    def _settle(self, hold: str) -> None:
        """Makes the charges of both rooms what the lease, its executors and the promises make them."""
        known = self.at(hold)
        lease = known or self._promised_as(hold)
        self._rooms.settle(hold, known, lease_charge(lease) if lease and lease.placed else None)
        target = self.target(known) if known else None
        self._rooms.settle(target_hold_of(hold), known, self._aims.charge(known, target) if known and target else None)

    def _promised_as(self, hold: str) -> GpuLease | None:
        """The lease that was promised there and is not made yet."""
        leases = self._promised.get(hold.partition("/")[0], ()) if hold not in self._made else ()
        return next((lease for lease in leases if lease.hold == hold), None)

    def _count(self, lease: GpuLease, sign: int) -> None:
        parts = (lease.slice, lease.target, lease.client)
        for node in {part.node for part in parts if part and part.node}:
            self._load[node] += sign
            if not self._load[node]:
                del self._load[node]
