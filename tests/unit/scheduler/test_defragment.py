"""Plans of moves, over small clusters written out."""

from dataclasses import replace

from tessera.kube import wire
from tessera.model.hosts import Host, HostNeed
from tessera.model.quantities import GIB
from tessera.reasons import Reason
from tessera.scheduler.defragment import Proposal, proposal
from tessera.scheduler.drain import DrainPlan, drain_plan
from tessera.scheduler.engine import Engine
from tessera.scheduler.residents import Population, Rules
from tests.unit.scheduler.clusters import client, engine, node, pod, pooled, remote
from tests.unit.scheduler.populations import owned, people, put


def plan(cluster: Engine, crowd: Population, wanted: str, at_most: int = 1, priority: int = 0) -> Proposal:
    found = proposal(cluster, crowd, pod("waiting", wanted, priority=priority), at_most)
    assert isinstance(found, Proposal)
    return found


def ways(found: Proposal | DrainPlan) -> list[tuple[str, str, str]]:
    return [(move.name, move.source, move.target) for move in found.moves]


def test_one_small_pod_makes_way_for_a_large_one() -> None:
    cluster = engine(node("a", 24), node("b", 24))
    one, two = put(cluster, pod("one", "gpu-mem=6Gi"), "a"), put(cluster, pod("two", "gpu-mem=10Gi"), "b")
    found = plan(cluster, people(one, two), "gpu-mem=20Gi")
    assert (found.node, found.gpus) == ("a", ("GPU-a-0",))
    assert ways(found) == [("one", "a", "b")]


def test_what_fits_needs_no_move() -> None:
    found = plan(engine(node("a", 24)), people(), "gpu-mem=20Gi")
    assert (found.node, found.moves, found.reason) == ("a", (), "")


def test_a_pod_moves_to_another_gpu_of_its_own_node() -> None:
    cluster = engine(node("a", 24, 24))
    one = put(cluster, pod("one", "gpu-mem=6Gi", annotations={"tessera.io/placement": "spread"}), "a")
    two = put(cluster, pod("two", "gpu-mem=6Gi", annotations={"tessera.io/placement": "spread"}), "a")
    found = plan(cluster, people(one, two), "gpu=1")
    assert len(found.moves) == 1 and found.moves[0].target == "a"
    assert set(found.gpus).isdisjoint(found.moves[0].gpus)


def test_two_moves_only_where_one_is_not_enough() -> None:
    cluster = engine(node("a", 24), node("b", 24))
    mine = [put(cluster, pod(f"s{i}", "gpu-mem=6Gi"), "a") for i in range(2)]
    other = put(cluster, pod("other", "gpu-mem=12Gi"), "b")
    crowd = people(*mine, owned(other, fixed="has no controller"))
    assert plan(cluster, crowd, "gpu-mem=24Gi").reason.startswith("no plan of at most 1 move")
    found = plan(cluster, crowd, "gpu-mem=24Gi", at_most=2)
    assert sorted(ways(found)) == [("s0", "a", "b"), ("s1", "a", "b")]


def test_a_pod_that_nobody_would_make_again_stays() -> None:
    cluster = engine(node("a", 24), node("b", 24))
    one = put(cluster, pod("one", "gpu-mem=6Gi"), "a")
    two = put(cluster, pod("two", "gpu-mem=10Gi"), "b")
    crowd = people(owned(one, fixed="has no controller: nobody would make it again"), two)
    found = plan(cluster, crowd, "gpu-mem=20Gi")
    assert ways(found) == [("two", "b", "a")]
    nobody = people(*(owned(each, fixed="has no controller: nobody would make it again") for each in (one, two)))
    assert plan(cluster, nobody, "gpu-mem=20Gi").fixed == {"has no controller: nobody would make it again": 2}


def test_nobody_more_important_is_moved_and_the_least_important_first() -> None:
    cluster = engine(node("a", 24), node("b", 24), node("c", 12))
    high = put(cluster, pod("high", "gpu-mem=6Gi", priority=10), "a")
    low = put(cluster, pod("low", "gpu-mem=8Gi", priority=5), "b")
    assert plan(cluster, people(high, low), "gpu-mem=20Gi").node == ""
    assert ways(plan(cluster, people(high, low), "gpu-mem=20Gi", priority=5))[0][0] == "low"
    assert ways(plan(cluster, people(high, low), "gpu-mem=20Gi", priority=10))[0][0] == "low"


def test_the_moved_pod_keeps_its_preferences_and_its_nodes() -> None:
    cluster = engine(node("a", 24), node("b", 24, model="NVIDIA T4"), node("c", 12))
    kinds = {"tessera.io/gpu-model": "NVIDIA L4"}
    one = put(cluster, pod("one", "gpu-mem=6Gi", annotations=kinds), "a")
    other = put(cluster, pod("other", "gpu-mem=8Gi"), "b")
    stays = owned(other, fixed="stays")
    assert ways(plan(cluster, people(one, stays), "gpu-mem=20Gi")) == [("one", "a", "c")]
    cordoned = wire.Node(metadata=wire.ObjectMeta(name="c"), spec=wire.NodeSpec(unschedulable=True))
    assert plan(cluster, people(one, stays, nodes=(cordoned,)), "gpu-mem=20Gi").node == ""
    ssd = Rules(selector=(("disk", "ssd"),))
    plain = wire.Node(metadata=wire.ObjectMeta(name="c"))
    assert plan(cluster, people(owned(one, rules=ssd), stays, nodes=(plain,)), "gpu-mem=20Gi").node == ""


def test_cpu_and_memory_of_the_hosts_count() -> None:
    cluster = engine(node("a", 24), node("b", 24))
    cluster.observe_host(Host("b", 1000, 8 * GIB))
    one = put(cluster, replace(pod("one", "gpu-mem=6Gi"), host=HostNeed(2000, GIB)), "a")
    one = replace(one, host=HostNeed(2000, GIB))
    two = put(cluster, pod("two", "gpu-mem=10Gi"), "b")
    assert plan(cluster, people(one, owned(two, fixed="stays")), "gpu-mem=20Gi").node == ""
    cluster.observe_host(Host("b", 4000, 8 * GIB))
    assert plan(cluster, people(one, owned(two, fixed="stays")), "gpu-mem=20Gi").node == "a"


def test_nothing_of_the_question_reaches_the_engine() -> None:
    cluster = engine(node("a", 24), node("b", 24))
    one, two = put(cluster, pod("one", "gpu-mem=6Gi"), "a"), put(cluster, pod("two", "gpu-mem=10Gi"), "b")
    before = dict(cluster.ledger.charges()), cluster.ledger.free_bytes.copy(), dict(cluster.waiting)
    plan(cluster, people(one, two), "gpu-mem=20Gi")
    drain_plan(cluster, people(one, two), "a")
    assert dict(cluster.ledger.charges()) == before[0] and (cluster.ledger.free_bytes == before[1]).all()
    assert cluster.waiting == before[2] and not cluster.promises()


def test_a_pod_whose_slices_are_elsewhere_is_let_in_by_no_move() -> None:
    cluster = pooled(client("c"), node("a", 24), node("b", 24))
    one = put(cluster, pod("one", "gpu-mem=6Gi"), "a")
    two = put(cluster, pod("two", "gpu-mem=10Gi"), "b")
    found = proposal(cluster, people(one, two), remote("far", "gpu-mem=20Gi"), 2)
    assert isinstance(found, Proposal) and (found.node, found.moves) == ("", ()) and found.reason
    fits = proposal(cluster, people(one, two), remote("near", "gpu-mem=4Gi"), 2)
    assert isinstance(fits, Proposal) and (fits.node, fits.moves) == ("c", ())


def test_a_question_that_cannot_be_answered_says_why() -> None:
    cluster = engine(node("a", 24))
    assert isinstance(proposal(cluster, people(), pod("plain"), 1), Reason)
    answer = proposal(cluster, people(), pod("p", "gpu-mem=1Gi"), 9)
    assert isinstance(answer, Reason) and answer.text == "moves: found 9; allowed: 0 to 4"
    asked = pod("p", "gpu-mem=1Gi")
    told = proposal(cluster, people(owned(asked, undecided="has required rules towards other pods")), asked, 1)
    assert isinstance(told, Proposal) and "rules towards other pods" in told.reason


def test_a_search_that_ran_out_of_time_says_so() -> None:
    cluster = engine(node("a", 24), node("b", 24))
    one, two = put(cluster, pod("one", "gpu-mem=6Gi"), "a"), put(cluster, pod("two", "gpu-mem=10Gi"), "b")
    found = proposal(cluster, people(one, two), pod("waiting", "gpu-mem=20Gi"), 1, late=lambda: True)
    assert isinstance(found, Proposal) and not found.exhausted and "time for the search" in found.reason


def test_a_drain_places_the_most_demanding_first_and_leaves_the_node_out() -> None:
    cluster = engine(node("a", 24, 24), node("b", 24), node("c", 8))
    large, small = put(cluster, pod("large", "gpu-mem=20Gi"), "a"), put(cluster, pod("small", "gpu-mem=6Gi"), "a")
    found = drain_plan(cluster, people(large, small), "a")
    assert isinstance(found, DrainPlan) and found.complete
    assert ways(found) == [("large", "a", "b"), ("small", "a", "c")]


def test_a_drain_says_of_each_pod_why_it_stays() -> None:
    cluster = engine(node("a", 24, 24), node("b", 24))
    one, two = put(cluster, pod("one", "gpu-mem=20Gi"), "a"), put(cluster, pod("two", "gpu-mem=18Gi"), "a")
    bare = put(cluster, pod("bare", "gpu-mem=1Gi"), "a")
    found = drain_plan(cluster, people(one, two, owned(bare, fixed="has no controller")), "a")
    assert isinstance(found, DrainPlan) and not found.complete
    reasons = {move.name: move.reason for move in found.moves}
    assert reasons["one"] == "" and reasons["bare"] == "has no controller"
    assert "fits nowhere else" in reasons["two"] and "not enough memory" in reasons["two"]


def test_a_gpu_is_drained_onto_its_neighbours() -> None:
    cluster = engine(node("a", 24, 24))
    one = put(cluster, pod("one", "gpu-mem=20Gi"), "a")
    uuid = cluster.ledger.charges()[one.uid].assignment.shares[0].uuid  # type: ignore[union-attr]
    found = drain_plan(cluster, people(one), uuid)
    assert isinstance(found, DrainPlan) and found.complete and found.moves[0].gpus != (uuid,)
    assert isinstance(drain_plan(cluster, people(one), "GPU-none"), Reason)
