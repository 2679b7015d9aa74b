"""From the API server's objects to what the dashboard shows. Pure.

A share on a GPU that no node reports is shown as a GPU that is gone, never dropped. A slice that a GPULease keeps is
shown once, as its client's.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from tessera.dashboard.elsewhere import joined, tenant_of
from tessera.dashboard.holdings import Holding
from tessera.dashboard.states import GpuState, LeaseRoom, LeaseState, NodeState, PodState, Snapshot, Tenant, Totals
from tessera.model.gpus import LEVEL_NONE, Gpu, GpuNode


def build(
    nodes: Iterable[GpuNode], holdings: Iterable[Holding], leases: Iterable[LeaseState] | None = None
) -> Snapshot:
    """The snapshot of all ``nodes``, ``holdings`` and ``leases``, which are ``None`` where they are not known."""
    known = None if leases is None else {lease.key: lease for lease in sorted(leases, key=lambda each: each.key)}
    held, kept = joined(sorted(holdings, key=lambda h: h.state.key), known)
    tenants, where = _tenants(held, kept)
    ordered = sorted(nodes, key=lambda n: n.name)
    gpus: dict[str, GpuState] = {}
    for node in ordered:
        for index, gpu in enumerate(node.gpus):
            gpus.setdefault(gpu.uuid, _gpu(node.name, index, gpu, tenants.get(gpu.uuid, ())))
    gpus |= {uuid: _gone(uuid, where[uuid], tenants[uuid]) for uuid in sorted(tenants.keys() - gpus.keys())}
    pods = {h.state.key: h.state for h in held}
    used = Counter(h.state.node for h in held for _ in h.leases)
    node_states = _nodes(ordered, gpus.values(), pods.values(), used)
    totals = _totals(node_states, gpus.values(), pods.values(), len(known or ()))
    return Snapshot(gpus, node_states, pods, totals, known or {})


def _tenants(
    held: Iterable[Holding], kept: Iterable[tuple[LeaseState, LeaseRoom]]
) -> tuple[dict[str, list[Tenant]], dict[str, str]]:
    """The tenants of each GPU in order of their names, and the node on which it is by the last of them."""
    found: dict[str, list[Tenant]] = defaultdict(list)
    where: dict[str, str] = {}
    for h in held:
        for uuid, tenant in h.tenants:
            found[uuid].append(tenant)
            where[uuid] = h.state.node
    for lease, room in kept:
        found[room.uuid].append(tenant_of(lease, room))
        where[room.uuid] = room.node
    return {uuid: sorted(each, key=lambda t: (t.namespace, t.pod)) for uuid, each in found.items()}, where


def _gpu(node: str, index: int, gpu: Gpu, tenants: Sequence[Tenant]) -> GpuState:
    return GpuState(
        uuid=gpu.uuid, node=node, index=index, model=gpu.model, mem_bytes=gpu.mem_bytes, total_bytes=gpu.total_bytes,
        allocated_bytes=sum(t.mem_bytes for t in tenants), core_percent=sum(t.core_percent for t in tenants),
        tenants=tuple(tenants), healthy=gpu.health.healthy, health_reason=gpu.health.reason, level=gpu.level,
        evidence=gpu.evidence, conditions=gpu.conditions,
    )  # fmt: skip


def _gone(uuid: str, node: str, tenants: Sequence[Tenant]) -> GpuState:
    return GpuState(
        uuid=uuid, node=node, index=-1, model="", mem_bytes=0, total_bytes=0,
        allocated_bytes=sum(t.mem_bytes for t in tenants), core_percent=sum(t.core_percent for t in tenants),
        tenants=tuple(tenants), healthy=False, health_reason="no node reports this GPU", level=LEVEL_NONE,
    )  # fmt: skip


def _nodes(
    nodes: Sequence[GpuNode], gpus: Iterable[GpuState], pods: Iterable[PodState], used: Mapping[str, int]
) -> dict[str, NodeState]:
    by_node: dict[str, list[GpuState]] = defaultdict(list)
    for gpu in gpus:
        by_node[gpu.node].append(gpu)
    counts = Counter(p.node for p in pods if p.gpus)
    slots = {n.name: n.client_slots for n in nodes}
    return {
        name: _node(name, by_node[name], counts[name], slots.get(name, 0), used.get(name, 0))
        for name in sorted(slots.keys() | by_node.keys())
    }


def _node(name: str, gpus: Sequence[GpuState], pods: int, client_slots: int, used_slots: int) -> NodeState:
    return NodeState(
        name=name, models=dict(sorted(Counter(g.model for g in gpus if g.model).items())), gpus=len(gpus),
        unhealthy_gpus=sum(not g.healthy for g in gpus), mem_bytes=sum(g.mem_bytes for g in gpus),
        allocated_bytes=sum(g.allocated_bytes for g in gpus), core_percent=sum(g.core_percent for g in gpus),
        pods=pods, level=min((g.level for g in gpus), default=LEVEL_NONE), client_slots=client_slots,
        used_slots=used_slots,
    )  # fmt: skip


def _totals(nodes: dict[str, NodeState], gpus: Iterable[GpuState], pods: Iterable[PodState], leases: int) -> Totals:
    gpus, pods = list(gpus), [p for p in pods if not p.serves]
    clients = [n for n in nodes.values() if n.client_slots]
    return Totals(
        nodes=sum(bool(n.gpus) or not n.client_slots for n in nodes.values()), gpus=len(gpus),
        unhealthy_gpus=sum(not g.healthy for g in gpus),
        overcommitted_gpus=sum(g.overcommitted for g in gpus), idle_gpus=sum(not g.tenants and g.healthy for g in gpus),
        mem_bytes=sum(g.mem_bytes for g in gpus), allocated_bytes=sum(g.allocated_bytes for g in gpus),
        free_bytes=sum(g.free_bytes for g in gpus), largest_free_bytes=max((g.free_bytes for g in gpus), default=0),
        core_percent=sum(g.core_percent for g in gpus), pods=len(pods),
        running_pods=sum(p.phase == "Running" for p in pods), waiting_pods=sum(p.waiting for p in pods),
        leases=leases, client_nodes=len(clients), client_slots=sum(n.client_slots for n in clients),
        used_slots=sum(n.used_slots for n in clients),
    )  # fmt: skip
