"""The compiled loops say of every node what the arrays of ``scheduler.fit`` say."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.model.assignment import Assignment, Share
from tessera.model.charges import Charge, Totals
from tessera.model.demands import PodDemand, demand_of
from tessera.model.ledger import Ledger
from tessera.model.quantities import GIB, MIB
from tessera.scheduler.fit import min_level
from tessera.scheduler.policy import POLICIES, by_gpu
from tessera.scheduler.policy.workload import Workload
from tessera.scheduler.ranking import Ties, able, feasible, fits_of
from tests.unit.scheduler.clusters import node, pod

SIZES = st.sampled_from((4, 16, 24))
NODES = st.lists(
    st.tuples(
        st.lists(SIZES, min_size=0, max_size=4),
        st.sampled_from(("NVIDIA L4", "NVIDIA T4", "NVIDIA H100")),
        st.integers(-1, 3),
        st.sets(st.integers(0, 3)),
    ),
    min_size=1,
    max_size=5,
)
ASKS = st.sampled_from(
    ("gpu-mem=4Gi", "gpu-mem=13Gi", "gpu-core=50", "gpu=1", "gpu=2", "gpu-mem=16Gi gpu-count=2 gpu-core=40",
     "gpu-mem=24Gi", "gpu-core=1", "gpu-core=4", "gpu-core=14 gpu-count=2", "gpu-mem=48Gi gpu-count=3", "gpu-mem=99Gi")
)  # fmt: skip
ANNOTATIONS = st.sampled_from(
    (
        {},
        {"tessera.io/gpu-model": "nvidia t4, nvidia h100"},
        {"tessera.io/gpu-model": "!NVIDIA L4"},
        {"tessera.io/gpu-model": "no such"},
        {"tessera.io/enforcement": "2"},
    )
)
HELD = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(1, 30), st.integers(0, 110), st.booleans()), max_size=12
)


def ledger_of(nodes: list[tuple[list[int], str, int, set[int]]], held: list[tuple[int, int, int, int, bool]]) -> Ledger:
    """Facts may also be such that a GPU is given away twice."""
    ledger = Ledger()
    for index, (sizes, model, level, sick) in enumerate(nodes):
        ledger.upsert_node(node(f"n{index}", *sizes, model=model, level=level, sick=tuple(sick)))
    for number, (at, column, gib, core, whole) in enumerate(held):
        share = Share(f"GPU-n{at}-{column}", gib * GIB, min(core, 100), whole)
        ledger.charge(f"uid-{number}", Charge(f"n{at}", Totals(), Assignment((("c", (share,)),))))
    return ledger


@given(NODES, HELD, ASKS, ANNOTATIONS, st.integers(0, 2), st.sampled_from([0, 600 * MIB]), st.data())
@settings(max_examples=300, deadline=None)
def test_which_nodes_hold_one_container_and_what_their_gpus_cost(
    nodes: list[tuple[list[int], str, int, set[int]]],
    held: list[tuple[int, int, int, int, bool]],
    ask: str,
    annotations: dict[str, str],
    cluster_level: int,
    context_bytes: int,
    data: st.DataObject,
) -> None:
    ledger = ledger_of(nodes, held)
    demand = demand_of(pod("p", ask, annotations=annotations), context_bytes)
    assert isinstance(demand, PodDemand)
    level = min_level(demand, cluster_level)
    candidates = np.array(
        data.draw(st.lists(st.booleans(), min_size=len(ledger.present), max_size=len(ledger.present)))
    )
    for name in ("pack", "spread"):
        policy = POLICIES[name](Workload(), 0)
        expected = feasible(ledger, demand, fits_of(ledger, demand, level), candidates, policy, level)
        found = able(ledger, demand, candidates, policy, level)
        assert found.tolist() == expected.tolist()
        ties = Ties(0).of(ledger)
        scores = policy.node_scores(ledger, pod("p").host, demand, found, ties)
        costs = by_gpu._node_costs(ledger, demand, policy.gpu_costs)
        assert scores[found].tolist() == (-costs - 1e-3 * ties)[found].tolist()
