"""The tables and texts of ``kubectl tessera``, made of the dashboard's states."""

from collections import Counter
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from tessera.cli.kubectl_reading import Story, TenantRow
from tessera.dashboard.states import GpuState, LeaseState, NodeState, PodShare, PodState, Totals
from tessera.model.quantities import GIB, MIB

LEVELS = {-1: "none", 0: "watched", 1: "MPS", 2: "partition", 3: "driver"}
BAR = 10


def nodes(rows: Sequence[NodeState], totals: Totals) -> RenderableType:
    """One line a node, and the pool's sum below."""
    if not rows:
        return "No node reports GPUs yet."
    table = grid("NODE", "GPUS", "MODEL", "GIVEN", ">MEMORY", "", ">COMPUTE", ">PODS", "HELD BY", "HEALTH")
    for n in rows:
        if n.client_slots and not n.gpus:
            used = f"client node: {n.used_slots} of {_slots(n.client_slots)} used"
            table.add_row(escape(n.name), "0", used, "-", "-", "", "-", str(n.pods), "-", "-")
            continue
        ill = Text(f"{n.unhealthy_gpus} unhealthy", "red") if n.unhealthy_gpus else Text("healthy", "green")
        models = ", ".join(f"{count} x {model}" for model, count in n.models.items()) or "unknown"
        table.add_row(
            escape(n.name), str(n.gpus), escape(models), size(n.allocated_bytes), size(n.mem_bytes),
            _bar(n.allocated_bytes, n.mem_bytes), f"{_share(n.core_percent, n.gpus * 100)}%", str(n.pods),
            LEVELS.get(n.level, str(n.level)), ill,
        )  # fmt: skip
    waiting = "1 pod waits" if totals.waiting_pods == 1 else f"{totals.waiting_pods} pods wait"
    line = (
        f"{totals.gpus} GPUs on {totals.nodes} nodes: {size(totals.allocated_bytes)} of {size(totals.mem_bytes)} "
        f"given, largest free slice {size(totals.largest_free_bytes)}, {waiting}."
    )
    if totals.client_nodes:
        where = "1 client node" if totals.client_nodes == 1 else f"{totals.client_nodes} client nodes"
        line += f" {totals.used_slots} of {_slots(totals.client_slots)} used on {where}."
    return Group(table, Text(line, "dim"))


def gpus(rows: Sequence[GpuState]) -> RenderableType:
    """One line a GPU, and below why they are held as they are."""
    if not rows:
        return "No node reports GPUs yet."
    table = grid("NODE", ">GPU", "MODEL", "UUID", "GIVEN", ">MEMORY", "", ">COMPUTE", ">SLICES", "HELD BY", "HEALTH")
    for g in rows:
        health = Text("healthy", "green") if g.healthy else Text(g.health_reason or "unhealthy", "red")
        table.add_row(
            escape(g.node), str(g.index) if g.index >= 0 else "-", escape(g.model or "gone"), g.uuid,
            size(g.allocated_bytes), size(g.mem_bytes), _bar(g.allocated_bytes, g.mem_bytes), f"{g.core_percent}%",
            str(len(g.tenants)), LEVELS.get(g.level, str(g.level)), health,
        )  # fmt: skip
    return Group(table, *_whys(rows), *_conditions(rows))


def tenants(rows: Sequence[TenantRow]) -> RenderableType:
    """One line a share of a GPU."""
    if not rows:
        return "No pod holds a slice."
    table = grid("NAMESPACE", "POD", "CONTAINER", "NODE", "GPU", ">MEMORY", ">COMPUTE", "LEASE")
    for t in rows:
        core = "whole" if t.whole else f"{t.core_percent}%" if t.core_percent else "no cap"
        table.add_row(
            t.namespace, t.pod or "-", t.container or "-", t.node, t.uuid, size(t.mem_bytes), core, t.lease or "-"
        )
    return table


def pods(rows: Sequence[PodState]) -> RenderableType:
    """One line a pod; those that wait say why."""
    table = grid("NAMESPACE", "POD", "PHASE", "ASKS FOR", "HOLDS", "NODE", "REASON")
    for p in rows:
        phase = "Waiting" if p.waiting else p.phase
        colour = {"Running": "green", "Waiting": "yellow", "Failed": "red"}.get(phase, "")
        holds = "; ".join(_held(s) for s in p.gpus) or ", ".join(p.leases) or "-"
        why = ": ".join(part for part in (p.reason, p.message) if part)
        if p.serves:
            why = "; ".join(filter(None, (f"computes for {p.client or p.serves}", why)))
        table.add_row(p.namespace, p.name, Text(phase, colour), p.asks, holds, p.node or "-", escape(why))
    return table


def story(found: Story) -> RenderableType:
    """One pod in sentences."""
    pod, by_uuid = found.pod, {g.uuid: g for g in found.gpus}
    lines = [Text.assemble((f"{pod.key}", "bold"), f" asks for {pod.asks or 'something that cannot be read'}.")]
    if pod.serves:
        lines.append(Text(f"It is the executor of GPULease {pod.serves}{f', for {pod.client}' if pod.client else ''}."))
    if pod.waiting:
        lines.append(Text(f"It waits: {pod.reason}: {pod.message}", "yellow"))
    elif pod.gpus:
        lines.append(Text(f"It is {pod.phase} on {pod.node} and holds:"))
        lines += [Text(f"  {_where(share, by_uuid[share.uuid])}") for share in pod.gpus]
        lines += [Text(f"  {_served(lease)}") for lease in found.leases if lease.key in pod.leases]
        if pod.reason:
            lines.append(Text(f"{pod.reason}: {pod.message}", "yellow"))
    elif pod.leases and not pod.reason:
        lines.append(Text(f"It is {pod.phase} on {pod.node}; its slices are on other nodes, by GPULeases that you may "
                          f"not read: {', '.join(pod.leases)}"))  # fmt: skip
    else:
        why = f": {pod.reason}: {pod.message}" if pod.reason else ""
        lines.append(Text(f"It is {pod.phase} on {pod.node} and holds nothing{why}"))
    if found.events:
        lines.append(Text("What was said about it:", "dim"))
        lines += [Text(f"  {e.when}  {e.reason}: {e.message}", "dim") for e in found.events]
    return Group(*lines)


def size(value: int) -> str:
    """Bytes for people: ``4Gi``, ``1.5Gi``, ``512Mi``."""
    if value >= GIB:
        tenths = (value * 10 + GIB // 2) // GIB
        return f"{tenths // 10}Gi" if tenths % 10 == 0 or tenths >= 1000 else f"{tenths // 10}.{tenths % 10}Gi"
    return f"{value // MIB}Mi" if value >= MIB else str(value)


def _where(share: PodShare, gpu: GpuState) -> str:
    core = f", {share.core_percent}% of its compute" if share.core_percent else ", compute without a cap"
    what = "all" if share.whole else size(share.mem_bytes)
    model = f"GPU {gpu.index}, {gpu.model}" if gpu.index >= 0 else "a GPU that its node does not report"
    model += f", on {share.node}" if share.node else ""
    why = f" ({gpu.evidence})" if gpu.evidence else ""
    held = "" if share.whole else f", held by {LEVELS.get(gpu.level, str(gpu.level))}{why}"
    ill = "" if gpu.healthy else f"; unhealthy: {gpu.health_reason}"
    return f"{what} of {share.uuid} ({model}){'' if share.whole else core}{held}{ill}"


def served_by(lease: LeaseState) -> str:
    """By whom the slice of a lease is served, and where."""
    if not lease.executor:
        return "no executor"
    return f"executor {lease.executor}{f' at {lease.endpoint}' if lease.endpoint else ''}"


def _served(lease: LeaseState) -> str:
    phase = "ending" if lease.ending else lease.phase
    return f"container {lease.container}: GPULease {lease.key} is {phase}, epoch {lease.epoch}, {served_by(lease)}"


def _slots(count: int) -> str:
    return "1 slot" if count == 1 else f"{count} slots"


def _whys(rows: Sequence[GpuState]) -> list[Text]:
    """A line for each reason that a level has, with the number of its GPUs."""
    counts = Counter((g.level, g.evidence) for g in rows if g.evidence)
    return [
        Text(f"{LEVELS.get(level, str(level))}, {count} of {len(rows)} GPUs: {why}", "dim")
        for (level, why), count in sorted(counts.items(), reverse=True)
    ]


def _conditions(rows: Sequence[GpuState]) -> list[Text]:
    """A line for each thing that stands against a GPU."""
    return [Text(f"{g.uuid}: {one.type}: {one.message}", "yellow") for g in rows for one in g.conditions]


def _held(share: PodShare) -> str:
    core = f" {share.core_percent}%" if share.core_percent and not share.whole else ""
    where = f" on {share.node}" if share.node else ""
    return f"{share.uuid} {'whole' if share.whole else size(share.mem_bytes)}{core}{where}"


def grid(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in columns:
        table.add_column(name.removeprefix(">"), justify="right" if name.startswith(">") else "left", overflow="fold")
    return table


def _share(part: int, whole: int) -> int:
    return part * 100 // whole if whole else 0


def _bar(part: int, whole: int) -> Text:
    full = min(BAR, (part * BAR + whole - 1) // whole) if whole else 0
    return Text.assemble(("█" * full, "red" if part > whole else "cyan"), ("░" * (BAR - full), "dim"))
