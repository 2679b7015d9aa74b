"""What must hold before a container may start with its slice. Pure; the first failure is the answer."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tessera.device_plugin.refusals import Refusal
from tessera.model import names
from tessera.model.assignment import Assignment, AssignmentError, NewerVersionError, Share, decode
from tessera.model.charges import fits_demand
from tessera.model.demands import PodDemand, demand_of
from tessera.model.gpus import Gpu
from tessera.model.pods import Pod
from tessera.reasons import Code, Reason


@dataclass(frozen=True, slots=True)
class Grant:
    """What the assignment gives to one container, in which trust domain, and what the pod asked for.

    ``lease``: the name of the GPULease of a slice on another node; then there are no shares.
    """

    shares: tuple[Share, ...]
    demand: PodDemand
    domain: str = ""
    lease: str = ""


def grant_of(pod: Pod, container: str) -> Grant | Refusal:
    """The container's part of the pod's assignment, checked against what the pod's spec asks for."""
    text = pod.annotations.get(names.ASSIGNMENT)
    if text is None:
        return _end(Code.NO_ASSIGNMENT, f"pod {pod.key} has no {names.ASSIGNMENT}: it was not placed by the scheduler")
    try:
        assignment = decode(text)
    except NewerVersionError as error:
        # In the middle of an upgrade the scheduler may be ahead of this node: the pod must not be lost for that.
        return Refusal(Reason(Code.INVALID_ASSIGNMENT, f"pod {pod.key}: {error} (waits for a newer device plugin)"))
    except AssignmentError as error:
        return _end(Code.INVALID_ASSIGNMENT, f"pod {pod.key}: {error}")
    return _matched(pod, container, assignment)


def _matched(pod: Pod, container: str, assignment: Assignment) -> Grant | Refusal:
    demand = demand_of(pod)
    if isinstance(demand, Reason):
        return _end(Code.INVALID_REQUEST, f"pod {pod.key}: {demand.text}")
    if demand is not None and assignment.leases:
        return _leased(pod, container, assignment, demand)
    shares = assignment.of(container)
    if demand is None or shares is None:
        found = sorted(name for name, _ in assignment.containers)
        text = f"pod {pod.key}: {names.ASSIGNMENT}: found containers {found}; allowed: one named {container!r}"
        return _end(Code.INVALID_ASSIGNMENT, text)
    if difference := fits_demand(demand, assignment):
        return _end(Code.INVALID_ASSIGNMENT, f"pod {pod.key}: {difference}")
    return Grant(shares, demand, assignment.domain)


def _leased(pod: Pod, container: str, assignment: Assignment, demand: PodDemand) -> Grant | Refusal:
    lease = assignment.lease_of(container)
    found, asked = sorted(name for name, _ in assignment.leases), sorted(c.container for c in demand.containers)
    if lease is None or found != asked:
        text = f"pod {pod.key}: {names.ASSIGNMENT}: found leases of {found}; allowed: of {asked}, which ask for slices"
        return _end(Code.INVALID_ASSIGNMENT, text)
    return Grant((), demand, assignment.domain, lease)


def check_gpus(grant: Grant, container: str, gpus: Mapping[str, Gpu]) -> Refusal | None:
    """Whether the GPUs are this node's, healthy, strong enough, and give what the demand makes of them."""
    if grant.lease:
        text = f"found GPULease {grant.lease}; allowed: GPUs, since this node has no slots for slices on other nodes"
        return _end(Code.INVALID_ASSIGNMENT, f"container {container}: {text}")
    need = next(c for c in grant.demand.containers if c.container == container)
    for share in grant.shares:
        gpu = gpus.get(share.uuid)
        if gpu is None:
            return _end(Code.GPU_GONE, f"GPU {share.uuid} is not on this node, which has {_list(gpus)}")
        if not gpu.health.healthy:
            return _end(Code.UNHEALTHY, f"GPU {share.uuid} is unhealthy: {gpu.health.reason or 'no reason given'}")
        if not share.whole and gpu.level < grant.demand.min_level:
            text = f"GPU {share.uuid}: found enforcement level {gpu.level}; allowed: {grant.demand.min_level} or above"
            return _end(Code.ENFORCEMENT_TOO_WEAK, text)
        if share.mem_bytes > need.mem_on(gpu):
            text = f"GPU {share.uuid}: found {share.mem_bytes} bytes assigned; allowed: {need.mem_on(gpu)} at most"
            return _end(Code.INVALID_ASSIGNMENT, text)
    return None


def may_pass(refusal: Refusal) -> bool:
    """Whether the state of a GPU is to blame, which may come back before the pod is ended for it."""
    return refusal.reason.code in (Code.GPU_GONE, Code.UNHEALTHY, Code.ENFORCEMENT_TOO_WEAK)


def _list(items: Iterable[str]) -> str:
    return ", ".join(sorted(items)) or "none"


def _end(code: Code, text: str) -> Refusal:
    return Refusal(Reason(code, text), permanent=True)
