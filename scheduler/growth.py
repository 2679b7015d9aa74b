"""Whether a namespace's ResourceQuotas allow a slice beyond what its pod has asked for, and pods beside such slices.

The request of a running pod never changes, and the quotas count nothing else of it. What leases have beyond their
pods' requests, a standing lease without a pod all that it has, is therefore added here to what a quota says is used:
when a lease is to grow, and when a pod is to be bound in a namespace with such leases. A pod that waits to use a
standing lease pays for it already. A quota with scopes is taken to count every pod.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tessera.kube.convert import pod_of
from tessera.kube.gateway import Gateway
from tessera.kube.resources import PODS, RESOURCE_QUOTAS
from tessera.model import names
from tessera.model.demands import ContainerDemand, PodDemand, demand_of
from tessera.model.gpu_leases import GpuLease, Size
from tessera.model.pods import Pod
from tessera.model.quantities import QuantityError, format_bytes, parse_whole
from tessera.scheduler.leases import Leases

Quota = Mapping[str, Any]
_MEM, _CORE = f"requests.{names.GPU_MEM}", f"requests.{names.GPU_CORE}"
_Sums = dict[str, int]


@dataclass(frozen=True, slots=True)
class Growth:
    """By the quotas' keys: what a lease is to have beyond its pod's request, and what all others have."""

    own: _Sums
    others: _Sums


def grown_keys(lease: GpuLease) -> list[str]:
    """In which of the quotas' keys ``wanted`` is more than the slice. A slice without a cap counts no compute."""
    wanted, size = lease.wanted or lease.size, lease.size
    grown = {_MEM: wanted.mem_bytes > size.mem_bytes, _CORE: wanted.core_percent > size.core_percent}
    return [key for key, more in grown.items() if more]


async def growth_refusal(gateway: Gateway, leases: Leases, lease: GpuLease) -> str:
    """Why ``lease`` may not have the size that is wanted, in one sentence; empty if it may. Raises ``KubeError``."""
    keys = grown_keys(lease)
    found = await _counted(gateway, lease.namespace, keys) if keys else None
    if found is None:
        return ""
    pods, quotas = found
    return refusal(quotas, growth(leases, lease, pods), keys)


async def binding_refusal(gateway: Gateway, leases: Leases, pod: Pod, demand: PodDemand) -> str:
    """Why ``pod``, which the quotas count already, may not have its slices beside what its namespace's leases have
    beyond their pods' requests, in one sentence; empty if it may. Raises ``KubeError``."""
    if not any(lease.namespace == pod.namespace and (lease.standing or lease.wanted) for lease in leases.all()):
        return ""
    found = await _counted(gateway, pod.namespace, _none())
    if found is None:
        return ""
    pods, quotas = found
    grown = Growth(beyond_requests(leases, pod.namespace, pods, demand), _none())
    return refusal(quotas, grown, _none(), "what leases have beyond their pods' requests")


async def _counted(gateway: Gateway, namespace: str, keys: Collection[str]) -> tuple[list[Pod], Sequence[Quota]] | None:
    """The pods of ``namespace``, and then its quotas, which count each of them; ``None`` if no quota names any of
    ``keys``."""
    quotas = await gateway.list(RESOURCE_QUOTAS, namespace=namespace)
    if not any(key in _part(quota, "spec", "hard") for quota in quotas for key in keys):
        return None
    pods = [pod_of(pod) for pod in await gateway.list(PODS, namespace=namespace)]
    return pods, await gateway.list(RESOURCE_QUOTAS, namespace=namespace)


def growth(leases: Leases, lease: GpuLease, pods: Iterable[Pod]) -> Growth:
    """``pods`` are those of the namespace."""
    asked, found = _Asked(pods), Growth(_none(), _none())
    for each in leases.all():
        if each.namespace == lease.namespace and asked.counts(each):
            mine = each.uid == lease.uid
            _add(found.own if mine else found.others, _beyond(leases, each, asked.of(each), wanted=mine))
    return found


def beyond_requests(leases: Leases, namespace: str, pods: Iterable[Pod], demand: PodDemand) -> _Sums:
    """What the leases of ``namespace`` have beyond what their pods, among ``pods``, ask for; the one that is to use a
    standing lease, with ``demand``, counts as its pod already."""
    asked, sums = _Asked(pods), _none()
    for lease in leases.all():
        uses = lease.standing and lease.client is None and lease.name == demand.preferences.lease
        if lease.namespace == namespace and asked.counts(lease):
            _add(sums, _beyond(leases, lease, demand.containers[0] if uses else asked.of(lease), wanted=False))
    return sums


def refusal(quotas: Iterable[Quota], growth: Growth, keys: Iterable[str], what: str = "this growth") -> str:
    """The first quota that ``growth``, in words ``what``, would exceed in one of ``keys``, in one sentence; empty if
    none."""
    for quota in quotas:
        hard, used = _part(quota, "spec", "hard"), _part(quota, "status", "used")
        for key in keys:
            if key not in hard or not growth.own[key]:
                continue
            where = f"ResourceQuota {quota['metadata']['name']}: {key}"
            if key not in used:
                return f"{where}: found no status.used yet; allowed: growth once the quota is counted"
            most, total = _amount(hard[key]), _amount(used[key]) + growth.own[key] + growth.others[key]
            if total > most:
                return f"{where}: found {_words(key, total)} with {what}; allowed: {_words(key, most)}"
    return ""


def _beyond(leases: Leases, lease: GpuLease, asked: ContainerDemand | None, *, wanted: bool) -> _Sums:
    """What ``lease`` has, or with ``wanted`` would have, beyond what its container has ``asked`` for."""
    sizes = [lease.size]
    if target := leases.target(lease):
        sizes.append(target.size)
    if wanted and lease.wanted:
        sizes = [lease.wanted]
    request = Size(asked.mem_bytes, asked.core_percent) if asked else Size(0, 0)
    mem = max(size.mem_bytes for size in sizes)
    core = max(size.core_percent for size in sizes)
    by_compute = asked is not None and not asked.mem_bytes and lease.wanted is None  # no quota sees that memory
    return {
        _MEM: 0 if by_compute else max(0, mem - request.mem_bytes),
        _CORE: max(0, core - request.core_percent),
    }


class _Asked:
    """What the containers of leases ask for, by ``pods`` that have not ended.

    Of a standing lease that no pod uses it is what one asks for that waits to: the quotas count that pod already, and
    it is placed nowhere else.
    """

    def __init__(self, pods: Iterable[Pod]) -> None:
        found = [(pod, demand_of(pod)) for pod in pods if not pod.ended]
        demands = [(pod, demand) for pod, demand in found if isinstance(demand, PodDemand)]
        self._by_uid = {pod.uid: demand for pod, demand in demands}
        self._waiting = {demand.preferences.lease: demand.containers[0] for pod, demand in demands if not pod.node}

    def counts(self, lease: GpuLease) -> bool:
        """Whether the lease is more than what is left of a pod."""
        return lease.standing or lease.pod_uid in self._by_uid

    def of(self, lease: GpuLease) -> ContainerDemand | None:
        """What the container of ``lease`` asks for."""
        if lease.standing and lease.client is None:
            return self._waiting.get(lease.name)
        demand = self._by_uid.get(lease.pod_uid)
        return next((c for c in demand.containers if c.container == lease.used_by), None) if demand else None


def _none() -> _Sums:
    return {_MEM: 0, _CORE: 0}


def _add(sums: _Sums, more: _Sums) -> None:
    for key, amount in more.items():
        sums[key] += amount


def _part(quota: Quota, *path: str) -> Mapping[str, Any]:
    found: Any = quota
    for key in path:
        found = (found or {}).get(key)
    return found or {}


def _amount(text: str) -> int:
    """A figure that cannot be read allows nothing and uses nothing."""
    try:
        return parse_whole(text)
    except QuantityError:
        return 0


def _words(key: str, amount: int) -> str:
    return format_bytes(amount) if key == _MEM else str(amount)
