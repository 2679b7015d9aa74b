"""Policies at their limits: nothing there yet, arrays that grow, more kinds than are kept, greed that fails."""

import numpy as np
import pytest

from tessera.model.assignment import Assignment, Share
from tessera.model.demands import ContainerDemand, PodDemand
from tessera.model.gpus import GpuNode
from tessera.model.hosts import UNKNOWN_HOST, Host, HostNeed
from tessera.model.ledger import Bools, Ledger
from tessera.model.placements import Choice, Preferences
from tessera.model.quantities import GIB
from tessera.scheduler.engine import Engine
from tessera.scheduler.options import Options
from tessera.scheduler.policy import POLICIES
from tessera.scheduler.policy.kernels import NEVER
from tessera.scheduler.policy.standing import SHAPES, Standing
from tessera.scheduler.policy.workload import KINDS, WINDOW, Workload
from tessera.scheduler.ranking import Ties
from tests.unit.scheduler.clusters import bound, node, pod

NEED = HostNeed(1000, GIB)
HALF = PodDemand("default", "p", "p", (ContainerDemand("c", 1, 0, 50),), Preferences())
every_policy = pytest.mark.parametrize("policy", POLICIES)


def cluster(policy: str, *nodes: GpuNode) -> Engine:
    engine = Engine(lambda: 0.0, Options(placement=policy, seed=1))
    engine.replace_nodes(nodes)
    return engine


def everywhere(engine: Engine) -> Bools:
    """All nodes, by ledger row."""
    offered = np.zeros(len(engine.ledger.present), np.bool_)
    offered[list(engine.ledger.rows().values())] = True
    return offered


@every_policy
def test_no_node_at_all(policy: str) -> None:
    ledger, workload = Ledger(), Workload()
    made, ties = POLICIES[policy](workload, 1), Ties(1)
    for demand in (None, HALF):
        nobody = np.zeros(len(ledger.present), np.bool_)
        assert (made.node_scores(ledger, NEED, demand, nobody, ties.of(ledger)) == NEVER).all()


@every_policy
def test_before_anything_has_arrived_and_with_hosts_that_are_not_known(policy: str) -> None:
    ledger = Ledger()
    for name in ("a", "b"):
        ledger.upsert_node(node(name, 16, 16))
    assert (ledger.free_cpu[:2] == UNKNOWN_HOST).all()
    offered = np.arange(len(ledger.present)) < 2
    made = POLICIES[policy](Workload(), 1)
    for demand in (None, HALF):
        scores = made.node_scores(ledger, NEED, demand, offered, Ties(1).of(ledger))
        assert np.isfinite(scores).all() and (scores[offered] > NEVER).all() and (scores[~offered] == NEVER).all()


@every_policy
def test_arrays_that_grow_between_two_decisions(policy: str) -> None:
    engine = cluster(policy, *(node(f"n{i}", 16, 16) for i in range(3)))
    for index in range(3):
        assert isinstance(engine.place(pod(f"before{index}", "gpu-core=50"), everywhere(engine)), str)
    rows, columns = engine.ledger.present.shape
    for index in range(rows + 4):
        engine.observe_node(node(f"m{index}", *([16] * (columns + 3))))
    assert engine.ledger.present.shape > (rows, columns)
    large = engine.place(pod("large", f"gpu={columns + 2}"), everywhere(engine))
    assert isinstance(large, str) and large.startswith("m")
    assert isinstance(engine.place(pod("after", "gpu-core=50"), everywhere(engine)), str)
    assert not engine.ledger.over_committed()


@every_policy
def test_equal_nodes_go_by_the_seed_and_not_by_when_they_came(policy: str) -> None:
    names = [f"n{i}" for i in range(8)]
    early = cluster(policy, *(node(name, 16) for name in names))
    late = cluster(policy)
    late.place(pod("nobody", "gpu=1"), everywhere(late))
    for name in reversed(names):
        late.observe_node(node(name, 16))
    for index in range(8):
        asked = pod(f"p{index}", "gpu=1")
        assert early.place(asked, everywhere(early)) == late.place(asked, everywhere(late))


@every_policy
def test_a_model_that_comes_later_counts_at_once(policy: str) -> None:
    engine = cluster(policy, node("a", 16, model="T4"))
    bound = {"tessera.io/gpu-model": "H100"}
    assert not isinstance(engine.place(pod("p0", "gpu=1", annotations=bound), everywhere(engine)), str)
    engine.observe_node(node("b", 16, 16, model="H100"))
    standing = Standing(engine.arrivals.workload, 1)
    standing.bring_up_to_date(engine.ledger, Ties(1).of(engine.ledger))
    assert standing.totals.tolist() == [2]
    assert engine.place(pod("p1", "gpu=1", annotations=bound), everywhere(engine)) == "b"


def test_what_was_learnt_without_a_model_is_learnt_anew_with_it() -> None:
    ledger, workload, ties = Ledger(), Workload(), Ties(1)
    ledger.upsert_node(node("a", 16, model="T4"))
    bound = Preferences(models=Choice(frozenset({"h100"})))
    workload.saw(NEED, PodDemand("d", "p", "p", (ContainerDemand("c", 1, 0, 100, whole=True),), bound))
    standing = Standing(workload, 1)
    assert standing.bring_up_to_date(ledger, ties.of(ledger)) and standing.totals.tolist() == [0]
    ledger.upsert_node(node("b", 16, 16, model="H100"))
    assert standing.bring_up_to_date(ledger, ties.of(ledger)) and standing.totals.tolist() == [2]
    assert not standing.bring_up_to_date(ledger, ties.of(ledger))


@every_policy
def test_a_pod_that_greed_cannot_place_is_placed_all_the_same(policy: str) -> None:
    engine = cluster(policy, node("a", 8, 8))
    held = {"one": ("gpu-mem=4Gi gpu-core=40", Share("GPU-a-0", 4 * GIB, 40))}
    held["other"] = ("gpu-mem=1Mi gpu-core=50", Share("GPU-a-1", 1 << 20, 50))
    for name, (limits, share) in held.items():
        engine.observe_pod(bound(pod(name, limits), "a", Assignment((("c0", (share,)),))))
    both = pod("both", "gpu-mem=4Gi", "gpu-mem=3Gi gpu-core=60")
    assert engine.place(both, everywhere(engine)) == "a", "the first on the second GPU, though the first is tighter"
    assert not engine.ledger.over_committed()


def test_shares_of_several_gpus_need_different_gpus() -> None:
    ledger, workload, ties = Ledger(), Workload(), Ties(1)
    ledger.upsert_node(node("a", 16, 16, sick=(1,)))
    ledger.upsert_node(node("b", 16, 16))
    workload.saw(NEED, PodDemand("d", "p", "p", (ContainerDemand("c", 2, 4 * GIB, 0),), Preferences()))
    standing = Standing(workload, 1)
    standing.bring_up_to_date(ledger, ties.of(ledger))
    assert standing.memory.slots[:2, 0].tolist() == [0, 4]


def test_only_the_largest_kinds_are_expected_and_old_ones_are_forgotten() -> None:
    ledger, workload = Ledger(), Workload()
    ledger.upsert_node(node("a", 64))
    for index in range(KINDS + 60):
        small = ContainerDemand("c", 1, (1 + index) * GIB // 16 // 2**20 * 2**20, 0)
        workload.saw(HostNeed(index, 0), PodDemand("d", "p", "p", (small,), Preferences()))
    mix = workload.mix(ledger, 1)
    assert len(mix.cpu) == KINDS and sorted(mix.cpu.tolist()) == list(range(60, KINDS + 60))
    assert mix.streams.max() < KINDS and mix.by_mem == pytest.approx(1000.0)
    for _ in range(WINDOW):
        workload.saw(NEED, HALF)
    again = workload.mix(ledger, 1)
    assert again.core.tolist() == [50] and again.weight.tolist() == [1.0]


@pytest.mark.parametrize("policy", ["fragmentation", "fgd"])
def test_more_shapes_than_are_remembered(policy: str) -> None:
    ledger, workload, ties = Ledger(), Workload(), Ties(1)
    for index in range(4):
        name = f"n{index}"
        ledger.upsert_host(Host(name, 64_000, 64 * GIB))
        ledger.upsert_node(node(name, 16))
    workload.saw(NEED, HALF)
    made, offered, order = POLICIES[policy](workload, 1), np.arange(len(ledger.present)) < 4, ties.of(ledger)
    for cpu in range(1, SHAPES + 40):
        made.node_scores(ledger, HostNeed(cpu * 100, 0), HALF, offered, order)
    ledger.occupy("other", "n2", HostNeed(60_000, 0))
    for cpu in (100, 39 * 100, 62_000):
        need = HostNeed(cpu, 0)
        fresh = POLICIES[policy](workload, 1).node_scores(ledger, need, HALF, offered, order)
        assert np.argmax(made.node_scores(ledger, need, HALF, offered, order)) == np.argmax(fresh)
