"""Of nodes that are equal to the policy, the one where a pod over several GPUs runs best.

First where its GPUs lie within one NVLink island, then under one NUMA node; among these near to its siblings, the pods
over several GPUs of the same controller: in a rack where one of them runs, then in such a zone. Pods of one GPU have no
need of it, and are left to what spreads them.
"""

from collections import Counter
from collections.abc import Collection

import numpy as np

from tessera.model.demands import PodDemand
from tessera.model.ledger import Ints, Ledger
from tessera.scheduler.fit import fit
from tessera.scheduler.policy.kernels import Floats
from tessera.scheduler.topology import island_fit, least_gpus, numa_fit

_STEPS = 9


class Siblings:
    """On which nodes the pods over several GPUs of each controller are."""

    def __init__(self) -> None:
        self._places: dict[str, tuple[str, str]] = {}
        self._nodes: dict[str, Counter[str]] = {}

    def saw(self, uid: str, owner: str, node: str) -> None:
        """A pod of ``owner`` (a controller's UID; empty: of none) has GPUs on ``node``."""
        if self._places.get(uid) == (owner, node) or not owner:
            return
        self.gone(uid)
        self._places[uid] = owner, node
        self._nodes.setdefault(owner, Counter())[node] += 1

    def gone(self, uid: str) -> None:
        """It has none any more."""
        owner, node = self._places.pop(uid, ("", ""))
        if not owner:
            return
        self._nodes[owner][node] -= 1
        self._nodes[owner] += Counter()
        if not self._nodes[owner]:
            del self._nodes[owner]

    def of(self, owner: str) -> Collection[str]:
        """The nodes of an owner's pods."""
        return self._nodes.get(owner, ())


def spans_gpus(demand: PodDemand) -> bool:
    """Whether a pod needs more than one GPU."""
    return least_gpus(demand.containers) > 1


def ordered(ledger: Ledger, ties: Floats, demand: PodDemand, level: int, siblings: Collection[str]) -> Floats:
    """``ties`` (0..1 by row, the lowest first) with the nearest nodes in front; as they are where nothing is known."""
    apart = 3 * _links(ledger, demand, level) + _distance(ledger, siblings)
    return ties if apart.min() == apart.max() else (apart + ties) / _STEPS


def _links(ledger: Ledger, demand: PodDemand, level: int) -> Ints:
    """0 within one NVLink island, 1 under one NUMA node, 2 neither."""
    gpus, largest = least_gpus(demand.containers), max(demand.containers, key=lambda container: container.gpus)
    fits = fit(ledger, largest, demand, level).fits
    return np.where(island_fit(ledger, fits, gpus), 0, np.where(numa_fit(ledger, fits, gpus), 1, 2))


def _distance(ledger: Ledger, siblings: Collection[str]) -> Ints:
    """0 in a rack of ``siblings``, 1 in a zone of theirs, 2 elsewhere."""
    out = np.full(len(ledger.rack), 2)
    rows = [row for name in siblings if (row := ledger.row(name)) is not None]
    zones, racks = ledger.zone[rows], ledger.rack[rows]
    out[np.isin(ledger.zone, zones[zones > 0])] = 1
    out[np.isin(ledger.rack, racks[racks > 0])] = 0
    out[rows] = 0
    return out
