"""Random small clusters with pods on them, and random pods: unequal GPUs in a node, two dimensions, hosts or none."""

from dataclasses import dataclass, field
from random import Random

import numpy as np
from hypothesis import strategies as st

from tessera.model.assignment import Assignment, Share
from tessera.model.charges import Charge, Totals
from tessera.model.demands import ContainerDemand, PodDemand
from tessera.model.gpus import Gpu, GpuNode, Health
from tessera.model.hosts import Host, HostNeed
from tessera.model.ledger import Bools, Ledger
from tessera.model.placements import Choice, Preferences
from tessera.model.quantities import GIB
from tessera.scheduler.policy.kernels import Floats
from tessera.scheduler.policy.workload import Workload
from tessera.scheduler.ranking import Ties

MODELS = ("T4", "A10", "H100")
Ask = tuple[HostNeed, PodDemand | None]


def pods(max_containers: int = 2) -> st.SearchStrategy[Ask]:
    containers = st.lists(st.integers(0, 2**30), min_size=0, max_size=max_containers)
    return st.builds(_ask, st.sampled_from([0, 500, 1000, 4000]), st.sampled_from([0, 1, 4]), containers, MODEL_CHOICES)


MODEL_CHOICES = st.sampled_from(
    [
        Choice(),
        Choice(),
        Choice(frozenset({"t4"})),
        Choice(frozenset({"a10", "h100"})),
        Choice(frozenset(), frozenset({"t4"})),
    ]
)


def _ask(cpu: int, gib: int, draws: list[int], models: Choice) -> Ask:
    need = HostNeed(cpu, gib * GIB)
    if not draws:
        return need, None
    containers = tuple(_container(f"c{index}", draw) for index, draw in enumerate(draws))
    return need, PodDemand("default", "pod", "pod", containers, Preferences(models=models))


def _container(name: str, draw: int) -> ContainerDemand:
    chance = Random(draw)
    gpus = chance.choice((1, 1, 1, 2, 3))
    match chance.randrange(4):
        case 0:
            return ContainerDemand(name, gpus, 0, 100, whole=True)
        case 1:
            return ContainerDemand(name, gpus, 0, chance.choice((10, 30, 50, 80)))
        case 2:
            return ContainerDemand(name, gpus, chance.choice((1, 3, 6, 12)) * GIB, 0)
    return ContainerDemand(name, gpus, chance.choice((1, 4, 7)) * GIB, chance.choice((20, 40, 60)))


@dataclass(slots=True)
class World:
    """A cluster that random events change, and what arrived in it.

    ``hosts``: whether CPU and memory are known; ``alike``: all GPUs have as much memory.
    """

    seed: int
    hosts: bool = True
    alike: bool = False
    ledger: Ledger = field(default_factory=Ledger)
    workload: Workload = field(default_factory=Workload)
    ties: Ties = field(default_factory=lambda: Ties(7))
    chance: Random = field(init=False)
    count: int = 0

    def __post_init__(self) -> None:
        self.chance = Random(self.seed)

    def add_node(self) -> None:
        self.count += 1
        name, chance = f"n{self.count}", self.chance
        model, mixed = chance.choice(MODELS), chance.random() < 0.3
        gpus = []
        for index in range(chance.choice((1, 2, 4))):
            size = chance.choice((8, 16, 32)) * GIB if mixed or not gpus else gpus[0].mem_bytes
            size = 16 * GIB if self.alike else size
            kind = chance.choice(MODELS) if mixed else model
            health = Health(chance.random() > 0.1, "")
            gpus.append(Gpu(f"{name}-{index}", kind, size, size, health=health))
        if self.hosts and chance.random() < 0.9:
            self.ledger.upsert_host(Host(name, chance.choice((4000, 16000)), chance.choice((8, 64)) * GIB))
        self.ledger.upsert_node(GpuNode(name, tuple(gpus)))

    def arrive(self, asks: list[Ask], count: int) -> None:
        for _ in range(count):
            self.workload.saw(*self.chance.choice(asks))

    def disturb(self) -> None:
        """A share is taken or given back, or a host's CPU is."""
        held = list(self.ledger.charges())
        if held and self.chance.random() < 0.4:
            self.ledger.release(self.chance.choice(held))
            return
        names = list(self.ledger.rows())
        if not names:
            return
        self.count += 1
        name, uid = self.chance.choice(names), f"p{self.count}"
        if self.chance.random() < 0.3:
            self.ledger.occupy(uid, name, HostNeed(self.chance.choice((500, 3000)), GIB))
            return
        node = self.ledger.node(name)
        assert node is not None
        gpu = self.chance.choice(node.gpus)
        whole = self.chance.random() < 0.2
        mem = gpu.mem_bytes if whole else self.chance.choice((1, 2, 5)) * GIB
        share = Share(gpu.uuid, mem, 100 if whole else self.chance.choice((0, 10, 30)), whole)
        totals = Totals(share.mem_bytes, share.core_percent, int(whole), 1)
        self.ledger.reserve(uid, Charge(name, totals, Assignment((("c", (share,)),))))

    def rows(self, *names: str) -> Bools:
        """A mask of those nodes; of all if none is named."""
        mask = np.zeros(len(self.ledger.present), np.bool_)
        mask[[self.ledger.rows()[name] for name in names or self.ledger.rows()]] = True
        return mask

    def order(self) -> Floats:
        return self.ties.of(self.ledger)


def world(seed: int, asks: list[Ask], *, nodes: int, arrivals: int, disturbances: int, hosts: bool = True) -> World:
    out = World(seed, hosts)
    for _ in range(nodes):
        out.add_node()
    out.arrive(asks, arrivals)
    for _ in range(disturbances):
        out.disturb()
    return out
