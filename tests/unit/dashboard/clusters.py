"""Small clusters written as literals, for the dashboard's tests."""

from tessera.dashboard.facts import PodFacts
from tessera.dashboard.holdings import holding_of
from tessera.dashboard.snapshot import build
from tessera.dashboard.states import Snapshot
from tessera.model import names
from tessera.model.assignment import Assignment, Share, encode
from tessera.model.gpus import Gpu, GpuNode, Health
from tessera.model.pods import ContainerSpec, Pod
from tessera.model.quantities import GIB


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


def snapshot(nodes: list[GpuNode], facts: list[PodFacts]) -> Snapshot:
    return build(nodes, [h for h in map(holding_of, facts) if h is not None])
