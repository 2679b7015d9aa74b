"""Who holds slices, as preemption needs to know them: what may be asked to leave, and what is leaving already.

Fed with the pods that the API server shows, after the engine was. Their shares of GPUs are kept as arrays for each
node, made anew only where something has changed, so that all nodes can be compared at once.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from sys import intern

import numpy as np

from tessera.kube.reflector import Deleted, Listed, Replaced, Told, Upserted
from tessera.model.gpus import GpuNode
from tessera.model.ledger import Bools, Ints, Ledger
from tessera.model.pods import Pod

STUCK_S = 60.0
"""How long past its grace period a pod counts as leaving; after that nobody waits for its room."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A bound pod with slices, but no executor: when that goes, its room is its lease's.

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
    trust domain."""

    layout: GpuNode | None
    holders: list[Holder]
    fields: Ints


_FIELDS = 8
_NO_FIELDS = np.zeros((0, _FIELDS), np.int64)


class Holders:
    """``clock`` answers seconds that never go back."""

    def __init__(self, ledger: Ledger, clock: Callable[[], float]) -> None:
        self._ledger, self._clock = ledger, clock
        self._known: dict[str, Holder] = {}
        self._on_node: dict[str, dict[str, None]] = {}
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
        for uid in self._on_node.get(node, ()):
            yield self._known[uid]

    def any_below(self, priority: int) -> bool:
        """Whether any pod that holds slices has a lower priority."""
        return any(found < priority for found in self._priorities)

    def leaving(self, holder: Holder) -> bool:
        """Whether its room will be free without anybody's doing, within its grace period and a minute."""
        since = holder.leaving_from
        return since is not None and self._clock() <= since + holder.grace_s + STUCK_S

    def departing(self) -> list[Holder]:
        """All whose deletion was asked for, also those that are stuck in it."""
        return [self._known[uid] for uid in self._departing]

    def preempted_for(self, uid: str) -> list[Holder]:
        """The pods that were told to give way to the pod ``uid``."""
        return [self._known[each] for each, whom in self._told.items() if whom == uid]

    def stale(self) -> list[str]:
        """The nodes whose arrays ``shares`` would have to make anew."""
        return [node for node in self._on_node if not self._fresh(node)]

    def refresh(self, node: str) -> None:
        """Makes the arrays of ``node`` anew."""
        self._blocks[node] = self._build(node)

    def shares(self) -> Shares:
        """Of all nodes that have published GPUs, in the order of nothing in particular."""
        for node in self.stale():
            self.refresh(node)
        found = [(row, self._blocks[node]) for node in self._on_node if (row := self._ledger.row(node)) is not None]
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
        if not pod.node or pod.ended or pod.lease or self._ledger.charge_of(pod.uid) is None:
            self._forget(pod.uid)
            return
        since = None
        if pod.deleting:
            since = self._clock() if before is None or before.leaving_from is None else before.leaving_from
        holder = Holder(
            pod.uid, intern(pod.namespace), pod.name, pod.node, pod.priority, pod.started,
            pod.labels, pod.preempted_for, since, pod.grace_s,
        )  # fmt: skip
        if before is not None:
            if holder == before:
                return
            self._forget(pod.uid)
        self._known[pod.uid] = holder
        self._on_node.setdefault(pod.node, {})[pod.uid] = None
        self._priorities[pod.priority] += 1
        if pod.deleting:
            self._departing[pod.uid] = None
        if pod.preempted_for:
            self._told[pod.uid] = pod.preempted_for
        self._blocks.pop(pod.node, None)

    def _forget(self, uid: str) -> None:
        holder = self._known.pop(uid, None)
        if holder is None:
            return
        del self._on_node[holder.node][uid]
        if not self._on_node[holder.node]:
            del self._on_node[holder.node]
        self._departing.pop(uid, None)
        self._told.pop(uid, None)
        self._priorities[holder.priority] -= 1
        if not self._priorities[holder.priority]:
            del self._priorities[holder.priority]
        self._blocks.pop(holder.node, None)

    def _fresh(self, node: str) -> bool:
        block = self._blocks.get(node)
        return block is not None and block.layout is self._ledger.node(node)

    def _build(self, node: str) -> _Block:
        columns, holders = self._ledger.columns(node), list(self.on(node))
        fields = [
            (index, columns[share.uuid], share.mem_bytes, share.core_percent, share.whole, holder.priority,
             holder.leaving_from is None, self._ledger.number_of(charge.domain) if self._ledger.separate else 0)
            for index, holder in enumerate(holders)
            if (charge := self._ledger.charge_of(holder.uid)) is not None and charge.assignment is not None
            for share in charge.assignment.shares
            if share.uuid in columns
        ]  # fmt: skip
        return _Block(self._ledger.node(node), holders, np.array(fields, np.int64).reshape(-1, _FIELDS))
