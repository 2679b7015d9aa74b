"""The nodes for pods whose slices are on other nodes: which of them take a pod, and which is nearest to its slices."""

import numpy as np

from tessera.model.assignment import Assignment
from tessera.model.charges import Charge, client_totals
from tessera.model.gpu_leases import GpuLease
from tessera.model.ledger import Bools, Ints, Ledger
from tessera.reasons import Code, Reason
from tessera.scheduler.placing import Placing, distances
from tessera.scheduler.policy.kernels import NEVER, Floats
from tessera.scheduler.promises import Request
from tessera.scheduler.ranking import Ties
from tessera.scheduler.ways import Given


class Clients:
    """Over the rows of ``ledger``; kube-scheduler counts their CPU and memory."""

    def __init__(self, ledger: Ledger, placing: Placing, ties: Ties) -> None:
        self._ledger, self._placing, self._ties = ledger, placing, ties

    def able(self, request: Request, offered: Bools) -> Bools:
        """Of ``offered`` those with slots for all containers."""
        slots = len(request.demand.containers)
        return offered & self._ledger.client & (self._ledger.node_slots >= slots)

    def takes(self, request: Request, node: str) -> int | None:
        """The row of ``node``, if it takes the pod."""
        row = self._ledger.row(node)
        return row if row is not None and self.able(request, self._ledger.client)[row] else None

    def scores(self, candidates: Bools, gpus: Ints) -> Floats:
        """The nearest to any of the rows ``gpus`` first, of equally near ones that with the least promised network."""
        ledger, out = self._ledger, np.full(len(candidates), NEVER)
        if len(gpus):
            rows = np.flatnonzero(candidates & ledger.client)
            order = np.lexsort(
                (self._ties.of(ledger)[rows], self._placing.loads(ledger, rows), distances(ledger, rows, gpus))
            )
            out[rows[order]] = -np.arange(len(rows), dtype=np.float64)
        return out

    def given(self, request: Request, node: str, leases: tuple[tuple[str, GpuLease], ...]) -> Given:
        """What the pod holds there with ``leases``, by the containers' names."""
        named = tuple((container, lease.name) for container, lease in leases)
        charge = Charge(
            node, client_totals(len(leases)), Assignment((), request.demand.domain, named), request.pod.namespace
        )
        return Given(charge, tuple(lease for _, lease in leases))

    def reason(self, request: Request, offered: Bools) -> Reason | None:
        """Why none of ``offered`` takes the pod; ``None`` if one does."""
        if not (offered & self._ledger.client).any():
            return unavailable("no node for pods whose slices are on other nodes is left by the cluster's other rules")
        if not self.able(request, offered).any():
            return unavailable("no node for pods whose slices are on other nodes has a slot free")
        return None

    def only(self, node: str) -> Bools | Reason:
        """``node`` alone, as a mask; why it takes no such pod."""
        row = self._ledger.row(node)
        if row is None or not self._ledger.client[row]:
            return unavailable(f"node {node} takes no pods whose slices are on other nodes")
        mask: Bools = np.arange(len(self._ledger.client)) == row
        return mask


def unavailable(text: str, found: Reason | None = None) -> Reason:
    """A refusal of a slice on another node, with the counts of ``found``."""
    return Reason(Code.REMOTE_UNAVAILABLE, f"tessera.io/remote: {text}", found.counts if found else {})
