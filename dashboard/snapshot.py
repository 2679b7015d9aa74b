"""From the API server's objects to what the dashboard shows. Pure.

Which pods hold room is decided by ``charge_of``, as in the scheduler's ledger, so the two agree. A share on a GPU that
no node reports is shown as a GPU that is gone, never dropped.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tessera.dashboard.facts import Cause, PodFacts, asks, why_ended, why_waiting
from tessera.dashboard.states import GpuState, NodeState, PodShare, PodState, Snapshot, Tenant, Totals
from tessera.model import names
from tessera.model.assignment import Assignment, AssignmentError, Share, decode
from tessera.model.charges import charge_of
from tessera.model.demands import wants_slice
from tessera.model.gpus import LEVEL_NONE, Gpu, GpuNode
from tessera.reasons import Code


@dataclass(frozen=True, slots=True)
class _Held:
    """A pod that concerns the pool, with the assignment that takes room now, and what is wrong with it."""

    facts: PodFacts
    live: Assignment | None
    problem: Cause


def build(nodes: Iterable[GpuNode], pods: Iterable[PodFacts]) -> Snapshot:
    """The snapshot of all ``nodes`` and of those ``pods`` that ask for a slice or hold one."""
    held = sorted((_hold(f) for f in pods if concerns(f)), key=lambda h: h.facts.pod.key)
    tenants = _tenants(held)
    ordered = sorted(nodes, key=lambda n: n.name)
    gpus: dict[str, GpuState] = {}
    for node in ordered:
        for index, gpu in enumerate(node.gpus):
            gpus.setdefault(gpu.uuid, _gpu(node.name, index, gpu, tenants.get(gpu.uuid, ())))
    where = {share.uuid: h.facts.pod.node for h in held if h.live for share in h.live.shares}
    gpus |= {uuid: _gone(uuid, where[uuid], tenants[uuid]) for uuid in sorted(tenants.keys() - gpus.keys())}
    states = {h.facts.pod.key: _pod(h) for h in held}
    node_states = _nodes(ordered, gpus.values(), states.values())
    return Snapshot(gpus, node_states, states, _totals(node_states, gpus.values(), states.values()))


def concerns(facts: PodFacts) -> bool:
    """Whether a pod asks for a slice or holds one."""
    return names.ASSIGNMENT in facts.pod.annotations or wants_slice(facts.pod)


def _hold(facts: PodFacts) -> _Held:
    charge = charge_of(facts.pod)
    if charge is None or charge.assignment is not None:
        return _Held(facts, charge.assignment if charge else None, Cause())
    text = facts.pod.annotations.get(names.ASSIGNMENT)
    if text is None:
        return _Held(facts, None, Cause(Code.NO_ASSIGNMENT, f"bound to {charge.node} without an assignment"))
    try:
        decode(text)
    except AssignmentError as error:
        return _Held(facts, None, Cause(Code.INVALID_ASSIGNMENT, str(error)))
    return _Held(facts, None, Cause())


def _tenants(held: Iterable[_Held]) -> dict[str, Sequence[Tenant]]:
    found: dict[str, list[Tenant]] = defaultdict(list)
    for h in held:
        for container, shares in h.live.containers if h.live else ():
            for share in shares:
                found[share.uuid].append(_tenant(h, container, share))
    return dict(found)


def _tenant(held: _Held, container: str, share: Share) -> Tenant:
    pod = held.facts.pod
    return Tenant(pod.namespace, pod.name, container, share.mem_bytes, _core(share), share.whole)


def _core(share: Share) -> int:
    return 100 if share.whole else share.core_percent


def _gpu(node: str, index: int, gpu: Gpu, tenants: Sequence[Tenant]) -> GpuState:
    return GpuState(
        uuid=gpu.uuid, node=node, index=index, model=gpu.model, mem_bytes=gpu.mem_bytes, total_bytes=gpu.total_bytes,
        allocated_bytes=sum(t.mem_bytes for t in tenants), core_percent=sum(t.core_percent for t in tenants),
        tenants=tuple(tenants), healthy=gpu.health.healthy, health_reason=gpu.health.reason, level=gpu.level,
    )  # fmt: skip


def _gone(uuid: str, node: str, tenants: Sequence[Tenant]) -> GpuState:
    return GpuState(
        uuid=uuid, node=node, index=-1, model="", mem_bytes=0, total_bytes=0,
        allocated_bytes=sum(t.mem_bytes for t in tenants), core_percent=sum(t.core_percent for t in tenants),
        tenants=tuple(tenants), healthy=False, health_reason="no node reports this GPU", level=LEVEL_NONE,
    )  # fmt: skip


def _pod(held: _Held) -> PodState:
    pod = held.facts.pod
    shares = _pod_shares(held.live) if held.live else ()
    waiting = pod.phase == "Pending" and not pod.node
    cause = held.problem or _cause(held.facts, waiting)
    return PodState(
        namespace=pod.namespace, name=pod.name, uid=pod.uid, phase="Terminating" if pod.deleting else pod.phase,
        node=pod.node, created=held.facts.created, asks=asks(pod), gpus=shares, waiting=waiting,
        reason=cause.reason, message=cause.message,
    )  # fmt: skip


def _cause(facts: PodFacts, waiting: bool) -> Cause:
    if waiting:
        return why_waiting(facts)
    if facts.pod.phase == "Succeeded":
        return Cause("Completed", "all containers ended well")
    return why_ended(facts)


def _pod_shares(assignment: Assignment) -> tuple[PodShare, ...]:
    by_gpu: dict[str, PodShare] = {}
    for share in assignment.shares:
        old = by_gpu.get(share.uuid, PodShare(share.uuid, 0, 0, False))
        by_gpu[share.uuid] = PodShare(
            share.uuid, old.mem_bytes + share.mem_bytes, old.core_percent + _core(share), old.whole or share.whole
        )
    return tuple(by_gpu.values())


def _nodes(nodes: Sequence[GpuNode], gpus: Iterable[GpuState], pods: Iterable[PodState]) -> dict[str, NodeState]:
    by_node: dict[str, list[GpuState]] = defaultdict(list)
    for gpu in gpus:
        by_node[gpu.node].append(gpu)
    counts = Counter(p.node for p in pods if p.gpus)
    return {name: _node(name, by_node[name], counts[name]) for name in sorted({n.name for n in nodes} | set(by_node))}


def _node(name: str, gpus: Sequence[GpuState], pods: int) -> NodeState:
    return NodeState(
        name=name, models=tuple(sorted({g.model for g in gpus if g.model})), gpus=len(gpus),
        unhealthy_gpus=sum(not g.healthy for g in gpus), mem_bytes=sum(g.mem_bytes for g in gpus),
        allocated_bytes=sum(g.allocated_bytes for g in gpus), core_percent=sum(g.core_percent for g in gpus),
        pods=pods, level=min((g.level for g in gpus), default=LEVEL_NONE),
    )  # fmt: skip


def _totals(nodes: dict[str, NodeState], gpus: Iterable[GpuState], pods: Iterable[PodState]) -> Totals:
    gpus, pods = list(gpus), list(pods)
    return Totals(
        nodes=len(nodes), gpus=len(gpus), unhealthy_gpus=sum(not g.healthy for g in gpus),
        overcommitted_gpus=sum(g.overcommitted for g in gpus), idle_gpus=sum(not g.tenants and g.healthy for g in gpus),
        mem_bytes=sum(g.mem_bytes for g in gpus), allocated_bytes=sum(g.allocated_bytes for g in gpus),
        free_bytes=sum(g.free_bytes for g in gpus), largest_free_bytes=max((g.free_bytes for g in gpus), default=0),
        core_percent=sum(g.core_percent for g in gpus), pods=len(pods),
        running_pods=sum(p.phase == "Running" for p in pods), waiting_pods=sum(p.waiting for p in pods),
    )  # fmt: skip
