"""Who holds slices, as preemption needs to know them: what may be asked to leave, and what is leaving already.

Fed with the pods that the API server shows, after the engine was. Their shares of GPUs are kept as arrays for each
node, made anew only where something has changed, so that all nodes can be compared at once.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from tessera.kube.reflector import Change, Deleted, Replaced, Upserted
from tessera.model.assignment import Share
from tessera.model.demands import wants_slice
from tessera.model.gpus import GpuNode
from tessera.model.ledger import Bools, Ints, Ledger
from tessera.model.pods import Pod

STUCK_S = 60.0
"""How long past its grace period a pod counts as leaving; after that nobody waits for its room."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A bound pod with slices. ``leaving_from``: the clock when its deletion was first seen, ``None`` if it stays."""

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
    """Every share of a GPU that a holder has: parallel arrays; ``holder`` counts into ``holders``."""

    holders: list[Holder]
    holder: Ints
    priority: Ints
    row: Ints
    column: Ints
    mem_bytes: Ints
    percent: Ints
    whole: Bools


@dataclass(frozen=True, slots=True)
class _Block:
    """The shares of one node, an array ``[share, field]`` of holder, column, bytes, percent, whole and priority."""

    layout: GpuNode | None
    holders: list[Holder]
    fields: Ints


class Holders:
    """``clock`` answers seconds that never go back."""

    def __init__(self, ledger: Ledger, clock: Callable[[], float]) -> None:
        self._ledger, self._clock = ledger, clock
        self._known: dict[str, Holder] = {}
        self._on_node: dict[str, dict[str, None]] = {}
        self._priorities: Counter[int] = Counter()
        self._departing: dict[str, None] = {}
        self._blocks: dict[str, _Block] = {}

    def observe(self, change: Change[Pod]) -> None:
        """Takes one change of the pods, after the engine has."""
        match change:
            case Replaced(objects):
                listed = {pod.uid: pod for pod in objects}
                for uid in self._known.keys() - listed.keys():
                    self._forget(uid)
                for pod in listed.values():
                    self._observe(pod)
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
        return [holder for holder in self._known.values() if holder.preempted_for == uid]

    def shares(self) -> Shares:
        """Of all nodes that have published GPUs, in the order of nothing in particular."""
        holders: list[Holder] = []
        parts: list[Ints] = []
        for node in self._on_node:
            row = self._ledger.row(node)
            block = self._block(node)
            if row is None or not len(block.fields):
                continue
            part = np.empty((len(block.fields), 7), np.int64)
            part[:, :6], part[:, 6] = block.fields, row
            part[:, 0] += len(holders)
            holders += block.holders
            parts.append(part)
        found = np.concatenate(parts) if parts else np.zeros((0, 7), np.int64)
        holder, column, mem, percent, whole, priority, rows = found.T
        return Shares(holders, holder, priority, rows, column, mem, percent, whole.astype(np.bool_))

    def _observe(self, pod: Pod) -> None:
        if not pod.node or pod.ended or not wants_slice(pod):
            self._forget(pod.uid)
            return
        before = self._known.get(pod.uid)
        since = None
        if pod.deleting:
            since = self._clock() if before is None or before.leaving_from is None else before.leaving_from
        holder = Holder(
            pod.uid, pod.namespace, pod.name, pod.node, pod.priority, pod.started, pod.labels, pod.preempted_for,
            since, pod.grace_s,
        )  # fmt: skip
        if holder == before:
            return
        self._forget(pod.uid)
        self._known[pod.uid] = holder
        self._on_node.setdefault(pod.node, {})[pod.uid] = None
        self._priorities[pod.priority] += 1
        if pod.deleting:
            self._departing[pod.uid] = None
        self._blocks.pop(pod.node, None)

    def _forget(self, uid: str) -> None:
        holder = self._known.pop(uid, None)
        if holder is None:
            return
        del self._on_node[holder.node][uid]
        if not self._on_node[holder.node]:
            del self._on_node[holder.node]
        self._departing.pop(uid, None)
        self._priorities[holder.priority] -= 1
        if not self._priorities[holder.priority]:
            del self._priorities[holder.priority]
        self._blocks.pop(holder.node, None)

    def _block(self, node: str) -> _Block:
        layout = self._ledger.node(node)
        block = self._blocks.get(node)
        if block is None or block.layout is not layout:
            block = self._blocks[node] = self._build(node, layout)
        return block

    def _build(self, node: str, layout: GpuNode | None) -> _Block:
        columns, holders = self._ledger.columns(node), list(self.on(node))
        fields = [
            (index, columns[share.uuid], share.mem_bytes, share.core_percent, share.whole, holder.priority)
            for index, holder in enumerate(holders)
            for share in _shares(self._ledger, holder)
            if share.uuid in columns
        ]
        return _Block(layout, holders, np.array(fields, np.int64).reshape(-1, 6))


def _shares(ledger: Ledger, holder: Holder) -> Iterable[Share]:
    charge = ledger.charge_of(holder.uid)
    return charge.assignment.shares if charge and charge.assignment else ()
