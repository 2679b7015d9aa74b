"""Slices on other nodes than the pod's: which client node takes the pod, and whose GPUs its leases are to be of.

The GPU's node is the policy's choice, as if the slice alone were placed; among equal ones it is one in the client's
rack, else in its zone, else the one with fewest leases, because they share its network. The client node is the one
nearest to such a node, of equally near ones the one with fewest leases. A pod's containers take their GPUs one after
the other, the most demanding first; what does not fit that way is not tried in another.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tessera.model.assignment import Assignment, Share
from tessera.model.charges import Charge, Totals, client_totals
from tessera.model.demands import PodDemand, by_size
from tessera.model.gpu_leases import Client, GpuLease, lease_name
from tessera.model.hosts import HostNeed
from tessera.model.ledger import Bools, Ints, Ledger
from tessera.reasons import Code, Reason
from tessera.scheduler.choice import choose
from tessera.scheduler.hypothesis import Hypothesis
from tessera.scheduler.leases import Leases
from tessera.scheduler.offers import Filtered, Offer, refused_by_all
from tessera.scheduler.options import PoolOptions
from tessera.scheduler.policies import Policies
from tessera.scheduler.policy.kernels import NEVER, Floats
from tessera.scheduler.promises import Request
from tessera.scheduler.ranking import Ties, able, fits_of
from tessera.scheduler.refusals import cluster_reason
from tessera.scheduler.ways import Given

_EQUAL = 1e-6
"""Scores that differ by less are equal: nothing but the order of equal nodes is as small."""


class Elsewhere:
    """See ``ways.Way``."""

    def __init__(self, leases: Leases, pool: PoolOptions, policies: Policies, ties: Ties) -> None:
        self._leases, self._ledger, self._pool, self._policies, self._ties = leases, leases.ledger, pool, policies, ties

    def able(self, request: Request, offered: Bools) -> Bools:
        clients = self._clients(request, offered)
        open_now = clients.any() and not self._former(request) and self._placed(request, None) is not None
        return clients if open_now else np.zeros_like(offered)

    def scores(self, request: Request, candidates: Bools) -> Floats:
        ledger = self._ledger
        scores = self._gpu_scores(ledger, request.demand, next(_singly(request.demand)))
        out = np.full(len(candidates), NEVER)
        best = _best(scores)
        if len(best):
            rows = np.flatnonzero(candidates & ledger.client)
            order = np.lexsort((self._ties.of(ledger)[rows], self._loads(rows), _distance(ledger, rows, best)))
            out[rows[order]] = -np.arange(len(rows), dtype=np.float64)
        return out

    def choose(self, request: Request, node: str) -> Given | None:
        row = self._ledger.row(node)
        if row is None or self._former(request) or not self._clients(request, self._ledger.client)[row]:
            return None
        placed = self._placed(request, row)
        if placed is None:
            return None
        leases = tuple(_lease(request, node, name, *where) for name, where in placed.items())
        named = tuple((lease.client.container, lease.name) for lease in leases)
        assignment = Assignment((), request.demand.domain, named)
        return Given(Charge(node, client_totals(len(leases)), assignment, request.pod.namespace), leases)

    def refused(self, request: Request, offer: Offer) -> Filtered:
        return refused_by_all(offer, self.reason(request, offer.mask(self._ledger)))

    def reason(self, request: Request, offered: Bools) -> Reason:
        if former := self._former(request):
            return _unavailable(f"GPULease {former.key}, made for an earlier try to bind the pod, is not gone yet")
        if not (offered & self._ledger.client).any():
            return _unavailable("no node for pods whose slices are on other nodes is left by the cluster's other rules")
        if not self._clients(request, offered).any():
            return _unavailable("no node for pods whose slices are on other nodes has a slot free")
        return self._gpu_reason(request)

    def node_reason(self, request: Request, node: str) -> Reason:
        row = self._ledger.row(node)
        if row is None or not self._ledger.client[row]:
            return _unavailable(f"node {node} takes no pods whose slices are on other nodes")
        return self.reason(request, np.arange(len(self._ledger.client)) == row)

    def _clients(self, request: Request, offered: Bools) -> Bools:
        """Of ``offered`` the client nodes with slots for all containers; kube-scheduler counts their CPU and memory."""
        slots = len(request.demand.containers)
        return offered & self._ledger.client & (self._ledger.node_slots >= slots)

    def _former(self, request: Request) -> GpuLease | None:
        holds = (f"{request.pod.uid}/{container.container}" for container in request.demand.containers)
        return next((lease for hold in holds if (lease := self._leases.at(hold))), None)

    def _placed(self, request: Request, client: int | None) -> dict[str, tuple[str, Share]] | None:
        """Node and share for each container, by its name in the pod's order; ``None`` if they do not all fit.

        ``client`` is the row of the client's node, for whom near ones are chosen.
        """
        ledger, found, singly = self._ledger, dict[str, tuple[str, Share]](), list(_singly(request.demand))
        for index, demand in enumerate(singly):
            placed = self._place(ledger, request.demand, demand, client)
            if placed is None:
                return None
            found[demand.containers[0].container] = placed
            if index + 1 < len(singly):
                ledger = _without(ledger, f"{request.pod.uid}/{index}", demand, placed)
        return {container.container: found[container.container] for container in request.demand.containers}

    def _place(
        self, ledger: Ledger, whole: PodDemand, demand: PodDemand, client: int | None
    ) -> tuple[str, Share] | None:
        best = _best(self._gpu_scores(ledger, whole, demand))
        if not len(best):
            return None
        near = np.zeros(len(best)) if client is None else _distances(ledger, client, best)
        order = np.lexsort((self._ties.of(ledger)[best], self._loads(best), near))
        node = ledger.names[best[order[0]]]
        given = choose(ledger, node, demand, self._policies.of(demand), self._policies.level(demand))
        return (node, given.shares[0]) if given else None

    def _gpu_scores(self, ledger: Ledger, whole: PodDemand, demand: PodDemand) -> Floats:
        """Of the GPU nodes that hold ``demand``, one container of ``whole``, and its executor."""
        policy, level = self._policies.of(whole), self._policies.level(whole)
        candidates = able(ledger, demand, self._rooms(ledger, whole, demand), policy, level)
        if not candidates.any():
            return np.full(len(candidates), NEVER)
        return policy.node_scores(ledger, self._pool.executor, demand, candidates, np.zeros(len(candidates)))

    def _rooms(self, ledger: Ledger, whole: PodDemand, demand: PodDemand) -> Bools:
        """Where the kubelet and the host have room: for the executors of all containers, should they meet there."""
        container, count = demand.containers[0], len(whole.containers)
        totals = Totals(container.mem_bytes, container.core_percent, 0, 1)
        need = HostNeed(count * self._pool.executor.cpu_milli, count * self._pool.executor.memory_bytes)
        rooms: Bools = ledger.room_of(totals) & ledger.host_room(need) & ~ledger.closed
        return rooms

    def _gpu_reason(self, request: Request) -> Reason:
        ledger, hardest = self._ledger, next(_singly(request.demand))
        fits, rooms = (
            fits_of(ledger, hardest, self._policies.level(hardest)),
            self._rooms(ledger, request.demand, hardest),
        )
        found = cluster_reason(ledger, hardest, fits, rooms, ~ledger.closed)
        return _unavailable(found.text, found)

    def _loads(self, rows: Ints) -> Ints:
        load = self._leases.load()
        return np.array([load.get(self._ledger.names[row], 0) for row in rows.tolist()], np.int64)


def _singly(demand: PodDemand) -> Iterator[PodDemand]:
    """``demand`` of each container by itself, the most demanding first."""
    for index in by_size(demand.containers):
        yield replace(demand, containers=(demand.containers[index],))


def _best(scores: Floats) -> Ints:
    """The rows with the highest score; none if no node holds the pod."""
    highest = scores.max(initial=NEVER)
    return np.flatnonzero(scores >= highest - _EQUAL) if highest > NEVER else np.zeros(0, np.int64)


def _distances(ledger: Ledger, client: int, rows: Ints) -> Ints:
    """Of each of ``rows`` from ``client``: 0 in its rack, 1 in its zone, 2 elsewhere."""
    zone, rack = ledger.zone[client], ledger.rack[client]
    same_zone, same_rack = (ledger.zone[rows] == zone) & (zone > 0), (ledger.rack[rows] == rack) & (rack > 0)
    return np.where(same_rack, 0, np.where(same_zone, 1, 2))


def _distance(ledger: Ledger, clients: Ints, rows: Ints) -> Ints:
    """Of each of ``clients`` from the nearest of ``rows``; as ``_distances``."""
    zones, racks = ledger.zone[rows], ledger.rack[rows]
    same_zone = np.isin(ledger.zone[clients], zones[zones > 0])
    same_rack = np.isin(ledger.rack[clients], racks[racks > 0])
    return np.where(same_rack, 0, np.where(same_zone, 1, 2))


def _without(ledger: Ledger, key: str, demand: PodDemand, placed: tuple[str, Share]) -> Hypothesis:
    """``ledger`` once ``placed`` is given away too."""
    node, share = placed
    container = demand.containers[0].container
    charge = Charge(
        node, Totals(share.mem_bytes, share.core_percent, 0, 1), Assignment(((container, (share,)),), demand.domain),
        demand.namespace,
    )  # fmt: skip
    state = Hypothesis(ledger)
    state.put_in(key, charge)
    return state


def _lease(request: Request, client: str, container: str, node: str, share: Share) -> GpuLease:
    pod = request.pod
    return GpuLease(
        pod.namespace, lease_name(pod.name, pod.uid, container), "", Client(pod.name, pod.uid, container, client),
        node, share, request.demand.domain,
    )  # fmt: skip


def _unavailable(text: str, found: Reason | None = None) -> Reason:
    return Reason(Code.REMOTE_UNAVAILABLE, f"tessera.io/remote: {text}", found.counts if found else {})
