"""Who holds slices, as preemption needs to know them: what may be asked to leave, and what is leaving already.

Fed with the pods that the API server shows, after the engine was. A pod whose slices are on other nodes holds room
there, by its leases and their executors: it is a holder on those nodes, and its executors are none. Once it is gone,
its leases are on their way out, and their room with them. The room of a standing lease is nobody's who could be asked
to leave: it stays when the pod that uses it goes. The shares of GPUs are kept as arrays for each node, made anew only
where something has changed, so that all nodes can be compared at once.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from sys import intern

import numpy as np

from tessera.kube.reflector import Deleted, Listed, Replaced, Told, Upserted
from tessera.model.gpu_leases import GpuLease
from tessera.model.ledger import Bools, Ints
from tessera.model.pods import Pod
from tessera.scheduler.lease_rooms import is_hold
from tessera.scheduler.leases import Leases

STUCK_S = 60.0
"""How long past its grace period a pod counts as leaving; after that nobody waits for its room."""


Rooms = Mapping[str, Collection[str]]
"""The ledger's keys of room on one node, by the UID of the pod whose slices it is."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A bound pod with slices, but no executor: when that goes, its room is its lease's.

    ``node`` is the pod's own; ``leases`` (NAMESPACE/NAME) say where its slices are if they are not there.
    ``leaving_from``: the clock when its deletion was first seen, ``None`` if it stays.
    """

    uid: str
    namespace: str
    name: str
    node: str
    priority: int
    started: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    preempted_for: str = ""
    leaving_from: float | None = None
    grace_s: int = 0
    leases: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Shares:
    """Every share of a GPU that a holder has: parallel arrays; ``holder`` counts into ``holders``.

    ``stays`` is false where the holder's deletion was asked for; ``domain`` is the ledger's number of its trust domain.
    """

    holders: list[Holder]
    holder: Ints
    priority: Ints
    row: Ints
    column: Ints
    mem_bytes: Ints
    percent: Ints
    whole: Bools
    stays: Bools
    domain: Ints


@dataclass(frozen=True, slots=True)
class _Block:
    """The shares of one node, ``[share, field]``: holder, column, bytes, percent, whole, priority, whether it stays,
    trust domain. Good for as long as the node's row of the ledger has that ``version``."""

    version: int
    holders: list[Holder]
    fields: Ints


_FIELDS = 8
_NO_FIELDS = np.zeros((0, _FIELDS), np.int64)


class Holders:
    """``clock`` answers seconds that never go back."""

    def __init__(self, leases: Leases, clock: Callable[[], float]) -> None:
        self._leases, self._ledger, self._clock = leases, leases.ledger, clock
        self._known: dict[str, Holder] = {}
        self._ended: dict[str, float] = {}
        self._priorities: Counter[int] = Counter()
        self._departing: dict[str, None] = {}
        self._told: dict[str, str] = {}
        self._blocks: dict[str, _Block] = {}

    def observe(self, change: Told[Pod]) -> None:
        """Takes one change of the pods, after the engine has."""
        match change:
            case Replaced(objects):
                listed = {pod.uid: pod for pod in objects}
                self._list(listed.values(), listed.keys())
            case Listed(objects, uids):
                self._list(objects, uids)
            case Upserted(pod):
                self._observe(pod)
            case Deleted(gone):
                self._forget(gone.uid)

    def get(self, uid: str) -> Holder | None:
        return self._known.get(uid)

    def on(self, node: str) -> Iterator[Holder]:
        """Who has room there, also who has gone and whose leases have not yet."""
        return self.among(self.rooms(node))

    def among(self, rooms: Rooms) -> Iterator[Holder]:
        """The same, of the ``rooms`` of a node."""
        for uid, keys in rooms.items():
            holder = self._known.get(uid) or self._gone(uid, keys)
            if holder is not None:
                yield holder

    def rooms(self, node: str) -> Rooms:
        """All room that is charged on ``node``."""
        found: dict[str, list[str]] = {}
        for key, _ in self._ledger.charges_on(node):
            found.setdefault(self.owner(key), []).append(key)
        return found

    def owner(self, key: str) -> str:
        """UID of the pod whose slices are charged under ``key``: of an executor's, or a lease's, the client's.

        Of a standing lease's it is no pod's.
        """
        lease = self._leases.behind(key)
        if lease is None:
            return key
        return lease.hold if lease.standing else lease.pod_uid

    def pods_of(self, holder: Holder, node: str) -> list[str]:
        """UIDs of the pods by which ``holder`` has room on ``node``: itself, or its executors if there are any."""
        return [key for key in self.rooms(node).get(holder.uid, ()) if not is_hold(key)]

    def nodes_of(self, holder: Holder) -> set[str]:
        """Where ``holder`` has room."""
        leases = filter(None, map(self._leases.named, holder.leases))
        return {holder.node}.union(*map(self._leases.spread, leases))

    def any_below(self, priority: int) -> bool:
        """Whether any pod that holds slices has a lower priority."""
        return any(found < priority for found in self._priorities)

    def leaving(self, holder: Holder) -> bool:
        """Whether its room will be free without anybody's doing, within its grace period and a minute."""
        since = holder.leaving_from
        return since is not None and self._clock() <= since + holder.grace_s + STUCK_S

    def departing(self) -> set[str]:
        """The nodes with room of pods whose deletion was asked for, also if they are stuck in it, or that are gone."""
        gone = (lease for lease in self._leases.all() if self._left(lease))
        return set[str]().union(
            *(self.nodes_of(self._known[uid]) for uid in self._departing), *map(self._leases.spread, gone)
        )

    def _left(self, lease: GpuLease) -> bool:
        """Whether the pod that ``lease`` was made for is gone, so that it goes too."""
        return not lease.standing and self._ledger.charge_of(lease.pod_uid) is None

    def preempted_for(self, uid: str) -> list[Holder]:
        """The pods that were told to give way to the pod ``uid``."""
        return [self._known[each] for each, whom in self._told.items() if whom == uid]

    def stale(self) -> list[str]:
        """The nodes whose arrays ``shares`` would have to make anew."""
        return [node for node in self._ledger.charged() if not self._fresh(node)]

    def refresh(self, node: str) -> None:
        """Makes the arrays of ``node`` anew, if it has published GPUs."""
        row = self._ledger.row(node)
        if row is not None:
            self._blocks[node] = self._build(node, row)

    def shares(self) -> Shares:
        """Of all nodes that have published GPUs, in the order of nothing in particular."""
        for node in self.stale():
            self.refresh(node)
        charged = ((self._ledger.row(node), node) for node in self._ledger.charged())
        found = [(row, self._blocks[node]) for row, node in charged if row is not None]
        holders = [holder for _, block in found for holder in block.holders]
        lengths = np.array([len(block.fields) for _, block in found], np.int64)
        before = np.cumsum([0, *(len(block.holders) for _, block in found)])[:-1]
        fields = np.concatenate([_NO_FIELDS, *(block.fields for _, block in found)])
        holder, column, mem, percent, whole, priority, stays, domain = fields.T
        rows = np.repeat(np.array([row for row, _ in found], np.int64), lengths)
        holder = holder + np.repeat(before, lengths)
        return Shares(
            holders,
            holder,
            priority,
            rows,
            column,
            mem,
            percent,
            whole.astype(np.bool_),
            stays.astype(np.bool_),
            domain,
        )

    def _list(self, pods: Iterable[Pod], uids: AbstractSet[str] | None) -> None:
        """A part of a list; what is not among ``uids``, which come with the last, is gone."""
        for pod in pods:
            self._observe(pod)
        if uids is not None:
            for uid in self._known.keys() - uids:
                self._forget(uid)

    def _observe(self, pod: Pod) -> None:
        before = self._known.get(pod.uid)
        charge = self._ledger.charge_of(pod.uid)
        if not pod.node or pod.ended or pod.lease or charge is None:
            self._forget(pod.uid)
            return
        since = None
        if pod.deleting:
            since = self._clock() if before is None or before.leaving_from is None else before.leaving_from
        holder = Holder(
            pod.uid, intern(pod.namespace), pod.name, pod.node, pod.priority, pod.started,
            pod.labels, pod.preempted_for, since, pod.grace_s,
            tuple(f"{pod.namespace}/{name}" for _, name in (charge.assignment.leases if charge.assignment else ())),
        )  # fmt: skip
        if before is not None:
            if holder == before:
                return
            self._forget(pod.uid)
        self._known[pod.uid] = holder
        self._priorities[pod.priority] += 1
        if pod.deleting:
            self._departing[pod.uid] = None
        if pod.preempted_for:
            self._told[pod.uid] = pod.preempted_for
        self._spoil(holder)

    def _forget(self, uid: str) -> None:
        holder = self._known.pop(uid, None)
        if holder is None:
            return
        self._departing.pop(uid, None)
        self._told.pop(uid, None)
        self._priorities[holder.priority] -= 1
        if not self._priorities[holder.priority]:
            del self._priorities[holder.priority]
        self._spoil(holder)

    def _gone(self, uid: str, keys: Collection[str]) -> Holder | None:
        """The pod ``uid``, which has ended or is gone, by the lease that it has left; ``None`` if it is to come."""
        lease = next(filter(None, map(self._leases.behind, keys)), None)
        if lease is None or lease.client is None or not self._left(lease):
            return None
        if uid not in self._ended:
            left = {each.pod_uid for each in self._leases.all()}
            self._ended = {known: since for known, since in self._ended.items() if known in left}
            self._ended[uid] = self._clock()
        return Holder(uid, lease.namespace, lease.client.pod, lease.client.node, 0, leaving_from=self._ended[uid])

    def _spoil(self, holder: Holder) -> None:
        for node in self.nodes_of(holder):
            self._blocks.pop(node, None)

    def _fresh(self, node: str) -> bool:
        block, row = self._blocks.get(node), self._ledger.row(node)
        return row is None or (block is not None and block.version == self._ledger.version[row])

    def _build(self, node: str, row: int) -> _Block:
        columns, rooms = self._ledger.columns(node), self.rooms(node)
        holders = [self._known[uid] for uid in rooms if uid in self._known]
        fields = [
            (index, columns[share.uuid], share.mem_bytes, share.core_percent, share.whole, holder.priority,
             holder.leaving_from is None, self._ledger.number_of(charge.domain) if self._ledger.separate else 0)
            for index, holder in enumerate(holders)
            for charge in filter(None, map(self._ledger.charge_of, rooms[holder.uid]))
            if charge.assignment is not None
            for share in charge.assignment.shares
            if share.uuid in columns
        ]  # fmt: skip
        return _Block(int(self._ledger.version[row]), holders, np.array(fields, np.int64).reshape(-1, _FIELDS))
