"""A slice over several GPUs that has to be held lies within one MPS group; else it waits, and the reason says why."""

from dataclasses import replace

from tessera.model.assignment import Assignment
from tessera.model.gpus import GpuNode
from tessera.model.pods import Pod
from tessera.reasons import Code, Reason
from tessera.scheduler.defragment import Proposal, proposal
from tessera.scheduler.engine import Engine
from tessera.scheduler.options import Options
from tests.unit.scheduler.clusters import engine, grouped, node, place, pod
from tests.unit.scheduler.populations import people, put
from tests.unit.scheduler.preemptions import Full

TOO_FEW = "with room, but too few in one MPS group"


def asking(name: str, *asks: str, level: int = 1, priority: int = 0) -> Pod:
    return pod(name, *asks, annotations={"tessera.io/enforcement": str(level)}, priority=priority)


def lies_on(given: Assignment, container: str = "c0") -> set[str]:
    return {share.uuid for share in given.of(container) or ()}


def refusal(found: Engine, asked: Pod) -> Reason:
    answer = found.filter(asked, [each.name for each in found.ledger.nodes()])
    assert answer.reason is not None, answer.nodes
    return answer.reason


def test_gpus_of_one_group_are_taken_though_others_would_be_tighter() -> None:
    found = engine(grouped("a", "g" * 2 + "h" * 2), options=Options(placement="pack"))
    for index in (0, 2):
        tight = pod(f"t{index}", "gpu-mem=8Gi", annotations={"tessera.io/gpu-uuid": f"GPU-a-{index}"})
        place(found, tight)
    assert lies_on(place(found, asking("p", "gpu-mem=8Gi gpu-count=2"))) in ({"GPU-a-0", "GPU-a-1"},
                                                                            {"GPU-a-2", "GPU-a-3"})  # fmt: skip


def test_gpus_of_no_one_group_refuse_and_say_so() -> None:
    found = engine(grouped("a", ".."), grouped("b", "gh"))
    asked = asking("p", "gpu-mem=8Gi gpu-count=2")
    answer = found.filter(asked, ["a", "b"])
    assert answer.nodes == [] and answer.reason is not None
    assert answer.reason.text == f"4 GPUs: 4 {TOO_FEW}" and answer.reason.counts == {Code.NOT_ENOUGH_IN_GROUP: 4}
    assert answer.unresolvable == dict.fromkeys("ab", f"GPU {TOO_FEW}")  # whoever left: nothing would change


def test_room_in_a_group_that_others_hold_is_worth_a_try_of_preemption() -> None:
    found = engine(grouped("a", "ggh"))
    place(found, pod("whole", "gpu=1", annotations={"tessera.io/gpu-uuid": "GPU-a-0"}))
    answer = found.filter(asking("p", "gpu-mem=8Gi gpu-count=2"), ["a"])
    assert answer.failed == {"a": f"GPU {TOO_FEW}"}
    assert answer.reason is not None
    assert answer.reason.counts == {Code.OTHER_TENANT: 1, Code.NOT_ENOUGH_IN_GROUP: 2}


def test_whoever_asks_for_no_level_is_watched_on_any_gpus() -> None:
    found = engine(grouped("a", "gh"))
    assert len(lies_on(place(found, asking("p", "gpu-mem=8Gi gpu-count=2", level=0)))) == 2
    assert len(lies_on(place(found, pod("q", "gpu-mem=8Gi gpu-count=2")))) == 2


def test_the_clusters_level_counts_for_pods_that_name_none() -> None:
    found = engine(grouped("a", "gh"), options=Options(level=1))
    assert refusal(found, pod("p", "gpu-mem=8Gi gpu-count=2")).counts == {Code.NOT_ENOUGH_IN_GROUP: 2}
    assert len(lies_on(place(found, asking("q", "gpu-mem=8Gi gpu-count=2", level=0)))) == 2


def test_the_driver_holds_a_slice_over_any_gpus_and_a_partition_over_one() -> None:
    found = engine(grouped("driver", "gh", level=3), grouped("partition", "gg", level=2))
    assert lies_on(place(found, asking("p", "gpu-mem=8Gi gpu-count=2", level=1))) == {"GPU-driver-0", "GPU-driver-1"}
    found.forget_node("driver")
    assert refusal(found, asking("q", "gpu-mem=8Gi gpu-count=2", level=2)).counts == {Code.NOT_ENOUGH_IN_GROUP: 2}
    assert len(lies_on(place(found, asking("r", "gpu-mem=8Gi", level=2)))) == 1


def test_whole_gpus_are_of_any_groups() -> None:
    found = engine(grouped("a", "gh"))
    assert len(lies_on(place(found, asking("p", "gpu=2")))) == 2


def test_each_container_may_have_a_group_of_its_own() -> None:
    found = engine(grouped("a", "ghgh"))
    given = place(found, asking("p", "gpu-mem=30Gi gpu-count=2", "gpu-mem=30Gi gpu-count=2"))
    assert {frozenset(lies_on(given, name)) for name in ("c0", "c1")} == {
        frozenset({"GPU-a-0", "GPU-a-2"}),
        frozenset({"GPU-a-1", "GPU-a-3"}),
    }
    assert refusal(found, asking("q", "gpu-mem=20Gi gpu-count=2", "gpu-mem=20Gi gpu-count=2"))


def test_a_search_among_many_groups_finds_the_one_that_has_room_for_all() -> None:
    found = engine(grouped("a", "aabbccddeeffgghh"))
    for index in range(0, 14, 2):
        place(found, pod(f"t{index}", "gpu=1", annotations={"tessera.io/gpu-uuid": f"GPU-a-{index}"}))
    given = place(found, asking("p", "gpu-mem=24Gi gpu-count=2", "gpu-mem=24Gi gpu-count=2", "gpu-mem=1Gi"))
    assert lies_on(given, "c0") == lies_on(given, "c1") == {"GPU-a-14", "GPU-a-15"}


def test_groups_that_change_between_filter_and_bind_are_heeded() -> None:
    found = engine(grouped("a", "gg"))
    asked = asking("p", "gpu-mem=8Gi gpu-count=2")
    assert found.prioritize(asked, found.filter(asked, ["a"]).nodes)
    found.observe_node(grouped("a", "gh"))
    reserved = found.reserve(asked.uid, "a")
    assert isinstance(reserved, Reason) and reserved.text == f"node a: GPU {TOO_FEW}"


def test_room_kept_on_gpus_that_are_no_group_any_more_is_not_all_of_it() -> None:
    found = engine(grouped("a", "gg"))
    asked = asking("p", "gpu-mem=8Gi gpu-count=2")
    assert found.keep_room(asked, "a")
    found.observe_node(grouped("a", "gh"))
    assert not found.keep_room(asked, "a")


def test_room_is_kept_within_a_group() -> None:
    found = engine(grouped("a", "ghgh"))
    for index, size in ((0, 20), (1, 1), (2, 20), (3, 20)):
        running = pod(f"t{index}", f"gpu-mem={size}Gi", annotations={"tessera.io/gpu-uuid": f"GPU-a-{index}"})
        place(found, running)
    assert not found.keep_room(asking("p", "gpu-mem=40Gi gpu-count=2"), "a")
    held = found.ledger.charge_of("uid-p")
    assert held is not None and held.assignment is not None
    assert lies_on(held.assignment) == {"GPU-a-1", "GPU-a-3"}


def crowded(*nodes: GpuNode) -> Full:
    """Two GPUs of each of the groups g and h of node a, with pods of priority 5 in g and 1 in h."""
    cluster = Full(*nodes)
    for index, priority in ((0, 5), (1, 1), (2, 5), (3, 1)):
        cluster.run(f"t{index}", "gpu-mem=20Gi", "a", priority, annotations={"tessera.io/gpu-uuid": f"GPU-a-{index}"})
    return cluster


def test_victims_are_those_of_one_group() -> None:
    cluster = crowded(grouped("a", "ghgh"))
    assert cluster.victims(asking("high", "gpu-mem=40Gi gpu-count=2", priority=10)) == ["t1", "t3"]
    assert cluster.victims(asking("middle", "gpu-mem=40Gi gpu-count=2", priority=3)) == ["t1", "t3"]


def test_nobody_gives_way_where_no_group_is_large_enough() -> None:
    cluster = crowded(grouped("a", "ghij"))
    assert cluster.plan(asking("high", "gpu-mem=40Gi gpu-count=2", priority=10)) is None


def test_a_plan_of_moves_clears_gpus_of_one_group() -> None:
    found = engine(grouped("a", "ghgh"), node("b", 24, 24))
    running = []
    for index, size in enumerate((4, 20, 20, 6)):
        aimed = pod(f"t{index}", f"gpu-mem={size}Gi", annotations={"tessera.io/gpu-uuid": f"GPU-a-{index}"})
        running.append(replace(put(found, aimed, "a"), annotations={}))
    plan = proposal(found, people(*running), asking("waiting", "gpu-mem=36Gi gpu-count=2"), 2)
    assert isinstance(plan, Proposal)
    assert set(plan.gpus) in ({"GPU-a-0", "GPU-a-2"}, {"GPU-a-1", "GPU-a-3"})
