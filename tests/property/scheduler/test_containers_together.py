"""Containers on one node: the filter answers what trying every placement does, and what is placed is enough."""

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.model.charges import totals_of
from tessera.model.demands import ContainerDemand, PodDemand, demand_of
from tessera.model.quantities import GIB
from tessera.scheduler.options import Options
from tests.unit.scheduler.clusters import engine, node, place, pod

ASKS = st.sampled_from(
    ["gpu-mem=3Gi", "gpu-mem=5Gi", "gpu-mem=2Gi gpu-core=60", "gpu-core=50", "gpu-core=30", "gpu-core=60 gpu-count=2",
     "gpu=1", "gpu-mem=6Gi gpu-count=2"]
)  # fmt: skip
Free = list[tuple[int, int, int]]


def holds(free: Free, sizes: list[int], containers: tuple[ContainerDemand, ...]) -> bool:
    """Every placement in turn; ``free`` is (bytes, percent, tenants) of each GPU."""
    if not containers:
        return True
    first, rest = containers[0], containers[1:]
    enough = [column for column, size in enumerate(sizes) if first.mem_of(size) >= first.least_bytes]
    for columns in combinations(enough, first.gpus):
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
    asks=st.lists(ASKS, min_size=1, max_size=4),
    context=st.sampled_from([0, 2 * GIB]),
    policy=st.sampled_from(["pack", "spread"]),
)
def test_the_filter_knows_every_placement(
    sizes: list[int], before: list[str], asks: list[str], context: int, policy: str
) -> None:
    cluster = engine(node("a", *sizes), options=Options(context_bytes=context))
    for index, ask in enumerate(before):
        early = pod(f"early{index}", ask, annotations={"tessera.io/placement": policy})
        if cluster.filter(early, ["a"]).nodes:
            place(cluster, early)
    asked = pod("p", *asks, annotations={"tessera.io/placement": policy})
    demand = demand_of(asked, context)
    assert isinstance(demand, PodDemand)
    ledger, row, count = cluster.ledger, cluster.ledger.row("a"), len(sizes)
    arrays = (ledger.free_bytes, ledger.free_percent, ledger.tenants)
    state = [tuple(int(array[row, column]) for array in arrays) for column in range(count)]
    room = bool(ledger.room_of(totals_of(asked))[row])
    expected = room and holds(state, [size * GIB for size in sizes], demand.containers)
    assert cluster.filter(asked, ["a"]).nodes == (["a"] if expected else [])
    if expected:
        assert all(share.mem_bytes >= context for share in place(cluster, asked).shares)
