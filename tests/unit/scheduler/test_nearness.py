"""Which of equal nodes a pod over several GPUs gets: where its GPUs are linked, and near to its siblings."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tessera.model.hosts import Host
from tessera.model.pods import Pod
from tessera.model.quantities import GIB
from tessera.scheduler.engine import Engine
from tessera.scheduler.nearness import Siblings
from tessera.scheduler.options import Options
from tests.unit.scheduler.clusters import bound, engine, node, pod
from tests.unit.scheduler.test_topology import linked

POLICIES = ("fragmentation", "fgd", "pack", "spread")
SEEDS = range(12)
RACKED = {f"{zone}{rack}{n}": (zone, rack) for zone in "xy" for rack in "12" for n in "ab"}
"""Nodes by name, with zone and rack."""


def where(cluster: Engine, asked: Pod) -> str:
    """The node that a pod gets; it is bound there."""
    names = [n.name for n in cluster.ledger.nodes()]
    best = max(cluster.prioritize(asked, cluster.filter(asked, names).nodes), key=lambda pair: pair[1])[0]
    reserved = cluster.reserve(asked.uid, best)
    assert isinstance(reserved, tuple)
    cluster.observe_pod(bound(asked, best, reserved[1]))
    return best


def worker(name: str, owner: str, ask: str = "gpu=2") -> Pod:
    return replace(pod(name, ask), owner=owner)


def racked(seed: int, policy: str, gpus: int = 2) -> Engine:
    """Each node holds one worker."""
    found = engine(*(node(name, *[24] * gpus) for name in RACKED), options=Options(placement=policy, seed=seed))
    for name, (zone, rack) in RACKED.items():
        found.observe_host(Host(name, 64_000, 256 * GIB, zone, f"{zone}{rack}"))
    return found


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("ask", [("gpu=2",), ("gpu-mem=40Gi gpu-count=2",), ("gpu=1", "gpu=1")])
def test_the_node_whose_gpus_are_linked_is_taken(policy: str, ask: Sequence[str]) -> None:
    for seed in SEEDS:
        cluster = engine(
            node("plain", 24, 24), linked("links", 2, (0, 1)), options=Options(placement=policy, seed=seed)
        )
        assert where(cluster, pod("p", *ask)) == "links"


@pytest.mark.parametrize("policy", POLICIES)
def test_one_socket_is_better_than_two(policy: str) -> None:
    for seed in SEEDS:
        nodes = linked("two", 2, numa=(0, 1)), linked("one", 2, numa=(1, 1))
        assert where(engine(*nodes, options=Options(placement=policy, seed=seed)), pod("p", "gpu=2")) == "one"


def test_a_pod_of_one_gpu_does_not_care() -> None:
    nodes = node("plain", 24, 24), linked("links", 2, (0, 1))
    taken = {where(engine(*nodes, options=Options(seed=seed)), pod("p", "gpu-mem=4Gi")) for seed in SEEDS}
    assert taken == {"plain", "links"}


@pytest.mark.parametrize("policy", POLICIES)
def test_the_workers_of_one_job_share_a_rack_and_then_a_zone(policy: str) -> None:
    for seed in SEEDS:
        cluster = racked(seed, policy)
        first, second, third = (RACKED[where(cluster, worker(f"w{i}", "job"))] for i in range(3))
        assert second == first
        assert third[0] == first[0]


def test_workers_of_different_jobs_are_no_siblings() -> None:
    taken = set()
    for seed in SEEDS:
        cluster = racked(seed, "fragmentation")
        taken.add(RACKED[where(cluster, worker("a", "one"))] == RACKED[where(cluster, worker("b", "other"))])
    assert taken == {True, False}


def test_a_worker_that_is_gone_or_was_not_bound_draws_nobody() -> None:
    cluster = racked(1, "fragmentation")
    here = where(cluster, worker("a", "job"))
    assert list(cluster.siblings.of("job")) == [here]
    asked = worker("b", "job")
    cluster.prioritize(asked, list(RACKED))
    assert len(cluster.siblings.of("job")) == 2
    cluster.undo(asked.uid)
    assert list(cluster.siblings.of("job")) == [here]
    cluster.forget_pod("uid-a")
    assert not cluster.siblings.of("job")


def test_a_worker_that_is_told_of_again_counts_once() -> None:
    siblings = Siblings()
    for node_name in ("m", "m", "n"):
        siblings.saw("u", "job", node_name)
    siblings.saw("v", "", "m")
    assert list(siblings.of("job")) == ["n"] and not siblings.of("")
    siblings.gone("u")
    siblings.gone("u")
    assert not siblings.of("job")
