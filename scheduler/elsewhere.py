"""Slices on other nodes than the pod's: which client node takes the pod, and whose GPUs its leases are to be of.

Where a slice goes says ``placing``. The client node is the one nearest to such a node, of equally near ones the one
with fewest leases. A pod's containers take their GPUs one after the other, the most demanding first; what does not fit
that way is not tried in another.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tessera.model.assignment import Assignment
from tessera.model.charges import Charge, Totals, client_totals
from tessera.model.demands import PodDemand, by_size
from tessera.model.gpu_leases import Client, GpuLease, Slice, lease_name
from tessera.model.ledger import Bools, Ints, Ledger
from tessera.reasons import Code, Reason
from tessera.scheduler.hypothesis import Hypothesis
from tessera.scheduler.leases import Leases
from tessera.scheduler.offers import Filtered, Offer, refused_by_all
from tessera.scheduler.placing import Placing
from tessera.scheduler.policy.kernels import NEVER, Floats
from tessera.scheduler.promises import Request
from tessera.scheduler.ranking import Ties
from tessera.scheduler.ways import Given


class Elsewhere:
    """See ``ways.Way``."""

    def __init__(self, leases: Leases, placing: Placing, ties: Ties) -> None:
        self._leases, self._ledger, self._placing, self._ties = leases, leases.ledger, placing, ties

    def able(self, request: Request, offered: Bools) -> Bools:
        clients = self._clients(request, offered)
        open_now = clients.any() and not self._former(request) and self._placed(request, None) is not None
        return clients if open_now else np.zeros_like(offered)

    def scores(self, request: Request, candidates: Bools) -> Floats:
        ledger = self._ledger
        best = self._placing.best(ledger, request.demand, next(_singly(request.demand)))
        out = np.full(len(candidates), NEVER)
        if len(best):
            rows = np.flatnonzero(candidates & ledger.client)
            order = np.lexsort(
                (self._ties.of(ledger)[rows], self._placing.loads(ledger, rows), _distance(ledger, rows, best))
            )
            out[rows[order]] = -np.arange(len(rows), dtype=np.float64)
        return out

    def choose(self, request: Request, node: str) -> Given | None:
        row = self._ledger.row(node)
        if row is None or self._former(request) or not self._clients(request, self._ledger.client)[row]:
            return None
        placed = self._placed(request, row)
        if placed is None:
            return None
        leases = tuple(_lease(request, node, name, where) for name, where in placed.items())
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

    def _placed(self, request: Request, client: int | None) -> dict[str, Slice] | None:
        """The slice of each container, by its name in the pod's order; ``None`` if they do not all fit.

        ``client`` is the row of the client's node, for whom near ones are chosen.
        """
        ledger, found, singly = self._ledger, dict[str, Slice](), list(_singly(request.demand))
        for index, demand in enumerate(singly):
            placed = self._placing.place(ledger, request.demand, demand, client)
            if placed is None:
                return None
            found[demand.containers[0].container] = placed
            if index + 1 < len(singly):
                ledger = _without(ledger, f"{request.pod.uid}/{index}", demand, placed)
        return {container.container: found[container.container] for container in request.demand.containers}

    def _gpu_reason(self, request: Request) -> Reason:
        found = self._placing.reason(self._ledger, request.demand, next(_singly(request.demand)))
        return _unavailable(found.text, found)


def _singly(demand: PodDemand) -> Iterator[PodDemand]:
    """``demand`` of each container by itself, the most demanding first."""
    for index in by_size(demand.containers):
        yield replace(demand, containers=(demand.containers[index],))


def _distance(ledger: Ledger, clients: Ints, rows: Ints) -> Ints:
    """Of each of ``clients`` from the nearest of ``rows``: 0 in its rack, 1 in its zone, 2 elsewhere."""
    zones, racks = ledger.zone[rows], ledger.rack[rows]
    same_zone = np.isin(ledger.zone[clients], zones[zones > 0])
    same_rack = np.isin(ledger.rack[clients], racks[racks > 0])
    return np.where(same_rack, 0, np.where(same_zone, 1, 2))


def _without(ledger: Ledger, key: str, demand: PodDemand, placed: Slice) -> Hypothesis:
    """``ledger`` once ``placed`` is given away too."""
    share, container = placed.share, demand.containers[0].container
    charge = Charge(
        placed.node, Totals(share.mem_bytes, share.core_percent, 0, 1),
        Assignment(((container, (share,)),), demand.domain), demand.namespace,
    )  # fmt: skip
    state = Hypothesis(ledger)
    state.put_in(key, charge)
    return state


def _lease(request: Request, client: str, container: str, where: Slice) -> GpuLease:
    pod = request.pod
    return GpuLease(
        pod.namespace, lease_name(pod.name, pod.uid, container), "", Client(pod.name, pod.uid, container, client),
        where.node, where.share, request.demand.domain,
    )  # fmt: skip


def _unavailable(text: str, found: Reason | None = None) -> Reason:
    return Reason(Code.REMOTE_UNAVAILABLE, f"tessera.io/remote: {text}", found.counts if found else {})
