"""Several containers on one node: what the filter answers is what trying every placement answers."""

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.model.charges import totals_of
from tessera.model.demands import ContainerDemand, PodDemand, demand_of
from tessera.model.quantities import GIB
from tests.unit.scheduler.clusters import engine, node, place, pod

ASKS = st.sampled_from(
    ["gpu-mem=3Gi", "gpu-mem=5Gi", "gpu-mem=2Gi gpu-core=60", "gpu-core=50", "gpu=1", "gpu-mem=6Gi gpu-count=2"]
)
Free = list[tuple[int, int, int]]


def holds(free: Free, sizes: list[int], containers: tuple[ContainerDemand, ...]) -> bool:
    """Every placement in turn; ``free`` is (bytes, percent, tenants) of each GPU."""
    if not containers:
        return True
    first, rest = containers[0], containers[1:]
    for columns in combinations(range(len(free)), first.gpus):
        left = list(free)
        for column in columns:
            mem, percent, tenants = free[column]
            left[column] = (mem - first.mem_of(sizes[column]), percent - first.core_percent, tenants + 1)
        alone = not first.whole or all(free[column][2] == 0 for column in columns)
        if alone and all(min(mem, percent) >= 0 for mem, percent, _ in left) and holds(left, sizes, rest):
            return True
    return False


@settings(max_examples=150, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([6, 8, 10]), min_size=1, max_size=3),
    before=st.lists(st.sampled_from(["gpu-mem=3Gi", "gpu-mem=1Gi gpu-core=50"]), max_size=3),
    asks=st.lists(ASKS, min_size=2, max_size=4),
    policy=st.sampled_from(["pack", "spread"]),
)
def test_the_filter_knows_every_placement(sizes: list[int], before: list[str], asks: list[str], policy: str) -> None:
    cluster = engine(node("a", *sizes))
    for index, ask in enumerate(before):
        early = pod(f"early{index}", ask, annotations={"tessera.io/placement": policy})
        if cluster.filter(early, ["a"]).nodes:
            place(cluster, early)
    asked = pod("p", *asks, annotations={"tessera.io/placement": policy})
    demand = demand_of(asked)
    assert isinstance(demand, PodDemand)
    ledger, row, count = cluster.ledger, cluster.ledger.row("a"), len(sizes)
    arrays = (ledger.free_bytes, ledger.free_percent, ledger.tenants)
    state = [tuple(int(array[row, column]) for array in arrays) for column in range(count)]
    room = bool(ledger.room_of(totals_of(asked))[row])
    expected = room and holds(state, [size * GIB for size in sizes], demand.containers)
    assert cluster.filter(asked, ["a"]).nodes == (["a"] if expected else [])
