"""Small clusters and pods as literals."""

from dataclasses import replace

from tessera.model import names
from tessera.model.assignment import Assignment, encode
from tessera.model.gpu_leases import GpuLease, Slice
from tessera.model.gpus import Gpu, GpuNode, Health
from tessera.model.hosts import HostNeed
from tessera.model.pods import ContainerSpec, Kind, Pod
from tessera.model.quantities import GIB
from tessera.scheduler.engine import Engine
from tessera.scheduler.options import Options, PoolOptions


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def node(
    name: str, *gib: int, model: str = "NVIDIA L4", level: int = 0, sick: tuple[int, ...] = (), group: str = ""
) -> GpuNode:
    gpus = (
        Gpu(f"GPU-{name}-{i}", model, size * GIB, size * GIB, level=level,
            health=Health(False, "Xid 79") if i in sick else Health(), mps_group=group)
        for i, size in enumerate(gib)
    )  # fmt: skip
    return GpuNode(name, tuple(gpus))


def grouped(name: str, groups: str, *gib: int, level: int = 1) -> GpuNode:
    """A GPU for each letter of ``groups``, which names its MPS group; ``.``: one by itself. Of 24 GiB if not said."""
    found = node(name, *(gib or [24] * len(groups)), level=level)
    named = (replace(gpu, mps_group=group.strip(".")) for gpu, group in zip(found.gpus, groups, strict=True))
    return GpuNode(name, tuple(named))


def pod(name: str, *limits: str, uid: str = "", annotations: dict[str, str] | None = None, priority: int = 0) -> Pod:
    """``limits`` such as ``gpu-mem=4Gi gpu-core=30``, one for each container."""
    containers = []
    for i, text in enumerate(limits):
        wanted = {f"tessera.io/{key}": value for key, value in (part.split("=") for part in text.split())}
        containers.append(ContainerSpec(f"c{i}", f"spec.containers[{i}]", Kind.APP, {**wanted, names.SLICE: "1"}))
    return Pod("default", name, uid or f"uid-{name}", tuple(containers), annotations or {}, priority=priority)


def bound(pod: Pod, node: str, assignment: Assignment | None, phase: str = "Running") -> Pod:
    annotations = {**pod.annotations, **({names.ASSIGNMENT: encode(assignment)} if assignment else {})}
    return replace(pod, annotations=annotations, node=node, phase=phase)


def engine(*nodes: GpuNode, clock: Clock | None = None, options: Options | None = None) -> Engine:
    found = Engine(clock or Clock(), options)
    found.replace(nodes, ())
    return found


def place(engine: Engine, pod: Pod, names: list[str] | None = None) -> Assignment:
    """Filter, prioritize and reserve as kube-scheduler would; fails if no node holds the pod."""
    filtered = engine.filter(pod, names or [n.name for n in engine.ledger.nodes()])
    assert filtered.nodes, filtered.reason
    best = max(engine.prioritize(pod, filtered.nodes), key=lambda pair: pair[1])[0]
    reserved = engine.reserve(pod.uid, best)
    assert isinstance(reserved, tuple), reserved
    engine.observe_pod(bound(pod, best, reserved[1]))
    return reserved[1]


POOL = PoolOptions("pool", "executors", HostNeed(500, GIB))


def client(name: str, slots: int = 8) -> GpuNode:
    """A node without GPUs for pods whose slices are on others."""
    return GpuNode(name, (), slots)


def remote(name: str, *limits: str, may: str = "required") -> Pod:
    return pod(name, *limits, annotations={names.REMOTE: may})


def pooled(*nodes: GpuNode, clock: Clock | None = None, options: Options | None = None) -> Engine:
    """A cluster with a pool."""
    return engine(*nodes, clock=clock, options=replace(options or Options(), pool=POOL))


def made(lease: GpuLease) -> GpuLease:
    """As the API server has it once it was made."""
    return replace(lease, uid=f"lease-of-{lease.hold}")


def bind_away(engine: Engine, pod: Pod, offered: list[str]) -> list[GpuLease]:
    """Binds ``pod`` with leases; answers them."""
    filtered = engine.filter(pod, offered)
    assert filtered.nodes, filtered.reason
    best = max(engine.prioritize(pod, filtered.nodes), key=lambda pair: pair[1])[0]
    reserved = engine.reserve(pod.uid, best)
    assert isinstance(reserved, tuple), reserved
    leases = [made(lease) for lease in engine.leases.promised(pod.uid)]
    for lease in leases:
        engine.leases.observe(lease, 1e9)
    engine.confirm(pod.uid)
    engine.observe_pod(bound(pod, best, reserved[1]))
    return leases


def executor(lease: GpuLease, name: str = "", epoch: int = 1, target: Slice | None = None) -> Pod:
    """The pod that the pool makes for ``lease``, or for ``target``, which it moves to."""
    share = (target or lease.slice).share
    core = f" gpu-core={share.core_percent}" if share.core_percent else ""
    found = pod(name or f"x-{lease.name}-{epoch}", f"gpu-mem={share.mem_bytes}{core}")
    which = {names.LEASE_SLICE: "target"} if target else {}
    return replace(
        found, namespace=POOL.namespace, account=POOL.account, host=POOL.executor,
        annotations={names.LEASE: lease.key, **which}, labels={names.LEASE_UID: lease.uid},
    )  # fmt: skip
