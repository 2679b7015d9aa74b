"""Which GPUs and which nodes can hold a demand, over all nodes at once.

Pure reads of the ledger: no side effect, O(nodes) in numpy.
"""

from dataclasses import dataclass

import numpy as np

from tessera.model.demands import ContainerDemand, PodDemand
from tessera.model.gpus import LEVEL_NONE
from tessera.model.ledger import Bools, Ints, Ledger
from tessera.model.placements import Preferences
from tessera.model.quantities import MIB


@dataclass(frozen=True, slots=True)
class Fit:
    """How one container's demand meets each GPU, arrays ``[row, column]``.

    ``need_bytes``: what the container would get on each GPU. ``large``: enough memory when empty. ``possible``: large,
    of an accepted kind, healthy and well enough enforced. ``fits``: possible, and there is room now.
    """

    need_bytes: Ints
    accepted: Bools
    enforced: Bools
    large: Bools
    possible: Bools
    free_of_tenants: Bools
    enough_memory: Bools
    enough_compute: Bools
    fits: Bools


def fit(ledger: Ledger, demand: ContainerDemand, preferences: Preferences, min_level: int) -> Fit:
    """Holds ``demand`` against every GPU of the ledger."""
    need = need_bytes(ledger.mem_bytes, demand)
    accepted = ledger.present & _accepted(ledger, preferences)
    enforced = ledger.level >= (LEVEL_NONE if demand.whole and preferences.enforcement is None else min_level)
    large = (need > 0) & (ledger.mem_bytes >= need)
    possible = accepted & large & ledger.healthy & enforced
    alone = ~ledger.exclusive & ((ledger.tenants == 0) if demand.whole else True)
    memory = ledger.free_bytes >= need
    compute = ledger.free_percent >= demand.core_percent
    fits = possible & alone & memory & compute
    return Fit(need, accepted, enforced, large, possible, alone, memory, compute, fits)


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


def _accepted(ledger: Ledger, preferences: Preferences) -> Bools:
    if preferences.any_gpu:
        return ledger.present
    known = ledger.models()
    table = np.array([preferences.models.admits(model) for model in known] + [False])
    accepted: Bools = table[ledger.model]
    uuids = preferences.uuids
    if uuids.accepted:
        accepted = accepted & _at(ledger, uuids.accepted)
    return accepted & ~_at(ledger, uuids.excluded) if uuids.excluded else accepted


def _at(ledger: Ledger, uuids: frozenset[str]) -> Bools:
    out = np.zeros_like(ledger.present)
    for node, row in ledger.rows().items():
        for uuid in uuids:
            column = ledger.column(node, uuid)
            if column is not None:
                out[row, column] = True
    return out
