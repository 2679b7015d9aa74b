"""From the API server's objects to what the dashboard shows. Pure.

A share on a GPU that no node reports is shown as a GPU that is gone, never dropped. Nodes without GPUs, for pods whose
slices are on others, are no part of it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from tessera.dashboard.holdings import Holding
from tessera.dashboard.states import GpuState, NodeState, PodState, Snapshot, Tenant, Totals
from tessera.model.gpus import LEVEL_NONE, Gpu, GpuNode


def build(nodes: Iterable[GpuNode], holdings: Iterable[Holding]) -> Snapshot:
    """The snapshot of all ``nodes`` and ``holdings``."""
    held = sorted(holdings, key=lambda h: h.state.key)
    tenants, where = _tenants(held)
    ordered = sorted((n for n in nodes if not n.is_client), key=lambda n: n.name)
    gpus: dict[str, GpuState] = {}
    for node in ordered:
        for index, gpu in enumerate(node.gpus):
            gpus.setdefault(gpu.uuid, _gpu(node.name, index, gpu, tenants.get(gpu.uuid, ())))
    gpus |= {uuid: _gone(uuid, where[uuid], tenants[uuid]) for uuid in sorted(tenants.keys() - gpus.keys())}
    pods = {h.state.key: h.state for h in held}
    node_states = _nodes(ordered, gpus.values(), pods.values())
    return Snapshot(gpus, node_states, pods, _totals(node_states, gpus.values(), pods.values()))


def _tenants(held: Iterable[Holding]) -> tuple[dict[str, list[Tenant]], dict[str, str]]:
    """The tenants of each GPU, and the node on which the last of them runs."""
    found: dict[str, list[Tenant]] = defaultdict(list)
    where: dict[str, str] = {}
    for h in held:
        for uuid, tenant in h.tenants:
            found[uuid].append(tenant)
            where[uuid] = h.state.node
    return dict(found), where


def _gpu(node: str, index: int, gpu: Gpu, tenants: Sequence[Tenant]) -> GpuState:
    return GpuState(
        uuid=gpu.uuid, node=node, index=index, model=gpu.model, mem_bytes=gpu.mem_bytes, total_bytes=gpu.total_bytes,
        allocated_bytes=sum(t.mem_bytes for t in tenants), core_percent=sum(t.core_percent for t in tenants),
        tenants=tuple(tenants), healthy=gpu.health.healthy, health_reason=gpu.health.reason, level=gpu.level,
        evidence=gpu.evidence,
    )  # fmt: skip


def _gone(uuid: str, node: str, tenants: Sequence[Tenant]) -> GpuState:
    return GpuState(
        uuid=uuid, node=node, index=-1, model="", mem_bytes=0, total_bytes=0,
        allocated_bytes=sum(t.mem_bytes for t in tenants), core_percent=sum(t.core_percent for t in tenants),
        tenants=tuple(tenants), healthy=False, health_reason="no node reports this GPU", level=LEVEL_NONE,
    )  # fmt: skip


def _nodes(nodes: Sequence[GpuNode], gpus: Iterable[GpuState], pods: Iterable[PodState]) -> dict[str, NodeState]:
    by_node: dict[str, list[GpuState]] = defaultdict(list)
    for gpu in gpus:
        by_node[gpu.node].append(gpu)
    counts = Counter(p.node for p in pods if p.gpus)
    return {name: _node(name, by_node[name], counts[name]) for name in sorted({n.name for n in nodes} | set(by_node))}


def _node(name: str, gpus: Sequence[GpuState], pods: int) -> NodeState:
    return NodeState(
        name=name, models=dict(sorted(Counter(g.model for g in gpus if g.model).items())), gpus=len(gpus),
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
