"""One pod as the dashboard shows it, and what it holds of which GPUs. Pure, and computed once for each change of a pod.

Which pods hold room is decided by ``charge_of``, as in the scheduler's ledger, so the two agree.
"""

from dataclasses import dataclass

from tessera.dashboard.facts import Cause, PodFacts, asks, why_ended, why_waiting
from tessera.dashboard.states import PodShare, PodState, Tenant
from tessera.model import names
from tessera.model.assignment import Assignment, AssignmentError, Share, decode
from tessera.model.charges import Charge, charge_of
from tessera.model.demands import wants_slice
from tessera.model.pods import Pod
from tessera.reasons import Code


@dataclass(frozen=True, slots=True)
class Holding:
    """A pod that concerns the pool, and its shares by GPU UUID in the order of its containers.

    ``leases``: the GPULeases by which its containers have slices on other nodes, by container. ``serves_uid``: the UID
    of the one that it serves.
    """

    state: PodState
    tenants: tuple[tuple[str, Tenant], ...]
    leases: tuple[tuple[str, str], ...] = ()
    serves_uid: str = ""


def holding_of(facts: PodFacts) -> Holding | None:
    """``None`` for a pod that neither asks for a slice nor holds one."""
    pod = facts.pod
    if names.ASSIGNMENT not in pod.annotations and not wants_slice(pod):
        return None
    charge = charge_of(pod)
    live = charge.assignment if charge else None
    tenants = [(s.uuid, _tenant(pod, name, s)) for name, shares in (live.containers if live else ()) for s in shares]
    waiting = pod.phase == "Pending" and not pod.node
    cause = _problem(pod, charge) or _cause(facts, waiting)
    state = PodState(
        namespace=pod.namespace, name=pod.name, uid=pod.uid, phase="Terminating" if pod.deleting else pod.phase,
        node=pod.node, created=facts.created, asks=asks(pod), gpus=_pod_shares(live) if live else (), waiting=waiting,
        reason=cause.reason, message=cause.message, serves=pod.lease,
        leases=tuple(f"{pod.namespace}/{lease}" for _, lease in live.leases) if live else (),
    )  # fmt: skip
    return Holding(state, tuple(tenants), live.leases if live else (), pod.labels.get(names.LEASE_UID, ""))


def _problem(pod: Pod, charge: Charge | None) -> Cause:
    """What is wrong with the assignment of a pod that holds room."""
    if charge is None or charge.assignment is not None:
        return Cause()
    if names.ASSIGNMENT not in pod.annotations:
        return Cause(Code.NO_ASSIGNMENT, f"bound to {charge.node} without an assignment")
    try:
        decode(pod.annotations[names.ASSIGNMENT])
    except AssignmentError as error:
        return Cause(Code.INVALID_ASSIGNMENT, str(error))
    return Cause()


def _cause(facts: PodFacts, waiting: bool) -> Cause:
    if waiting:
        return why_waiting(facts)
    if facts.pod.phase == "Succeeded":
        return Cause("Completed", "all containers ended well")
    return why_ended(facts)


def _tenant(pod: Pod, container: str, share: Share) -> Tenant:
    executor = pod.key if pod.lease else ""
    return Tenant(pod.namespace, pod.name, container, share.mem_bytes, _core(share), share.whole, pod.lease, executor)


def _core(share: Share) -> int:
    return 100 if share.whole else share.core_percent


def _pod_shares(assignment: Assignment) -> tuple[PodShare, ...]:
    by_gpu: dict[str, PodShare] = {}
    for share in assignment.shares:
        old = by_gpu.get(share.uuid, PodShare(share.uuid, 0, 0, False))
        by_gpu[share.uuid] = PodShare(
            share.uuid, old.mem_bytes + share.mem_bytes, old.core_percent + _core(share), old.whole or share.whole
        )
    return tuple(by_gpu.values())
