"""The replayed cluster: the engine's room, the hosts' CPU and memory, and nothing kept of pods that are gone."""

import pytest

from tessera.model.gpus import LEVEL_WATCH
from tessera.model.quantities import GIB
from tessera.simulator.replay.cluster import Cluster
from tessera.simulator.replay.openb import Shape, TraceNode
from tessera.simulator.replay.pods import gpu_node_of

NODES = [TraceNode("n1", 8000, 8192, 2, "T4"), TraceNode("n2", 16000, 16384, 4, "A10")]


def test_a_host_without_cpu_or_memory_is_not_offered() -> None:
    cluster = Cluster(NODES, "pack", 0)
    assert cluster.arrive("a", Shape(12000, 1024, 1, 1000)) is not None
    assert cluster.arrive("b", Shape(12000, 1024, 1, 1000)) is None
    assert cluster.arrive("c", Shape(1000, 15000, 1, 1000)) is not None
    assert cluster.arrive("d", Shape(1000, 15000, 1, 1000)) is None


def test_models_are_kept_apart() -> None:
    cluster = Cluster(NODES, "pack", 0)
    placed = [cluster.arrive(f"pod-{i}", Shape(1000, 1024, 1, 1000, ("T4",))) for i in range(3)]
    assert [each is not None for each in placed] == [True, True, False]
    assert cluster.arrive("other", Shape(1000, 1024, 1, 1000)) is not None


def test_memory_of_a_share_is_held_beside_its_compute() -> None:
    cluster = Cluster([TraceNode("n1", 64000, 65536, 1, "T4", 16384)], "pack", 0)
    assert cluster.arrive("a", Shape(1000, 1024, 1, 100, gpu_mem_mib=12288)) is not None
    assert cluster.arrive("b", Shape(1000, 1024, 1, 100, gpu_mem_mib=12288)) is None
    assert cluster.arrive("c", Shape(1000, 1024, 1, 900, gpu_mem_mib=4096)) is not None


def test_several_gpus_with_a_share_of_each() -> None:
    cluster = Cluster([TraceNode("n1", 64000, 65536, 2, "T4")], "pack", 0)
    assert cluster.arrive("a", Shape(1000, 1024, 2, 600)) is not None
    assert cluster.engine.ledger.free_percent[0][:2].tolist() == [40, 40]
    assert cluster.arrive("b", Shape(1000, 1024, 1, 500)) is None


@pytest.mark.parametrize("policy", ["pack", "spread"])
def test_what_leaves_is_given_back_whole_and_forgotten(policy: str) -> None:
    cluster = Cluster(NODES, policy, 0)
    ledger = cluster.engine.ledger
    before = ledger.free_percent.copy(), ledger.free_bytes.copy(), ledger.free_cpu.copy(), ledger.free_memory.copy()
    shapes = [Shape(1000, 1024, 0, 0), Shape(1000, 1024, 1, 300), Shape(1000, 1024, 2, 1000)]
    placed = [cluster.arrive(f"pod-{index}", shape) for index, shape in enumerate(shapes)]
    assert cluster.allocated_milli == 2300 and cluster.decisions == 3
    for each in placed:
        assert each is not None
        cluster.leave(each)
    cluster.arrive("large", Shape(1000, 1024, 4, 1000, ("T4",)))
    cluster.drop("large")
    after = ledger.free_percent, ledger.free_bytes, ledger.free_cpu, ledger.free_memory
    assert all((x == y).all() for x, y in zip(before, after, strict=True))
    assert cluster.allocated_milli == 0
    assert not ledger.charges() and not ledger.occupants()
    assert not cluster.engine.waiting and not cluster.engine.promises()
    assert all(cluster.engine.request_of(f"pod-{index}") is None for index in range(3))


def test_one_node_alone_may_be_offered() -> None:
    cluster = Cluster(NODES, "pack", 0)
    rows = cluster.engine.ledger.rows()
    placed = cluster.arrive_on("a", Shape(1000, 1024, 1, 500), rows["n2"])
    assert placed is not None and placed.row == rows["n2"]
    assert cluster.arrive_on("b", Shape(1000, 1024, 4, 1000), rows["n2"]) is None
    assert cluster.arrive_on("c", Shape(1000, 1024, 1, 500, ("A10",)), rows["n1"]) is None
    assert cluster.decisions == 0


def test_gpus_are_watched_and_of_the_file_s_size() -> None:
    node = gpu_node_of(NODES[0])
    assert len(node.gpus) == 2 and {gpu.mem_bytes for gpu in node.gpus} == {32 * GIB}
    assert {gpu.level for gpu in node.gpus} == {LEVEL_WATCH} and len({gpu.uuid for gpu in node.gpus}) == 2
