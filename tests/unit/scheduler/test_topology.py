"""Which GPUs of a node a pod gets where links and sockets differ."""

from dataclasses import replace

import numpy as np
import pytest

from tessera.model.demands import PodDemand, demand_of
from tessera.model.gpus import Gpu, GpuNode, islands
from tessera.scheduler.engine import Engine
from tessera.scheduler.options import Options
from tessera.scheduler.topology import island_fit, least_gpus, numa_fit
from tests.unit.scheduler.clusters import engine, node, place, pod


def linked(name: str, count: int, *groups: tuple[int, ...], numa: tuple[int, ...] = (), gib: int = 24) -> GpuNode:
    """A node of ``count`` GPUs with NVLink among each of ``groups``."""
    made = node(name, *[gib] * count)
    peers = {column: tuple(f"GPU-{name}-{c}" for c in group if c != column) for group in groups for column in group}
    gpus = (
        replace(gpu, nvlink_peers=peers.get(column, ()), numa_node=numa[column] if numa else -1)
        for column, gpu in enumerate(made.gpus)
    )
    return GpuNode(name, tuple(gpus))


def taken(cluster: Engine, name: str, *asks: str) -> list[int]:
    """The columns that a new pod gets, sorted."""
    return sorted(int(share.uuid.rpartition("-")[2]) for share in place(cluster, pod(name, *asks)).shares)


def test_islands_are_what_links_reach_whichever_end_tells_of_them() -> None:
    gpus = [Gpu(f"G{i}", "L4", 1, 1, nvlink_peers=peers) for i, peers in
            enumerate([("G2",), (), ("G3",), (), ("elsewhere",)])]  # fmt: skip
    assert islands(gpus) == [0, 1, 0, 0, 2]
    assert islands([]) == []


@pytest.mark.parametrize("ask", ["gpu=2", "gpu-mem=20Gi gpu-count=2 gpu-core=140"])
@pytest.mark.parametrize("placement", ["pack", "spread"])
def test_two_gpus_are_linked_ones(ask: str, placement: str) -> None:
    cluster = engine(linked("a", 4, (0, 2), (1, 3)), options=Options(placement=placement))
    assert taken(cluster, "p", ask) == [0, 2]
    assert taken(cluster, "q", ask) == [1, 3]


def test_the_smallest_remainder_is_taken_and_whole_islands_are_kept() -> None:
    cluster = engine(linked("a", 8, (0, 1, 2, 3), (4, 5, 6, 7)))
    assert taken(cluster, "first", "gpu=1") == [0]
    assert taken(cluster, "second", "gpu=1") == [1]
    assert taken(cluster, "pair", "gpu=2") == [2, 3]
    assert taken(cluster, "four", "gpu=4") == [4, 5, 6, 7]


def test_a_broken_island_is_taken_from_before_a_whole_one_though_it_leaves_more() -> None:
    cluster = engine(linked("a", 7, (0, 1, 2), (3, 4, 5, 6)))
    assert taken(cluster, "one", "gpu-mem=1Gi gpu-core=10") == [0]
    place(cluster, pod("fill", "gpu=1", annotations={"tessera.io/gpu-uuid": "GPU-a-3"}))
    assert taken(cluster, "pair", "gpu=2") == [1, 2]
    cluster = engine(linked("a", 8, (0, 1, 2), (3, 4, 5, 6, 7)))
    place(cluster, pod("fill", "gpu=1", annotations={"tessera.io/gpu-uuid": "GPU-a-3"}))
    assert taken(cluster, "pair", "gpu=2") == [4, 5]


def test_without_links_one_socket_is_taken() -> None:
    cluster = engine(linked("a", 4, numa=(0, 1, 0, 1)))
    assert taken(cluster, "p", "gpu=2") == [0, 2]
    assert taken(cluster, "q", "gpu=2") == [1, 3]


def test_within_one_island_one_socket_is_taken() -> None:
    cluster = engine(linked("a", 8, tuple(range(8)), numa=(0, 0, 0, 0, 1, 1, 1, 1)))
    assert taken(cluster, "one", "gpu=1") == [0]
    assert taken(cluster, "four", "gpu=4") == [4, 5, 6, 7]


def test_where_nothing_holds_them_all_the_fullest_islands_come_first() -> None:
    cluster = engine(linked("a", 8, (0, 1), (2, 3), (4, 5, 6, 7)))
    assert taken(cluster, "five", "gpu=6") == [0, 1, 4, 5, 6, 7]


def test_containers_of_one_pod_share_an_island() -> None:
    cluster = engine(linked("a", 6, (0, 1), (2, 3, 4, 5)))
    assert taken(cluster, "p", "gpu=2", "gpu=2") == [2, 3, 4, 5]
    cluster = engine(linked("b", 4, (0, 3), (1, 2)))
    assert taken(cluster, "q", "gpu=1", "gpu=1") == [0, 3]


def test_links_never_cost_a_place() -> None:
    cluster = engine(linked("a", 4, (0, 1), (2, 3)))
    place(cluster, pod("one", "gpu=1", annotations={"tessera.io/gpu-uuid": "GPU-a-0"}))
    place(cluster, pod("two", "gpu=1", annotations={"tessera.io/gpu-uuid": "GPU-a-2"}))
    assert taken(cluster, "pair", "gpu=2") == [1, 3]


def test_a_used_gpu_is_still_filled_before_an_empty_linked_one() -> None:
    cluster = engine(linked("a", 4, (0, 1), (2, 3)))
    assert taken(cluster, "one", "gpu-mem=4Gi") == [0]
    assert taken(cluster, "two", "gpu-mem=4Gi") == [0]
    assert taken(cluster, "pair", "gpu-mem=8Gi gpu-count=2") == [0, 1]


def test_nodes_are_asked_all_at_once() -> None:
    cluster = engine(linked("a", 4, (0, 1), (2, 3), numa=(0, 0, 0, 0)), linked("b", 4, (0, 1, 2)), node("c", 24))
    ledger = cluster.ledger
    rows = [ledger.rows()[name] for name in "abc"]
    free = ledger.present & (ledger.tenants == 0)
    assert [island_fit(ledger, free, count)[rows].tolist() for count in (1, 2, 3, 4)] == [
        [True, True, True], [True, True, False], [False, True, False], [False, False, False]]  # fmt: skip
    assert numa_fit(ledger, free, 4)[rows].tolist() == [True, False, False]
    place(cluster, pod("p", "gpu=1", annotations={"tessera.io/gpu-uuid": "GPU-b-1"}))
    free = ledger.present & (ledger.tenants == 0)
    assert not island_fit(ledger, free, 3)[rows].any()
    assert not island_fit(ledger, np.zeros_like(free), 1).any()


def test_whole_gpus_add_up_and_slices_may_lie_on_the_same() -> None:
    demand = demand_of(pod("p", "gpu=2", "gpu=1", "gpu-mem=4Gi gpu-count=2", "gpu-mem=1Gi"))
    assert isinstance(demand, PodDemand) and least_gpus(demand.containers) == 5
