"""Pods that use a standing GPULease, which their annotation names: where the slice is was decided before."""

from dataclasses import replace

import numpy as np

from tessera.model import names
from tessera.model.demands import ContainerDemand, PodDemand
from tessera.model.gpu_leases import Client, GpuLease
from tessera.model.gpus import Gpu
from tessera.model.ledger import Bools, Ledger
from tessera.model.quantities import format_bytes
from tessera.reasons import Code, Reason
from tessera.scheduler.clients import Clients
from tessera.scheduler.lease_rooms import lease_charge
from tessera.scheduler.leases import Leases
from tessera.scheduler.offers import Filtered, Offer, refused_by_all
from tessera.scheduler.policies import Policies
from tessera.scheduler.policy.kernels import NEVER, Floats
from tessera.scheduler.promises import Request
from tessera.scheduler.ways import Given


class Attached:
    """See ``ways.Way``."""

    def __init__(self, leases: Leases, clients: Clients, policies: Policies) -> None:
        self._leases, self._ledger, self._clients, self._policies = leases, leases.ledger, clients, policies

    def able(self, request: Request, offered: Bools) -> Bools:
        found = isinstance(self._lease(request), GpuLease)
        return self._clients.able(request, offered) if found else np.zeros_like(offered)

    def scores(self, request: Request, candidates: Bools) -> Floats:
        lease = self._lease(request)
        row = self._ledger.row(lease.node) if isinstance(lease, GpuLease) else None
        if row is None:
            return np.full(len(candidates), NEVER)
        return self._clients.scores(candidates, np.array([row], np.int64))

    def choose(self, request: Request, node: str) -> Given | None:
        lease = self._lease(request)
        if isinstance(lease, Reason) or self._clients.takes(request, node) is None:
            return None
        pod, container = request.pod, request.demand.containers[0].container
        used = replace(lease, client=Client(pod.name, pod.uid, container, node))
        return self._clients.given(request, node, ((container, used),))

    def refused(self, request: Request, offer: Offer) -> Filtered:
        return refused_by_all(offer, self.reason(request, offer.mask(self._ledger)))

    def reason(self, request: Request, offered: Bools) -> Reason:
        lease = self._lease(request)
        if isinstance(lease, Reason):
            return lease
        return self._clients.reason(request, offered) or _refusal(lease.key, "is free again by now")

    def node_reason(self, request: Request, node: str) -> Reason:
        mask = self._clients.only(node)
        return mask if isinstance(mask, Reason) else self.reason(request, mask)

    def _lease(self, request: Request) -> GpuLease | Reason:
        """The lease that the pod may use now."""
        pod, demand = request.pod, request.demand
        key = f"{pod.namespace}/{demand.preferences.lease}"
        lease = self._leases.named(key)
        if lease is None:
            return _refusal(key, "is not there")
        if len(demand.containers) > 1:
            return _refusal(key, f"is for one container; found slices in {len(demand.containers)}")
        gpu, asked = _gpu(self._ledger, lease), demand.containers[0]
        why = self._unusable(lease, pod.uid) or _small(lease, asked, gpu) or self._unfit(lease, gpu, demand)
        return _refusal(key, why) if why else lease

    def _unusable(self, lease: GpuLease, uid: str) -> str:
        if not lease.standing:
            return f"was made for pod {lease.user}; only a standing one can be used by another"
        if lease.deleting:
            return "is being deleted"
        if lease.stopped:
            return "is stopped"
        if lease.client:  # who takes the pod off is not to meet a new try of it: to write the same again is no change
            mine = lease.client.pod_uid == uid
            return "names the pod from an earlier try to bind it" if mine else f"is used by pod {lease.user}"
        if self._leases.taken(lease, uid):
            return "is about to be used by another pod"
        return "" if lease.placed else "has no slice yet"

    def _unfit(self, lease: GpuLease, gpu: Gpu | None, demand: PodDemand) -> str:
        """Why its GPU is not one that the pod accepts."""
        domain = lease_charge(lease).domain
        if self._ledger.separate and domain != demand.domain:
            return f"is in trust domain {domain}; the pod's is {demand.domain}. Stop it and start it"
        if gpu is None:
            return ""
        if not demand.preferences.admits(gpu):
            return f"is on GPU {gpu.uuid}, {gpu.model}, which the pod's annotations exclude"
        level = self._policies.level(demand)
        return f"is on a GPU of enforcement level {gpu.level}; the pod asks for {level}" if gpu.level < level else ""


def _gpu(ledger: Ledger, lease: GpuLease) -> Gpu | None:
    node = ledger.node(lease.node)
    return next((gpu for gpu in node.gpus if gpu.uuid == lease.share.uuid), None) if node else None


def _small(lease: GpuLease, asked: ContainerDemand, gpu: Gpu | None) -> str:
    """Why it is not what the container asks for; a slice without a cap has all the compute that can be asked for."""
    size, mem_bytes = lease.size, asked.mem_on(gpu) if gpu else asked.mem_bytes
    if mem_bytes > size.mem_bytes:
        return f"has {format_bytes(size.mem_bytes)}; the pod asks for {format_bytes(mem_bytes)}"
    if 0 < size.core_percent < asked.core_percent:
        return f"has {size.core_percent}% of its GPU's compute; the pod asks for {asked.core_percent}%"
    return ""


def _refusal(key: str, why: str) -> Reason:
    return Reason(Code.REMOTE_UNAVAILABLE, f"{names.GPU_LEASE}: GPULease {key} {why}")
