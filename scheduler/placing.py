"""Where on other nodes than its pod's a slice goes.

The GPU's node is the policy's choice, as if the slice alone were placed; among equal ones it is one in the client's
rack, else in its zone, else the one whose network is least promised: leases share it.
"""

import numpy as np

from tessera.model.charges import Totals
from tessera.model.demands import ContainerDemand, PodDemand
from tessera.model.gpu_leases import Slice
from tessera.model.hosts import UNKNOWN_HOST, HostNeed
from tessera.model.ledger import Bools, Ints, Ledger
from tessera.reasons import Reason
from tessera.scheduler.choice import choose
from tessera.scheduler.leases import Leases
from tessera.scheduler.options import PoolOptions
from tessera.scheduler.policies import Policies
from tessera.scheduler.policy.kernels import NEVER, Floats
from tessera.scheduler.ranking import Ties, able, fits_of
from tessera.scheduler.refusals import cluster_reason

USUAL_GBPS = 10
"""How fast a network counts of which nobody says it."""
_EQUAL = 1e-6
"""Scores that differ by less are equal: nothing but the order of equal nodes is as small."""


class Placing:
    """``demand`` is one container of ``whole``, whose executors must find room for all of them where they meet."""

    def __init__(self, leases: Leases, pool: PoolOptions, policies: Policies, ties: Ties) -> None:
        self._leases, self._pool, self._policies, self._ties = leases, pool, policies, ties

    def place(self, ledger: Ledger, whole: PodDemand, demand: PodDemand, client: int | None) -> Slice | None:
        """The slice, near to the node in row ``client``; ``None`` if no GPU has room for it."""
        best = self.best(ledger, whole, demand)
        if not len(best):
            return None
        near = np.zeros(len(best)) if client is None else distances(ledger, best, np.array([client], np.int64))
        order = np.lexsort((self._ties.of(ledger)[best], self.loads(ledger, best), near))
        node = ledger.names[best[order[0]]]
        given = choose(ledger, node, demand, self._policies.of(demand), self._policies.level(demand))
        return Slice(node, given.shares[0]) if given else None

    def best(self, ledger: Ledger, whole: PodDemand, demand: PodDemand) -> Ints:
        """The rows of the GPU nodes that the policy likes best; none if no node holds the slice and its executor."""
        scores = self._scores(ledger, whole, demand)
        highest = scores.max(initial=NEVER)
        return np.flatnonzero(scores >= highest - _EQUAL) if highest > NEVER else np.zeros(0, np.int64)

    def reason(self, ledger: Ledger, whole: PodDemand, demand: PodDemand) -> Reason:
        """Why no GPU has room for it."""
        fits, rooms = fits_of(ledger, demand, self._policies.level(demand)), self._rooms(ledger, whole, demand)
        return cluster_reason(ledger, demand, fits, rooms, ~ledger.closed)

    def loads(self, ledger: Ledger, rows: Ints) -> Floats:
        """How many leases a Gbit/s of the nodes of ``rows`` would have, with one more than have a part in them."""
        load, hosts, names = self._leases.load(), ledger.hosts(), [ledger.names[row] for row in rows.tolist()]
        speeds = ((host.gbps if (host := hosts.get(name)) else 0) or USUAL_GBPS for name in names)
        return np.array([(load.get(name, 0) + 1) / gbps for name, gbps in zip(names, speeds, strict=True)], np.float64)

    def hosts(self, ledger: Ledger, count: int) -> Bools:
        """Per row: whether the host takes ``count`` more executors. One that is gone may have left its GPUs behind."""
        need = HostNeed(count * self._pool.executor.cpu_milli, count * self._pool.executor.memory_bytes)
        hosts: Bools = ledger.host_room(need) & ~ledger.closed
        return hosts & (ledger.free_cpu < UNKNOWN_HOST) if ledger.hosts() else hosts

    def _scores(self, ledger: Ledger, whole: PodDemand, demand: PodDemand) -> Floats:
        policy, level = self._policies.of(whole), self._policies.level(whole)
        candidates = able(ledger, demand, self._rooms(ledger, whole, demand), policy, level)
        if not candidates.any():
            return np.full(len(candidates), NEVER)
        return policy.node_scores(ledger, self._pool.executor, demand, candidates, np.zeros(len(candidates)))

    def _rooms(self, ledger: Ledger, whole: PodDemand, demand: PodDemand) -> Bools:
        """Where the kubelet and the host have room."""
        rooms: Bools = ledger.room_of(slice_totals(demand.containers[0])) & self.hosts(ledger, len(whole.containers))
        return rooms


def slice_totals(container: ContainerDemand) -> Totals:
    """What the slice of ``container`` takes of the kubelet's sums where it is an executor's."""
    return Totals(container.mem_bytes, container.core_percent, 0, 1)


def distances(ledger: Ledger, rows: Ints, others: Ints) -> Ints:
    """Of each of ``rows`` from the nearest of ``others``: 0 in its rack, 1 in its zone, 2 elsewhere."""
    zones, racks = ledger.zone[others], ledger.rack[others]
    same_zone = np.isin(ledger.zone[rows], zones[zones > 0])
    same_rack = np.isin(ledger.rack[rows], racks[racks > 0])
    return np.where(same_rack, 0, np.where(same_zone, 1, 2))
