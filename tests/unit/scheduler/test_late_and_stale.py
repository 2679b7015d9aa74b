"""Questions that come too late, promises that come to nothing: no room is lost, none is given twice."""

from tessera.model.quantities import GIB
from tessera.reasons import Code, Reason
from tessera.scheduler.promises import Promise
from tests.unit.scheduler.clusters import Clock, engine, node, place, pod


def test_a_stale_filter_of_a_bound_pod_leaves_its_room_alone() -> None:
    clock = Clock()
    cluster = engine(node("a", 24), clock=clock)
    asked = pod("p", "gpu-mem=20Gi")
    place(cluster, asked)
    answer = cluster.filter(asked, ["a"])
    assert not answer.nodes and answer.reason is not None and answer.reason.code is Code.BINDING_REFUSED
    assert asked.uid not in cluster.waiting
    clock.now += 100
    cluster.expire()
    assert int(cluster.ledger.free_bytes.sum()) == 4 * GIB


def test_a_stale_prioritize_of_a_bound_pod_leaves_its_room_alone() -> None:
    cluster = engine(node("a", 24), node("b", 24))
    asked = pod("p", "gpu-mem=20Gi")
    place(cluster, asked, ["a"])
    assert cluster.prioritize(asked, ["a", "b"]) == [("a", 0), ("b", 0)]
    assert not cluster.promises()
    assert cluster.ledger.charges()[asked.uid].node == "a"


def test_prioritize_never_turns_a_reservation_back_into_a_hold() -> None:
    cluster = engine(node("a", 24), node("b", 24))
    asked = pod("p", "gpu-mem=20Gi")
    cluster.filter(asked, ["a"])
    assert isinstance(cluster.reserve(asked.uid, "a"), tuple)
    cluster.prioritize(asked, ["a", "b"])
    assert cluster.promises()[asked.uid].kind is Promise.RESERVATION
    assert cluster.ledger.charges()[asked.uid].node == "a"


def test_a_hold_given_up_for_another_node_is_told() -> None:
    cluster = engine(node("a", 24), node("b", 24))
    asked = pod("p", "gpu-mem=20Gi")
    cluster.filter(asked, ["a"])
    cluster.freed.clear()
    assert isinstance(cluster.reserve(asked.uid, "b"), tuple)
    assert cluster.freed == {"a"}


def test_a_hold_given_up_for_nothing_is_told() -> None:
    cluster = engine(node("a", 24), node("small", 4))
    asked = pod("p", "gpu-mem=20Gi")
    cluster.filter(asked, ["a"])
    cluster.freed.clear()
    assert cluster.filter(asked, ["small"]).nodes == []
    assert cluster.freed == {"a"}


def test_a_hold_that_becomes_a_reservation_frees_nothing() -> None:
    cluster = engine(node("a", 24))
    asked = pod("p", "gpu-mem=20Gi")
    cluster.filter(asked, ["a"])
    cluster.freed.clear()
    assert isinstance(cluster.reserve(asked.uid, "a"), tuple)
    assert cluster.freed == set()


def test_a_malformed_pod_that_is_gone_after_a_list_waits_no_more() -> None:
    cluster = engine(node("a", 24))
    cluster.filter(pod("p", "gpu-mem=lots"), ["a"])
    cluster.replace_pods([])
    assert not cluster.waiting


def test_a_malformed_pod_that_is_asked_for_no_more_is_forgotten() -> None:
    clock = Clock()
    cluster = engine(node("a", 24), clock=clock)
    cluster.filter(pod("p", "gpu-mem=lots"), ["a"])
    clock.now += 1000
    cluster.expire()
    assert not cluster.waiting


def test_a_pod_that_fits_everywhere_waits_no_more() -> None:
    cluster = engine(node("a", 24))
    late = pod("late", "gpu-mem=40Gi")
    cluster.filter(late, ["a"])
    cluster.observe_node(node("b", 80))
    cluster.filter(late, ["b"])
    assert not cluster.waiting


def test_an_accepted_binding_keeps_its_room_until_the_events_speak() -> None:
    clock = Clock()
    cluster = engine(node("a", 24), clock=clock)
    cluster.filter(pod("p", "gpu-mem=20Gi"), ["a"])
    cluster.reserve("uid-p", "a")
    clock.now += 50
    cluster.confirm("uid-p")
    clock.now += 50
    assert cluster.expire() == []
    cluster.replace_pods([])  # a list that is older than the Binding
    assert int(cluster.ledger.free_bytes.sum()) == 4 * GIB


def test_a_bound_pod_is_not_reserved_again() -> None:
    cluster = engine(node("a", 24), node("b", 24))
    asked = pod("p", "gpu-mem=20Gi")
    place(cluster, asked, ["a"])
    cluster.filter(asked, ["b"])
    reason = cluster.reserve(asked.uid, "b")
    assert isinstance(reason, Reason)
    assert cluster.ledger.charges()[asked.uid].node == "a"
