"""Which GPUs and which nodes can hold a demand, over all nodes at once.

Pure reads of the ledger: no side effect, O(nodes) in numpy; ``rows`` narrows the question to some nodes.
"""

from dataclasses import dataclass

import numpy as np

from tessera.model.assignment import Assignment
from tessera.model.demands import ContainerDemand, PodDemand
from tessera.model.gpus import LEVEL_NONE
from tessera.model.ledger import Bools, Ints, Ledger
from tessera.model.placements import Preferences
from tessera.model.quantities import MIB
from tessera.scheduler.topology import at_once


@dataclass(frozen=True, slots=True)
class Fit:
    """How one container's demand meets each GPU, arrays ``[row, column]`` of the rows asked for.

    ``need_bytes``: what the container would get on each GPU. ``large``: enough memory when empty, and a share of it
    that is no less than the least that will do. ``possible``: large, of an accepted kind, healthy and well enough
    enforced. ``open``: no other trust domain has slices there, on none of the MPS group. ``usable``: possible and open.
    ``fits``: usable, and there is room now. ``span``: that of the ledger where the slice has to lie within one, else
    ``None``.
    """

    need_bytes: Ints
    accepted: Bools
    enforced: Bools
    large: Bools
    possible: Bools
    open: Bools
    usable: Bools
    free_of_tenants: Bools
    enough_memory: Bools
    enough_compute: Bools
    fits: Bools
    span: Ints | None

    def at_once(self, gpus: Bools) -> Ints:
        """Per row: over how many of ``gpus`` [row, column] one slice could lie, as far as they hold it together."""
        return at_once(self.span, gpus)


_ALL = slice(None)


def fit(ledger: Ledger, demand: ContainerDemand, pod: PodDemand, min_level: int, rows: slice = _ALL) -> Fit:
    """Holds ``demand``, a part of ``pod``, against every GPU of ``rows``."""
    mem, preferences = ledger.mem_bytes[rows], pod.preferences
    need = need_bytes(mem, demand)
    accepted = ledger.present[rows] & _accepted(ledger, preferences, rows)
    enforced = ledger.level[rows] >= (LEVEL_NONE if demand.whole and preferences.enforcement is None else min_level)
    large = (need >= demand.least_bytes) & (mem >= need)
    possible = accepted & large & ledger.healthy[rows] & enforced
    open_to = ledger.present[rows] if demand.whole else ledger.open_to(pod.domain, rows)
    usable = possible & open_to
    alone = ~ledger.exclusive[rows] & ((ledger.tenants[rows] == 0) if demand.whole else True)
    memory = ledger.free_bytes[rows] >= need
    compute = ledger.free_percent[rows] >= demand.core_percent
    fits = usable & alone & memory & compute
    span = ledger.span[rows] if demand.in_one_span(min_level) else None
    return Fit(need, accepted, enforced, large, possible, open_to, usable, alone, memory, compute, fits, span)


def need_bytes(mem_bytes: Ints, demand: ContainerDemand) -> Ints:
    """What ``demand`` takes of GPUs of ``mem_bytes``; as ``ContainerDemand.mem_of``, for arrays."""
    if demand.whole:
        return mem_bytes
    if demand.mem_bytes:
        return np.full_like(mem_bytes, demand.mem_bytes)
    share: Ints = mem_bytes * demand.core_percent // 100 // MIB * MIB
    return share


def min_level(demand: PodDemand, cluster_level: int) -> int:
    """The enforcement level that ``demand`` needs: the pod's own word, else the cluster's setting."""
    own = demand.preferences.enforcement
    return cluster_level if own is None else own


def still_held(ledger: Ledger, demand: PodDemand, node: str, given: Assignment, level: int) -> bool:
    """Whether ``node`` still has the GPUs of ``given`` and they would hold ``demand``, each container's together."""
    row, columns = ledger.row(node), ledger.columns(node)
    if row is None:
        return False
    for container in demand.containers:
        uuids = {share.uuid for share in given.of(container.container) or ()}
        mine = np.zeros((1, ledger.present.shape[1]), np.bool_)
        mine[0, [columns[uuid] for uuid in uuids & columns.keys()]] = True
        found = fit(ledger, container, demand, level, slice(row, row + 1))
        if found.at_once(mine & found.possible)[0] < len(uuids):
            return False
    return True


def _accepted(ledger: Ledger, preferences: Preferences, rows: slice) -> Bools:
    if preferences.any_gpu:
        return ledger.present[rows]
    known = ledger.models()
    table = np.array([preferences.models.admits(model) for model in known] + [False])
    accepted: Bools = table[ledger.model[rows]]
    uuids = preferences.uuids
    if uuids.accepted:
        accepted = accepted & _at(ledger, uuids.accepted, rows)
    return accepted & ~_at(ledger, uuids.excluded, rows) if uuids.excluded else accepted


def _at(ledger: Ledger, uuids: frozenset[str], rows: slice) -> Bools:
    out = np.zeros_like(ledger.present[rows])
    for index, name in enumerate(ledger.names[rows]):
        columns = ledger.columns(name)
        if not uuids.isdisjoint(columns):
            out[index, [columns[uuid] for uuid in uuids & columns.keys()]] = True
    return out
