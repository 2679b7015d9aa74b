"""Nothing appears and nothing is lost: what is counted as allocated is what the ledger and the hosts hold."""

from fractions import Fraction

import numpy as np
import pytest

from tessera.simulator.replay import drawing
from tessera.simulator.replay.arrivals import inflated, poisson
from tessera.simulator.replay.churn import Churn
from tessera.simulator.replay.cluster import Cluster, Placed
from tessera.simulator.replay.openb import Trace
from tessera.simulator.replay.variants import VARIANTS, draw

NODES = drawing.hosts(12, 1)


def trace(name: str) -> Trace:
    variant = next(each for each in VARIANTS if each.name == name)
    return Trace(name, tuple(draw(variant, NODES, drawing.pod, 1)))


def check(cluster: Cluster) -> None:
    """The ledger's own sums against the replay's."""
    ledger = cluster.engine.ledger
    present = ledger.present
    assert cluster.allocated_milli == 10 * int((100 - ledger.free_percent[present]).sum())
    assert not ledger.over_committed()
    rows = list(ledger.rows().values())
    assert (ledger.free_cpu[rows] >= 0).all() and (ledger.free_memory[rows] >= 0).all()


@pytest.mark.parametrize("policy", ["pack", "spread"])
@pytest.mark.parametrize("variant", ["mixed", "memory"])
def test_what_was_placed_is_what_is_allocated(policy: str, variant: str) -> None:
    cluster = Cluster(NODES, policy, 42)
    placed: list[Placed] = []
    for index, shape in enumerate(inflated(trace(variant), cluster.capacity_milli, Fraction(13, 10), 42)):
        found = cluster.arrive(f"pod-{index}", shape)
        if found is None:
            cluster.drop(f"pod-{index}")
        else:
            placed.append(found)
        if index % 20 == 0:
            check(cluster)
    check(cluster)
    assert cluster.allocated_milli == sum(each.shape.milli for each in placed)
    assert len(cluster.engine.ledger.occupants()) == len(placed)
    for row in cluster.engine.ledger.rows().values():
        here = [each.shape for each in placed if each.row == row]
        used = cluster.engine.ledger.hosts()[cluster.engine.ledger.names[row]].cpu_milli
        assert sum(shape.cpu_milli for shape in here) == used - int(cluster.engine.ledger.free_cpu[row])


def test_a_pod_is_dropped_only_if_no_node_holds_it() -> None:
    cluster = Cluster(NODES, "pack", 42)
    ledger = cluster.engine.ledger
    dropped = 0
    for index, shape in enumerate(inflated(trace("modelbound25"), cluster.capacity_milli, Fraction(13, 10), 42)):
        if cluster.arrive(f"pod-{index}", shape) is not None:
            continue
        cluster.drop(f"pod-{index}")
        dropped += 1
        free = (ledger.free_percent >= shape.gpu_milli // 10) & ledger.present
        holds = free.sum(axis=1) >= shape.num_gpu
        holds &= (ledger.free_cpu >= shape.cpu_milli) & (ledger.free_memory >= shape.memory_mib << 20)
        models = {ledger.rows()[node.name]: node.model for node in NODES}
        rows = [row for row in np.flatnonzero(holds).tolist() if row in models]
        assert not [row for row in rows if not shape.models or models[row] in shape.models]
    assert dropped


def test_churn_keeps_the_books_and_nothing_of_those_that_left() -> None:
    cluster = Cluster(NODES, "pack", 42)
    queue = Churn(cluster)
    for index, arrival in enumerate(poisson(trace("mixed").shapes, cluster.capacity_milli, Fraction(2), 600, 42)):
        queue.come(arrival)
        assert queue.queue_milli == sum(shape.milli for shape in queue.waiting)
        if index % 50 == 0:
            check(cluster)
    check(cluster)
    known = len(cluster.engine.ledger.occupants()) + len(queue.waiting)
    assert sum(cluster.engine.request_of(f"pod-{number}") is not None for number in range(1, 601)) <= known
