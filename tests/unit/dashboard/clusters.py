"""Small clusters written as literals, for the dashboard's tests."""

from dataclasses import replace

from tessera.dashboard.facts import PodFacts
from tessera.dashboard.holdings import holding_of
from tessera.dashboard.snapshot import build
from tessera.dashboard.states import LeaseState, Snapshot
from tessera.model import names
from tessera.model.assignment import Assignment, Share, encode
from tessera.model.gpus import Gpu, GpuNode, Health
from tessera.model.pods import ContainerSpec, Pod
from tessera.model.quantities import GIB

POOL = "tessera-system"


def gpu(uuid: str, gib: int = 40, *, ill: str = "", level: int = 1) -> Gpu:
    return Gpu(uuid, "NVIDIA A100", gib * GIB, (gib + 1) * GIB, health=Health(not ill, ill), level=level)


def node(name: str, *gpus: Gpu) -> GpuNode:
    return GpuNode(name, gpus)


def pod(
    name: str,
    *shares: Share,
    mem: str = "4Gi",
    on: str = "",
    phase: str = "Pending",
    limits: dict[str, str] | None = None,
) -> Pod:
    """A pod with one container; ``shares`` make it assigned."""
    wants = limits if limits is not None else {names.GPU_MEM: mem, names.SLICE: "1"}
    annotations = {names.ASSIGNMENT: encode(Assignment((("main", shares),)))} if shares else {}
    container = ContainerSpec("main", "spec.containers[0]", limits=wants)
    return Pod("default", name, f"uid-{name}", (container,), annotations, on, phase)


def running(name: str, *shares: Share, on: str = "a") -> PodFacts:
    return PodFacts(pod(name, *shares, on=on, phase="Running"))


def snapshot(nodes: list[GpuNode], facts: list[PodFacts], leases: list[LeaseState] | None = None) -> Snapshot:
    return build(nodes, [h for h in map(holding_of, facts) if h is not None], leases)


def lease(name: str, share: Share, *, on: str = "a", client: str = "c", phase: str = "Active") -> LeaseState:
    """Of pod ``name``, whose one container runs on ``client`` and has ``share`` on ``on``."""
    executor = f"{POOL}/executor-{name}" if phase == "Active" else ""
    return LeaseState(
        "default", f"{name}-1", f"lease-{name}", name, f"uid-{name}", "main", client, on, share.uuid, share.mem_bytes,
        share.core_percent, phase, 2, "10.0.0.1:7443" if executor else "", executor, "", "2026-01-01T00:00:00Z",
    )  # fmt: skip


def client_of(lease: LeaseState, phase: str = "Running") -> PodFacts:
    """The pod that ``lease`` is for."""
    assignment = encode(Assignment((), "", ((lease.container, lease.name),)))
    bare = pod(lease.pod, on=lease.client_node, phase=phase)
    return PodFacts(replace(bare, annotations={names.ASSIGNMENT: assignment}))


def executor_of(lease: LeaseState, *shares: Share, phase: str = "Running") -> PodFacts:
    """The pod that serves ``lease``; without ``shares`` it waits for its node."""
    bare = pod(f"executor-{lease.pod}", *shares, on=lease.node if shares else "", phase=phase if shares else "Pending")
    annotations = {**bare.annotations, names.LEASE: lease.key}
    labels = {names.LEASE_UID: lease.uid}
    return PodFacts(replace(bare, namespace=POOL, account="executor", annotations=annotations, labels=labels))
