"""Slices on other nodes than the pod's: which client node takes the pod, and whose GPUs its leases are to be of.

Where a slice goes says ``placing``. The client node is the one nearest to such a node, of equally near ones the one
whose network is least promised. A pod's containers take their GPUs one after the other, the most demanding first; what
does not fit that way is not tried in another.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tessera.model.assignment import Assignment
from tessera.model.charges import Charge, Totals
from tessera.model.demands import PodDemand, by_size
from tessera.model.gpu_leases import Client, GpuLease, Slice, lease_name
from tessera.model.ledger import Bools, Ledger
from tessera.reasons import Reason
from tessera.scheduler.clients import Clients, unavailable
from tessera.scheduler.hypothesis import Hypothesis
from tessera.scheduler.leases import Leases
from tessera.scheduler.offers import Filtered, Offer, refused_by_all
from tessera.scheduler.placing import Placing
from tessera.scheduler.policy.kernels import Floats
from tessera.scheduler.promises import Request
from tessera.scheduler.ways import Given


class Elsewhere:
    """See ``ways.Way``."""

    def __init__(self, leases: Leases, placing: Placing, clients: Clients) -> None:
        self._leases, self._ledger, self._placing, self._clients = leases, leases.ledger, placing, clients

    def able(self, request: Request, offered: Bools) -> Bools:
        clients = self._clients.able(request, offered)
        open_now = clients.any() and not self._former(request) and self._placed(request, None) is not None
        return clients if open_now else np.zeros_like(offered)

    def scores(self, request: Request, candidates: Bools) -> Floats:
        best = self._placing.best(self._ledger, request.demand, next(_singly(request.demand)))
        return self._clients.scores(candidates, best)

    def choose(self, request: Request, node: str) -> Given | None:
        row = self._clients.takes(request, node)
        if row is None or self._former(request):
            return None
        placed = self._placed(request, row)
        if placed is None:
            return None
        leases = tuple((name, _lease(request, node, name, where)) for name, where in placed.items())
        return self._clients.given(request, node, leases)

    def refused(self, request: Request, offer: Offer) -> Filtered:
        return refused_by_all(offer, self.reason(request, offer.mask(self._ledger)))

    def reason(self, request: Request, offered: Bools) -> Reason:
        if former := self._former(request):
            return unavailable(f"GPULease {former.key}, made for an earlier try to bind the pod, is not gone yet")
        return self._clients.reason(request, offered) or self._gpu_reason(request)

    def node_reason(self, request: Request, node: str) -> Reason:
        mask = self._clients.only(node)
        return mask if isinstance(mask, Reason) else self.reason(request, mask)

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
        return unavailable(found.text, found)


def _singly(demand: PodDemand) -> Iterator[PodDemand]:
    """``demand`` of each container by itself, the most demanding first."""
    for index in by_size(demand.containers):
        yield replace(demand, containers=(demand.containers[index],))


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
