"""A lease that is to move finds a slice exactly where one is: each GPU is looked at one by one here."""

from collections import Counter
from dataclasses import replace
from random import Random

from tessera.model.assignment import Share
from tessera.model.demands import demand_of
from tessera.model.gpu_leases import GpuLease, Size, Slice
from tessera.model.hosts import Host
from tessera.model.quantities import GIB
from tessera.scheduler.engine import Engine
from tessera.scheduler.lease_rooms import lease_charge
from tessera.scheduler.options import Options
from tessera.scheduler.relocation import Aim, Sight, Stay
from tests.unit.scheduler.clusters import bind_away, client, node, pooled, remote

RULES = ("cluster", "namespace")


def cluster(rng: Random) -> tuple[Engine, list[GpuLease]]:
    """GPU nodes, some of them closed or with sick GPUs by and by, and leases on them."""
    nodes = [node(f"g{i}", *rng.choices([16, 24], k=rng.choice([1, 2]))) for i in range(4)]
    engine = pooled(client("c", 64), *nodes, options=Options(trust_domain=rng.choice(RULES)))
    for each in engine.ledger.nodes():
        engine.observe_host(Host(each.name, rng.choice([1_500, 64_000]), 640 * GIB))
    leases, names = [], [each.name for each in engine.ledger.nodes()]
    for index in range(9):
        asked = remote(f"p{index}", f"gpu-mem={rng.choice([3, 6, 11])}Gi gpu-core={rng.choice([10, 40])}")
        asked = replace(asked, namespace=rng.choice(["team-a", "team-b"]))
        if engine.filter(asked, names).nodes:
            leases += bind_away(engine, asked, names)
    for each in nodes:
        if rng.random() < 0.4:
            engine.observe_host(Host(each.name, 64_000, 640 * GIB, closed=True, cordoned=rng.random() < 0.5))
        elif rng.random() < 0.3:
            engine.observe_node(node(each.name, *(g.mem_bytes // GIB for g in each.gpus), sick=(0,)))
    return engine, leases


def wishes(rng: Random, engine: Engine, lease: GpuLease) -> GpuLease:
    if rng.random() < 0.5:
        lease = replace(lease, wanted=Size(rng.choice([2, 6, 12, 20]) * GIB, rng.choice([0, 10, 90])))
        engine.leases.observe(lease)
    return lease


def places(engine: Engine, lease: GpuLease, size: Size) -> list[Slice]:
    """Wherever a slice of that size would fit, by the ledger's own word on each GPU."""
    ledger, found = engine.ledger, []
    for each in list(ledger.nodes()):
        row = ledger.row(each.name)
        host = ledger.hosts()[each.name]
        if row is None or host.closed or ledger.free_cpu[row] < 500 or ledger.free_memory[row] < GIB:
            continue
        for gpu in each.gpus:
            where = Slice(each.name, Share(gpu.uuid, size.mem_bytes, size.core_percent))
            if where != lease.slice and ledger.refusal(lease_charge(lease, where)) is None:
                found.append(where)
    return found


def test_it_moves_if_it_can_and_says_so_if_not() -> None:
    seen = Counter[str]()
    for seed in range(100):
        try_cluster(Random(seed), seen)
    for what in ("aimed resize", "aimed cordon", "aimed health", "aimed gone", "stays"):
        assert seen[what] >= 2, f"there was something to see: {what} in {seen}"


def try_cluster(rng: Random, seen: Counter[str]) -> None:
    """Counts what its leases did in ``seen``."""
    engine, leases = cluster(rng)
    relocations = engine.relocations
    assert relocations is not None
    for lease in [wishes(rng, engine, each) for each in leases]:
        pressing = {each.key for each, _ in relocations.pressing()}
        pod = replace(remote(lease.client.pod, "gpu-mem=1Gi"), namespace=lease.namespace)
        before = dict(engine.ledger.charges())
        decided = relocations.decide(Sight(lease, live=rng.random() < 0.5), demand_of(pod), "")
        assert dict(engine.ledger.charges()) == before, "a decision changes nothing"
        assert decided is None or lease.key in pressing
        sizes = [size for size in (lease.wanted, lease.size) if size]
        if isinstance(decided, Aim):
            assert decided.where in places(engine, lease, decided.where.size) and decided.where.size in sizes
            assert engine.leases.aim(lease, decided.where) is None
            seen[f"aimed {decided.cause.kind}"] += 1
        elif isinstance(decided, Stay):
            assert not places(engine, lease, sizes[0])
            seen["stays"] += 1
        assert engine.ledger.over_committed() == []
