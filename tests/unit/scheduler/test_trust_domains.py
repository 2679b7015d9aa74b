"""No GPU, and no group of GPUs under one MPS daemon, holds slices of two trust domains."""

from dataclasses import replace

from tessera.kube.reflector import Upserted
from tessera.model.domains import Namespace
from tessera.model.gpus import GpuNode
from tessera.model.pods import Pod
from tessera.reasons import Code, Reason
from tessera.scheduler.engine import Engine
from tessera.scheduler.options import Options
from tests.unit.scheduler.clusters import bound, engine, node, place, pod
from tests.unit.scheduler.preemptions import Full

BY_NAMESPACE = Options(trust_domain="namespace")
BY_TEAM = Options(trust_domain="label:team")


def of(namespace: str, name: str, *asks: str, priority: int = 0) -> Pod:
    return replace(pod(name, *asks, priority=priority), namespace=namespace)


def uuids(found: Engine, asked: Pod) -> set[str]:
    return {share.uuid for share in place(found, asked).shares}


def refusal(found: Engine, asked: Pod) -> Reason:
    answer = found.filter(asked, [each.name for each in found.ledger.nodes()])
    assert answer.reason is not None, answer.nodes
    return answer.reason


def test_by_default_all_share() -> None:
    found = engine(node("a", 24))
    assert uuids(found, of("one", "p", "gpu-mem=4Gi")) == uuids(found, of("two", "q", "gpu-mem=4Gi"))


def test_another_namespace_gets_another_gpu_or_waits_and_says_why() -> None:
    found = engine(node("a", 24, 24), options=BY_NAMESPACE)
    first = uuids(found, of("one", "p", "gpu-mem=4Gi"))
    assert uuids(found, of("one", "p2", "gpu-mem=4Gi")) == first
    second = uuids(found, of("two", "q", "gpu-mem=4Gi"))
    assert not first & second
    reason = refusal(found, of("three", "r", "gpu-mem=4Gi"))
    assert reason.code is Code.NO_ROOM and reason.text == "2 GPUs: 2 another trust domain's"
    assert reason.counts == {Code.OTHER_DOMAIN: 2}
    found.forget_pod("uid-q")
    assert uuids(found, of("three", "r", "gpu-mem=4Gi")) == second


def test_a_group_under_one_daemon_is_one_place() -> None:
    found = engine(node("a", 24, 24, group="g"), node("b", 24), options=BY_NAMESPACE)
    place(found, of("one", "p", "gpu-mem=4Gi"), ["a"])
    assert refusal(found, replace(of("two", "q", "gpu-mem=4Gi"), annotations={"tessera.io/gpu-uuid": "GPU-a-1"}))
    assert uuids(found, of("two", "q", "gpu-mem=4Gi")) == {"GPU-b-0"}
    assert refusal(found, of("three", "r", "gpu-mem=2Gi gpu-count=2")).code is Code.NO_ROOM


def test_a_whole_gpu_is_no_client_of_a_daemon() -> None:
    found = engine(node("a", 24, 24, group="g"), options=BY_NAMESPACE)
    place(found, of("one", "whole", "gpu=1"))
    assert len(uuids(found, of("two", "q", "gpu-mem=4Gi"))) == 1
    found.forget_pod("uid-whole")
    assert len(uuids(found, of("three", "also-whole", "gpu=1"))) == 1


def test_a_pod_of_several_containers_finds_its_way_around_others() -> None:
    found = engine(node("a", 24, 24, 24), options=BY_NAMESPACE)
    for namespace, uuid in (("one", "GPU-a-0"), ("two", "GPU-a-1")):
        place(found, replace(of(namespace, namespace, "gpu-mem=4Gi"), annotations={"tessera.io/gpu-uuid": uuid}))
    assert uuids(found, of("two", "q", "gpu-mem=10Gi", "gpu-mem=20Gi")) == {"GPU-a-1", "GPU-a-2"}
    assert refusal(found, of("three", "r", "gpu-mem=1Gi", "gpu-mem=1Gi")).code is Code.NO_ROOM


def test_what_is_held_for_a_pod_counts_before_it_is_bound() -> None:
    found = engine(node("a", 24), options=BY_NAMESPACE)
    first = of("one", "p", "gpu-mem=4Gi")
    assert found.prioritize(first, found.filter(first, ["a"]).nodes)
    assert refusal(found, of("two", "q", "gpu-mem=4Gi")).counts == {Code.OTHER_DOMAIN: 1}


def test_namespaces_of_one_label_value_share_and_an_unknown_one_waits() -> None:
    found = engine(node("a", 24), options=BY_TEAM)
    reason = refusal(found, of("one", "p", "gpu-mem=4Gi"))
    assert reason.code is Code.UNKNOWN_DOMAIN and "namespace one" in reason.text
    found.freed.clear()
    for name, labels in (("one", {"team": "x"}), ("two", {"team": "x"}), ("three", {})):
        found.observe_namespace(Namespace(name, labels))
    assert found.freed == {"a"}  # which wakes who waits
    assert uuids(found, of("one", "p", "gpu-mem=4Gi")) == uuids(found, of("two", "q", "gpu-mem=4Gi"))
    assert refusal(found, of("three", "r", "gpu-mem=4Gi")).counts == {Code.OTHER_DOMAIN: 1}


def test_a_changed_label_decides_for_newcomers_only() -> None:
    found = engine(node("a", 24), options=BY_TEAM)
    for name, team in (("one", "x"), ("two", "y")):
        found.observe_namespace(Namespace(name, {"team": team}))
    first = of("one", "p", "gpu-mem=4Gi")
    given = place(found, first)
    found.observe_namespace(Namespace("one", {"team": "y"}))
    assert refusal(found, of("two", "q", "gpu-mem=4Gi")).counts == {Code.OTHER_DOMAIN: 1}
    again = engine(node("a", 24), options=BY_TEAM)
    again.replace_namespaces([Namespace("one", {"team": "y"}), Namespace("two", {"team": "y"})])
    again.observe_pod(bound(first, "a", given))
    assert refusal(again, of("two", "q", "gpu-mem=4Gi")).counts == {Code.OTHER_DOMAIN: 1}


def test_a_label_that_changes_between_filter_and_bind_sends_the_pod_back() -> None:
    found = engine(node("a", 24), options=BY_TEAM)
    found.observe_namespace(Namespace("one", {"team": "x"}))
    asked = of("one", "p", "gpu-mem=4Gi")
    assert found.prioritize(asked, found.filter(asked, ["a"]).nodes)
    found.observe_namespace(Namespace("one", {"team": "y"}))
    reserved = found.reserve(asked.uid, "a")
    assert isinstance(reserved, Reason) and reserved.code is Code.UNKNOWN_DOMAIN
    assert place(found, asked).domain == "label/team=y"


def test_after_a_change_of_the_setting_mixed_gpus_take_nobody_until_they_drain() -> None:
    before = engine(node("a", 24))
    shown = [bound(each, "a", place(before, each)) for each in (of("one", "p", "gpu-mem=4Gi"),
                                                               of("two", "q", "gpu-mem=4Gi"))]  # fmt: skip
    after = engine(node("a", 24), options=BY_NAMESPACE)
    after.replace_pods(shown)
    for namespace in ("one", "two", "three"):
        assert refusal(after, of(namespace, "r", "gpu-mem=4Gi")).counts == {Code.OTHER_DOMAIN: 1}
    after.forget_pod("uid-q")
    assert refusal(after, of("two", "r", "gpu-mem=4Gi")).counts == {Code.OTHER_DOMAIN: 1}
    assert uuids(after, of("one", "r", "gpu-mem=4Gi")) == {"GPU-a-0"}


def test_the_number_of_a_domain_that_left_is_given_to_the_next() -> None:
    found = engine(node("a", 24, 24), options=BY_NAMESPACE)
    place(found, of("stays", "s", "gpu-mem=4Gi"))
    number = found.ledger.number_of("namespace/stays")
    for index in range(50):
        place(found, of(f"n{index}", f"p{index}", "gpu-mem=4Gi"))
        found.forget_pod(f"uid-p{index}")
    assert found.ledger.number_of("namespace/stays") == number
    assert sorted(set(found.ledger.domain[0].tolist())) == [0, number]
    place(found, of("last", "p", "gpu-mem=4Gi"))
    assert found.ledger.domain.max() == 2


def test_back_to_one_domain_all_share_again() -> None:
    before = engine(node("a", 24), options=BY_NAMESPACE)
    first = of("one", "p", "gpu-mem=4Gi")
    shown = bound(first, "a", place(before, first))
    after = engine(node("a", 24))
    after.replace_pods([shown])
    assert uuids(after, of("two", "q", "gpu-mem=4Gi")) == {"GPU-a-0"}


def test_groups_that_come_later_close_what_is_mixed() -> None:
    found = engine(node("a", 24, 24), options=BY_NAMESPACE)
    place(found, of("one", "p", "gpu-mem=4Gi"))
    place(found, of("two", "q", "gpu-mem=4Gi"))
    found.observe_node(node("a", 24, 24, group="g"))
    assert refusal(found, of("one", "r", "gpu-mem=4Gi")).counts == {Code.OTHER_DOMAIN: 2}


def full(*nodes: GpuNode) -> Full:
    return Full(*nodes, options=BY_NAMESPACE)


def test_all_of_another_domain_on_the_gpu_give_way_and_no_more() -> None:
    cluster = full(node("a", 24, 24))
    for name, namespace, uuid in (("p1", "one", 0), ("p2", "one", 0), ("q", "two", 1)):
        cluster.run(name, "gpu-mem=4Gi", "a", namespace=namespace, annotations={"tessera.io/gpu-uuid": f"GPU-a-{uuid}"})
    assert cluster.victims(of("three", "high", "gpu-mem=4Gi", priority=10)) == ["q"]
    asks_the_other = replace(of("three", "high", "gpu-mem=4Gi", priority=10),
                             annotations={"tessera.io/gpu-uuid": "GPU-a-0"})  # fmt: skip
    assert cluster.victims(asks_the_other) == ["p1", "p2"]


def test_victims_are_found_on_the_other_gpus_of_a_group() -> None:
    cluster = full(node("a", 24, 24, group="g"))
    cluster.run("p", "gpu-mem=4Gi", "a", namespace="one", annotations={"tessera.io/gpu-uuid": "GPU-a-0"})
    high = replace(of("two", "high", "gpu-mem=4Gi", priority=10), annotations={"tessera.io/gpu-uuid": "GPU-a-1"})
    assert cluster.victims(high) == ["p"]
    cluster.change("p", priority=10)
    assert cluster.plan(high) is None


def test_a_gpu_that_is_being_cleared_for_a_pod_takes_nobody_of_those_who_leave() -> None:
    cluster = full(node("a", 24))
    for name in ("p1", "p2"):
        cluster.run(name, "gpu-mem=4Gi", "a", namespace="one")
    high = of("two", "high", "gpu-mem=20Gi", priority=10)
    assert not cluster.nominations.nominate(high, "a", 60)
    cluster.engine.forget_pod("uid-p1")
    cluster.nominations.settle()
    assert refusal(cluster.engine, of("one", "newcomer", "gpu-mem=1Gi")).code is Code.NO_ROOM
    cluster.engine.forget_pod("uid-p2")
    cluster.nominations.observe(Upserted(high))
    assert uuids(cluster.engine, high) == {"GPU-a-0"}


def test_room_beside_another_domain_is_never_all_of_it() -> None:
    """The whole amount is free, and still it is not the pod's to have."""
    cluster = full(node("a", 24))
    cluster.run("p", "gpu-mem=4Gi", "a", namespace="one")
    high = of("two", "high", "gpu-mem=4Gi", priority=10)
    assert not cluster.engine.keep_room(high, "a") and not cluster.engine.keep_room(high, "a")
    assert isinstance(cluster.engine.reserve(high.uid, "a"), Reason)
    cluster.engine.forget_pod("uid-p")
    assert cluster.engine.keep_room(high, "a")


def test_a_higher_pod_takes_the_room_that_is_kept_on_the_group_for_another_domain() -> None:
    cluster = full(node("a", 24, 24, group="g"))
    lower = replace(of("one", "lower", "gpu-mem=4Gi"), annotations={"tessera.io/gpu-uuid": "GPU-a-0"})
    planned = cluster.plan(lower)
    assert planned and cluster.nominations.nominate(lower, "a", 60, planned.room)
    high = replace(of("two", "high", "gpu-mem=4Gi", priority=10), annotations={"tessera.io/gpu-uuid": "GPU-a-1"})
    plan = cluster.plan(high)
    assert plan and not plan.victims
    assert cluster.nominations.take_over(high, plan.room, 60)
    assert cluster.nominations.claim_of(lower.uid) is None
    assert uuids(cluster.engine, high) == {"GPU-a-1"}


def test_a_higher_pod_leaves_the_room_of_its_own_domain_that_is_not_in_its_way() -> None:
    cluster = full(node("a", 24, 24, group="g"))
    lower = replace(of("two", "lower", "gpu-mem=4Gi"), annotations={"tessera.io/gpu-uuid": "GPU-a-0"})
    planned = cluster.plan(lower)
    assert planned and cluster.nominations.nominate(lower, "a", 60, planned.room)
    high = replace(of("two", "high", "gpu-mem=4Gi", priority=10), annotations={"tessera.io/gpu-uuid": "GPU-a-1"})
    plan = cluster.plan(high)
    assert plan and cluster.nominations.take_over(high, plan.room, 60)
    assert cluster.nominations.claim_of(lower.uid) is not None
