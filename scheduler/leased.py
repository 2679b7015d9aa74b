"""Executors: pods that are given exactly what their lease keeps for them, and where, whatever the policy says."""

import numpy as np

from tessera.model import names
from tessera.model.assignment import Assignment
from tessera.model.charges import Charge, fits_demand
from tessera.model.gpu_leases import GpuLease, Slice
from tessera.model.ledger import Bools
from tessera.reasons import Code, Reason, invalid
from tessera.scheduler.leases import Leases
from tessera.scheduler.offers import Filtered, Offer, refused_by_all
from tessera.scheduler.policy.kernels import NEVER, Floats
from tessera.scheduler.promises import Request
from tessera.scheduler.ways import Given


class Leased:
    """See ``ways.Way``."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases

    def able(self, request: Request, offered: Bools) -> Bools:
        out = np.zeros_like(offered)
        given = self._given(request)
        if isinstance(given, Given) and self._leases.refusal(request.pod, given.charge) is None:
            row = self._leases.ledger.row(given.charge.node)
            if row is not None:
                out[row] = offered[row]
        return out

    def scores(self, request: Request, candidates: Bools) -> Floats:
        return np.where(candidates, 0.0, NEVER)

    def choose(self, request: Request, node: str) -> Given | None:
        given = self._given(request)
        return given if isinstance(given, Given) and given.charge.node == node else None

    def refused(self, request: Request, offer: Offer) -> Filtered:
        return refused_by_all(offer, self.reason(request, offer.mask(self._leases.ledger)))

    def reason(self, request: Request, offered: Bools) -> Reason:
        given = self._given(request)
        if isinstance(given, Reason):
            return given
        if reason := self._leases.refusal(request.pod, given.charge):
            return Reason(Code.REMOTE_UNAVAILABLE, f"GPULease {request.pod.lease}: {reason.text}")
        where = f"node {given.charge.node} of GPULease {request.pod.lease}"
        return Reason(Code.REMOTE_UNAVAILABLE, f"{where} is excluded by other rules of the cluster")

    def node_reason(self, request: Request, node: str) -> Reason:
        given = self._given(request)
        if isinstance(given, Reason):
            return given
        text = f"node {node}: GPULease {request.pod.lease} is on node {given.charge.node}"
        return Reason(Code.REMOTE_UNAVAILABLE, text)

    def _given(self, request: Request) -> Given | Reason:
        lease = self._leases.of_executor(request.pod)
        if lease is None:
            return _not_served(self._leases, request)
        where = self._slice(lease, request.pod.lease_slice)
        if isinstance(where, Reason):
            return where
        found = _assignment(lease, where, request)
        return found if isinstance(found, Reason) else Given(Charge(where.node, request.totals, found, lease.namespace))

    def _slice(self, lease: GpuLease, which: str) -> Slice | Reason:
        if not which:
            return lease.slice
        if which != names.TARGET:
            return invalid(f"metadata.annotations[{names.LEASE_SLICE}]", which, names.TARGET)
        target = self._leases.target(lease)
        return target or Reason(Code.REMOTE_UNAVAILABLE, f"GPULease {lease.key} moves to no other slice")


def _assignment(lease: GpuLease, where: Slice, request: Request) -> Assignment | Reason:
    containers = request.demand.containers
    given = Assignment(((containers[0].container, (where.share,)),), lease.domain)
    if difference := fits_demand(request.demand, given):
        return Reason(Code.INVALID_REQUEST, f"GPULease {lease.key} is for another pod: {difference}")
    return given


def _not_served(leases: Leases, request: Request) -> Reason:
    pod = request.pod
    lease_id = leases.served_by(pod)
    if lease_id is None:
        return invalid(f"metadata.annotations[{names.LEASE}]", pod.lease, "only in executors that the pool makes")
    return Reason(Code.REMOTE_UNAVAILABLE, f"GPULease {lease_id[0]} of UID {lease_id[1]!r} is not known")
