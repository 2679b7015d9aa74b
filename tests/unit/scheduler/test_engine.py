"""Decisions over a whole small cluster."""

import pytest

from tessera.model.assignment import Share
from tessera.model.quantities import GIB
from tessera.reasons import Code, Reason
from tessera.scheduler.options import Options
from tessera.scheduler.promises import Promise
from tests.unit.scheduler.clusters import Clock, bound, engine, node, place, pod


def test_pack_fills_the_used_gpu_before_an_empty_one() -> None:
    cluster = engine(node("a", 24, 24), node("b", 24))
    first = place(cluster, pod("one", "gpu-mem=4Gi"))
    second = place(cluster, pod("two", "gpu-mem=4Gi"))
    assert first.shares[0].uuid == second.shares[0].uuid


def test_spread_takes_the_emptiest_gpu() -> None:
    cluster = engine(node("a", 24, 24), options=Options(placement="spread"))
    used = {place(cluster, pod(f"p{i}", "gpu-mem=4Gi")).shares[0].uuid for i in range(2)}
    assert used == {"GPU-a-0", "GPU-a-1"}


def test_a_pod_may_name_another_policy_than_the_cluster() -> None:
    cluster = engine(node("a", 24, 24))
    spread = {"tessera.io/placement": "spread"}
    used = {place(cluster, pod(f"p{i}", "gpu-mem=4Gi", annotations=spread)).shares[0].uuid for i in range(2)}
    assert len(used) == 2


def test_a_slice_over_two_gpus_gets_an_even_part_of_each() -> None:
    shares = place(engine(node("a", 24), node("b", 24, 24)), pod("p", "gpu-mem=16Gi gpu-core=60 gpu-count=2")).shares
    assert shares == (Share("GPU-b-0", 8 * GIB, 30), Share("GPU-b-1", 8 * GIB, 30))


def test_a_whole_gpu_is_never_shared() -> None:
    cluster = engine(node("a", 24))
    place(cluster, pod("whole", "gpu=1"))
    refused = cluster.filter(pod("late", "gpu-mem=1Mi"), ["a"])
    assert not refused.nodes and refused.reason is not None and "another tenant's" in refused.reason.text


def test_a_whole_gpu_is_not_taken_from_a_tenant() -> None:
    cluster = engine(node("a", 24))
    place(cluster, pod("small", "gpu-mem=1Mi"))
    assert cluster.filter(pod("whole", "gpu=1"), ["a"]).nodes == []


def test_two_containers_each_get_their_own() -> None:
    cluster = engine(node("a", 8, 24))
    assignment = place(cluster, pod("p", "gpu-mem=6Gi", "gpu-mem=20Gi"))
    assert assignment.of("c0") == (Share("GPU-a-0", 6 * GIB),)
    assert assignment.of("c1") == (Share("GPU-a-1", 20 * GIB),)


def test_containers_that_fit_alone_but_not_together_are_refused() -> None:
    cluster = engine(node("a", 24))
    assert cluster.filter(pod("p", "gpu-mem=13Gi", "gpu-mem=13Gi"), ["a"]).nodes == []


def test_the_search_goes_back_where_greed_fails() -> None:
    cluster = engine(node("a", 10, 12))
    place(cluster, pod("taken", "gpu-mem=1Gi gpu-core=60"))
    assignment = place(cluster, pod("p", "gpu-mem=9Gi gpu-core=10", "gpu-mem=8Gi gpu-core=50"))
    assert {s.uuid for s in assignment.shares} == {"GPU-a-0", "GPU-a-1"}


def test_every_gpu_is_counted_once_in_the_reason() -> None:
    cluster = engine(node("a", 24, 24, sick=(1,)), node("b", 4), node("c", 24))
    place(cluster, pod("fill", "gpu-mem=20Gi"), ["c"])
    place(cluster, pod("whole", "gpu=1"), ["a"])
    reason = cluster.filter(pod("late", "gpu-mem=8Gi"), ["a", "b", "c"]).reason
    assert reason is not None and reason.code is Code.NO_ROOM
    assert reason.text.startswith("4 GPUs: ")
    assert sum(reason.counts.values()) == 4
    assert dict(reason.counts) == {"Unhealthy": 1, "TooLarge": 1, "OtherTenant": 1, "NotEnoughMemory": 1}


def test_a_pod_that_no_gpu_could_ever_hold_says_so() -> None:
    reason = engine(node("a", 24)).filter(pod("p", "gpu-mem=400Gi"), ["a"]).reason
    assert reason is not None and reason.code is Code.TOO_LARGE
    assert "400Gi asked" in reason.text and "24Gi" in reason.text


def test_nodes_that_no_leaving_pod_could_help_are_unresolvable() -> None:
    cluster = engine(node("small", 4), node("full", 24), node("sick", 24, sick=(0,)))
    place(cluster, pod("fill", "gpu-mem=24Gi"), ["full"])
    answer = cluster.filter(pod("p", "gpu-mem=8Gi"), ["small", "full", "sick", "bare"])
    assert set(answer.failed) == {"full"}
    assert set(answer.unresolvable) == {"small", "sick", "bare"}


def test_a_pod_that_needs_a_stronger_wall_waits() -> None:
    cluster = engine(node("a", 24, level=0), node("b", 24, level=1))
    answer = cluster.filter(pod("p", "gpu-mem=1Gi", annotations={"tessera.io/enforcement": "1"}), ["a", "b"])
    assert answer.nodes == ["b"]


def test_slices_avoid_gpus_that_nobody_watches_and_whole_gpus_do_not() -> None:
    cluster = engine(node("a", 24, level=-1))
    assert cluster.filter(pod("slice", "gpu-mem=1Gi"), ["a"]).nodes == []
    assert cluster.filter(pod("whole", "gpu=1"), ["a"]).nodes == ["a"]


@pytest.mark.parametrize(
    ("annotations", "nodes"),
    [
        ({"tessera.io/gpu-model": "nvidia t4"}, ["t"]),
        ({"tessera.io/gpu-model": "!NVIDIA T4"}, ["l"]),
        ({"tessera.io/gpu-uuid": "GPU-t-0,GPU-l-0"}, ["l", "t"]),
        ({"tessera.io/gpu-uuid": "!GPU-l-0"}, ["t"]),
    ],
)
def test_models_and_uuids_are_chosen(annotations: dict[str, str], nodes: list[str]) -> None:
    cluster = engine(node("l", 24), node("t", 16, model="NVIDIA T4"))
    assert cluster.filter(pod("p", "gpu-mem=1Gi", annotations=annotations), ["l", "t"]).nodes == nodes


def test_exactly_one_node_gets_ten() -> None:
    cluster = engine(*(node(f"n{i:02}", 24) for i in range(30)))
    scores = dict(cluster.prioritize(pod("p", "gpu-mem=1Gi"), [f"n{i:02}" for i in range(30)]))
    assert sorted(scores.values()).count(10) == 1
    assert set(scores.values()) <= set(range(11))


def test_prioritize_holds_the_room_until_bind() -> None:
    cluster = engine(node("a", 24))
    cluster.prioritize(pod("first", "gpu-mem=20Gi"), ["a"])
    assert cluster.filter(pod("second", "gpu-mem=20Gi"), ["a"]).nodes == []
    assert isinstance(cluster.reserve("uid-first", "a"), tuple)


def test_a_filter_that_leaves_one_node_holds_it_because_prioritize_is_skipped() -> None:
    cluster = engine(node("a", 24))
    assert cluster.filter(pod("first", "gpu-mem=20Gi"), ["a"]).nodes == ["a"]
    assert cluster.filter(pod("second", "gpu-mem=20Gi"), ["a"]).nodes == []


def test_a_hold_ends_with_its_deadline_its_pod_or_the_pods_next_filter() -> None:
    clock = Clock()
    cluster = engine(node("a", 24), clock=clock)
    cluster.filter(pod("first", "gpu-mem=20Gi"), ["a"])
    assert cluster.filter(pod("first", "gpu-mem=20Gi"), ["a"]).nodes == ["a"]
    clock.now += 11
    cluster.expire()
    assert cluster.filter(pod("second", "gpu-mem=20Gi"), ["a"]).nodes == ["a"]
    cluster.forget_pod("uid-second")
    assert not cluster.ledger.charges()


def test_a_reservation_that_was_refused_is_undone() -> None:
    cluster = engine(node("a", 24))
    cluster.filter(pod("p", "gpu-mem=20Gi"), ["a"])
    cluster.reserve("uid-p", "a")
    cluster.undo("uid-p")
    assert int(cluster.ledger.free_bytes.sum()) == 24 * GIB


def test_undo_never_frees_what_has_become_a_fact() -> None:
    cluster = engine(node("a", 24))
    asked = pod("p", "gpu-mem=20Gi")
    cluster.filter(asked, ["a"])
    reserved = cluster.reserve("uid-p", "a")
    assert isinstance(reserved, tuple)
    cluster.observe_pod(bound(asked, "a", reserved[1]))
    cluster.undo("uid-p")
    assert int(cluster.ledger.free_bytes.sum()) == 4 * GIB


def test_a_reservation_outlives_a_list_that_is_older_than_it() -> None:
    clock = Clock()
    cluster = engine(node("a", 24), clock=clock)
    cluster.filter(pod("p", "gpu-mem=20Gi"), ["a"])
    cluster.reserve("uid-p", "a")
    cluster.replace_pods([])
    assert cluster.promises()["uid-p"].kind is Promise.RESERVATION
    clock.now += 61
    assert cluster.expire() == ["uid-p"]
    assert "uid-p" in cluster.ledger.charges()


def test_a_pod_whose_binding_is_in_doubt_is_not_offered_room_again() -> None:
    cluster = engine(node("a", 24), node("b", 24))
    asked = pod("p", "gpu-mem=20Gi")
    cluster.filter(asked, ["a"])
    cluster.reserve("uid-p", "a")
    again = cluster.filter(asked, ["a", "b"])
    assert not again.nodes and again.reason is not None and again.reason.code is Code.OUTCOME_UNKNOWN


def test_room_is_freed_when_the_pod_has_ended_not_when_deletion_is_asked() -> None:
    cluster = engine(node("a", 24))
    asked = pod("p", "gpu-mem=20Gi")
    assignment = place(cluster, asked)
    leaving = bound(asked, "a", assignment)
    cluster.observe_pod(type(leaving)(**{f: getattr(leaving, f) for f in leaving.__slots__} | {"deleting": True}))
    assert cluster.filter(pod("late", "gpu-mem=20Gi"), ["a"]).nodes == []
    cluster.observe_pod(bound(asked, "a", assignment, phase="Failed"))
    assert cluster.filter(pod("late", "gpu-mem=20Gi"), ["a"]).nodes == ["a"]
    assert "a" in cluster.freed


def test_a_bound_pod_without_an_assignment_still_counts_as_the_kubelet_counts_it() -> None:
    cluster = engine(node("a", 24))
    cluster.observe_pod(bound(pod("odd", "gpu-mem=20Gi"), "a", None))
    refused = cluster.filter(pod("p", "gpu-mem=8Gi"), ["a"])
    assert refused.nodes == [] and refused.reason is not None
    assert "too little left for the whole pod" in refused.reason.text


def test_bind_to_a_node_that_no_longer_holds_the_pod_is_refused_and_changes_nothing() -> None:
    cluster = engine(node("a", 24), node("b", 4))
    cluster.filter(pod("p", "gpu-mem=8Gi"), ["a"])
    reason = cluster.reserve("uid-p", "b")
    assert isinstance(reason, Reason) and "b" in reason.text
    assert not cluster.ledger.charges()


def test_a_malformed_pod_waits_with_its_one_sentence() -> None:
    answer = engine(node("a", 24)).filter(pod("p", "gpu-mem=lots"), ["a"])
    assert answer.reason is not None and answer.unresolvable["a"] == answer.reason.text
    assert "found 'lots'" in answer.reason.text


def test_remote_required_says_that_there_is_no_pool() -> None:
    answer = engine(node("a", 24)).filter(pod("p", "gpu-mem=1Gi", annotations={"tessera.io/remote": "required"}), ["a"])
    assert answer.reason is not None and answer.reason.code is Code.REMOTE_UNAVAILABLE


def test_room_that_appears_lets_the_waiting_pod_in() -> None:
    cluster = engine(node("a", 24))
    late = pod("late", "gpu-mem=40Gi")
    assert cluster.filter(late, ["a"]).nodes == []
    assert set(cluster.waiting) == {"uid-late"}
    cluster.freed.clear()
    cluster.observe_node(node("b", 80))
    assert cluster.freed == {"b"}
    place(cluster, late)
    assert not cluster.waiting
