"""What the compiled policies promise, said slowly: plain Python, nothing remembered, no short cuts."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from tessera.model.demands import ContainerDemand, PodDemand
from tessera.model.hosts import HostNeed
from tessera.model.ledger import Ledger
from tessera.model.placements import Choice
from tessera.scheduler.policy.kernels import Mix

MOST_PLACES = 64
"""No GPU counts for more pods of a kind than this."""


@dataclass(slots=True)
class GpuState:
    size: int
    free: int
    percent: int
    tenants: int
    model: str
    alone: bool = False


@dataclass(slots=True)
class NodeState:
    """What pods may still use: GPUs that are healthy and nobody's alone; ``taken``: those that somebody has alone."""

    cpu: int
    memory: int
    gpus: list[GpuState]
    taken: list[GpuState]

    def copy(self) -> "NodeState":
        return NodeState(self.cpu, self.memory, [replace(gpu) for gpu in self.gpus], self.taken)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of the mix, read back from its arrays; ``models`` are names."""

    cpu: int
    memory: int
    gpus: int
    mem: int
    core: int
    whole: bool
    models: frozenset[str]
    weight: float
    amount: float
    group: int


def node_of(ledger: Ledger, name: str) -> NodeState:
    row = ledger.rows()[name]
    node = ledger.node(name)
    assert node is not None
    gpus: list[GpuState] = []
    taken: list[GpuState] = []
    for column, gpu in enumerate(node.gpus):
        at = row, column
        if gpu.health.healthy:
            state = int(ledger.free_bytes[at]), int(ledger.free_percent[at]), int(ledger.tenants[at])
            (taken if ledger.exclusive[at] else gpus).append(GpuState(gpu.mem_bytes, *state, gpu.model.lower()))
    return NodeState(int(ledger.free_cpu[row]), int(ledger.free_memory[row]), gpus, taken)


def kinds_of(mix: Mix, ledger: Ledger) -> list[Kind]:
    known = ledger.models()
    return [
        Kind(
            int(mix.cpu[j]),
            int(mix.memory[j]),
            int(mix.gpus[j]),
            int(mix.mem[j]),
            int(mix.core[j]),
            bool(mix.whole[j]),
            frozenset(name for name, number in known.items() if int(mix.models[j]) >> number & 1),
            float(mix.weight[j]),
            float(mix.amount[j]),
            int(mix.group[j]),
        )
        for j in range(len(mix.cpu))
    ]


def _need(ask: Kind | ContainerDemand, size: int) -> int:
    mem, core = (ask.mem, ask.core) if isinstance(ask, Kind) else (ask.mem_bytes, ask.core_percent)
    if ask.whole:
        return size
    return mem or size * core // 100 // 2**20 * 2**20


def _fits(ask: Kind | ContainerDemand, gpu: GpuState, models: frozenset[str]) -> bool:
    core, need = ask.core if isinstance(ask, Kind) else ask.core_percent, _need(ask, gpu.size)
    if gpu.alone or gpu.model not in models or gpu.free < 0 or gpu.percent < core:
        return False
    return gpu.tenants == 0 and gpu.free == gpu.size if ask.whole else 0 < need <= gpu.free


def _serve(ask: Kind | ContainerDemand, node: NodeState, models: frozenset[str]) -> bool:
    """The tightest GPUs, one after the other; whole ones in their order."""
    core = ask.core if isinstance(ask, Kind) else ask.core_percent
    fitting = [gpu for gpu in node.gpus if _fits(ask, gpu, models)]
    if len(fitting) < ask.gpus:
        return False
    if not ask.whole:
        fitting.sort(
            key=lambda gpu: (
                1000 * (gpu.free - _need(ask, gpu.size)) / gpu.size
                + 10 * (gpu.percent - core)
                + 10_000 * (gpu.tenants == 0)
            )
        )
    for gpu in fitting[: ask.gpus]:
        gpu.free -= _need(ask, gpu.size)
        gpu.percent -= core
        gpu.tenants += 1
        gpu.alone = ask.whole
    return True


def idle(gpus: Iterable[GpuState], mix: Mix) -> float:
    """Idle thousandths."""
    return sum(
        mix.by_mem * gpu.free / gpu.size + mix.by_core * gpu.percent / 100
        for gpu in gpus
        if not gpu.alone and gpu.free >= 0 and gpu.percent >= 0
    )


def value(node: NodeState, kinds: Sequence[Kind], mix: Mix) -> float:
    """V: what stays idle once each stream has been offered, on average."""
    left = []
    for stream in mix.streams.tolist():
        trial = node.copy()
        for j in stream:
            kind = kinds[j]
            if kind.cpu <= trial.cpu and kind.memory <= trial.memory and _serve(kind, trial, kind.models):
                trial.cpu -= kind.cpu
                trial.memory -= kind.memory
        left.append(idle(trial.gpus, mix))
    return sum(left) / len(left)


def slots(node: NodeState, kind: Kind) -> int:
    """How many pods of one kind the node holds."""
    places = [_places(kind, gpu) for gpu in node.gpus if _fits(kind, gpu, kind.models)]
    held = 0
    while sum(min(each, held + 1) for each in places) >= (held + 1) * kind.gpus:
        held += 1
    if kind.cpu:
        held = min(held, max(node.cpu // kind.cpu, 0))
    if kind.memory:
        held = min(held, max(node.memory // kind.memory, 0))
    return held if kind.cpu <= node.cpu and kind.memory <= node.memory else 0


def later(node: NodeState, kind: Kind) -> float:
    """How many pods of a kind the node will hold once each tenant has left with a chance of 1/e."""
    able = [g for g in [*node.gpus, *node.taken] if g.model in kind.models and _need(kind, g.size) <= g.size]
    tenants = sorted(gpu.tenants for gpu in able)
    blocks = [tenants[first : first + kind.gpus] for first in range(0, len(tenants), kind.gpus)]
    return sum(math.exp(-sum(block)) for block in blocks if len(block) == kind.gpus)


def _places(kind: Kind, gpu: GpuState) -> int:
    if kind.whole:
        return 1
    places = gpu.free // _need(kind, gpu.size)
    return min(places, gpu.percent // kind.core if kind.core else places, MOST_PLACES)


def usable(node: NodeState, kind: Kind, mix: Mix) -> float:
    """What is idle on the GPUs that a pod of ``kind`` could use; nothing if the node does not hold one."""
    if not slots(node, kind):
        return 0.0
    return idle((gpu for gpu in node.gpus if _fits(kind, gpu, kind.models)), mix)


def fragments(node: NodeState, kinds: Sequence[Kind], mix: Mix) -> float:
    """FGD's F. As published, host memory is no matter."""
    node = NodeState(node.cpu, 1 << 62, node.gpus, node.taken)
    return sum(kind.weight * (idle(node.gpus, mix) - usable(node, kind, mix)) for kind in kinds)


def with_pod(node: NodeState, need: HostNeed, demand: PodDemand | None) -> NodeState | None:
    """The node with the pod on it, its largest container first; ``None`` if that fails."""
    out = node.copy()
    out.cpu -= need.cpu_milli
    out.memory -= need.memory_bytes
    containers = demand.containers if demand else ()
    for c in sorted(containers, key=lambda c: (-c.whole, -c.gpus, -c.mem_bytes, -c.core_percent)):
        assert demand is not None
        if not _serve(c, out, _admitted(demand.preferences.models, out)):
            return None
    return out


def _admitted(models: Choice, node: NodeState) -> frozenset[str]:
    return frozenset(gpu.model for gpu in node.gpus if models.admits(gpu.model))


def costs(
    nodes: Sequence[NodeState], kinds: Sequence[Kind], mix: Mix, leaving: float
) -> tuple[list[float], list[float]]:
    """c_j and d_j, what the loss of one slot of each kind costs now and later; below two thousandths it is nothing."""
    all_idle = sum(idle(node.gpus, mix) for node in nodes)
    demand = sum(kind.weight * kind.amount for kind in kinds)
    out: list[float] = []
    later: list[float] = []
    for index, kind in enumerate(kinds):
        pods = sum(all_idle * other.weight / demand for other in kinds if other.group == kind.group)
        if not pods:
            out.append(0.0)
            later.append(0.0)
            continue
        x = pods / (sum(slots(node, kind) for node in nodes) + 0.5)
        share = all_idle * kind.weight / demand / pods
        cost = kind.amount * share * (0.1 * x * x / (1 + x * x) + (3 * leaving * x if kind.gpus > 1 else 0))
        out.append(cost if cost > 2 else 0.0)
        first = all(other.group != kind.group for other in kinds[:index])
        cost = leaving * kind.amount * x / (1 + x) if first and kind.gpus > 1 else 0.0
        later.append(cost if cost > 2 else 0.0)
    return out, later


@dataclass(slots=True)
class Prices:
    gpu: list[float]
    cpu: list[float]


def prices(nodes: Sequence[NodeState], kinds: Sequence[Kind], mix: Mix, cpu_per_gpu: float, steps: int) -> Prices:
    """From nothing, ``steps`` steps."""
    out = Prices([0.0] * len(nodes), [0.0] * len(nodes))
    demand = sum(kind.weight * kind.amount for kind in kinds)
    all_idle = sum(idle(node.gpus, mix) for node in nodes)
    for _ in range(steps):
        load, cores = [0.0] * len(nodes), [0.0] * len(nodes)
        for kind in kinds:
            k = kind.cpu / max(kind.amount, 1.0)
            far = [p + q * k / cpu_per_gpu for p, q in zip(out.gpu, out.cpu, strict=True)]
            use = [usable(node, kind, mix) * math.exp(-f) for node, f in zip(nodes, far, strict=True)]
            if not sum(use):
                continue
            for row, each in enumerate(use):
                part = all_idle * kind.weight * kind.amount / demand * each / sum(use)
                load[row] += part
                cores[row] += part * k
        wish = [max(node.cpu, 0) * math.exp(-q) for node, q in zip(nodes, out.cpu, strict=True)]
        for row, node in enumerate(nodes):
            if sum(wish):
                cores[row] += all_idle * mix.other_cpu / demand * wish[row] / sum(wish)
            own = idle(node.gpus, mix)
            if own:
                out.gpu[row] = _clipped(out.gpu[row] + 0.5 * math.log(max(load[row], 1e-3) / own))
            out.cpu[row] = _clipped(out.cpu[row] + 0.5 * math.log(max(cores[row], 1e-3) / max(node.cpu, 1)))
    return out


def _clipped(price: float) -> float:
    return min(7.0, max(0.0, price))
